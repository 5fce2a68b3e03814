//! Divides what one fetch answer brought into batches to deliver.
//!
//! Batches follow each other from the wanted offset to the end that the broker told, without a gap:
//! checksums do not cover base offsets, so that one that is out of place tells of damage. (What
//! compaction removed is covered by empty batches; what is damaged, the broker answers with an
//! error.) Inside a batch offsets may be missing. A batch that ends at or below the wanted offset is
//! skipped, so are control batches and empty ones. Each only once its checksum holds: a damaged
//! header must not make records disappear. Compressed records are decompressed here, bounded. After
//! an error the answer is over: what follows a batch that does not hold cannot be trusted to begin
//! at a batch.

use std::sync::Arc;

use bytes::Bytes;
use proto::record::{
    BatchDecoder, BatchHeader, ChunkedBatches, DecodedBatch, DecompressError, RecordError,
};
use proto::{Offset, TopicPartition};

use crate::record::RecordBatch;

/// The batches of one answer.
#[derive(Debug)]
pub(crate) struct Decoder {
    partition: Arc<TopicPartition>,
    batches: ChunkedBatches,
    wanted: Offset,
    /// Where the next batch begins, once one was taken.
    next: Option<Offset>,
    /// The offset after the last batch, as the broker told.
    until: Offset,
    check_crcs: bool,
}

/// Why an answer could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The first offset that was not delivered.
    pub(crate) offset: Offset,
    /// Where the next batch would begin, if the damaged one's header holds.
    pub(crate) resume_at: Option<Offset>,
    pub(crate) why: String,
    /// The bytes do not hold, which the wire may have done; else they hold and cannot be read.
    pub(crate) is_doubtful: bool,
}

impl Decoder {
    /// Over the chunks of one answer of `partition`, fetched from `wanted` on, up to `until`.
    pub(crate) fn new(
        partition: TopicPartition,
        chunks: Vec<Bytes>,
        wanted: Offset,
        until: Offset,
        check_crcs: bool,
    ) -> Self {
        let batches = ChunkedBatches::new(chunks);
        Self { partition: Arc::new(partition), batches, wanted, next: None, until, check_crcs }
    }

    /// Adds the batches that follow to `run`, up to `room` bytes. Returns the bytes they take and why no
    /// more could be read, if so.
    pub(crate) fn next_run(
        &mut self,
        open: &mut BatchDecoder,
        room: usize,
        run: &mut Vec<RecordBatch>,
    ) -> (usize, Option<Damage>) {
        let mut bytes = 0;
        while bytes < room {
            if let Some(taken) = self.next_plain(run) {
                bytes += taken;
                continue;
            }
            match self.next_batch(open) {
                Ok(Some(batch)) => {
                    bytes += batch.memory();
                    run.push(batch);
                }
                Ok(None) => break,
                Err(damage) => return (bytes, Some(damage)),
            }
        }
        (bytes, None)
    }

    /// The next batch as nearly all are: not compressed, in one chunk, in its place, whole, with records
    /// that are wanted. Goes straight to where it is kept: each move of a header that was just written
    /// waits for the processor to have stored it. `None`: it is not such a batch, nothing was taken.
    #[inline]
    fn next_plain(&mut self, run: &mut Vec<RecordBatch>) -> Option<usize> {
        let front = self.batches.front();
        let header = BatchHeader::parse(front).ok()?;
        let whole = front.get(..header.size_in_bytes())?;
        let next = header.next_offset();
        let is_usual = self.is_in_place(&header)
            && next > self.wanted
            && header.record_count > 0
            && header.attributes.is_plain()
            && !header.attributes.is_control();
        if !is_usual || (self.check_crcs && header.check_crc(whole).is_err()) {
            return None;
        }
        let whole = self.batches.split_front(whole.len());
        let decoded = DecodedBatch::of_plain(header, whole);
        let batch = RecordBatch::new(Arc::clone(&self.partition), None, decoded, self.wanted);
        let bytes = batch.memory();
        run.push(batch);
        self.next = Some(next);
        self.wanted = next;
        Some(bytes)
    }

