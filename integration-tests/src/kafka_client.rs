//! A client of Kafka's protocol that does exactly as it is told: one connection, requests as a test
//! writes them, answers as they come. Blocking.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use proto::kafka::messages::{
    FetchPartition, FetchRequest, FetchTopic, PartitionProduceData, ProduceRequest,
    TopicProduceData,
};
use proto::kafka::{Records, Request, decode_response, encode_request};

/// Longer than anything a broker may need for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
#[derive(Debug)]
pub struct KafkaClient {
    socket: TcpStream,
    next_id: i32,
}

impl KafkaClient {
    /// To `host:port`.
    pub fn connect(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, next_id: 0 })
    }

    /// Sends a request and returns its number.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32> {
        self.next_id += 1;
        let frame = encode_request(version, self.next_id, Some("test"), request);
        self.socket.write_all(&frame.join().context("it is all here")?)?;
        Ok(self.next_id)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(bytes)?)
    }

    /// The next frame, its size taken off; `None` where the broker has closed the connection.
    pub fn frame(&mut self) -> Result<Option<Bytes>> {
        let mut size = [0; 4];
        match self.socket.read_exact(&mut size) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size))?];
        self.socket.read_exact(&mut frame)?;
        Ok(Some(frame.into()))
    }

    /// The answer to the request of a number.
    pub fn receive<R: Request>(&mut self, version: i16, id: i32) -> Result<R::Response> {
        let frame = self.frame()?.context("the broker closed the connection")?;
        let (answered, response) = decode_response::<R>(version, frame)?;
        ensure!(answered == id, "an answer to {answered} instead of {id}");
        Ok(response)
    }

    /// Sends a request and returns its answer.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let id = self.send(version, request)?;
        self.receive::<R>(version, id)
    }

    /// Appends a batch with acks=all; error and base offset.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: &Bytes) -> Result<(i16, i64)> {
        let request = produce_request(-1, topic, partition, batch);
        let answer = self.call(9, &request)?;
        let of = &answer.responses[0].partition_responses[0];
        Ok((of.error_code, of.base_offset))
    }

    /// Reads a partition from an offset on, waiting for nothing.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Bytes> {
        let answer = self.call(12, &fetch_request(topic, partition, offset))?;
        let of = &answer.responses[0].partitions[0];
        ensure!(of.error_code == 0, "error {} of a fetch", of.error_code);
        match &of.records {
            Records::Here(bytes) => Ok(bytes.clone()),
            Records::Elsewhere(_) => anyhow::bail!("records cannot be elsewhere in a client"),
        }
    }

    /// All batches of a partition, up to where nothing more comes.
    pub fn fetch_all(&mut self, topic: &str, partition: i32) -> Result<Vec<Bytes>> {
        let (mut batches, mut offset) = (Vec::new(), 0);
        loop {
            let records = self.fetch(topic, partition, offset)?;
            if records.is_empty() {
                return Ok(batches);
            }
            let mut left = records;
            while !left.is_empty() {
                let header = proto::record::BatchHeader::parse(&left)?;
                offset = header.next_offset().0;
                batches.push(left.split_to(header.size_in_bytes()));
            }
        }
    }
}

/// Whether the peer has closed the connection.
fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe]
        .contains(&error.kind())
}

/// One batch for one partition.
pub fn produce_request(acks: i16, topic: &str, partition: i32, batch: &Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records: Some(batch.clone()) };
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data: vec![data] }],
        ..ProduceRequest::default()
    }
}

/// One partition from an offset on, waiting for nothing.
pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let position = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topics =
        vec![FetchTopic { topic: topic.into(), partitions: vec![position], ..Default::default() }];
    FetchRequest { topics, ..FetchRequest::default() }
}
