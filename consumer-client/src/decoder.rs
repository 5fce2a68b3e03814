//! Divides what one fetch answer brought into batches to deliver.
//!
//! Accepts gaps in offsets (compaction, control batches, damaged ranges), never a step back: a
//! batch that ends at or below the wanted offset is skipped, so are control batches and the empty
//! ones that compaction leaves. Each only once its checksum holds: a damaged header must not make
//! records disappear. Compressed records are decompressed here, bounded. After an error the answer
//! is over: what follows a batch that does not hold cannot be trusted to begin at a batch.

use bytes::Bytes;
use proto::record::{
    Batch, BatchDecoder, BatchError, BatchHeader, ChunkedBatches, DecompressError, HEADER_LEN,
    RecordError,
};
use proto::{Offset, TopicPartition};

use crate::record::RecordBatch;

/// The batches of one answer.
#[derive(Debug)]
pub(crate) struct Decoder {
    partition: TopicPartition,
    batches: ChunkedBatches,
    wanted: Offset,
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
}

impl Decoder {
    /// Over the chunks of one answer of `partition`, fetched from `wanted` on.
    pub(crate) fn new(
        partition: TopicPartition,
        chunks: Vec<Bytes>,
        wanted: Offset,
        check_crcs: bool,
    ) -> Self {
        Self { partition, batches: ChunkedBatches::new(chunks), wanted, check_crcs }
    }

    /// The next batch that has something to deliver, its records decompressed by `open`; `None` at
    /// the end of the answer.
    pub(crate) fn next_batch(
        &mut self,
        open: &mut BatchDecoder,
    ) -> Result<Option<RecordBatch>, Damage> {
        loop {
            let chunked = match self.batches.next() {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.damage(None, &error)),
                Some(Ok(chunked)) => chunked,
            };
            let next = chunked.header.next_offset();
            let bytes = chunked.into_bytes();
            let header = self.check(&bytes).map_err(|error| self.damage(Some(next), &error))?;
            let is_empty = header.record_count == 0 || header.attributes.is_control();
            if next <= self.wanted || is_empty {
                self.wanted = self.wanted.max(next);
                continue;
            }
            let decoded = open
                .decode(&header, bytes.slice(HEADER_LEN..))
                .map_err(|error| self.unreadable(next, &error))?;
            let batch = RecordBatch::new(self.partition.clone(), bytes, decoded, self.wanted);
            self.wanted = next;
            return Ok(Some(batch));
        }
    }

    /// The next offset wanted: all before it were given out or skipped.
    pub(crate) fn wanted(&self) -> Offset {
        self.wanted
    }

    fn check(&self, bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let batch =
            if self.check_crcs { Batch::parse(bytes) } else { Batch::parse_without_crc(bytes) }?;
        Ok(batch.header().clone())
    }

    fn unreadable(&self, next: Offset, error: &RecordError) -> Damage {
        let mut damage = self.damage(Some(next), error);
        if let RecordError::Compressed { source: DecompressError::TooLarge { .. }, .. } = error {
            damage.why += " (or raise batch.decompressed.max.bytes to read it)";
        }
        damage
    }

    fn damage(&self, resume_at: Option<Offset>, error: &dyn std::error::Error) -> Damage {
        Damage { offset: self.wanted, resume_at, why: error.to_string() }
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
            all.extend(batch.records().map(|r| r.unwrap().offset.0));
        }
        all
    }

    fn decoder(bytes: Vec<Bytes>, wanted: i64) -> Decoder {
        Decoder::new(TopicPartition::new("t", 0), bytes, Offset(wanted), true)
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_records(
            sizes in prop::collection::vec(1usize..6, 1..6),
            gaps in prop::collection::vec(0i64..3, 6),
            codec in 0usize..5,
            wanted in 0i64..40,
            cut in 1usize..200,
        ) {
            let mut whole = Vec::new();
            let mut expected = Vec::new();
            let mut offset = 0;
            for (size, gap) in sizes.iter().zip(&gaps) {
                offset += gap;
                let codec = Compression::ALL[codec];
                whole.extend_from_slice(&compressed_batch_at(codec, offset, *size, "some value"));
                expected.extend((offset..offset + *size as i64).filter(|o| *o >= wanted));
                offset += *size as i64;
            }
            let chunks = whole.chunks(cut).map(Bytes::copy_from_slice).collect();
            prop_assert_eq!(offsets(&mut decoder(chunks, wanted)), expected);
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
