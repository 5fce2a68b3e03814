//! Garbage, floods and stalled peers on every port: the processes live, memory stays bounded, and
//! ordinary clients are still served.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration_tests::cluster::{Cluster, ClusterOptions};

/// More than the process idles with, far less than any of the attacks would cost unbounded.
const GROWTH_MIB_MAX: f64 = 256.0;

/// Idle HTTP/2 connections cost about 31 KiB each unoptimised: 10,000 of them stay below this.
const IDLE_GROWTH_MIB_MAX: f64 = 512.0;

fn garbage(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

/// An HTTP/2 connection preface with empty SETTINGS, so that what follows is parsed as frames.
fn http2_preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes
}

/// HEADERS of a gRPC call to `path`, HPACK literals without indexing, then END_HEADERS.
fn grpc_headers(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        block.push(name.len() as u8);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    let mut frame = vec![0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1];
    frame.extend(block);
    frame
}

fn data_frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], 0, 0, 0, 0, 0, 1];
    frame.extend(payload);
    frame
}

/// Sends, half-closes, and reads whatever comes until the peer closes or a second passes.
fn poke(address: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    // The peer may close before all was written: that is a fine answer to garbage.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut answer);
    Ok(answer)
}

fn attacks() -> Vec<Vec<u8>> {
    let mut attacks: Vec<Vec<u8>> = (0..40).map(|seed| garbage(seed, 1 << (seed % 16))).collect();
    // A length prefix of 2 GiB less one, as ZooKeeper's and Kafka's framing have it.
    let mut huge = 0x7fff_ffffu32.to_be_bytes().to_vec();
    huge.extend(garbage(1, 4096));
    attacks.push(huge);
    attacks.push(0xffff_ffffu32.to_be_bytes().to_vec());
    attacks.push(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec());
    attacks.push([b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat());
    // Frames after a valid preface: garbage, and the largest frame header there is.
    for seed in 100..120 {
        attacks.push([http2_preface(), garbage(seed, 5000)].concat());
    }
    attacks.push([http2_preface(), vec![0xff; 9], garbage(7, 100_000)].concat());
    for path in ["Produce", "ProduceStream", "Fetch", "Metadata", "ListOffsets", "Nonsense"] {
        let head = [http2_preface(), grpc_headers(&format!("/ottla.v1.Log/{path}"))].concat();
        // A gRPC message that claims 2 GiB, one that is compressed, one that is garbage, one cut off.
        for message in [
            [vec![0], 0x7fff_ffffu32.to_be_bytes().to_vec(), garbage(3, 2000)].concat(),
            [vec![1], 100u32.to_be_bytes().to_vec(), garbage(4, 100)].concat(),
            [vec![0], 1000u32.to_be_bytes().to_vec(), garbage(5, 1000)].concat(),
            [vec![0], 1000u32.to_be_bytes().to_vec(), garbage(6, 10)].concat(),
        ] {
            attacks.push([head.clone(), data_frame(&message)].concat());
        }
    }
    attacks
}

#[test]
fn garbage_on_every_port_harms_nobody() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions::one("garbage"))?;
    cluster.create_topic("before", 1, &[])?;
    let memory = cluster.broker_process(1)?.memory()?;
    let broker = cluster.broker(1)?;
    let addresses =
        [broker.grpc.clone(), broker.http.clone(), cluster.registry.connect().to_owned()];
    for address in &addresses {
        for attack in attacks() {
            poke(address, &attack)?;
        }
    }
    cluster.create_topic("after", 3, &[])?;
    let topics = cluster.run("coordinator", &["topics", "--list"])?;
    ensure!(topics == "after\nbefore\n", "topics after the attack: {topics:?}");
    let grown = cluster.broker_process(1)?.memory()?.mib() - memory.mib();
    ensure!(grown < GROWTH_MIB_MAX, "the broker grew by {grown:.0} MiB");
    ensure!(!cluster.broker_process(1)?.log_text().contains("panicked"), "a task panicked");
    Ok(())
}

#[test]
fn ten_thousand_idle_connections_leave_room_for_work() -> Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 20_000, 1 << 20)
        .or_else(|_| {
            nix::sys::resource::setrlimit(
                nix::sys::resource::Resource::RLIMIT_NOFILE,
                20_000,
                20_000,
            )
        })
        .context("10,000 connections need as many descriptors")?;
    let mut cluster = Cluster::start(ClusterOptions::one("idle").set("max.connections", "12000"))?;
    let before = cluster.broker_process(1)?.memory()?;
    let address = cluster.broker(1)?.grpc.clone();
    let mut idle = Vec::new();
    for _ in 0..10_000 {
        idle.push(TcpStream::connect(&address)?);
    }
    cluster.create_topic("busy", 1, &[])?;
    let grown = cluster.broker_process(1)?.memory()?.mib() - before.mib();
    println!("10,000 idle connections: {grown:.1} MiB, {:.1} KiB each", grown * 1024.0 / 1e4);
    ensure!(grown < IDLE_GROWTH_MIB_MAX, "10,000 idle connections cost {grown:.0} MiB");
    drop(idle);
    cluster.create_topic("busy-again", 1, &[])?;
    Ok(())
}

#[test]
fn connections_above_the_limit_are_refused_and_the_rest_go_on() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions::one("limit").set("max.connections", "50"))?;
    let address = cluster.broker(1)?.grpc.clone();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(&address)?);
    }
    // The surplus is closed at once rather than left to wait.
    let mut closed = 0;
    for stream in &mut idle {
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        if matches!(stream.read(&mut [0; 64]), Ok(0)) {
            closed += 1;
        }
    }
    ensure!(closed >= 140, "{closed} of 200 connections were closed with a limit of 50");
    drop(idle);
    cluster.create_topic("afterwards", 1, &[])?;
    Ok(())
}
