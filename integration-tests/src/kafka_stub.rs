//! A broker that speaks just enough of Kafka's protocol for one foreign client to produce to one
//! partition and to read it: it keeps the record batches exactly as they came, and serves what a
//! test puts in.
//!
//! It shows that other clients' batches are what ours are. It is not our Kafka listener and shares no
//! code with it: the requests are read by hand, in the versions below and no other.
//!
//! | API | key | versions |
//! |---|---|---|
//! | Produce | 0 | advertised 0-7 (librdkafka compresses only if 0 is there), answered 7 |
//! | Fetch | 1 | advertised 4-10, answered 10 |
//! | ListOffsets | 2 | advertised 1-2, answered 2 |
//! | Metadata | 3 | advertised 0-4, answered 4 |
//! | FindCoordinator | 10 | advertised 0 (librdkafka uses lz4 only if it is there), not answered |
//! | ApiVersions | 18 | 0; a higher one is told so, in version 0 |

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use proto::Offset;
use proto::record::{BatchHeader, Batches, HEADER_LEN};

/// The only topic, with one partition.
pub const TOPIC: &str = "t";

const REQUEST_LEN_MAX: usize = 64 << 20;
const UNSUPPORTED_VERSION: i16 = 35;
/// Key, lowest and highest version.
const APIS: [(i16, i16, i16); 6] =
    [(0, 0, 7), (1, 4, 10), (2, 1, 2), (3, 0, 4), (10, 0, 0), (18, 0, 0)];

/// The broker; it ends with the test.
#[derive(Debug, Clone)]
pub struct KafkaStub {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Base offsets stamped.
    log: Vec<Bytes>,
    /// Why a connection ended, if not by the client.
    failures: Vec<String>,
}

impl State {
    fn end(&self) -> i64 {
        let next = |batch: &Bytes| BatchHeader::parse(batch).map(|header| header.next_offset().0);
        self.log.last().map_or(0, |batch| next(batch).unwrap_or(0))
    }
}

impl KafkaStub {
    /// Listens on a port of this machine.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let stub = Self { address: listener.local_addr()?, state: Arc::default() };
        let serving = stub.clone();
        std::thread::Builder::new().name("kafka-stub".into()).spawn(move || {
            for socket in listener.incoming().flatten() {
                let stub = serving.clone();
                std::thread::spawn(move || {
                    if let Err(error) = stub.serve(socket) {
                        stub.state.lock().failures.push(format!("{error:#}"));
                    }
                });
            }
        })?;
        Ok(stub)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Appends a batch as a broker does: its base offset is stamped. Returns that.
    pub fn append(&self, batch: &[u8]) -> Result<Offset> {
        let mut state = self.state.lock();
        let mut header = BatchHeader::parse(batch)?;
        header.base_offset = Offset(state.end());
        let mut stamped = batch.to_vec();
        stamped[..HEADER_LEN].copy_from_slice(&header.encode());
        state.log.push(stamped.into());
        Ok(header.base_offset)
    }

    /// Every batch so far, in order.
    pub fn batches(&self) -> Vec<Bytes> {
        self.state.lock().log.clone()
    }

    /// What a client sent that was not understood: the cause of what a test then finds missing.
    pub fn failures(&self) -> Vec<String> {
        self.state.lock().failures.clone()
    }

    fn serve(&self, mut socket: TcpStream) -> Result<()> {
        socket.set_nodelay(true)?;
        loop {
            let mut size = [0; 4];
            if socket.read_exact(&mut size).is_err() {
                return Ok(());
            }
            let size = usize::try_from(i32::from_be_bytes(size))?;
            ensure!(size <= REQUEST_LEN_MAX, "a request of {size} bytes");
            let mut request = vec![0; size];
            socket.read_exact(&mut request)?;
            let answer = self.answer(&mut Bytes::from(request))?;
            socket.write_all(&(answer.len() as i32).to_be_bytes())?;
            socket.write_all(&answer)?;
        }
    }

    fn answer(&self, request: &mut Bytes) -> Result<BytesMut> {
        let (key, version) = (request.try_get_i16()?, request.try_get_i16()?);
        let mut answer = BytesMut::new();
        answer.put_i32(request.try_get_i32()?);
        if key == 18 {
            answer_api_versions(version, &mut answer);
            return Ok(answer);
        }
        take_string(request).context("client id")?;
        match (key, version) {
            (0, 7) => self.answer_produce(request, &mut answer).context("Produce")?,
            (1, 10) => self.answer_fetch(request, &mut answer).context("Fetch")?,
            (2, 2) => self.answer_list_offsets(request, &mut answer).context("ListOffsets")?,
            (3, 4) => self.answer_metadata(&mut answer),
            _ => bail!("API {key} in version {version} is not spoken here"),
        }
        Ok(answer)
    }

