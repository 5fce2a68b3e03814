//! Which record is where: both ends compute it, so that a drain can check every record.
//!
//! Record `i` of a load has line `i % lines` as its value. Records go in runs: run `i / run` goes to
//! the load's partition `(i / run) % partitions`, so that partition and offset tell `i`. Several
//! producers have a load each, with partitions of their own ([`Load::split`]).

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::lines::fixed_lines;

/// Bytes of a value where nothing else is said.
pub(crate) const VALUE_LEN: usize = 200;
/// Different values: 8 MB of 200 bytes, more than the second-level caches hold.
pub(crate) const LINES: u64 = 40_000;

/// How many records, what they are, and how they are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) records: u64,
    /// The first partition it goes to.
    pub(crate) first: i32,
    pub(crate) partitions: i32,
    /// Records in a row to one partition.
    pub(crate) run: u64,
    /// Bytes of every value, at least 8.
    pub(crate) value_len: usize,
    /// Different values; the next record after the last of them has the first again.
    pub(crate) lines: u64,
}

impl Load {
    /// `records` of the usual size, 50 in a row to each partition.
    pub(crate) fn new(records: u64, partitions: i32) -> Self {
        Self { records, first: 0, partitions, run: 50, value_len: VALUE_LEN, lines: LINES }
    }

    /// The partition of record `i`.
    #[inline]
    pub(crate) fn partition(&self, i: u64) -> i32 {
        self.first + ((i / self.run) % self.partitions as u64) as i32
    }

    /// The partitions it goes to.
    pub(crate) fn range(&self) -> Range<i32> {
        self.first..self.first + self.partitions
    }

    /// How many of its records are in `partition`.
    pub(crate) fn records_in(&self, partition: i32) -> u64 {
        if !self.range().contains(&partition) {
            return 0;
        }
        let (at, count) = ((partition - self.first) as u64, self.partitions as u64);
        let (runs, rest) = (self.records / self.run, self.records % self.run);
        let whole = runs / count + u64::from(at < runs % count);
        whole * self.run + if runs % count == at { rest } else { 0 }
    }

    /// Shares of as many producers: records and partitions are divided evenly.
    pub(crate) fn split(self, producers: i32) -> Result<Vec<Self>> {
        ensure!(
            producers > 0 && self.partitions % producers == 0,
            "{} partitions cannot be divided among {producers} producers",
            self.partitions
        );
        let partitions = self.partitions / producers;
        let records = self.records / producers as u64;
        Ok((0..producers)
            .map(|n| Self { records, first: self.first + n * partitions, partitions, ..self })
            .collect())
    }
}

/// The values.
pub(crate) struct Values {
    bytes: Vec<u8>,
    len: usize,
    lines: u64,
}

impl Values {
    pub(crate) fn new(load: Load) -> Self {
        let bytes = fixed_lines(load.lines as usize, load.value_len);
        Self { bytes, len: load.value_len, lines: load.lines }
    }

    /// The value of record `i`.
    #[inline]
    pub(crate) fn of(&self, i: u64) -> &[u8] {
        let at = (i % self.lines) as usize * self.len;
        &self.bytes[at..at + self.len]
    }
}

/// Where a partition is: what its next record must be. Steps need no division but at a run's end.
#[derive(Debug, Clone, Default)]
struct Cursor {
    offset: u64,
    line: u64,
    left_in_run: u64,
    /// Lines between the end of a run and the beginning of the partition's next one.
    gap: u64,
    run: u64,
    /// Nobody sends to it.
    is_empty: bool,
}

/// Checks each record of a drain: the next offset of its partition, and the content it must have.
pub(crate) struct Verifier {
    sums: Vec<u64>,
    value_len: usize,
    cursors: Vec<Cursor>,
    /// Records of the partitions that are read.
    pub(crate) due: u64,
    pub(crate) seen: u64,
}

impl Verifier {
    /// Of everything that one producer sent.
    pub(crate) fn new(load: Load) -> Self {
        Self::of(&[load], load.range()).unwrap_or_else(|_| unreachable!("one load is given"))
    }

