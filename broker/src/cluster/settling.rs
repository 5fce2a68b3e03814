//! The task that settles: whenever the image has changed, and again after a while where something
//! could not be done. Changes that come while it works are taken together.
//!
//! It is apart from the member, so that news of leaders reach clients before slow disks are done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator::registry::brokers;
use coordinator::zk::payload::Stored;
use coordinator::zk::{Live, Session};
use proto::{BrokerId, TopicId};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::settle::{Epochs, Settler, States};

/// How often others are asked again to take over from logs that are offline or damaged.
const LOOK: Duration = Duration::from_millis(250);
/// Before what the disk refused is tried again: at first, and after many failures.
const TEND_FIRST: Duration = Duration::from_secs(1);
const TEND_LAST: Duration = Duration::from_secs(60);

/// The image has changed.
#[derive(Default)]
pub(super) struct Request {
    /// Topics whose deletion was accepted.
    pub(super) deleted: Vec<(Arc<str>, TopicId)>,
    /// Told when that is carried out as far as it can be.
    pub(super) settled: Option<oneshot::Sender<()>>,
}

/// The task.
pub(super) struct Settling {
    settler: Settler,
    session: Session,
    /// The image was changed by somebody who waits for nothing.
    wanted: Arc<Notify>,
    /// Until what the disk refused is tried again.
    pause: Duration,
    stored: StoredNodes,
}

impl Settling {
    pub(super) fn new(settler: Settler, session: Session, wanted: Arc<Notify>) -> Self {
        let stored = StoredNodes { me: settler.me, session: 0, told: HashMap::new(), task: None };
        Self { settler, session, wanted, pause: TEND_FIRST, stored }
    }

    /// Settles until nobody asks any more.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut troubles = self.settler.partitions.troubles();
        let mut tend_at = Instant::now() + self.pause;
        let mut look_at = Instant::now();
        loop {
            // While all is well nothing is looked for: who finds something wrong says so.
            let troubled = self.settler.partitions.is_troubled();
            let unsettled = troubled || self.settler.is_unsettled();
            if !troubled {
                // What goes offline again is handed over again.
                self.settler.handed_over.clear();
            }
            let first = tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => request,
                    None => return,
                },
                () = self.wanted.notified() => Request::default(),
                Ok(()) = troubles.changed() => {
                    if !unsettled {
                        self.pause = TEND_FIRST;
                        tend_at = Instant::now() + TEND_FIRST;
                    }
                    continue;
                }
                () = tokio::time::sleep_until(look_at), if troubled => {
                    self.hand_over_offline().await;
                    look_at = Instant::now() + LOOK;
                    continue;
                }
                () = tokio::time::sleep_until(tend_at), if unsettled => {
                    self.tend().await;
                    tend_at = Instant::now() + self.pause;
                    continue;
                }
            };
            let more = std::iter::from_fn(|| requests.try_recv().ok());
            let mut waiting = Vec::new();
            for request in std::iter::once(first).chain(more) {
                self.settler.note_deleted(request.deleted);
                waiting.extend(request.settled);
            }
            self.settle().await;
            for settled in waiting {
                // Who asked may have gone away.
                let _ = settled.send(());
            }
            if self.settler.is_unsettled() {
                self.pause = TEND_FIRST;
                tend_at = tend_at.min(Instant::now() + TEND_FIRST);
            }
        }
    }

    async fn settle(&mut self) {
        let live = self.session.connected();
        let client = live.as_ref().map(|live| &live.client);
        let settled = self.settler.settle(client, &States::new(), Epochs::OfThisRun).await;
        if let Err(error) = settled {
            tracing::warn!(%error, "not everything is led yet that this broker is to lead");
        }
        if let Some(live) = live {
            self.stored.tell(live, &self.settler);
        }
    }

    async fn hand_over_offline(&mut self) {
        let live = self.session.connected();
        if self.settler.hand_over_offline(live.as_ref().map(|live| &live.client)).await {
            self.settle().await;
        }
    }

    /// Tries again what could not be done, and opens anew what went offline; less and less often
    /// while that fails.
    async fn tend(&mut self) {
        let reopened = self.settler.reopen_offline().await;
        if reopened || self.settler.is_unsettled() {
            // What is offline no more had led: its epoch is raised, for the log knows it.
            self.settle().await;
        }
        let offline = !self.settler.partitions.offline().is_empty();
        let again = offline || self.settler.is_unsettled();
        self.pause = if again { (self.pause * 2).min(TEND_LAST) } else { TEND_FIRST };
    }
}

/// What is said for people of what is stored here, a node a topic. No decision reads it.
struct StoredNodes {
    me: BrokerId,
    /// The session that the nodes are of.
    session: u64,
    told: HashMap<Arc<str>, Vec<i32>>,
    task: Option<JoinHandle<()>>,
}

impl StoredNodes {
    /// Has the nodes of topics that changed written, unless some are being written: the next change
    /// brings the rest.
    fn tell(&mut self, live: Live, settler: &Settler) {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if self.session != live.number {
            self.session = live.number;
            self.told.clear();
        }
        let mut stored: HashMap<Arc<str>, Vec<i32>> = HashMap::new();
        for partition in settler.partitions.all() {
            let name = partition.name();
            stored.entry(Arc::clone(&name.topic)).or_default().push(name.partition);
        }
        stored.values_mut().for_each(|partitions| partitions.sort_unstable());
        for topic in self.told.keys() {
            stored.entry(Arc::clone(topic)).or_default();
        }
        stored.retain(|topic, partitions| self.told.get(topic) != Some(partitions));
        if stored.is_empty() {
            return;
        }
        self.told.extend(stored.iter().map(|(topic, p)| (Arc::clone(topic), p.clone())));
        self.told.retain(|_, partitions| !partitions.is_empty());
        let me = self.me;
        self.task = Some(tokio::spawn(async move {
            for (topic, partitions) in stored {
                let stored = Stored { partitions };
                if let Err(error) = brokers::set_stored(&live.client, &topic, me, &stored).await {
                    tracing::debug!(%topic, %error, "what is stored here is not published");
                }
            }
        }));
    }
}
