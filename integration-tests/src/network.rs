//! The network between the processes of a cluster, and how to cut it: whole, in one direction, or
//! between some only.
//!
//! Every listener of the cluster stands behind a gate, a proxy whose address is the one that others
//! are told. A gate tells who connects by looking up which process owns the other end of the
//! connection in `/proc`, so each pair of ends is a link of its own and each direction of a link can
//! be cut alone, without root, namespaces or packet filters. (Namespaces would need root, and
//! a machine's owner may run these tests, too.)
//!
//! What a cut is: from now on no byte passes in that direction, on connections that exist and on new
//! ones. Nothing is closed and nothing is lost: what was under way is held, as retransmission does,
//! and arrives late when the cut heals, long after its sender has given up. An end of a connection is
//! held back, too: the other side does not learn that a process died behind a cut. One difference
//! from a real network: a new connection is accepted (by the gate's kernel socket) and then silent,
//! where a real one would not be established.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Who talks: every process of the cluster, and all clients together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Producers, consumers and the operator's tool: whoever was not named.
    Clients,
    /// A broker.
    Broker(i32),
    /// A coordinator, counted from 0.
    Coordinator(usize),
    /// A member of the registry's ensemble, counted from 1.
    Registry(usize),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients => f.write_str("clients"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Coordinator(index) => write!(f, "coordinator {index}"),
            Self::Registry(node) => write!(f, "registry {node}"),
        }
    }
}

/// Directions in which nothing passes: from the first end to the second.
type Cuts = BTreeSet<(End, End)>;

/// The network of one cluster; dropping it breaks every connection.
pub struct Network {
    cuts: watch::Sender<Cuts>,
    named: Arc<Mutex<BTreeMap<i32, End>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Network {
    /// A network without gates.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()?;
        let cuts = watch::Sender::new(Cuts::new());
        Ok(Self { cuts, named: Arc::default(), runtime: Some(runtime) })
    }

    /// A gate before the listener of `to` at `target`, on a free port of loopback; its address.
    pub fn gate(&self, to: End, target: &str) -> Result<String> {
        self.open(to, target, None)
    }

    /// The same before a listener that clients alone connect to. Theirs come often, and looking up whose
    /// a connection is takes milliseconds.
    pub fn gate_of_clients(&self, to: End, target: &str) -> Result<String> {
        self.open(to, target, Some(End::Clients))
    }

    fn open(&self, to: End, target: &str, from: Option<End>) -> Result<String> {
        let runtime = self.runtime.as_ref().context("the network is there")?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let (target, named) = (target.to_owned(), Arc::clone(&self.named));
        let cuts = self.cuts.subscribe();
        runtime.spawn(async move {
            loop {
                let Ok((socket, peer)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let (named, cuts) = (named.lock().clone(), cuts.clone());
                let target = target.clone();
                tokio::spawn(async move {
                    let from = match from {
                        Some(from) => from,
                        // Reads files of the kernel; others' bytes must not wait for that.
                        None => {
                            let who = move || who(&named, peer, address);
                            tokio::task::spawn_blocking(who).await?
                        }
                    };
                    let link = Link { from, to, cuts };
                    // An error ends the connection, which is what both sides then see.
                    link.carry(socket, &target).await
                });
            }
        });
        Ok(address.to_string())
    }

    /// Connections of this process are those of `end`.
    pub fn name(&self, pid: Pid, end: End) {
        let mut named = self.named.lock();
        named.retain(|_, named| *named != end);
        named.insert(pid.as_raw(), end);
    }

    /// Nothing passes from one end to the other any more.
    pub fn cut(&self, from: End, to: End) {
        self.cuts.send_modify(|cuts| {
            cuts.insert((from, to));
        });
    }

    /// Nothing passes between the two in either direction any more.
    pub fn cut_both(&self, one: End, other: End) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Everything passes again, beginning with what was held.
    pub fn heal(&self) {
        self.cuts.send_modify(Cuts::clear);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Which named process owns the socket at `peer` that is connected to `gate`.
fn who(named: &BTreeMap<i32, End>, peer: SocketAddr, gate: SocketAddr) -> End {
    let Some(inode) = inode(peer, gate) else { return End::Clients };
    let socket = format!("socket:[{inode}]");
    let owns = |pid: &i32| {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.any(|link| link.as_os_str() == socket.as_str())
    };
    named.iter().find(|(pid, _)| owns(pid)).map_or(End::Clients, |(_, end)| *end)
}

/// The inode of a connected socket of this machine, by `/proc/net/tcp`.
fn inode(local: SocketAddr, remote: SocketAddr) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (hex(local)?, hex(remote)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let found = fields.next()? == local && fields.next()? == remote;
        // state, queues, timer, retransmits, uid, timeout, inode
        fields.nth(6).filter(|_| found).map(str::to_owned)
    })
}

/// As the kernel prints an IPv4 address and port.
fn hex(address: SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V4(v4) => {
            Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()))
        }
        SocketAddr::V6(_) => None,
    }
}

struct Link {
    from: End,
    to: End,
    cuts: watch::Receiver<Cuts>,
}

