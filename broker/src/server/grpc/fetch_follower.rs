//! What a fetch stream does for a follower beside reading: it learns who follows, takes how far the
//! follower's logs have come, and tells positions that move without records.
//!
//! A follower is the run of a broker that its first request names. What it tells counts only while
//! that run is the registered one (KIP-903), and only of partitions that the broker is a replica of.

use proto::grpc::FrameError;
use proto::{BrokerId, Offset, v1};
use tonic::Status;

use super::fetch_round::Round;
use super::fetch_session::{FetchSession, refused};
use super::outbox::Outbox;
use crate::api::Told;
use crate::replication::Replica;

impl FetchSession {
    /// Who follows with this stream, as its first request says.
    pub(super) fn take_replica(&mut self, request: &v1::FetchRequest) -> Result<(), Status> {
        let is_first = !std::mem::replace(&mut self.introduced, true);
        if let Some(told) = &request.replica {
            let incarnation = uuid::Uuid::from_slice(&told.incarnation).map_err(|_| {
                Status::invalid_argument("the incarnation of a replica has 16 bytes")
            })?;
            let replica = Replica { broker_id: BrokerId(told.broker_id), incarnation };
            if is_first {
                self.follower = Some(replica);
            } else if self.follower != Some(replica) {
                return Err(Status::invalid_argument(
                    "a fetch stream becomes a replica's by its first request, and stays so",
                ));
            }
        }
        if self.follower.is_none() && !request.progress.is_empty() {
            return Err(Status::invalid_argument(
                "progress is told by replicas; this fetch stream named none in its first request",
            ));
        }
        Ok(())
    }

    /// Takes how far the follower's logs have come; returns the refusals.
    pub(super) fn take_progress(
        &mut self,
        progress: &[v1::ReplicaProgress],
    ) -> Vec<v1::FetchResponse> {
        let Some(follower) = self.follower.filter(|_| !progress.is_empty()) else {
            return Vec::new();
        };
        let live = self.api.check_follower(&follower);
        let mut refusals = Vec::new();
        for v1::ReplicaProgress { handle: number, offset, log_start_offset } in progress {
            // A handle may have been refused while the follower told of it.
            let Some(handle) = self.handles.get(number) else { continue };
            let told = match &live {
                Ok(()) => handle.reader.follower_told(Offset(*offset), Offset(*log_start_offset)),
                Err(refusal) => Err(Told::Refused(refusal.clone())),
            };
            match told {
                Ok(()) => {}
                Err(Told::Ignored(why)) => {
                    if !std::mem::replace(&mut self.ignored_told, true) {
                        tracing::error!(
                            broker = %follower.broker_id, why,
                            "a follower tells what cannot be; ignored, and not logged again for \
                             this stream"
                        );
                    }
                }
                Err(Told::Refused(refusal)) => {
                    self.forget(*number);
                    refusals.push(refused(*number, &refusal));
                }
            }
        }
        refusals
    }

    /// Tells followers positions that moved, where no records told them.
    pub(super) fn tell_news(&mut self, round: &Round, out: &mut Outbox) -> Result<(), FrameError> {
        for &number in &round.news {
            let Some(handle) = self.handles.get_mut(&number) else { continue };
            handle.has_news = false;
            let Some(positions) = handle.reader.take_news() else { continue };
            out.message(&v1::FetchResponse {
                request_id: round.request_id,
                handle: number,
                high_watermark: positions.high_watermark.0,
                log_start_offset: positions.log_start.0,
                next_offset: handle.reader.offset().0,
                producers: handle.reader.take_producers().into(),
                ..Default::default()
            })?;
        }
        Ok(())
    }
}
