//! How much groups take, in time and memory: `cargo test -p broker --lib groups::tests::scale --
//! --ignored --nocapture`. The figures are of whatever build runs them.

use std::time::{Duration, Instant};

use super::super::*;
use super::rig::*;
use crate::config::GroupConfig;
use crate::replication::tests::rig::alone;

const PARTITIONS: usize = 100;

/// Commits offsets of so many groups, has them read anew, and says what that takes.
async fn load(groups: usize) -> Duration {
    let config = GroupConfig { memory_max: 1 << 30, load_buffer_bytes: 5 << 20, ..config() };
    let rig = Rig::with(config, &alone(0));
    rig.topic("wide", PARTITIONS);
    rig.ready().await;
    let empty = rig.groups.report().await.unwrap().bytes;
    let commits: Vec<(&str, i32, i64)> =
        (0..PARTITIONS).map(|number| ("wide", number as i32, 1)).collect();
    for group in 0..groups {
        rig.commit(&format!("group-{group}"), &commits).await.unwrap();
    }
    let began = Instant::now();
    rig.lead_again(1);
    rig.ready().await;
    let served = began.elapsed();
    let report = rig.groups.report().await.unwrap();
    assert_eq!(report.offsets, groups * PARTITIONS);
    let load = report.counters.load_time_max;
    println!(
        "{groups} groups, {} offsets: read in {load:?}, served after {served:?}, {} bytes an offset",
        report.offsets,
        (report.bytes - empty) / report.offsets,
    );
    load
}

#[test]
#[ignore = "figures"]
fn loading_grows_with_what_is_loaded() {
    run(async {
        let small = load(100).await;
        let large = load(1000).await;
        assert!(large < small * 40 + Duration::from_millis(200), "{small:?}, {large:?}");
    });
}

/// So many members make a generation, twice.
async fn rebalance(members: usize) -> Duration {
    let config = GroupConfig {
        size_max: 10_000,
        initial_rebalance_delay: Duration::from_millis(200),
        ..config()
    };
    let rig = Rig::with(config, &alone(0));
    rig.ready().await;
    let ids: Vec<std::sync::Arc<str>> = vec!["".into(); members];
    let join = |ids: Vec<std::sync::Arc<str>>| {
        let joins = ids.into_iter().map(|id| rig.groups.join("g".into(), rig.join_request(&id)));
        futures_util::future::join_all(joins)
    };
    let first = join(ids).await.into_iter().map(Result::unwrap);
    let ids: Vec<_> = first.map(|joined| joined.member_id).collect();
    let began = Instant::now();
    let joined: Vec<_> = join(ids).await.into_iter().map(Result::unwrap).collect();
    let all: Vec<_> = joined.iter().collect();
    let leads = |one: &classic::Joined| one.leader == one.member_id;
    let synced = joined.iter().map(|one| rig.sync("g", one, if leads(one) { &all } else { &[] }));
    futures_util::future::join_all(synced).await;
    let took = began.elapsed();
    let bytes = rig.groups.report().await.unwrap().bytes;
    println!("{members} members: a rebalance in {took:?}, {} bytes a member", bytes / members);
    took
}

#[test]
#[ignore = "figures"]
fn a_rebalance_grows_with_its_members() {
    run(async {
        let small = rebalance(100).await;
        let large = rebalance(1000).await;
        assert!(large < small * 40 + Duration::from_millis(200), "{small:?}, {large:?}");
    });
}
