//! What a leader's answers come to: records into the log, or what `fetch_state` says about what went
//! wrong. Which answer belongs to which partition is in `rounds`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use proto::{ErrorCode, Offset, v1};

use super::fetch_state::{Event, LocalFault};
use super::fetcher::Fetcher;
use super::followed::{Followed, Refusal};
use super::lane::Lane;
use super::records::Fault;
use super::rounds::ReplicaNumber;

impl Fetcher<'_> {
    pub(super) fn append(
        &mut self,
        number: ReplicaNumber,
        response: &v1::FetchResponse,
        records: Vec<Bytes>,
        bytes: usize,
    ) {
        let Some(replica) = self.replicas.get_mut(&number) else { return };
        let followed = Arc::clone(&replica.followed);
        match followed.append(response, records) {
            Ok(appended) => {
                let high_watermark = Offset(response.high_watermark);
                replica.leader_end = Some(high_watermark);
                replica.refill.came(bytes as u64);
                let since = replica.since;
                self.apply(number, Event::Appended);
                self.shared.metrics.replica_bytes_in.add(bytes as u64);
                self.shared.metrics.replica_records_in.add(appended.records.unsigned_abs());
                if bytes > 0 && followed.flushes_first() {
                    self.flush(number);
                } else if bytes > 0 {
                    self.tell(number);
                }
                if followed.has_unstored_start() {
                    self.tell_start(number, &followed);
                }
                let end = appended.log_end;
                let lane = self.key.lane.after(end, high_watermark, since, Instant::now());
                self.change_lane(number, lane);
                if lane == Lane::Refill && self.key.lane == Lane::InSync {
                    // Who turns out to be behind pays for what it had before.
                    self.shared.throttle.take(bytes as u64, Instant::now());
                }
            }
            Err(Refusal::Sent(fault)) => self.bad_answer(number, &followed, &fault),
            Err(Refusal::Local { fault, cause }) => self.local_fault(number, fault, &cause),
        }
    }

    pub(super) fn change_lane(&mut self, number: ReplicaNumber, lane: Lane) {
        if lane == self.key.lane {
            return;
        }
        let Some(replica) = self.replicas.get(&number) else { return };
        let followed = Arc::clone(&replica.followed);
        tracing::info!(
            partition = %followed.name(), leader = %self.key.leader.id, log_end = followed.log_end().0,
            "{}", match lane {
                Lane::InSync => "replica has caught up",
                Lane::Refill => "replica is behind: it catches up on a stream of its own",
            }
        );
        self.let_go(number);
        self.shared.change_lane(&followed, lane);
    }

    /// Bytes are damaged, or are not what follows the log: nothing from there on was appended.
    pub(super) fn bad_answer(&mut self, number: ReplicaNumber, followed: &Followed, fault: &Fault) {
        self.shared.metrics.replica_fetch_failures.one();
        if matches!(fault, Fault::Corrupt(_)) {
            self.shared.metrics.replica_corrupt_answers.one();
        }
        // Base offset and leader epoch are outside of the checksum: a batch that does not follow may be
        // damaged at the leader, too, which finds out when it is asked to look.
        self.apply(number, Event::Corrupt);
        let state = self.replicas.get(&number).map(|replica| replica.state);
        let times = state.map_or(0, |state| state.failures.max(state.corrupt));
        if times.is_power_of_two() {
            tracing::warn!(
                partition = %followed.name(), leader = %self.key.leader.id,
                log_end = followed.log_end().0, times, %fault,
                "the leader sent what may not be appended; asking again"
            );
        }
    }

    pub(super) fn local_fault(&mut self, number: ReplicaNumber, fault: LocalFault, cause: &str) {
        self.shared.metrics.replica_fetch_failures.one();
        self.apply(number, Event::Local(fault));
        let Some(replica) = self.replicas.get(&number) else { return };
        if replica.state.failures.is_power_of_two() || fault == LocalFault::Over {
            tracing::warn!(
                partition = %replica.followed.name(), leader = %self.key.leader.id, cause,
                failures = replica.state.failures, "cannot append what was fetched"
            );
        }
    }

    pub(super) fn refused(&mut self, number: ReplicaNumber, error: &v1::Error) {
        let code = ErrorCode::from_code(error.code);
        if code == ErrorCode::OffsetOutOfRange {
            self.apply(number, Event::OutOfRange);
            return;
        }
        self.shared.metrics.replica_fetch_failures.one();
        self.apply(number, Event::Refused);
        let Some(replica) = self.replicas.get(&number) else { return };
        let failures = replica.state.failures;
        // Around an election the two learn of it at different moments.
        let usual = matches!(
            code,
            ErrorCode::NotLeaderOrFollower
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::ReplicaNotAvailable
                | ErrorCode::StaleBrokerEpoch
        ) && failures < 32;
        if failures.is_power_of_two() && !usual {
            tracing::warn!(
                partition = %replica.followed.name(), leader = %self.key.leader.id,
                epoch = %replica.followed.epoch, failures, %code, message = error.message,
                "the leader refuses to be followed"
            );
        }
    }

    /// The leader's log has another history below the log end here.
    pub(super) fn diverged(&mut self, number: ReplicaNumber, diverging: &v1::EpochEnd) {
        self.apply(number, Event::Diverging);
        let Some(replica) = self.replicas.get(&number) else { return };
        let followed = Arc::clone(&replica.followed);
        let (partition, leader) = (followed.name(), self.key.leader.id);
        match followed.truncate(diverging) {
            Ok(Some(cut)) => {
                let records = (cut.from.0 - cut.to.0).max(0);
                self.shared.metrics.replica_truncations.one();
                self.shared.metrics.replica_truncated_records.add(records.unsigned_abs());
                if cut.below_high_watermark {
                    tracing::error!(
                        %partition, %leader, from = cut.from.0, to = cut.to.0,
                        "the leader does not have records that were committed: they are cut off here \
                         too (an unclean election, or the leader lost its log)"
                    );
                } else {
                    tracing::info!(%partition, %leader, from = cut.from.0, to = cut.to.0, "log cut");
                }
            }
            Ok(None) => {
                let end = followed.log_end();
                tracing::warn!(
                    %partition, %leader, log_end = end.0, end_offset = diverging.end_offset,
                    "the leader says that the logs differ and does not say where"
                );
                self.apply(number, Event::Refused);
            }
            Err(Refusal::Local { fault, cause }) => self.local_fault(number, fault, &cause),
            Err(Refusal::Sent(fault)) => self.bad_answer(number, &followed, &fault),
        }
    }
}
