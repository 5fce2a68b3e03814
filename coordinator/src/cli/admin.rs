//! The Admin service as the tool sees it: found through a broker or the registry, asked again with
//! the same request id while nobody is there to answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::client::{Connection, SocketOptions};
use proto::v1::admin_client::AdminClient;
use tonic::{Code, Response, Status};

use super::args::Target;
use super::failure::Failure;
use super::process::connect_string;
use crate::zk::{Session, SessionOptions, election};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(150);
/// Who refuses connections is asked again for so long only: most likely the address is wrong.
const CONNECT_MAX: Duration = Duration::from_millis(800);
/// An answer takes at most a little longer than the controller allows itself.
const CALL_MAX: Duration = Duration::from_secs(6);

/// Who does not answer a ping for this long, twice, hangs: another broker is asked.
const PING: Duration = Duration::from_secs(1);

/// What a call runs on.
pub(crate) type Client = AdminClient<Connection>;

/// The way to the controller.
pub(crate) struct Admin {
    target: Target,
    began: Instant,
    deadline: Instant,
    /// Brokers that were asked in vain: the next attempt begins after them.
    failed: usize,
    client: Option<Client>,
}

impl Admin {
    /// Nothing is connected before the first call.
    pub(crate) fn new(target: &Target) -> Self {
        let began = Instant::now();
        let deadline = began + Duration::from_millis(target.timeout_ms);
        Self { target: target.clone(), began, deadline, failed: 0, client: None }
    }

    /// How long a call may be tried.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.target.timeout_ms)
    }

    /// Gives the calls that follow as much time as the first one had.
    pub(crate) fn again(&mut self) {
        self.began = Instant::now();
        self.deadline = self.began + Duration::from_millis(self.target.timeout_ms);
    }

    /// Makes a call, again while it may succeed later and time is left. The request is cloned with
    /// its id, so that a call that was done is not done twice.
    pub(crate) async fn call<Q: Clone, R, F>(
        &mut self,
        request: Q,
        call: impl Fn(Client, Q) -> F,
    ) -> Result<R, Failure>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        loop {
            let (failure, until) = match self.client().await {
                Err(failure) => (failure, self.deadline.min(self.began + CONNECT_MAX)),
                Ok(client) => {
                    let answer = tokio::time::timeout(CALL_MAX, call(client, request.clone()));
                    let status = match answer.await {
                        Ok(Ok(response)) => return Ok(response.into_inner()),
                        Ok(Err(status)) => status,
                        Err(_) => Status::unavailable("no answer: the peer hangs"),
                    };
                    self.client = None;
                    self.failed += 1;
                    if !may_succeed_later(&status) {
                        return Err(Failure::refused(status.message()));
                    }
                    (Failure::unreachable(status.message()), self.deadline)
                }
            };
            if failure.code != 3 || Instant::now() + PAUSE > until {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let connection = match &self.target.zookeeper {
            Some(zookeeper) => connect(&self.controller_by(zookeeper).await?).await?,
            None => self.any_broker().await?,
        };
        Ok(self.client.insert(AdminClient::new(connection)).clone())
    }

    async fn any_broker(&self) -> Result<Connection, Failure> {
        let mut failures = Vec::new();
        let mut addresses: Vec<&str> =
            self.target.bootstrap_server.split(',').map(str::trim).collect();
        let begin = self.failed % addresses.len().max(1);
        addresses.rotate_left(begin);
        for address in addresses {
            match connect(address).await {
                Ok(connection) => return Ok(connection),
                Err(failure) => failures.push(failure),
            }
        }
        match Failure::all(failures) {
            Err(failure) => Err(failure),
            Ok(()) => Err(Failure::usage("--bootstrap-server names no broker")),
        }
    }

    async fn controller_by(&self, zookeeper: &str) -> Result<String, Failure> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let options = SessionOptions::new(connect_string(zookeeper)?).failing_after(left);
        let unreachable = |error: &dyn std::fmt::Display| Failure::unreachable(error.to_string());
        let session = Session::start(options).await.map_err(|error| unreachable(&error))?;
        let live = session.live().await.map_err(|error| unreachable(&error))?;
        let found = election::read(&live.client).await.map_err(|error| unreachable(&error))?;
        drop(live);
        session.close().await;
        found.map(|controller| controller.address).ok_or_else(|| {
            Failure::unreachable(format!(
                "no controller is registered in {zookeeper}: no coordinator runs, or one has just \
                 died; start `coordinator run`, or try again in a few seconds"
            ))
        })
    }
}

/// Connects to a process that serves gRPC.
pub(crate) async fn connect(address: &str) -> Result<Connection, Failure> {
    let options = SocketOptions {
        keep_alive_interval: PING,
        keep_alive_timeout: PING,
        ..SocketOptions::default()
    };
    Connection::connect(address, &options).await.map_err(|error| {
        if error.is_retriable() {
            Failure::unreachable(error.to_string())
        } else {
            Failure::usage(error.to_string())
        }
    })
}

fn may_succeed_later(status: &Status) -> bool {
    // A standby says FailedPrecondition; by the next attempt the active one may be known.
    matches!(
        status.code(),
        Code::Unavailable | Code::FailedPrecondition | Code::Unknown | Code::Cancelled
    )
}

/// A new request id.
pub(crate) fn request_id() -> Bytes {
    Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes())
}
