//! Which record is where: both ends compute it, so that a drain can check every record.
//!
//! Record `i` has line `i % LINES` as its value. Records go in runs: run `i / run` goes to partition
//! `(i / run) % partitions`, so that partition and offset tell `i`.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::lines::fixed_lines;

/// Bytes of every value.
pub(crate) const VALUE_LEN: usize = 200;
/// Different values: 8 MB, more than the second-level caches hold.
pub(crate) const LINES: u64 = 40_000;

/// How many records, and how they are spread.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) records: u64,
    pub(crate) partitions: i32,
    /// Records in a row to one partition.
    pub(crate) run: u64,
}

/// The values.
pub(crate) struct Values(Vec<u8>);

impl Values {
    pub(crate) fn new() -> Self {
        Self(fixed_lines(LINES as usize, VALUE_LEN))
    }

    /// The value of record `i`.
    #[inline]
    pub(crate) fn of(&self, i: u64) -> &[u8] {
        let at = (i % LINES) as usize * VALUE_LEN;
        &self.0[at..at + VALUE_LEN]
    }
}

impl Load {
    /// The partition of record `i`.
    #[inline]
    pub(crate) fn partition(&self, i: u64) -> i32 {
        ((i / self.run) % self.partitions as u64) as i32
    }

    /// The number of the record at `offset` of `partition`.
    #[inline]
    fn record(&self, partition: i32, offset: u64) -> u64 {
        let run = offset / self.run * self.partitions as u64 + partition as u64;
        run * self.run + offset % self.run
    }
}

/// Checks each record of a drain: the next offset of its partition, and the content it must have.
pub(crate) struct Verifier {
    load: Load,
    sums: Vec<u64>,
    next: Vec<u64>,
    pub(crate) seen: u64,
}

impl Verifier {
    pub(crate) fn new(load: Load) -> Self {
        let values = Values::new();
        let sums = (0..LINES).map(|i| sum(values.of(i))).collect();
        Self { load, sums, next: vec![0; load.partitions as usize], seen: 0 }
    }

    /// One record.
    #[inline]
    pub(crate) fn check(
        &mut self,
        partition: i32,
        offset: i64,
        value: Option<&[u8]>,
    ) -> Result<()> {
        let next = &mut self.next[partition as usize];
        if offset as u64 != *next {
            bail!("partition {partition} gave offset {offset} where {next} was due");
        }
        *next += 1;
        let i = self.load.record(partition, offset as u64);
        let value = value.unwrap_or_default();
        if value.len() != VALUE_LEN || sum(value) != self.sums[(i % LINES) as usize] {
            bail!("offset {offset} of partition {partition} has another value than was sent");
        }
        self.seen += 1;
        Ok(())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.seen >= self.load.records
    }
}

/// A checksum that costs little beside what is measured: the sum of all words, each turned by its
/// place.
#[inline]
fn sum(value: &[u8]) -> u64 {
    let mut sum = [0u64; 4];
    for words in value.chunks_exact(32) {
        for (sum, word) in sum.iter_mut().zip(words.as_chunks::<8>().0) {
            *sum = sum.rotate_left(1).wrapping_add(u64::from_le_bytes(*word));
        }
    }
    let rest = value.chunks_exact(32).remainder();
    let rest = rest.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    sum[0] ^ sum[1].rotate_left(16) ^ sum[2].rotate_left(32) ^ sum[3].rotate_left(48) ^ rest
}
