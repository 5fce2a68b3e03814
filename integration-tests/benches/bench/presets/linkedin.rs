//! What LinkedIn measured in 2014 ("Benchmarking Apache Kafka: 2 million writes per second on three cheap
//! machines"): 50 million records of 100 bytes, topics of 6 partitions, three brokers. Here all
//! brokers and clients share one machine, and a tenth of the records is sent where nothing else is said.
//!
//! "Asynchronous" is acks=1, "synchronous" acks=all. Each of several producers has partitions of its own,
//! so that a drain can check order and content; each of several consumers reads some of the partitions.

use super::recipes::{Recipes, paced_name};
use crate::Options;
use crate::load::Load;
use crate::spec::{Produce, Spec, What};

const RECORDS: u64 = 5_000_000;
const VALUE_LEN: usize = 100;
const PARTITIONS: i32 = 6;
const BROKERS: i32 = 3;
/// Records a second of the end-to-end figure.
const RATE: u64 = 10_000;

pub(super) fn specs(options: &Options) -> Vec<Spec> {
    let mut make = Recipes::new(options, BROKERS, RECORDS);
    if options.value_bytes.is_none() {
        make.value_len = VALUE_LEN;
    }
    let first = "1 producer, no replication, acks=1";
    let three = "3 producers, replication 3, acks=1";
    let produce = |name: &str, producers: i32, replicas: i32, acks: &str| {
        let load = make.load(make.records, PARTITIONS);
        let produce = make.produce(load, &[acks]);
        let what = What::Produce(Produce { producers, replicas, ..produce });
        make.at_broker(name.into(), (name != first).then_some(first), what)
    };
    let drain = |name: &str, consumers: i32| {
        let what = What::Drain { of: three.into(), owned: false, consumers };
        make.at_broker(name.into(), None, what)
    };
    let together = make.produce(make.load(make.records, PARTITIONS), &["acks=1"]);
    let load = Load { value_len: make.value_len, ..Load::new(RATE * options.seconds, 1) };
    vec![
        produce(first, 1, 1, "acks=1"),
        produce("1 producer, replication 3, acks=1", 1, 3, "acks=1"),
        produce("1 producer, replication 3, acks=all", 1, 3, "acks=all"),
        produce(three, 3, 3, "acks=1"),
        drain("1 consumer", 1),
        drain("3 consumers", 3),
        make.at_broker(
            "1 producer and 1 consumer, replication 3, acks=1".into(),
            Some(first),
            What::Both(Produce { replicas: 3, ..together }),
        ),
        make.at_broker(
            paced_name(RATE),
            None,
            What::Paced { load, rate: RATE, settings: Vec::new() },
        ),
    ]
}
