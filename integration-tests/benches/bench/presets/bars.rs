//! Every figure that a bar is set for, those that are compared next to each other.

use super::recipes::*;
use crate::Options;
use crate::broker::Setup;
use crate::spec::{Produce, Spec, What};
use crate::tonic_client::Tuning;

const RECORDS: u64 = 4_000_000;
/// Round trips are measured so often in turn with the limit: their percentiles scatter most.
const TRIPS: usize = 5;
/// Brokers of the replicated figure.
const BROKERS: i32 = 3;

pub(super) fn specs(options: &Options) -> Vec<Spec> {
    let make = Recipes::new(options, 1, RECORDS);
    let mut specs = vec![make.memcpy()];
    for partitions in [1, 12] {
        specs.extend(produce_and_drain(&make, partitions));
    }
    for partitions in [1, 12] {
        specs.push(make.before_ack(partitions));
    }
    for _ in 0..TRIPS {
        specs.extend([make.tcp_trip(), make.trip(TRIP_CALLER, &[]), make.trip(TRIP, &[])]);
    }
    specs.extend([make.paced(10_000), make.paced(100_000)]);
    // Brokers of their own from here on.
    for _ in 0..TRIPS {
        specs.extend([make.tcp_trip(), make.polled_trip()]);
    }
    specs.extend(replicated(options));
    specs
}

fn produce_and_drain(make: &Recipes<'_>, partitions: i32) -> Vec<Spec> {
    let mut specs = vec![make.tcp_64k()];
    if partitions == 1 {
        specs.push(make.tonic_produce());
    }
    specs.extend([
        make.linger(partitions),
        make.sendfile(partitions),
        make.drain(DRAIN, LINGER, partitions),
        make.drain(DRAIN_OWNED, LINGER, partitions),
    ]);
    if partitions == 1 {
        specs.push(make.tonic_fetch(Tuning::Default));
        specs.push(make.tonic_fetch(Tuning::Large));
    }
    specs.extend([
        make.tcp_50(),
        make.fifty(partitions),
        make.one(partitions, make.records / 4),
        make.drain(DRAIN_ONE, ONE, partitions),
    ]);
    specs
}

/// Three brokers: a topic that only one has, and one that all have.
fn replicated(options: &Options) -> Vec<Spec> {
    let make = Recipes::new(options, BROKERS, RECORDS);
    let settings = make.setup.settings.clone();
    let setup = Some(Setup { brokers: BROKERS, settings });
    let one = |replicas: i32, against: Option<String>| {
        let produce = make.produce(make.load(make.records, 1), &["acks=all"]);
        let what = What::Produce(Produce { replicas, ..produce });
        Spec { name: replicated_name(replicas), against, setup: setup.clone(), what }
    };
    vec![one(1, None), one(BROKERS, Some(replicated_name(1)))]
}
