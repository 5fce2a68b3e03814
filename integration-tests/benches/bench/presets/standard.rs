//! The figures to look at while working: limits, producing, draining, latency.

use super::recipes::*;
use crate::Options;
use crate::spec::Spec;

const RECORDS: u64 = 4_000_000;

pub(super) fn specs(options: &Options) -> Vec<Spec> {
    let make = Recipes::new(options, options.replicas, RECORDS);
    let partitions = options.partitions;
    vec![
        make.memcpy(),
        make.tcp_64k(),
        make.linger(partitions),
        make.sendfile(partitions),
        make.drain(DRAIN, LINGER, partitions),
        make.drain(DRAIN_OWNED, LINGER, partitions),
        make.tcp_50(),
        make.fifty(partitions),
        make.drain(DRAIN_FIFTY, FIFTY, partitions),
        make.one(partitions, make.records / 4),
        make.drain(DRAIN_ONE, ONE, partitions),
        make.tcp_trip(),
        make.trip(TRIP_CALLER, &[]),
        make.trip(TRIP, &[]),
        make.paced(options.rate),
        make.interval(partitions),
        make.before_ack(partitions),
    ]
}
