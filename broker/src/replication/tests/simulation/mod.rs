//! A whole replicated partition under faults: three replicas with the real partition, log, ISR and
//! high watermark code on disks that lose what was not synced; between them a registry, a
//! controller, streams that break, and clients that check what they are told.
//!
//! Modelled are only the parts that are not a partition's: the registry's node with its version, the
//! controller (which decides by the same pure rules), sessions, streams. Each seed is one story of
//! kills, power cuts, pauses beyond the session, leaders cut off from registry and controller, broken
//! streams, lost and late answers of the registry, a minimum that is altered and believed in at
//! different times, leaders that do not know yet that they are no more. What must hold, always:
//!
//! - what a consumer was shown, or a producer with acks=all was told, stays at its offset;
//! - whoever is in the ISR or electable, in the registry, has all that was shown or acknowledged;
//! - of two views of the log, both below the high watermark, one is the front of the other;
//! - no value of an idempotent producer is there twice, however often it was sent;
//! - within an epoch the high watermark shown never goes back;
//! - when the faults end, all replicas get in sync, with the same bytes, and producing goes on.
//!
//! `OTTLA_REPLICATION_SEEDS` is how many stories, `OTTLA_REPLICATION_SEED` only this one.
//! `cluster` moves the parts, `faults` breaks them, `stories` are courses of events that chance alone
//! seldom brings, `healing` is the end; `node` is a broker,
//! `registry` what all decide by, `streams` how followers fetch, `truth` what clients were told.

mod clients;
mod cluster;
mod faults;
mod healing;
mod node;
mod registry;
mod stories;
mod streams;
mod truth;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::Cluster;

const SEEDS: u64 = 200;
const STEPS: usize = 250;

#[test]
fn no_acknowledged_record_is_lost_or_changed_whoever_dies() {
    if let Some(seed) = from_environment("OTTLA_REPLICATION_SEED") {
        return Cluster::new(seed).run(STEPS);
    }
    let count = from_environment("OTTLA_REPLICATION_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    let story = AssertUnwindSafe(|| Cluster::new(seed).run(STEPS));
                    if catch_unwind(story).is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert!(
        failed == u64::MAX,
        "seed {failed} failed; again: OTTLA_REPLICATION_SEED={failed} cargo test -p broker --lib \
         no_acknowledged_record"
    );
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}
