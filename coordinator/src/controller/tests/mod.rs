//! The controller against the embedded registry and brokers that only take updates.
//!
//! The same behaviour with real processes and a real ensemble is tested in `integration-tests`.

mod administration;
mod elections;
mod harness;
mod many_partitions;
mod reassignments;
mod shutdown;
mod takeover;

/// A registration of no broker in particular.
pub(super) fn broker() -> crate::zk::payload::Broker {
    crate::zk::payload::Broker {
        host: "127.0.0.1".to_owned(),
        grpc_port: 9094,
        kafka: Vec::new(),
        http_port: None,
        rack: String::new(),
        incarnation: uuid::Uuid::new_v4(),
        start_time_ms: 0,
        clean: true,
    }
}
