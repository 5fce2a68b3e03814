//! Whole requests that lie, of every API and version that is served, through the socket.

use std::time::Duration;

use proto::kafka::encode_request;
use proto::kafka::messages::ApiVersionsRequest;
use tokio::io::AsyncWriteExt;

use super::requests::{self, Whole};
use super::rig::{Client, Server};
use crate::storage::LogConfig;

/// Bytes of the size and the head; what stands there is another test's.
const HEAD: usize = 12;
/// A longer request shows nothing that this does not.
const LEN_MAX: usize = 8 << 10;

/// Requests sent; more by the environment.
fn rounds() -> u64 {
    std::env::var("OTTLA_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

fn mutate(frame: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
    const NUMBERS: [u32; 6] = [u32::MAX, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 65_535, 0];
    for _ in 0..random.usize(..4) {
        let at = random.usize(HEAD..frame.len().max(HEAD + 1)).min(frame.len());
        match random.usize(..7) {
            0 if at < frame.len() => frame[at] ^= 1 << random.u32(..8),
            1 if at < frame.len() => frame[at] = [0, 1, 2, 0x7f, 0x80, 0xff][random.usize(..6)],
            2 if at + 4 <= frame.len() => {
                let number = NUMBERS[random.usize(..NUMBERS.len())];
                frame[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            3 => frame.truncate(at),
            4 => {
                let upto = (at + random.usize(..60)).min(frame.len());
                let part = frame[at..upto].repeat(random.usize(1..30));
                frame.splice(at..at, part);
            }
            5 => {
                let from = random.usize(HEAD..other.len());
                let upto = (from + random.usize(..60)).min(other.len());
                let end = (at + random.usize(..8)).min(frame.len());
                frame.splice(at..end, other[from..upto].iter().copied());
            }
            _ => frame.extend([0xff, 0xff, 0xff, 0xff, 0x0f]),
        }
    }
    frame.truncate(LEN_MAX);
    // Read as another version now and then.
    if random.u32(..10) == 0 {
        frame[7] = random.u8(..14);
    }
    let size = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
}

/// Sends lies until they are all sent; how many were answered.
async fn lie(server: &Server, seed: u64, rounds: u64) -> u64 {
    let honest = requests::all(2);
    let mut random = fastrand::Rng::with_seed(seed);
    let probe = encode_request(0, -7, None, &ApiVersionsRequest::default()).join().unwrap();
    let mut client = Client::connect(server).await;
    let mut answered = 0;
    for _ in 0..rounds {
        let Whole { frame, .. } = &honest[random.usize(..honest.len())];
        let mut frame = frame.clone();
        let other = &honest[random.usize(..honest.len())].frame;
        mutate(&mut frame, other, &mut random);
        frame.extend(&probe);
        let sent = client.socket.write_all(&frame).await.is_ok();
        // The lie's own answer, where it has one, then the probe's.
        let probed = async {
            while let Some(answer) = client.frame().await {
                if answer[..4] == (-7i32).to_be_bytes() {
                    return true;
                }
            }
            false
        };
        let probed = tokio::time::timeout(Duration::from_millis(60), probed).await;
        if sent && probed.is_ok_and(|probed| probed) {
            answered += 1;
        } else {
            client = Client::connect(server).await;
        }
    }
    answered
}

#[tokio::test]
async fn no_request_takes_the_server_down() {
    let settings = ["socket.stalled.timeout.ms=200", "fetch.max.wait.ms=20"];
    let server = Server::start(&settings).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 3, 10);
    let each = rounds() / 4;
    let answered = tokio::join!(
        lie(&server, 1, each),
        lie(&server, 2, each),
        lie(&server, 3, each),
        lie(&server, 4, each)
    );
    let answered = answered.0 + answered.1 + answered.2 + answered.3;
    println!("{answered} of {} requests were answered", each * 4);
    assert!(answered > each, "{answered}: the mutator shows nothing");
    assert!(server.metrics.connections_faulty.get() > each / 10);
    let mut client = Client::connect(&server).await;
    assert_eq!(client.call(4, &ApiVersionsRequest::default()).await.error_code, 0);
    drop(client);
    for _ in 0..1_000 {
        if server.metrics.connections.get() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let metrics = &server.metrics;
    let held = (metrics.queued_bytes.get(), metrics.charged_bytes.get(), metrics.connections.get());
    assert_eq!(held, (0, 0, 0), "all is given back");
}
