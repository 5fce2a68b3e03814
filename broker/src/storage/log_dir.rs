//! One of the folders in `log.dirs`: its flusher, its logs, and whether it still works.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::clock::Clock;
use super::flush::Flusher;
use super::log::Log;

/// A log directory. Once failed it stays so until the broker starts anew.
#[derive(Debug)]
pub(super) struct LogDir {
    pub(super) path: PathBuf,
    pub(super) flusher: Flusher,
    failed: OnceLock<String>,
    logs: Mutex<Vec<Weak<Log>>>,
}

impl LogDir {
    pub(super) fn new(path: &Path, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            flusher: Flusher::new(clock),
            failed: OnceLock::new(),
            logs: Mutex::default(),
        })
    }

    /// Takes a log in, so that it goes offline with the directory.
    pub(super) fn adopt(&self, log: &Log) {
        let mut logs = self.logs.lock();
        logs.retain(|log| log.strong_count() > 0);
        logs.push(log.me.clone());
    }

    /// Why it failed, if it did.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Takes the directory offline, with all logs in it. Callers hold no lock of a log.
    pub(super) fn fail(&self, cause: &str) {
        if self.failed.set(cause.to_owned()).is_err() {
            return;
        }
        tracing::error!(dir = %self.path.display(), cause, "log directory goes offline");
        let logs: Vec<_> = self.logs.lock().iter().filter_map(Weak::upgrade).collect();
        for log in logs {
            log.fail(&format!("its log directory failed: {cause}"));
        }
    }
}
