//! `positions-checkpoint`: what a directory's logs had flushed and committed, written every few
//! seconds and at a clean stop. A line for each log:
//!
//! `topic partition topic-id log-start recovery-point high-watermark`
//!
//! All below the recovery point was on stable storage when the line was written.

use std::collections::HashMap;

use proto::{Offset, TopicId, TopicPartition};

use super::checked_text;

/// The file's name.
pub(super) const FILE_NAME: &str = "positions-checkpoint";

/// One log's line. `log_start <= recovery_point`; the high watermark may be above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Positions {
    pub(super) topic_id: TopicId,
    pub(super) log_start: Offset,
    pub(super) recovery_point: Offset,
    pub(super) high_watermark: Offset,
}

impl Positions {
    /// Of a log that has flushed nothing.
    pub(super) fn new(topic_id: TopicId) -> Self {
        let zero = Offset::ZERO;
        Self { topic_id, log_start: zero, recovery_point: zero, high_watermark: zero }
    }
}

/// The file's text, in the order given.
pub(super) fn encode(all: &[(TopicPartition, Positions)]) -> String {
    let lines: Vec<_> =
        all.iter().map(|(partition, positions)| line(partition, positions)).collect();
    checked_text::encode(&lines)
}

fn line(partition: &TopicPartition, positions: &Positions) -> String {
    let Positions { topic_id, log_start, recovery_point, high_watermark } = positions;
    let TopicPartition { topic, partition } = partition;
    format!("{topic} {partition} {topic_id} {log_start} {recovery_point} {high_watermark}")
}

/// Reads the file; `None` when it is not whole and right.
pub(super) fn decode(bytes: &[u8]) -> Option<HashMap<TopicPartition, Positions>> {
    checked_text::decode(bytes)?.into_iter().map(decode_line).collect()
}

fn decode_line(line: &str) -> Option<(TopicPartition, Positions)> {
    let mut fields = line.split(' ');
    let partition = TopicPartition::new(fields.next()?, fields.next()?.parse().ok()?);
    let topic_id = fields.next()?.parse().ok()?;
    let mut offset = || Some(Offset(fields.next()?.parse().ok().filter(|&o| o >= 0)?));
    let (log_start, recovery_point, high_watermark) = (offset()?, offset()?, offset()?);
    fields
        .next()
        .is_none()
        .then_some((partition, Positions { topic_id, log_start, recovery_point, high_watermark }))
}
