//! Tests of the server as a whole, through its port.

mod bounds;
mod client;
mod hostile;
mod raw;
mod sessions;

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::log::tests::Memory;
use super::{EmbeddedError, EmbeddedOptions, Server};

/// A server on a thread and current-thread runtime of its own, as in `broker dev`.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), EmbeddedError>>>,
}

pub(super) fn options(data: &Path) -> EmbeddedOptions {
    EmbeddedOptions::new(data, SocketAddr::from(([127, 0, 0, 1], 0)))
}

impl Running {
    pub(super) fn start(data: &Path) -> Self {
        Self::with(options(data))
    }

    pub(super) fn with(options: EmbeddedOptions) -> Self {
        Self::serve(Server::bind(options).unwrap())
    }

    /// On a disk the test holds in its hands.
    pub(super) fn on(disk: &Memory, options: EmbeddedOptions) -> Self {
        Self::serve(Server::bind_on(options, Box::new(disk.clone())).unwrap())
    }

    fn serve(server: Server) -> Self {
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(server.run(async {
                let _ = stopped.await;
            }))
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn stop(mut self) -> Result<(), EmbeddedError> {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
