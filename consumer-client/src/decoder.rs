//! Divides what one fetch answer brought into batches to deliver.
//!
//! Accepts gaps in offsets (compaction, control batches, damaged ranges), never a step back: a
//! batch that ends at or below the wanted offset is skipped, control batches are skipped. After an
//! error the answer is over: what follows a batch that does not hold cannot be trusted to begin at
//! a batch.

use bytes::Bytes;
use proto::record::{BatchError, ChunkedBatches};
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

    /// The next batch that has something to deliver; `None` at the end of the answer.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, Damage> {
        loop {
            let chunked = match self.batches.next() {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.damage(None, &error)),
                Some(Ok(chunked)) => chunked,
            };
            let next = chunked.header.next_offset();
            if next <= self.wanted || chunked.header.attributes.is_control() {
                self.wanted = self.wanted.max(next);
                continue;
            }
            let partition = self.partition.clone();
            let bytes = chunked.into_bytes();
            match RecordBatch::new(partition, bytes, self.wanted, self.check_crcs) {
                Ok(batch) => {
                    self.wanted = next;
                    return Ok(Some(batch));
                }
                Err(error) => return Err(self.damage(Some(next), &error)),
            }
        }
    }

    /// The next offset wanted: all before it were given out or skipped.
    pub(crate) fn wanted(&self) -> Offset {
        self.wanted
    }

    fn damage(&self, resume_at: Option<Offset>, error: &BatchError) -> Damage {
        Damage { offset: self.wanted, resume_at, why: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch_at;
    use proptest::prelude::*;

    fn offsets(decoder: &mut Decoder) -> Vec<i64> {
        let mut all = Vec::new();
        while let Some(batch) = decoder.next_batch().unwrap() {
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
            wanted in 0i64..40,
            cut in 1usize..200,
        ) {
            let mut whole = Vec::new();
            let mut expected = Vec::new();
            let mut offset = 0;
            for (size, gap) in sizes.iter().zip(&gaps) {
                offset += gap;
                whole.extend_from_slice(&batch_at(offset, *size, "some value"));
                expected.extend((offset..offset + *size as i64).filter(|o| *o >= wanted));
                offset += *size as i64;
            }
            let chunks = whole.chunks(cut).map(Bytes::copy_from_slice).collect();
            prop_assert_eq!(offsets(&mut decoder(chunks, wanted)), expected);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = decoder(vec![bytes.into()], 0);
            while let Ok(Some(_)) = decoder.next_batch() {}
        }
    }

    #[test]
    fn a_broken_checksum_stops_there_and_tells_where_to_resume() {
        let mut second = batch_at(3, 2, "xyz").to_vec();
        *second.last_mut().unwrap() ^= 1;
        let mut decoder = decoder(vec![batch_at(0, 3, "abc"), second.into()], 0);
        assert_eq!(decoder.next_batch().unwrap().unwrap().next_offset(), Offset(3));
        let damage = decoder.next_batch().unwrap_err();
        assert_eq!((damage.offset, damage.resume_at), (Offset(3), Some(Offset(5))));
        assert!(damage.why.contains("CRC"), "{}", damage.why);
    }

    #[test]
    fn a_cut_batch_is_damage() {
        let whole = batch_at(0, 3, "abc");
        let damage = decoder(vec![whole.slice(..whole.len() - 1)], 0).next_batch().unwrap_err();
        assert_eq!((damage.offset, damage.resume_at), (Offset(0), None));
    }
}
