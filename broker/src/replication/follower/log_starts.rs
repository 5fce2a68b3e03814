//! Where the leader's logs start: asked for partitions whose position is out of its range, beside the
//! fetch stream, for many at once and one question at a time.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proto::client::Connection;
use proto::grpc::MESSAGE_LEN_MAX;
use proto::v1::log_client::LogClient;
use proto::{LeaderEpoch, Offset, v1};

use super::fetch_state::{Event, Phase};
use super::fetcher::Fetcher;
use super::followed::Refusal;
use super::rounds::ReplicaNumber;

/// The longest wait for an answer.
const ASK_WAIT: Duration = Duration::from_secs(10);
/// The question for the first offset there is.
const EARLIEST: i64 = -2;

/// Where logs start, as it is told.
pub(super) type Ask =
    Pin<Box<dyn Future<Output = Vec<(ReplicaNumber, Result<Offset, String>)>> + Send>>;

impl Fetcher<'_> {
    /// Asks where the logs start whose positions are out of range; one question at a time.
    pub(super) fn ask_starts(&mut self, connection: &Connection) {
        if self.ask.is_some() || self.asking.is_empty() {
            return;
        }
        let (mut asked, mut queries) = (Vec::new(), Vec::new());
        for number in self.asking.drain(..) {
            let Some(replica) = self.replicas.get(&number) else { continue };
            let name = replica.followed.name();
            asked.push((number, replica.followed.epoch));
            queries.push(v1::OffsetQuery {
                topic: name.topic.to_string(),
                topic_id: replica.followed.partition.topic_id().to_bytes(),
                partition: name.partition,
                timestamp_ms: EARLIEST,
            });
        }
        self.ask = Some(Box::pin(log_starts(connection.clone(), asked, queries)));
    }

    pub(super) fn starts_told(&mut self, starts: Vec<(ReplicaNumber, Result<Offset, String>)>) {
        self.ask = None;
        for (number, start) in starts {
            let Some(replica) = self.replicas.get(&number) else { continue };
            if replica.state.phase != Phase::Asking {
                continue;
            }
            let followed = Arc::clone(&replica.followed);
            let (partition, leader) = (followed.name(), self.key.leader.id);
            let log_end = followed.log_end();
            match start.map(|start| (start, followed.restart(start))) {
                Ok((start, Ok(true))) => {
                    self.shared.metrics.replica_restarts.one();
                    tracing::warn!(
                        %partition, %leader, log_end = log_end.0, start = start.0,
                        "the leader has nothing from here on: the log begins anew where its does"
                    );
                    self.apply(number, Event::StartTold);
                }
                Ok((start, Ok(false))) => {
                    tracing::debug!(
                        %partition, %leader, log_end = log_end.0, start = start.0,
                        "out of the leader's range, though its log starts before"
                    );
                    self.apply(number, Event::Refused);
                }
                Ok((_, Err(Refusal::Local { fault, cause }))) => {
                    self.local_fault(number, fault, &cause);
                }
                Ok((_, Err(Refusal::Sent(fault)))) => self.bad_answer(number, &followed, &fault),
                Err(why) => {
                    tracing::debug!(%partition, %leader, why, "where its log starts is not known");
                    self.apply(number, Event::Refused);
                }
            }
        }
    }
}

async fn log_starts(
    connection: Connection,
    asked: Vec<(ReplicaNumber, LeaderEpoch)>,
    queries: Vec<v1::OffsetQuery>,
) -> Vec<(ReplicaNumber, Result<Offset, String>)> {
    let mut client = LogClient::new(connection).max_decoding_message_size(MESSAGE_LEN_MAX);
    let asking = client.list_offsets(v1::ListOffsetsRequest { queries });
    let answers = match tokio::time::timeout(ASK_WAIT, asking).await {
        Ok(Ok(answers)) => answers.into_inner().answers,
        Ok(Err(status)) => {
            return all_failed(&asked, status.message());
        }
        Err(_) => return all_failed(&asked, "the leader did not answer in time"),
    };
    if answers.len() != asked.len() {
        return all_failed(&asked, "the leader answered another number of questions");
    }
    asked.into_iter().zip(answers).map(|((number, epoch), a)| (number, start(epoch, a))).collect()
}

/// Where a log starts that is followed in `epoch`. Another leader's log may begin elsewhere, and what
/// is here must not begin anew because of that.
fn start(epoch: LeaderEpoch, answer: v1::OffsetAnswer) -> Result<Offset, String> {
    match answer.error {
        Some(error) => Err(error.message),
        None if answer.leader_epoch != epoch.0 => {
            Err(format!("it was told by a leader of epoch {}", answer.leader_epoch))
        }
        None => Ok(Offset(answer.offset)),
    }
}

fn all_failed(
    asked: &[(ReplicaNumber, LeaderEpoch)],
    why: &str,
) -> Vec<(ReplicaNumber, Result<Offset, String>)> {
    asked.iter().map(|&(number, _)| (number, Err(why.to_owned()))).collect()
}

/// The answer, when it comes; never where nothing was asked.
pub(super) async fn answered(
    ask: &mut Option<Ask>,
) -> Vec<(ReplicaNumber, Result<Offset, String>)> {
    match ask {
        Some(ask) => ask.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use proto::ErrorCode;

    use super::*;

    #[test]
    fn only_the_leader_that_is_followed_says_where_its_log_starts() {
        let told = |leader_epoch, error: Option<v1::Error>| {
            let answer = v1::OffsetAnswer { offset: 7, leader_epoch, error, ..Default::default() };
            start(LeaderEpoch(3), answer)
        };
        assert_eq!(told(3, None), Ok(Offset(7)));
        assert!(told(2, None).is_err() && told(4, None).is_err());
        let error = ErrorCode::NotLeaderOrFollower.to_message("no", "");
        assert_eq!(told(3, Some(error)), Err("no".to_owned()));
    }
}
