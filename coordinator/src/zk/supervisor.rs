//! The one task that owns the session: connects, probes, publishes, replaces what has expired.
//!
//! ```text
//!            connect, make roots              state watcher, probe
//! Connecting ------------------> Connected <-----------------------> Disconnected
//!     ^                              |    terminal state, or a probe       |
//!     +------------------------------+----- answered SessionExpired ------+
//! ```

use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, join_all};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use zookeeper_client::{Acls, Client, CreateMode, Error};

use super::session::{Live, SessionOptions, SessionState};
use super::{Fault, Lease, paths};

/// A session's timeout has so many probes; the lease needs several to be lost before it runs out. So often
/// that the client crate, which pings after three twentieths of silence, need not ping as well.
const PROBES_PER_TIMEOUT: u32 = 7;
/// Between the first two attempts to connect; then twice as long each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// How often a registry that stays away is logged.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// The longest that a close may take when no server answers.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Supervisor {
    options: SessionOptions,
    published: watch::Sender<SessionState>,
    asked_to_close: watch::Receiver<bool>,
    /// The number of the newest session.
    number: u64,
}

/// Why a session is over.
enum End {
    Expired,
    AskedToClose,
}

impl Supervisor {
    pub(super) fn new(
        options: SessionOptions,
        published: watch::Sender<SessionState>,
        asked_to_close: watch::Receiver<bool>,
    ) -> Self {
        Self { options, published, asked_to_close, number: 0 }
    }

    /// Runs until asked to close, or until every handle is gone.
    pub(super) async fn run(mut self) {
        while let Some((began, client)) = self.establish().await {
            self.number += 1;
            let timeout = client.session_timeout();
            let lease = Lease::new(timeout);
            lease.extend(began);
            let live = Live { number: self.number, client, timeout, lease };
            let (session, number) = (live.client.session_id(), live.number);
            tracing::info!(%session, number, ?timeout, connect = %self.options.connect, "session established");
            match self.serve(&live).await {
                End::Expired => {
                    live.lease.end();
                    tracing::warn!(%session, number, "session expired; building a new one");
                    self.publish(SessionState::Connecting { cause: None });
                }
                End::AskedToClose => {
                    live.lease.end();
                    self.publish(SessionState::Closed);
                    close(live).await;
                    return;
                }
            }
        }
        self.publish(SessionState::Closed);
    }