    /// The next batch that has something to deliver, its records decompressed by `open`; `None` at
    /// the end of the answer.
    pub(crate) fn next_batch(
        &mut self,
        open: &mut BatchDecoder,
    ) -> Result<Option<RecordBatch>, Damage> {
        loop {
            let (header, whole) = match self.batches.next_whole() {
                None if self.wanted < self.until => return Err(self.ends_early()),
                None => return Ok(None),
                Some(Err(error)) => return Err(self.doubt(None, &error)),
                Some(Ok(batch)) => batch,
            };
            self.check_place(&header)?;
            let next = header.next_offset();
            if self.check_crcs {
                header.check_crc(&whole).map_err(|error| self.doubt(Some(next), &error))?;
            }
            self.next = Some(next);
            let is_empty = header.record_count == 0 || header.attributes.is_control();
            if next <= self.wanted || is_empty {
                self.wanted = self.wanted.max(next);
                continue;
            }
            let compressed = (!header.attributes.is_plain()).then(|| whole.clone());
            let decoded =
                open.decode_whole(header, whole).map_err(|error| self.unreadable(next, &error))?;
            let batch =
                RecordBatch::new(Arc::clone(&self.partition), compressed, decoded, self.wanted);
            self.wanted = next;
            return Ok(Some(batch));
        }
    }

    /// The next offset wanted: all before it were given out or skipped.
    pub(crate) fn wanted(&self) -> Offset {
        self.wanted
    }

    /// What holds and cannot be opened all the same.
    fn unreadable(&self, next: Offset, error: &RecordError) -> Damage {
        let mut damage = Damage { is_doubtful: false, ..self.doubt(Some(next), error) };
        if let RecordError::Compressed { source: DecompressError::TooLarge { .. }, .. } = error {
            damage.why += " (or raise batch.decompressed.max.bytes to read it)";
        }
        damage
    }

    /// A batch begins where the one before it ended; the first where something is wanted of it.
    #[inline]
    fn is_in_place(&self, header: &BatchHeader) -> bool {
        let begin = header.base_offset;
        let fits = self.next.map_or(begin <= self.wanted, |next| begin == next);
        fits && header.next_offset() <= self.until
    }

    fn check_place(&self, header: &BatchHeader) -> Result<(), Damage> {
        if self.is_in_place(header) {
            return Ok(());
        }
        let begin = header.base_offset;
        let (last, expected) = (header.last_offset(), self.next.unwrap_or(self.wanted));
        let why = format!("a batch of offsets {begin} to {last} where {expected} is to follow");
        Err(Damage { offset: self.wanted, resume_at: None, why, is_doubtful: true })
    }

    fn ends_early(&self) -> Damage {
        let why = format!("the answer has no batch up to {}, which it tells to reach", self.until);
        Damage { offset: self.wanted, resume_at: None, why, is_doubtful: true }
    }

