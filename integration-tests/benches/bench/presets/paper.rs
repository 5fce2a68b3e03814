//! The Kafka paper's experiment (Kreps, Narkhede, Rao, NetDB 2011, section 5): one producer, one broker, one
//! consumer; 10 million messages of 200 bytes, flushed asynchronously, batches of 1 and of 50.

use super::recipes::*;
use crate::Options;
use crate::spec::Spec;

const RECORDS: u64 = 10_000_000;

pub(super) fn specs(options: &Options) -> Vec<Spec> {
    let make = Recipes::new(options, 1, RECORDS);
    vec![
        make.tcp_64k(),
        make.linger(1),
        make.tcp_50(),
        make.fifty(1),
        make.one(1, make.records),
        make.sendfile(1),
        make.drain(DRAIN_FIFTY, FIFTY, 1),
        make.drain(DRAIN_ONE, ONE, 1),
    ]
}