    fn answer_metadata(&self, answer: &mut BytesMut) {
        answer.put_i32(0); // throttle
        answer.put_i32(1); // brokers
        answer.put_i32(1);
        put_string(answer, &self.address.ip().to_string());
        answer.put_i32(self.address.port().into());
        answer.put_i16(-1); // rack
        put_string(answer, "stub"); // cluster
        answer.put_i32(1); // controller
        answer.put_i32(1); // topics
        answer.put_i16(0);
        put_string(answer, TOPIC);
        answer.put_u8(0); // internal
        answer.put_i32(1); // partitions
        answer.put_i16(0);
        answer.put_i32(0);
        answer.put_i32(1); // leader
        for _replicas_then_isr in 0..2 {
            answer.put_i32(1);
            answer.put_i32(1);
        }
    }

    fn answer_produce(&self, request: &mut Bytes, answer: &mut BytesMut) -> Result<()> {
        take_string(request)?; // transactional id
        let acks = request.try_get_i16()?;
        ensure!(acks != 0, "acks=0 is not answered, and this one answers all");
        request.try_get_i32()?; // timeout
        ensure!(request.try_get_i32()? == 1, "one topic");
        let topic = take_string(request)?;
        ensure!(topic.as_deref() == Some(TOPIC), "topic {topic:?}");
        ensure!(request.try_get_i32()? == 1, "one partition");
        let partition = request.try_get_i32()?;
        let len = usize::try_from(request.try_get_i32()?)?;
        ensure!(len <= request.remaining(), "records are cut off");
        let records = request.split_to(len);
        let mut base = None;
        for batch in Batches::new(&records) {
            let at = self.append(batch?.bytes())?;
            base.get_or_insert(at);
        }
        answer.put_i32(1);
        put_string(answer, TOPIC);
        answer.put_i32(1);
        answer.put_i32(partition);
        answer.put_i16(0);
        answer.put_i64(base.context("no batch")?.0);
        answer.put_i64(-1); // append time
        answer.put_i64(0); // log start
        answer.put_i32(0); // throttle
        Ok(())
    }

    fn answer_list_offsets(&self, request: &mut Bytes, answer: &mut BytesMut) -> Result<()> {
        request.try_get_i32()?; // replica
        request.try_get_u8()?; // isolation
        ensure!(request.try_get_i32()? == 1, "one topic");
        take_string(request)?;
        ensure!(request.try_get_i32()? == 1, "one partition");
        let partition = request.try_get_i32()?;
        let offset = match request.try_get_i64()? {
            -1 => self.state.lock().end(),
            -2 => 0,
            time => bail!("time {time} is not looked up here"),
        };
        answer.put_i32(0); // throttle
        answer.put_i32(1);
        put_string(answer, TOPIC);
        answer.put_i32(1);
        answer.put_i32(partition);
        answer.put_i16(0);
        answer.put_i64(-1);
        answer.put_i64(offset);
        Ok(())
    }

    fn answer_fetch(&self, request: &mut Bytes, answer: &mut BytesMut) -> Result<()> {
        request.try_get_i32()?; // replica
        let wait_ms = request.try_get_i32()?;
        request.advance(4 + 4 + 1 + 4 + 4); // bytes, isolation, session
        let mut wanted = None;
        if request.try_get_i32()? > 0 {
            take_string(request)?;
            ensure!(request.try_get_i32()? == 1, "one partition");
            let partition = request.try_get_i32()?;
            request.try_get_i32()?; // leader epoch
            wanted = Some((partition, request.try_get_i64()?));
        }
        answer.put_i32(0); // throttle
        answer.put_i16(0);
        answer.put_i32(0); // session
        let Some((partition, offset)) = wanted else {
            answer.put_i32(0);
            return Ok(());
        };
        let (records, end) = {
            let state = self.state.lock();
            let is_wanted = |batch: &&Bytes| {
                BatchHeader::parse(batch).is_ok_and(|header| header.next_offset().0 > offset)
            };
            let records: Vec<Bytes> = state.log.iter().filter(is_wanted).cloned().collect();
            (records.concat(), state.end())
        };
        if records.is_empty() {
            // As a broker makes a client wait that has read everything.
            std::thread::park_timeout(Duration::from_millis(wait_ms.clamp(0, 100) as u64));
        }
        answer.put_i32(1);
        put_string(answer, TOPIC);
        answer.put_i32(1);
        answer.put_i32(partition);
        answer.put_i16(0);
        answer.put_i64(end); // high watermark
        answer.put_i64(end); // last stable offset
        answer.put_i64(0); // log start
        answer.put_i32(-1); // aborted transactions
        answer.put_i32(records.len() as i32);
        answer.put_slice(&records);
        Ok(())
    }
}

fn answer_api_versions(version: i16, answer: &mut BytesMut) {
    answer.put_i16(if version == 0 { 0 } else { UNSUPPORTED_VERSION });
    answer.put_i32(APIS.len() as i32);
    for (key, min, max) in APIS {
        answer.put_i16(key);
        answer.put_i16(min);
        answer.put_i16(max);
    }
}

/// `None` is null.
fn take_string(bytes: &mut Bytes) -> Result<Option<String>> {
    let len = bytes.try_get_i16()?;
    let Ok(len) = usize::try_from(len) else { return Ok(None) };
    ensure!(len <= bytes.remaining(), "a string is cut off");
    Ok(Some(String::from_utf8_lossy(&bytes.split_to(len)).into_owned()))
}

fn put_string(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}
