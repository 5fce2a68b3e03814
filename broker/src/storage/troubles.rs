//! Who is told that something here went wrong: a log went offline or was found damaged, a directory
//! failed. So nobody has to look at every log now and then.

use std::fmt;
use std::sync::OnceLock;

/// Shared by all logs and directories of a set.
#[derive(Default)]
pub(super) struct Troubles(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl Troubles {
    /// Whom to tell; set once. What was before shows in the logs and directories.
    pub(super) fn set_listener(&self, listener: impl Fn() + Send + Sync + 'static) {
        let set = self.0.set(Box::new(listener));
        debug_assert!(set.is_ok(), "the listener is set once");
    }

    /// Something went wrong, and can be seen to have. The listener does not wait for anything.
    pub(super) fn tell(&self) {
        if let Some(listener) = self.0.get() {
            listener();
        }
    }
}

impl fmt::Debug for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Troubles")
    }
}
