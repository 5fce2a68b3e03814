//! What partitions ring when they move: wakes a fetch and tells it which partitions to look at.

use std::task::Waker;

use parking_lot::Mutex;

use crate::replication::Wake;

/// What partitions ring when they move.
#[derive(Default)]
pub(in crate::server) struct Bell {
    state: Mutex<BellState>,
}

#[derive(Default)]
struct BellState {
    rung: Vec<u32>,
    sleeper: Option<Waker>,
}

impl Bell {
    /// What has rung since; from here on `sleeper` is woken by the next ring.
    pub(in crate::server) fn take(&self, sleeper: &Waker) -> Vec<u32> {
        let mut state = self.state.lock();
        state.sleeper = Some(sleeper.clone());
        std::mem::take(&mut state.rung)
    }
}

impl Wake for Bell {
    fn wake(&self, token: u32) {
        let sleeper = {
            let mut state = self.state.lock();
            state.rung.push(token);
            state.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }
}