    fn doubt(&self, resume_at: Option<Offset>, error: &dyn std::error::Error) -> Damage {
        Damage { offset: self.wanted, resume_at, why: error.to_string(), is_doubtful: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_at, compressed_batch_at};
    use proptest::prelude::*;
    use proto::record::Compression;

    fn open() -> BatchDecoder {
        BatchDecoder::new(10_000)
    }

    fn offsets(decoder: &mut Decoder) -> Vec<i64> {
        let (mut all, mut open) = (Vec::new(), open());
        while let Some(batch) = decoder.next_batch(&mut open).unwrap() {
            all.extend(read(&batch));
        }
        all
    }

    fn read(batch: &RecordBatch) -> Vec<i64> {
        batch.records().map(|r| r.unwrap().offset.0).collect()
    }

    /// All that runs of up to `room` bytes give, and why they ended.
    fn runs(decoder: &mut Decoder, room: usize) -> (Vec<i64>, Option<Damage>) {
        let (mut all, mut open) = (Vec::new(), open());
        loop {
            let mut run = Vec::new();
            let (bytes, damage) = decoder.next_run(&mut open, room, &mut run);
            assert_eq!(bytes, run.iter().map(RecordBatch::memory).sum::<usize>());
            all.extend(run.iter().flat_map(read));
            if damage.is_some() || run.is_empty() {
                return (all, damage);
            }
        }
    }

    fn decoder(bytes: Vec<Bytes>, wanted: i64) -> Decoder {
        let mut until = wanted;
        for batch in ChunkedBatches::new(bytes.clone()).map_while(Result::ok) {
            until = until.max(batch.header.next_offset().0);
        }
        Decoder::new(TopicPartition::new("t", 0), bytes, Offset(wanted), Offset(until), true)
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_records(
            sizes in prop::collection::vec(1usize..6, 1..6),
            codec in 0usize..5,
            wanted in 0i64..40,
            cut in 1usize..200,
            room in 1usize..2_000,
        ) {
            let mut whole = Vec::new();
            let mut expected = Vec::new();
            let mut offset = 0;
            for size in &sizes {
                let codec = Compression::ALL[codec];
                whole.extend_from_slice(&compressed_batch_at(codec, offset, *size, "some value"));
                expected.extend((offset..offset + *size as i64).filter(|o| *o >= wanted));
                offset += *size as i64;
            }
            let chunks: Vec<Bytes> = whole.chunks(cut).map(Bytes::copy_from_slice).collect();
            prop_assert_eq!(offsets(&mut decoder(chunks.clone(), wanted)), &expected[..]);
            let (run, damage) = runs(&mut decoder(chunks, wanted), room);
            prop_assert_eq!((run, damage), (expected, None));
        }

        /// Whatever is wrong with a batch, a run ends before it and tells what single batches tell.
        #[test]
        fn runs_meet_the_same_damage(
            at in 0usize..400,
            bit in 0u8..8,
            cut in 1usize..400,
            room in 1usize..2_000,
        ) {
            let mut whole = Vec::new();
            (0..5).for_each(|n| whole.extend_from_slice(&batch_at(3 * n, 3, "some value")));
            let until = Offset(15);
            let at = at % whole.len();
            whole[at] ^= 1 << bit;
            let chunks: Vec<Bytes> = whole.chunks(cut).map(Bytes::copy_from_slice).collect();
            let decoder = || {
                Decoder::new(TopicPartition::new("t", 0), chunks.clone(), Offset(1), until, true)
            };
            let (mut single, mut open) = (decoder(), open());
            let mut expected = Vec::new();
            let met = loop {
                match single.next_batch(&mut open) {
                    Ok(Some(batch)) => expected.extend(read(&batch)),
                    Ok(None) => break None,
                    Err(damage) => break Some(damage),
                }
            };
            prop_assert_eq!(runs(&mut decoder(), room), (expected, met));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = decoder(vec![bytes.into()], 0);
            while let Ok(Some(_)) = decoder.next_batch(&mut open()) {}
        }
    }

    #[test]
    fn a_broken_checksum_stops_there_and_tells_where_to_resume() {
        let mut second = batch_at(3, 2, "xyz").to_vec();
        *second.last_mut().unwrap() ^= 1;
        let mut decoder = decoder(vec![batch_at(0, 3, "abc"), second.into()], 0);
        let mut open = open();
        assert_eq!(decoder.next_batch(&mut open).unwrap().unwrap().next_offset(), Offset(3));
        let damage = decoder.next_batch(&mut open).unwrap_err();
        assert_eq!((damage.offset, damage.resume_at), (Offset(3), Some(Offset(5))));
        assert!(damage.why.contains("CRC"), "{}", damage.why);
    }

    #[test]
    fn a_batch_out_of_place_and_an_answer_that_ends_early_are_damage() {
        let (a, b) = (batch_at(5, 3, "a"), batch_at(9, 2, "b"));
        let at = |chunks: Vec<Bytes>, wanted| {
            let mut decoder = decoder(chunks, wanted);
            let mut open = open();
            loop {
                match decoder.next_batch(&mut open) {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(damage) => return Some((damage.offset.0, damage.is_doubtful)),
                }
            }
        };
        assert_eq!(at(vec![a.clone()], 6), None);
        assert_eq!(at(vec![a.clone()], 4), Some((4, true)));
        assert_eq!(at(vec![a.clone(), b.clone()], 5), Some((8, true)));
        assert_eq!(at(vec![b, a.clone()], 9), Some((11, true)));
        // A first batch whose base offset went down must not count as skipped.
        let partition = TopicPartition::new("t", 0);
        let mut decoder = Decoder::new(partition, vec![a], Offset(100), Offset(103), true);
        assert_eq!(decoder.next_batch(&mut open()).unwrap_err().offset, Offset(100));
    }

    #[test]
    fn damage_in_a_run_comes_after_what_was_before_it() {
        // In the value of its last record, which a byte for its headers follows.
        let mut third = batch_at(6, 3, "xyz").to_vec();
        third.iter_mut().nth_back(1).into_iter().for_each(|byte| *byte ^= 1);
        let batches = [batch_at(0, 3, "a"), batch_at(3, 3, "b"), third.into(), batch_at(9, 3, "c")];
        let (all, damage) = runs(&mut decoder(vec![batches.concat().into()], 0), usize::MAX);
        assert_eq!(all, (0..6).collect::<Vec<_>>());
        let damage = damage.unwrap();
        assert_eq!((damage.offset, damage.resume_at), (Offset(6), Some(Offset(9))));
        // Without checksums it is handed out.
        let chunks = vec![batches.concat().into()];
        let partition = TopicPartition::new("t", 0);
        let mut unchecked = Decoder::new(partition, chunks, Offset(0), Offset(12), false);
        assert_eq!(runs(&mut unchecked, usize::MAX), ((0..12).collect(), None));
    }

    #[test]
    fn a_cut_batch_is_damage() {
        let whole = batch_at(0, 3, "abc");
        let cut = vec![whole.slice(..whole.len() - 1)];
        let damage = decoder(cut, 0).next_batch(&mut open()).unwrap_err();
        assert_eq!((damage.offset, damage.resume_at), (Offset(0), None));
    }

    #[test]
    fn a_bomb_is_damage_that_names_range_codec_and_bound() {
        let value = "0".repeat(3000);
        for codec in &Compression::ALL[1..] {
            let bomb = compressed_batch_at(*codec, 7, 5, &value);
            assert!(bomb.len() < 2000, "{codec}: {}", bomb.len());
            let mut decoder = decoder(vec![batch_at(0, 7, "a"), bomb], 0);
            let mut open = open();
            assert!(decoder.next_batch(&mut open).unwrap().is_some());
            let damage = decoder.next_batch(&mut open).unwrap_err();
            assert_eq!((damage.offset, damage.resume_at), (Offset(7), Some(Offset(12))));
            for part in ["offsets 7 to 11", codec.name(), "10000 bytes", "batch.decompressed"] {
                assert!(damage.why.contains(part), "{}", damage.why);
            }
        }
    }

    #[test]
    fn records_behind_a_damaged_header_do_not_disappear() {
        // Made a control batch, an empty one, one that ends before what is wanted.
        for (at, value) in [(22, 0x20), (60, 0), (26, 0)] {
            let mut bad = batch_at(0, 3, "abc").to_vec();
            bad[at] = value;
            let mut decoder = decoder(vec![bad.into(), batch_at(3, 1, "d")], 1);
            assert_eq!(decoder.next_batch(&mut open()).unwrap_err().offset, Offset(1));
        }
    }

    #[test]
    fn empty_batches_are_stepped_over() {
        let mut header = BatchHeader::parse(&batch_at(3, 4, "gone")).unwrap();
        header.record_count = 0;
        header.set_block(Compression::None, &[]);
        let empty = Bytes::copy_from_slice(&header.encode());
        let mut decoder = decoder(vec![batch_at(0, 3, "a"), empty, batch_at(7, 1, "b")], 0);
        assert_eq!(offsets(&mut decoder), [0, 1, 2, 7]);
    }
}
