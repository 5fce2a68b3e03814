//! A panic in the middle of a change to a log: what memory holds of the log may be half of the
//! change, so the log goes offline, as after a failed disk, and is opened anew from its files.
//!
//! The thread lives on: it writes for other partitions, too. A panic with the writer's lock held is
//! caught before the lock is given back, so that nobody writes half a change down (a snapshot that
//! knows a sequence whose batch is not in the log would make a retry a duplicate of nothing).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::Offline;
use super::log::{Log, Writer};

/// A panic that was caught under a lock of the log: the log is offline, and nobody was told yet.
#[must_use]
#[derive(Debug)]
pub(super) struct Broken {
    /// This panic is why.
    is_cause: bool,
}

impl Log {
    /// Does something to the log or by what it holds. A panic takes the log offline. The caller
    /// holds no lock of the log.
    pub fn contain<T>(&self, what: &str, work: impl FnOnce() -> T) -> Result<T, Offline> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| self.fail(&cause(what, &*panic)))
    }

    /// The same under the writer's lock; a panic is to be told by [`Log::tell_broken`] without it.
    pub(super) fn contain_locked<T>(
        &self,
        what: &str,
        writer: &mut Writer,
        work: impl FnOnce(&mut Writer) -> T,
    ) -> Result<T, Broken> {
        let done = catch_unwind(AssertUnwindSafe(|| work(writer)));
        done.map_err(|panic| Broken { is_cause: self.mark_offline(&cause(what, &*panic)) })
    }

    /// Says that the log is offline, once.
    pub(super) fn tell_broken(&self, broken: &Broken) -> Offline {
        if broken.is_cause {
            self.announce_offline();
        }
        self.offline_or("it panicked")
    }
}

fn cause(what: &str, panic: &(dyn Any + Send)) -> String {
    format!("{what} panicked, a fault of the broker's: {}", text_of(panic))
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "?".to_owned())
}
