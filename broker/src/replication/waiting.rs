//! Fetch streams that wait for a partition to move.
//!
//! A stream parks a handle here once and is told once; it parks again after it has read everything.
//! Nothing here polls or sleeps. (Produce requests that wait for a flush wait in the log itself.)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use parking_lot::Mutex;

/// What a parked reader is told through. Called from whatever thread moved the partition, so it
/// must only note the token and wake its task.
pub trait Wake: Send + Sync {
    /// The partition that was parked under `token` has moved: look again.
    fn wake(&self, token: u32);
}

/// Readers parked until the partition moves. Each is told at most once for each parking.
#[derive(Default)]
pub(crate) struct Parked {
    /// Length of `readers`, read without the lock: an append with no reader waiting pays one load.
    count: AtomicUsize,
    readers: Mutex<Vec<(Arc<dyn Wake>, u32)>>,
}

impl Parked {
    /// Parks a reader. The caller looks at the partition once more afterwards: what moved between
    /// its last look and this call is told to nobody.
    pub(crate) fn park(&self, wake: Arc<dyn Wake>, token: u32) {
        let mut readers = self.readers.lock();
        readers.push((wake, token));
        self.count.store(readers.len(), Ordering::SeqCst);
        // Between the count and the caller's look at the partition; pairs with the one below.
        fence(Ordering::SeqCst);
    }

    /// Forgets a reader that will not come back.
    pub(crate) fn unpark(&self, wake: &Arc<dyn Wake>, token: u32) {
        let mut readers = self.readers.lock();
        readers.retain(|(other, of)| *of != token || !Arc::ptr_eq(other, wake));
        self.count.store(readers.len(), Ordering::SeqCst);
    }

    /// Tells everybody, once.
    pub(crate) fn wake_all(&self) {
        // Between the partition's move and the count: one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let readers = {
            let mut readers = self.readers.lock();
            self.count.store(0, Ordering::SeqCst);
            std::mem::take(&mut *readers)
        };
        for (wake, token) in readers {
            wake.wake(token);
        }
    }

    /// How many readers are parked.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Vec<u32>>);

    impl Wake for Seen {
        fn wake(&self, token: u32) {
            self.0.lock().push(token);
        }
    }

    #[test]
    fn a_parked_reader_is_told_once() {
        let parked = Parked::default();
        let seen = Arc::new(Seen::default());
        parked.park(seen.clone(), 7);
        assert_eq!(parked.len(), 1);
        parked.wake_all();
        parked.wake_all();
        assert_eq!(*seen.0.lock(), [7]);
    }

    #[test]
    fn an_unparked_reader_is_told_nothing_and_others_are() {
        let parked = Parked::default();
        let seen = Arc::new(Seen::default());
        let as_wake: Arc<dyn Wake> = seen.clone();
        parked.park(Arc::clone(&as_wake), 1);
        parked.park(Arc::clone(&as_wake), 2);
        parked.unpark(&as_wake, 1);
        parked.wake_all();
        assert_eq!(*seen.0.lock(), [2]);
        assert_eq!(parked.len(), 0);
    }
}
