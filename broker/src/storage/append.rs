//! Appending: sequences checked, offsets assigned, headers stamped, bytes written, in that order.
//!
//! Requests of one call are coalesced (`write_group`). The bytes are not copied: each batch is its
//! 61-byte header, copied and stamped, followed by the chunks as they came.

use bytes::Bytes;
use proto::record::{BatchHeader, TimestampType};
use proto::{LeaderEpoch, Offset};

use super::error::{AppendError, SequenceError};
use super::log::{Log, Writer};
use super::producer_state::{ProducerState, Verdict, WINDOW_DEFAULT, WINDOW_MAX};
use super::write_group::{ChunkCursor, GroupWriter, Stamp};

/// What one client wants appended: whole batches, appended together or not at all.
#[derive(Debug, Clone, Copy)]
pub struct AppendRequest<'a> {
    /// The batches' bytes, as they came.
    pub chunks: &'a [Bytes],
    /// Their headers, with CRCs checked (`proto::record::check_chunks`).
    pub headers: &'a [BatchHeader],
    /// The epoch of the leader that appends.
    pub leader_epoch: LeaderEpoch,
    /// How many batches the producer keeps in flight; 0 is Kafka's five.
    pub window: u16,
}

/// Where a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record (inclusive); flush to the one after it before acknowledging with
    /// `before-ack`, for a duplicate too.
    pub last_offset: Offset,
    /// Whether it had been appended before.
    pub duplicate: bool,
    /// The time stamped on the batches, where the topic wants the broker's.
    pub log_append_time: Option<i64>,
}

type AppendResult = Result<Appended, AppendError>;

