//! One pass over a log: segments are read, judged batch by batch, and written anew in groups that
//! each make one segment.
//!
//! Every offset stays covered by a batch (see `empty_run`), so that a copy ends where its last
//! source ended. Groups are replaced from the oldest on: when a tombstone gets its delete horizon,
//! all older records of its key are gone already.

use std::collections::HashMap;
use std::sync::Arc;

use proto::record::{Batch, BatchHeader};
use proto::{Offset, ProducerId};

use super::batch_reader::BatchReader;
use super::block::Blocks;
use super::cleaning::Cleaning;
use super::empty_run::{EmptyRun, without_records};
use super::error::CompactionError;
use super::filter::{Judge, Left};
use super::output::Output;
use super::swap;
use crate::storage::log::Log;
use crate::storage::segment::{Segment, Tip};

/// What a pass works with.
pub(super) struct Pass<'a> {
    pub(super) log: &'a Log,
    pub(super) cleaning: &'a Cleaning,
    pub(super) judge: Judge<'a>,
    /// Batches from here on stay as they are: not all of their keys are in the map.
    pub(super) map_end: Offset,
    /// Base offset of the last batch of each producer that is remembered: it stays, without records
    /// if need be, so that the producer's sequence is found in the log.
    pub(super) last_batches: HashMap<ProducerId, Offset>,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PassFigures {
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) records: u64,
    pub(super) kept: u64,
    pub(super) replaced_segments: usize,
    /// The earliest delete horizon of tombstones that stayed; `i64::MAX`: none.
    pub(super) next_horizon_ms: i64,
    /// Batches that cannot be decoded, kept as they are.
    pub(super) opaque_batches: u64,
}

impl Pass<'_> {
    /// Rewrites the segments, oldest first.
    pub(super) fn run(&self, segments: &[Arc<Segment>]) -> Result<PassFigures, CompactionError> {
        let mut group = Group {
            pass: self,
            output: None,
            sources: Vec::new(),
            run: None,
            changed: false,
            blocks: Blocks::default(),
            scratch: Vec::new(),
            figures: PassFigures { next_horizon_ms: i64::MAX, ..PassFigures::default() },
        };
        for segment in segments {
            if !group.has_room_for(segment) {
                group.commit()?;
            }
            group.take(segment)?;
        }
        group.commit()?;
        Ok(group.figures)
    }
}

/// Segments on their way into one copy.
struct Group<'a> {
    pass: &'a Pass<'a>,
    output: Option<Output<'a>>,
    sources: Vec<Arc<Segment>>,
    /// Offsets whose records are gone, not yet written, and the first header they came from.
    run: Option<(EmptyRun, BatchHeader)>,
    /// Whether the copy differs from its sources.
    changed: bool,
    blocks: Blocks,
    /// What is left of a batch.
    scratch: Vec<u8>,
    figures: PassFigures,
}

impl Group<'_> {
    fn has_room_for(&self, segment: &Segment) -> bool {
        let Some(output) = &self.output else { return true };
        let tip = segment.tip();
        let limit = u64::from(self.pass.log.config().segment_bytes);
        let span = tip.end_offset.0 - output.base_offset().0;
        output.size() + tip.size <= limit && span <= i64::from(i32::MAX)
    }

    fn take(&mut self, segment: &Arc<Segment>) -> Result<(), CompactionError> {
        let pass = self.pass;
        pass.log.check_online()?;
        if segment.is_retired() {
            // No use in going on: the swap would find out.
            return Err(CompactionError::Overtaken);
        }
        if self.output.is_none() {
            self.output = Some(Output::create(pass.log, pass.cleaning, segment.base_offset)?);
        }
        self.sources.push(segment.clone());
        let start = Tip { end_offset: segment.base_offset, size: 0 };
        let mut reader = BatchReader::new(segment, start, pass.cleaning);
        while let Some(batch) = reader.next()? {
            self.figures.read_bytes += batch.bytes().len() as u64;
            self.take_batch(&batch)?;
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: &Batch<'_>) -> Result<(), CompactionError> {
        let header = batch.header();
        if header.base_offset >= self.pass.map_end || header.attributes.is_control() {
            return self.push(header, batch.bytes());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let tombstones_stay = self.figures.opaque_batches > 0;
        let judge = &self.pass.judge;
        let verdict = judge.judge(batch, tombstones_stay, &mut self.blocks, &mut scratch);
        self.figures.records += verdict.records;
        self.figures.kept += verdict.kept;
        let horizon_ms = verdict.horizon_ms.unwrap_or(i64::MAX);
        self.figures.next_horizon_ms = self.figures.next_horizon_ms.min(horizon_ms);
        let taken = match verdict.left {
            Left::Whole => self.push(header, batch.bytes()),
            Left::Opaque => {
                // It may hold older records of keys whose tombstones come later.
                self.figures.opaque_batches += 1;
                self.push(header, batch.bytes())
            }
            Left::Part => {
                self.changed = true;
                match Batch::parse_without_crc(&scratch) {
                    Ok(left) => self.push(left.header(), &scratch),
                    Err(_) => self.push(header, batch.bytes()),
                }
            }
            Left::Nothing => self.empty(header),
        };
        self.scratch = scratch;
        taken
    }

    /// Nothing of a batch stays but its offsets, and its producer if this is the last word of it.
    fn empty(&mut self, header: &BatchHeader) -> Result<(), CompactionError> {
        let last = self.pass.last_batches.get(&header.producer_id);
        if last.is_some_and(|&last| last == header.base_offset) {
            let empty = without_records(header);
            self.changed |= empty != *header;
            return self.push(&empty, &empty.encode());
        }
        let next = EmptyRun::of(header);
        if let Some((run, _)) = &mut self.run
            && run.extend(next)
        {
            return Ok(());
        }
        self.end_run()?;
        self.run = Some((next, header.clone()));
        Ok(())
    }

    fn end_run(&mut self) -> Result<(), CompactionError> {
        let Some((run, first)) = self.run.take() else { return Ok(()) };
        let empty = run.header();
        self.changed |= empty != first;
        self.push(&empty, &empty.encode())
    }

    fn push(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), CompactionError> {
        self.end_run()?;
        match &mut self.output {
            Some(output) => output.push(header, bytes),
            None => Err(CompactionError::Overtaken),
        }
    }

    /// Puts the copy in the place of its sources. One segment of which nothing went stays itself.
    fn commit(&mut self) -> Result<(), CompactionError> {
        self.end_run()?;
        let Some(output) = self.output.take() else { return Ok(()) };
        let sources = std::mem::take(&mut self.sources);
        if !std::mem::take(&mut self.changed) && sources.len() == 1 {
            drop(output);
            swap::discard(self.pass.log);
            return Ok(());
        }
        self.figures.written_bytes += output.size();
        let first_append_ms = sources.iter().filter_map(|source| source.first_append_ms()).min();
        let last_append_ms = sources.iter().filter_map(|source| source.last_append_ms()).max();
        let copy = output.finish(first_append_ms)?;
        if let Some((first, last)) = first_append_ms.zip(last_append_ms) {
            copy.set_append_times(first, last);
        }
        swap::replace(self.pass.log, &sources, copy)?;
        self.figures.replaced_segments += sources.len();
        Ok(())
    }
}