impl Link {
    async fn carry(self, client: TcpStream, target: &str) -> Result<()> {
        let Self { from, to, mut cuts } = self;
        // A connection is made by packets in both directions.
        let either = [(from, to), (to, from)];
        cuts.wait_for(|cuts| either.iter().all(|way| !cuts.contains(way))).await?;
        let server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client_reads, client_writes) = client.into_split();
        let (server_reads, server_writes) = server.into_split();
        let there = pass(client_reads, server_writes, (from, to), cuts.clone());
        let back = pass(server_reads, client_writes, (to, from), cuts);
        // The first error breaks both directions.
        tokio::try_join!(there, back).map(drop)
    }
}

/// Carries one direction until its end, standing still while it is cut.
async fn pass(
    mut reads: impl AsyncReadExt + Unpin,
    mut writes: impl AsyncWriteExt + Unpin,
    way: (End, End),
    mut cuts: watch::Receiver<Cuts>,
) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        cuts.wait_for(|cuts| !cuts.contains(&way)).await?;
        let read = reads.read(&mut buffer).await;
        // What was read, be it an error or an end, is held where a cut came meanwhile.
        cuts.wait_for(|cuts| !cuts.contains(&way)).await?;
        match read? {
            0 => return Ok(writes.shutdown().await?),
            length => writes.write_all(&buffer[..length]).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    const SERVER: End = End::Broker(1);

    /// Answers every byte with itself plus one.
    fn server() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut socket = socket;
                    let mut byte = [0];
                    while matches!(socket.read(&mut byte), Ok(1)) {
                        byte[0] += 1;
                        socket.write_all(&byte).unwrap();
                    }
                });
            }
        });
        address
    }

    fn connect(address: &str) -> std::net::TcpStream {
        let socket = std::net::TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        socket
    }

    fn answer(socket: &mut std::net::TcpStream) -> Option<u8> {
        let mut byte = [0];
        (socket.read(&mut byte).ok()? == 1).then_some(byte[0])
    }

    #[test]
    fn each_direction_is_cut_alone_and_what_was_held_arrives_late() {
        let network = Network::start().unwrap();
        let gate = network.gate(SERVER, &server()).unwrap();
        let mut socket = connect(&gate);
        socket.write_all(&[1]).unwrap();
        assert_eq!(answer(&mut socket), Some(2));

        // The answer is under way and held.
        network.cut(SERVER, End::Clients);
        socket.write_all(&[3]).unwrap();
        assert_eq!(answer(&mut socket), None);
        // Healed, then cut the other way: the held answer comes, the next request does not arrive.
        network.heal();
        assert_eq!(answer(&mut socket), Some(4));
        network.cut(End::Clients, SERVER);
        socket.write_all(&[5]).unwrap();
        assert_eq!(answer(&mut socket), None);
        // Another pair's link is not concerned, nor does a new connection of this pair get through.
        let mut second = connect(&gate);
        second.write_all(&[7]).unwrap();
        assert_eq!(answer(&mut second), None);
        network.heal();
        assert_eq!((answer(&mut socket), answer(&mut second)), (Some(6), Some(8)));
    }

    #[test]
    fn processes_are_told_apart_by_who_owns_the_connection() {
        let network = Network::start().unwrap();
        let gate = network.gate(SERVER, &server()).unwrap();
        let port = gate.rsplit_once(':').unwrap().1;
        // A process that is another end than the clients: a byte a line of its input.
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; while read -r b; do printf %s $b >&3; head -c1 <&3; done"
        );
        let mut child = Command::new("bash")
            .args(["-c", &format!("read -r go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        network.name(Pid::from_raw(child.id().cast_signed()), End::Broker(2));
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut byte = [0];
        input.write_all(b"go\n1\n").unwrap();
        output.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [b'2']);

        network.cut_both(End::Broker(2), SERVER);
        let mut ours = connect(&gate);
        ours.write_all(&[1]).unwrap();
        assert_eq!(answer(&mut ours), Some(2));
        let (sent, received) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            output.read_exact(&mut byte).unwrap();
            sent.send(byte).unwrap();
        });
        input.write_all(b"3\n").unwrap();
        assert!(received.recv_timeout(Duration::from_millis(300)).is_err());
        network.heal();
        assert_eq!(received.recv_timeout(Duration::from_secs(5)).unwrap(), [b'4']);
        drop(input);
        child.wait().unwrap();
    }

    #[test]
    fn an_end_behind_a_cut_is_not_seen_before_it_heals() {
        let network = Network::start().unwrap();
        let gate = network.gate(SERVER, &server()).unwrap();
        let mut socket = connect(&gate);
        socket.write_all(&[1]).unwrap();
        assert_eq!(answer(&mut socket), Some(2));
        network.cut(SERVER, End::Clients);
        // The server ends its side after the end of ours.
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut byte = [0];
        let waiting = socket.read(&mut byte).unwrap_err().kind();
        assert_eq!(waiting, std::io::ErrorKind::WouldBlock);
        network.heal();
        assert_eq!(socket.read(&mut byte).unwrap(), 0);
    }
}
