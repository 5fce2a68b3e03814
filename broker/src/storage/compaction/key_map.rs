//! The newest offset of each key, in one allocation of a size set before.
//!
//! A slot is 24 bytes: 16 of the key's hash, 8 of its offset. The keys themselves are not kept, so
//! two keys of one hash would be taken for one, and the older record of the two would be lost.
//! Hence 128 bits from two SipHash functions, each under a random 128-bit key of its own drawn for
//! this map: for a billion keys the chance is below 10^-20, and nobody can prepare keys that
//! collide, as they could with Kafka's unkeyed MD5. A second chance falls with each cleaning.

use std::hash::{BuildHasher, Hasher, RandomState};

use proto::Offset;

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = size_of::<Slot>();

/// Both halves of the hash, and the offset plus one; 0 there is an empty slot.
type Slot = [u64; 3];

/// Open addressing, linear probing; nothing is ever removed.
///
/// `used <= limit < slots.len()`, so that every probe ends at an empty slot.
#[derive(Debug)]
pub(super) struct KeyMap {
    seeds: [RandomState; 2],
    slots: Vec<Slot>,
    used: usize,
    limit: usize,
}

impl KeyMap {
    /// A map that takes at most `bytes` of memory, filled up to `load_factor`; smaller where there
    /// are at most `keys` keys. Memory that no key needs is not touched.
    pub(super) fn new(bytes: usize, load_factor: f64, keys: u64) -> Self {
        let load_factor = load_factor.clamp(0.1, 0.95);
        let wanted = ((keys as f64 / load_factor).ceil() as u64).saturating_add(2);
        let slots = (bytes / SLOT_BYTES).min(usize::try_from(wanted).unwrap_or(usize::MAX)).max(2);
        let limit = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        Self {
            seeds: [RandomState::new(), RandomState::new()],
            slots: vec![[0; 3]; slots],
            used: 0,
            limit,
        }
    }

    /// How many keys fit at all.
    pub(super) fn capacity(&self) -> usize {
        self.limit
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Remembers the greatest offset of a key. False when the key is new and there is no room.
    #[must_use]
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let (hash, at) = self.find(key);
        let [.., stored] = &mut self.slots[at];
        let value = offset.0.cast_unsigned() + 1;
        if *stored != 0 {
            *stored = value.max(*stored);
            return true;
        }
        if self.used >= self.limit {
            return false;
        }
        self.slots[at] = [hash[0], hash[1], value];
        self.used += 1;
        true
    }

    /// The greatest offset of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let (_, at) = self.find(key);
        let [.., stored] = self.slots[at];
        Some(Offset(stored.checked_sub(1)?.cast_signed()))
    }

    /// The key's hash, and its slot or the empty one where it would go.
    fn find(&self, key: &[u8]) -> ([u64; 2], usize) {
        let hash = [0, 1].map(|half| {
            let mut hasher = self.seeds[half].build_hasher();
            hasher.write(key);
            hasher.finish()
        });
        let len = self.slots.len();
        // The high bits, spread over the slots without a division.
        let mut at = ((u128::from(hash[0]) * len as u128) >> 64) as usize;
        loop {
            let [first, second, stored] = self.slots[at];
            if stored == 0 || [first, second] == hash {
                return (hash, at);
            }
            at += 1;
            if at == len {
                at = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_offset_of_each_key_is_remembered_up_to_the_limit() {
        let mut map = KeyMap::new(100 * SLOT_BYTES, 0.9, u64::MAX);
        assert_eq!(map.capacity(), 90);
        for round in 0..3 {
            for key in 0..90_i64 {
                assert!(map.put(&key.to_be_bytes(), Offset(round * 90 + key)));
            }
        }
        assert!(map.put(&5_i64.to_be_bytes(), Offset(1)), "an older one changes nothing");
        for key in 0..90_i64 {
            assert_eq!(map.get(&key.to_be_bytes()), Some(Offset(180 + key)));
        }
        assert_eq!(map.len(), 90);
        assert!(!map.put(b"one more", Offset(1000)));
        assert_eq!(map.get(b"one more"), None);
    }

    #[test]
    fn keys_that_are_prefixes_of_each_other_or_empty_are_different_keys() {
        let mut map = KeyMap::new(1 << 16, 0.9, 4);
        for (offset, key) in [&b""[..], b"\0", b"\0\0", b"a\0"].into_iter().enumerate() {
            assert!(map.put(key, Offset(offset as i64)));
        }
        for (offset, key) in [&b""[..], b"\0", b"\0\0", b"a\0"].into_iter().enumerate() {
            assert_eq!(map.get(key), Some(Offset(offset as i64)));
        }
        assert_eq!(map.get(b"a"), None);
    }

    #[test]
    fn it_is_no_larger_than_its_keys_need_and_never_larger_than_told() {
        assert!(KeyMap::new(1 << 30, 0.9, 100).slots.len() < 120);
        assert_eq!(KeyMap::new(240, 0.9, u64::MAX).slots.len(), 10);
        let tiny = KeyMap::new(0, 0.9, 0);
        assert_eq!((tiny.capacity(), tiny.get(b"k")), (1, None));
    }
}
