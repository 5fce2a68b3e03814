//! Between a client and its registry: forced expiry, and a proxy that loses answers.
//!
//! The proxy understands just enough of ZooKeeper's protocol to see which requests are writes. Armed,
//! it breaks the connection at the next write: after the server has applied it, or before the server
//! has seen it. The client cannot tell one from the other, which is the point.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use coordinator::zk::{Client, Live};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Expires a session on the server: a second connection takes it over and closes it. Returns when
/// the server has refused the session to its owner.
pub async fn expire(connect: &str, live: &Live) -> Result<()> {
    let hosts = connect.split('/').next().unwrap_or(connect);
    for _ in 0..50 {
        let second = Client::connector()
            .with_session(live.client.session().clone())
            .with_session_timeout(live.timeout)
            .connect(hosts);
        // The owner reconnects and throws the second one off, so now and then this takes two.
        match tokio::time::timeout(Duration::from_millis(300), second).await {
            Ok(Ok(second)) => drop(second),
            Ok(Err(_)) => {}
            Err(_) => continue,
        }
        for _ in 0..20 {
            if live.client.state().is_terminated() {
                return Ok(());
            }
            // A session that is gone is found out by whatever is asked of it.
            let asked = live.client.check_stat("/");
            let _ = tokio::time::timeout(Duration::from_millis(50), asked).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    bail!("session {:#x} does not expire", live.session_id())
}

/// What happens to the next write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Nothing.
    None = 0,
    /// It is applied, and its answer is lost.
    LoseAnswer = 1,
    /// It never reaches the server.
    LoseRequest = 2,
}

/// A proxy before one server.
pub struct Lossy {
    address: SocketAddr,
    armed: Arc<AtomicU8>,
    fired: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Lossy {
    /// Listens on a free port before `server` (`host:port`).
    pub async fn start(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let armed = Arc::new(AtomicU8::new(Fault::None as u8));
        let fired = Arc::new(AtomicUsize::new(0));
        let server = server.to_owned();
        let accepting = tokio::spawn({
            let (armed, fired) = (Arc::clone(&armed), Arc::clone(&fired));
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (armed, fired) = (Arc::clone(&armed), Arc::clone(&fired));
                    let server = server.clone();
                    tokio::spawn(async move {
                        // A broken connection is what this is for.
                        let _ = relay(client, &server, &armed, &fired).await;
                    });
                }
            }
        });
        Ok(Self { address, armed, fired, accepting })
    }

    /// `host:port` for clients.
    pub fn connect(&self) -> String {
        self.address.to_string()
    }

    /// Decides what happens to the next write.
    pub fn arm(&self, fault: Fault) {
        self.armed.store(fault as u8, Ordering::SeqCst);
    }

    /// How many writes were hit.
    pub fn fired(&self) -> usize {
        self.fired.load(Ordering::SeqCst)
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Passes frames on, one at a time towards the server, until a fault or an end.
async fn relay(
    mut client: TcpStream,
    server: &str,
    armed: &AtomicU8,
    fired: &AtomicUsize,
) -> Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut first = true;
    let requests = async {
        loop {
            let frame = read_frame(&mut from_client).await?;
            let is_write = !first && is_write(&frame);
            first = false;
            let fault = if is_write { armed.swap(0, Ordering::SeqCst) } else { 0 };
            if fault == Fault::LoseRequest as u8 {
                fired.fetch_add(1, Ordering::SeqCst);
                bail!("the request is lost");
            }
            to_server.write_all(&frame).await?;
            if fault == Fault::LoseAnswer as u8 {
                fired.fetch_add(1, Ordering::SeqCst);
                return Ok(xid(&frame));
            }
        }
    };
    let answers = async {
        loop {
            let frame = read_frame(&mut from_server).await?;
            to_client.write_all(&frame).await?;
        }
    };
    let lost = tokio::select! {
        lost = requests => lost?,
        ended = answers => return ended,
    };
    // Wait until the server has answered that one, then let go of both.
    while xid(&read_frame(&mut from_server).await?) != lost {}
    Ok(())
}

async fn read_frame(from: &mut (impl AsyncReadExt + Unpin)) -> Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).await?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    if length > 4 << 20 {
        bail!("not a frame");
    }
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

fn word(frame: &[u8], at: usize) -> i32 {
    frame.get(at..at + 4).map_or(0, |b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

fn xid(frame: &[u8]) -> i32 {
    word(frame, 4)
}

/// create, delete, setData, multi, create2.
fn is_write(frame: &[u8]) -> bool {
    matches!(word(frame, 8), 1 | 2 | 5 | 14 | 15)
}