impl Log {
    /// Appends requests in order and returns a result for each, in order. A request that fails
    /// does not keep later ones from being tried (their producers' sequences do).
    ///
    /// After return, successful requests are in the page cache and readable; the flush policy and
    /// [`Log::flush_to`] decide about stable storage. Calls exclude each other. A panic takes the
    /// log offline, and all requests fail.
    pub fn append(&self, requests: &[AppendRequest<'_>]) -> Vec<AppendResult> {
        let mut writer = self.writer.lock();
        let appended =
            self.contain_locked("appending", &mut writer, |w| self.append_locked(w, requests));
        drop(writer);
        match appended {
            Ok((results, failure)) => {
                let is_new = |result: &AppendResult| result.as_ref().is_ok_and(|a| !a.duplicate);
                self.settle_append(results.iter().any(is_new), failure);
                results
            }
            Err(broken) => {
                let offline = self.tell_broken(&broken);
                requests.iter().map(|_| Err(offline.clone().into())).collect()
            }
        }
    }

    /// Results, and why the log must go offline.
    fn append_locked(
        &self,
        writer: &mut Writer,
        requests: &[AppendRequest<'_>],
    ) -> (Vec<AppendResult>, Option<String>) {
        let config = self.config.load_full();
        let mut appending = Appending {
            group: GroupWriter::new(self, writer, &config),
            staged: Vec::new(),
            results: Vec::with_capacity(requests.len()),
        };
        for request in requests {
            let result = appending.take(request);
            appending.results.push(result);
            if appending.group.is_full() {
                appending.commit();
            }
        }
        appending.commit();
        let Appending { results, group, .. } = appending;
        (results, group.into_failure())
    }

    /// What follows an append, without the writer lock.
    pub(super) fn settle_append(&self, advanced: bool, failure: Option<String>) {
        if self.has_unsaved_epochs() {
            // Tried again with the next checkpoint when it fails.
            let _ = self.save_epochs();
        }
        if let Some(cause) = failure {
            self.fail(&cause);
        } else if advanced {
            self.dir.flusher.appended(self);
            let log_end = self.log_end();
            self.tell(|listener| listener.log_end_advanced(log_end));
        }
    }
}

/// One call of [`Log::append`], under the writer lock.
struct Appending<'l, 'a> {
    group: GroupWriter<'l, 'a>,
    /// Numbers of the requests whose results depend on the next write.
    staged: Vec<usize>,
    /// Of the requests taken so far; those that are staged may yet turn into errors.
    results: Vec<AppendResult>,
}

impl<'a> Appending<'_, 'a> {
    fn take(&mut self, request: &AppendRequest<'a>) -> AppendResult {
        self.check(request)?;
        if !self.group.has_room(request.headers) {
            self.commit();
            self.group.check_failure()?;
            self.group.roll()?;
        }
        if let Some(duplicate) = check_sequences(&self.group.writer.producers, request.headers)? {
            // It may be a duplicate of a staged batch, and share its fate.
            self.staged.push(self.results.len());
            return Ok(duplicate);
        }
        Ok(self.stage(request))
    }

    /// Checks what needs no state but the settings.
    fn check(&self, request: &AppendRequest<'_>) -> Result<(), AppendError> {
        self.group.check_open()?;
        check_length(request.chunks, request.headers)?;
        for header in request.headers {
            let (size, limit) = (header.size_in_bytes(), self.group.config.max_message_bytes);
            if size > limit as usize {
                return Err(AppendError::BatchTooLarge { size, limit });
            }
            header.check_produced()?;
        }
        Ok(())
    }

    /// Assigns offsets and queues the bytes.
    fn stage(&mut self, request: &AppendRequest<'a>) -> Appended {
        let group = &mut self.group;
        let wanted = group.config.message_timestamp_type;
        let now_ms = group.now_ms;
        let stamp_time = wanted == TimestampType::LogAppendTime;
        let base_offset = group.end().end_offset;
        let mut chunks = ChunkCursor::new(request.chunks);
        let window = request.window.clamp(WINDOW_DEFAULT, WINDOW_MAX);
        for header in request.headers {
            let mut header = header.clone();
            header.base_offset = group.end().end_offset;
            header.leader_epoch = request.leader_epoch;
            let mut stamp = Stamp::Placed;
            if stamp_time || header.attributes.timestamp_type() != wanted {
                header.attributes = header.attributes.with_timestamp_type(wanted);
                header.max_timestamp = if stamp_time { now_ms } else { header.max_timestamp };
                stamp = Stamp::Changed;
            }
            group.stage(header, stamp, &mut chunks, window);
        }
        self.staged.push(self.results.len());
        Appended {
            base_offset,
            last_offset: Offset(group.end().end_offset.0 - 1),
            duplicate: false,
            log_append_time: stamp_time.then_some(now_ms),
        }
    }

    /// Writes what is staged, or says in the results why not.
    fn commit(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        let Err(error) = self.group.commit() else { return };
        for number in staged {
            if let Some(result) = self.results.get_mut(number) {
                *result = Err(error.clone());
            }
        }
    }
}

/// Whether there are batches, and the bytes are those that the headers tell of.
pub(super) fn check_length(chunks: &[Bytes], headers: &[BatchHeader]) -> Result<(), AppendError> {
    let bytes = chunks.iter().map(Bytes::len).sum();
    let described = headers.iter().map(BatchHeader::size_in_bytes).sum();
    if bytes != described || headers.is_empty() {
        return Err(AppendError::LengthMismatch { bytes, described });
    }
    Ok(())
}

/// Whether the producer may append these batches: all of one producer, following each other, and
/// all new; or, giving where they went, all appended before.
fn check_sequences(
    producers: &ProducerState,
    headers: &[BatchHeader],
) -> Result<Option<Appended>, SequenceError> {
    let Some((first, rest)) = headers.split_first() else { return Ok(None) };
    let mut duplicate = match producers.check(first)? {
        Verdict::Fresh => None,
        Verdict::Duplicate(batch) => Some(batch),
    };
    let base_offset = duplicate.map(|batch| batch.base_offset);
    let mut before = first;
    for header in rest {
        let expected = match before.is_idempotent() {
            true => before.last_sequence().wrapping_add(1) & i32::MAX,
            false => before.base_sequence,
        };
        let follows = (header.producer_id, header.producer_epoch, header.base_sequence)
            == (before.producer_id, before.producer_epoch, expected);
        let seen = match duplicate {
            None => Verdict::Fresh,
            Some(_) => producers.check(header)?,
        };
        match (duplicate, seen) {
            (None, _) if follows => {}
            (Some(_), Verdict::Duplicate(batch)) if follows => duplicate = Some(batch),
            _ => {
                let (producer_id, found) = (header.producer_id, header.base_sequence);
                return Err(SequenceError::OutOfOrder { producer_id, expected, found });
            }
        }
        before = header;
    }
    Ok(duplicate.zip(base_offset).map(|(last, base_offset)| Appended {
        base_offset,
        last_offset: last.last_offset(),
        duplicate: true,
        log_append_time: None,
    }))
}
