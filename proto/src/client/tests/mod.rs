//! Tests of the client connection against an HTTP/2 server in the test, on a current-thread runtime.

mod cluster;
mod connection;
mod server;
mod watching;

use std::time::Duration;

use server::{Behaviour, TestServer};

use super::*;

/// Socket options that find a dead peer soon, and take a test's that is starved for a moment for no such.
fn quick() -> SocketOptions {
    SocketOptions {
        connect_timeout: Duration::from_secs(5),
        keep_alive_interval: Duration::from_millis(100),
        keep_alive_timeout: Duration::from_secs(2),
        ..SocketOptions::default()
    }
}

/// Nothing here may hang: a test that waits longer has failed.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("must not hang")
}