    /// Of `partitions`, into which producers sent `loads`.
    pub(crate) fn of(loads: &[Load], partitions: Range<i32>) -> Result<Self> {
        let one = loads.first().context("no load")?;
        let values = Values::new(*one);
        let sums = (0..one.lines).map(|i| sum(values.of(i))).collect();
        let mut cursors =
            vec![Cursor { is_empty: true, ..Cursor::default() }; partitions.end as usize];
        let mut due = 0;
        for load in loads {
            ensure!(
                (load.value_len, load.lines) == (one.value_len, one.lines),
                "loads of different values in one topic"
            );
            for partition in load.range().filter(|partition| partitions.contains(partition)) {
                due += load.records_in(partition);
                cursors[partition as usize] = Cursor {
                    offset: 0,
                    line: (partition - load.first) as u64 * load.run % load.lines,
                    left_in_run: load.run,
                    gap: (load.partitions - 1) as u64 * load.run % load.lines,
                    run: load.run,
                    is_empty: false,
                };
            }
        }
        Ok(Self { sums, value_len: one.value_len, cursors, due, seen: 0 })
    }

    /// One record.
    #[inline]
    pub(crate) fn check(
        &mut self,
        partition: i32,
        offset: i64,
        value: Option<&[u8]>,
    ) -> Result<()> {
        let lines = self.sums.len() as u64;
        let cursor = &mut self.cursors[partition as usize];
        if offset as u64 != cursor.offset || cursor.is_empty {
            bail!("partition {partition} gave offset {offset} where {} was due", cursor.offset);
        }
        let value = value.unwrap_or_default();
        if value.len() != self.value_len || sum(value) != self.sums[cursor.line as usize] {
            bail!("offset {offset} of partition {partition} has another value than was sent");
        }
        cursor.offset += 1;
        cursor.line += 1;
        cursor.left_in_run -= 1;
        if cursor.left_in_run == 0 {
            cursor.left_in_run = cursor.run;
            cursor.line += cursor.gap;
        }
        while cursor.line >= lines {
            cursor.line -= lines;
        }
        self.seen += 1;
        Ok(())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.seen >= self.due
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in each partition after the producers have sent their shares.
    fn logs(loads: &[Load], partitions: i32) -> Vec<Vec<Vec<u8>>> {
        let mut logs = vec![Vec::new(); partitions as usize];
        for load in loads {
            let values = Values::new(*load);
            for i in 0..load.records {
                logs[load.partition(i) as usize].push(values.of(i).to_vec());
            }
        }
        logs
    }

    fn check_all(verifier: &mut Verifier, partition: i32, log: &[Vec<u8>]) -> Result<()> {
        (0..)
            .zip(log)
            .try_for_each(|(offset, value)| verifier.check(partition, offset, Some(value)))
    }

    #[test]
    fn what_producers_send_is_what_consumers_expect() {
        let load = Load { run: 7, lines: 40, value_len: 60, ..Load::new(1000, 6) };
        for producers in [1, 2, 3] {
            let loads = load.split(producers).unwrap();
            let logs = logs(&loads, 6);
            for consumer in load.split(3).unwrap() {
                let mut verifier = Verifier::of(&loads, consumer.range()).unwrap();
                for partition in consumer.range() {
                    let log = &logs[partition as usize];
                    let sent: u64 = loads.iter().map(|load| load.records_in(partition)).sum();
                    assert_eq!(log.len() as u64, sent);
                    check_all(&mut verifier, partition, log).unwrap();
                }
                assert!(verifier.is_done() && verifier.seen == verifier.due);
            }
        }
    }

    #[test]
    fn another_order_a_gap_and_another_content_are_found() {
        let load = Load { run: 5, lines: 40, value_len: 60, ..Load::new(100, 2) };
        let log = &logs(&[load], 2)[1];
        let mut swapped = log.clone();
        swapped.swap(20, 21);
        assert!(check_all(&mut Verifier::new(load), 1, &swapped).is_err());
        let mut altered = log.clone();
        altered[49][59] ^= 1;
        assert!(check_all(&mut Verifier::new(load), 1, &altered).is_err());
        let mut verifier = Verifier::new(load);
        verifier.check(1, 0, Some(&log[0])).unwrap();
        assert!(verifier.check(1, 2, Some(&log[2])).is_err());
        assert!(check_all(&mut Verifier::new(load), 1, log).is_ok());
    }
}
