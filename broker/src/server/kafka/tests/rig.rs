//! A server with a few partitions that listens for Kafka clients, and a client that says what a test
//! has it say.

use bytes::Bytes;
use proto::kafka::messages::{
    FetchPartition, FetchRequest, FetchTopic, PartitionData, PartitionProduceData,
    PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use proto::kafka::{Request, decode_response, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) use crate::server::grpc::tests::rig::{Server, batch, topic_id};

/// A connection.
pub(super) struct Client {
    pub(super) socket: TcpStream,
    next_id: i32,
}

impl Client {
    pub(super) async fn connect(server: &Server) -> Self {
        Self::over(TcpStream::connect(server.kafka).await.unwrap())
    }

    pub(super) fn over(socket: TcpStream) -> Self {
        Self { socket, next_id: 0 }
    }

    pub(super) async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.next_id += 1;
        let frame = encode_request(version, self.next_id, Some("test"), request);
        self.send_raw(&frame.join().unwrap()).await;
        self.next_id
    }

    pub(super) async fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The next frame; `None` where the connection was closed.
    pub(super) async fn frame(&mut self) -> Option<Bytes> {
        let size = self.socket.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        self.socket.read_exact(&mut frame).await.unwrap();
        Some(frame.into())
    }

    pub(super) async fn receive<R: Request>(&mut self, version: i16, id: i32) -> R::Response {
        let frame = self.frame().await.expect("the broker closed the connection");
        let (answered, response) = decode_response::<R>(version, frame).unwrap();
        assert_eq!(answered, id);
        response
    }

    pub(super) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request).await;
        self.receive::<R>(version, id).await
    }

    pub(super) async fn produce(
        &mut self,
        version: i16,
        request: &ProduceRequest,
    ) -> PartitionProduceResponse {
        let answer = self.call(version, request).await;
        answer.responses[0].partition_responses[0].clone()
    }

    pub(super) async fn fetch(&mut self, version: i16, request: &FetchRequest) -> PartitionData {
        self.call(version, request).await.responses[0].partitions[0].clone()
    }
}

/// Records for partition 0 of a topic.
pub(super) fn produce(acks: i16, topic: &str, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index: 0, records: Some(records) };
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data: vec![data] }],
        ..ProduceRequest::default()
    }
}

/// Partition 0 of a topic from an offset on; waits for nothing.
pub(super) fn fetch(topic: &str, offset: i64) -> FetchRequest {
    let partitions = vec![FetchPartition {
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    }];
    let topic_id = topic_id(topic).0;
    let topics = vec![FetchTopic { topic: topic.into(), topic_id, partitions }];
    FetchRequest { topics, ..FetchRequest::default() }
}