    /// Connects until it succeeds, and says when that attempt began; `None` when asked to close.
    ///
    /// Each attempt tries every server once. The client's own way of going on has pauses that
    /// double without a bound, so a registry that came back would be found late.
    async fn establish(&mut self) -> Option<(Instant, Client)> {
        let mut pause = FIRST_PAUSE;
        let mut told: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let mut asked_to_close = self.asked_to_close.clone();
            let cause = tokio::select! {
                biased;
                () = close_asked(&mut asked_to_close) => return None,
                connected = connect(&self.options) => match connected {
                    Ok(client) => return Some((began, client)),
                    Err(error) => describe(&error),
                },
            };
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                tracing::warn!(connect = %self.options.connect, %cause, "no ZooKeeper session yet");
            }
            self.publish(SessionState::Connecting { cause: Some(cause.into()) });
            let jitter = Duration::from_millis(fastrand::u64(0..100));
            tokio::select! {
                () = close_asked(&mut asked_to_close) => return None,
                () = tokio::time::sleep(pause + jitter) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    async fn serve(&mut self, live: &Live) -> End {
        let mut states = live.client.state_watcher();
        let mut connected = states.peek_state() == zookeeper_client::SessionState::SyncConnected;
        self.publish_connection(live, connected);
        let mut ticks = tokio::time::interval(live.timeout / PROBES_PER_TIMEOUT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe: Option<BoxFuture<'_, (Instant, Result<(), Error>)>> = None;
        loop {
            tokio::select! {
                biased;
                () = close_asked(&mut self.asked_to_close) => return End::AskedToClose,
                state = states.changed() => {
                    if state.is_terminated() {
                        return End::Expired;
                    }
                    let now = state == zookeeper_client::SessionState::SyncConnected;
                    if now != connected {
                        connected = now;
                        ticks.reset_immediately();
                        self.publish_connection(live, connected);
                    }
                }
                Some((sent, answer)) = next(&mut probe) => {
                    probe = None;
                    match answer {
                        Ok(()) => live.lease.extend(sent),
                        Err(error) if Fault::of(&error) == Fault::SessionEnded => return End::Expired,
                        Err(error) => tracing::debug!(%error, "session probe was not answered"),
                    }
                }
                _ = ticks.tick(), if probe.is_none() => probe = Some(send_probe(&live.client)),
            }
        }
    }

    fn publish_connection(&self, live: &Live, connected: bool) {
        if connected {
            self.publish(SessionState::Connected(live.clone()));
        } else {
            tracing::warn!(session = %live.client.session_id(), "disconnected from ZooKeeper");
            self.publish(SessionState::Disconnected { live: live.clone(), since: Instant::now() });
        }
    }

    fn publish(&self, state: SessionState) {
        self.published.send_replace(state);
    }
}

/// Resolves when asked to close, or when nobody can ask any more.
async fn close_asked(asked: &mut watch::Receiver<bool>) {
    // An error says that every handle was dropped, which asks for the same.
    let _ = asked.wait_for(|&asked| asked).await;
}

/// The probe's answer; `None` for ever when there is no probe under way.
async fn next<T>(probe: &mut Option<BoxFuture<'_, T>>) -> Option<T> {
    match probe {
        Some(probe) => Some(probe.await),
        None => std::future::pending().await,
    }
}

/// `sync` goes through the ensemble's leader and costs no disk write, so its answer shows that
/// the leader had not expired the session when it was sent; a read may come from a stale follower.
fn send_probe(client: &Client) -> BoxFuture<'_, (Instant, Result<(), Error>)> {
    let sent = Instant::now();
    let answer = client.sync("/");
    async move { (sent, answer.await) }.boxed()
}

async fn connect(options: &SessionOptions) -> Result<Client, Error> {
    let connector = Client::connector().with_session_timeout(options.timeout).with_fail_eagerly();
    let client = connector.connect(&crowded(options.connect.hosts())).await?;
    let chroot = options.connect.chroot();
    let client = if chroot.is_empty() {
        client
    } else {
        make(&client, chroot).await?;
        client
            .chroot(chroot.to_owned())
            .map_err(|_| Error::BadArguments(&"the chroot is not a valid path"))?
    };
    for made in join_all(paths::ROOTS.iter().map(|root| make(&client, root))).await {
        made?;
    }
    Ok(client)
}

/// A single address, named a dozen times; several are left alone.
///
/// While disconnected the client pauses before each round over its addresses, twice as long each
/// time, and only briefly between two of one round. With a single address it would soon look once
/// in several seconds, find a server that came back too late, and lose a session for nothing. Of
/// several it tries one after the other in random order; named more than once, one that accepts
/// and never answers could come twice in a row, which costs a session just as well.
fn crowded(hosts: &str) -> String {
    match hosts.contains(',') {
        true => hosts.to_owned(),
        false => [hosts; 12].join(","),
    }
}

/// Makes a persistent node and its ancestors. Looks first: a failed create is a write to all servers.
async fn make(client: &Client, path: &str) -> Result<(), Error> {
    match client.check_stat(path).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) | Err(Error::NoNode) => {
            client.mkdir(path, &CreateMode::Persistent.with_acls(Acls::anyone_all())).await
        }
        Err(error) => Err(error),
    }
}

/// Removes the session's ephemerals, then ends it. Others may still hold clones of the client,
/// which keeps the session open until they drop them; the ephemerals do not wait for that.
async fn close(live: Live) {
    let client = live.client;
    let mut states = client.state_watcher();
    let clearing = async {
        let ephemerals = client.list_ephemerals("/").await?;
        for deleted in join_all(ephemerals.iter().map(|path| client.delete(path, None))).await {
            match deleted {
                Ok(()) | Err(Error::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    match tokio::time::timeout(CLOSE_LIMIT, clearing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "ephemerals are left to the session's timeout"),
        Err(_) => tracing::warn!("no answer to the close: ephemerals are left to the timeout"),
    }
    drop(client);
    // The last clone's drop sends closeSession; give it a moment to be written and answered.
    let closed = async { while !states.changed().await.is_terminated() {} };
    let _ = tokio::time::timeout(Duration::from_millis(200), closed).await;
}

fn describe(error: &Error) -> String {
    match error {
        Error::NoHosts => "no address accepts a connection and answers".to_owned(),
        Error::Timeout => "no server answered in the session timeout".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::crowded;

    #[test]
    fn a_single_address_is_named_a_dozen_times() {
        assert_eq!(crowded("a:1").split(',').filter(|&host| host == "a:1").count(), 12);
        assert_eq!(crowded("a:1,b:2"), "a:1,b:2");
    }
}
