//! A file's bytes: as a process sees them, and as stable storage has them.

use std::collections::HashSet;
use std::sync::Weak;

pub(super) const PAGE: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) data: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Pages a failed sync gave up: clean, and not on the disk.
    pub(super) lost: HashSet<usize>,
    /// Slices that live, and their bytes.
    pub(super) pins: Vec<(Weak<()>, usize, usize)>,
    pub(super) modified_ms: Option<i64>,
}

impl Contents {
    /// The bytes are on stable storage, but for the pages given up.
    pub(super) fn sync(&mut self) {
        let mut durable = self.data.clone();
        for &page in &self.lost {
            for at in page * PAGE..((page + 1) * PAGE).min(durable.len()) {
                durable[at] = self.durable.get(at).copied().unwrap_or(0);
            }
        }
        self.durable = durable;
    }

    /// A sync fails: what it should have stored is given up.
    pub(super) fn lose_dirty(&mut self) {
        let pages = self.data.len().max(self.durable.len()).div_ceil(PAGE);
        let dirty = (0..pages).filter(|&p| page(&self.data, p) != page(&self.durable, p));
        let dirty: Vec<_> = dirty.collect();
        self.lost.extend(dirty);
    }

    /// The power is cut.
    pub(super) fn crash(&mut self, random: &mut fastrand::Rng) {
        let (old, new) = (self.durable.len(), self.data.len());
        let len = match random.u8(0..3) {
            0 => old,
            1 => new,
            _ => random.usize(old.min(new)..=old.max(new)),
        };
        let mut after = vec![0; len];
        for number in 0..len.div_ceil(PAGE) {
            let written = !self.lost.contains(&number) && random.bool();
            let from = if written { &self.data } else { &self.durable };
            let source = page(from, number);
            let at = number * PAGE;
            let end = (at + source.len()).min(len);
            after[at..end].copy_from_slice(&source[..end - at]);
        }
        let modified_ms = self.modified_ms;
        *self = Self { durable: after.clone(), data: after, modified_ms, ..Self::default() };
    }

    /// Panics where bytes from `from` to `to` are under a living slice.
    pub(super) fn check_pins(&mut self, from: usize, to: usize) {
        self.pins.retain(|(alive, _, _)| alive.strong_count() > 0);
        for &(_, start, end) in &self.pins {
            assert!(
                end <= from || to <= start,
                "bytes {from}..{to} change under a living slice of {start}..{end}"
            );
        }
    }
}

fn page(bytes: &[u8], number: usize) -> &[u8] {
    let from = (number * PAGE).min(bytes.len());
    &bytes[from..(from + PAGE).min(bytes.len())]
}
