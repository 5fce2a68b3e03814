//! Topics that are being removed from ZooKeeper, beside the events of their term.
//!
//! Removing a large topic takes seconds, and nothing else waits for it: it is marked, so nobody else
//! touches its nodes, and going on after an interruption is the same as beginning.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::fence::{CommitError, FencedWriter};

/// A topic, and how its removal ended.
type Removed = (String, Result<(), CommitError>);

/// The removals under way; dropped with their term.
#[derive(Default)]
pub(super) struct Removals {
    names: BTreeSet<String>,
    running: FuturesUnordered<LocalBoxFuture<'static, Removed>>,
}

impl Removals {
    /// Notes that a topic is being removed; false where it is already.
    pub(super) fn start(&mut self, name: &str) -> bool {
        self.names.insert(name.to_owned())
    }

    /// Removes a topic, after a pause.
    pub(super) fn push(&mut self, name: String, pause: Duration, writer: FencedWriter) {
        self.running.push(Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let result = writer.remove_topic(&name).await;
            (name, result)
        }));
    }

    /// A topic is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// The next removal that ends; `None` where none is under way.
    pub(super) async fn next(&mut self) -> Option<Removed> {
        self.running.next().await
    }
}
