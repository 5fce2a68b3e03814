//! A topic deleted and created again under live consumers, while one broker slept through it.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::eventually;
use integration_tests::group::{self, Member, settled};
use integration_tests::workload::{Load, LoadOptions, read_all};

const TOPIC: &str = "events";
const PARTITIONS: i32 = 6;
const LIMIT: Duration = Duration::from_secs(30);

/// Nobody resumes at an old offset, and no directory of the old topic is served.
#[test]
fn nobody_mistakes_a_new_topic_for_the_old_one() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions::three("recreation"))?;
    cluster.create_topic(TOPIC, PARTITIONS, &[])?;
    let bootstrap = cluster.bootstrap();
    let old = Load::start(LoadOptions::new(&bootstrap, TOPIC, 0))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let client = group::registry(&cluster).await?;
        let a = Member::start(&cluster, "a", "g", TOPIC, &[])?;
        let b = Member::start(&cluster, "b", "g", TOPIC, &[])?;
        settled(&client, "g", TOPIC, PARTITIONS as usize, 2, LIMIT).await?;
        old.wait_for_more(4_000, LIMIT)?;
        let old_sent = old.stop()?.len();
        eventually("the old topic is consumed and committed", LIMIT, async || {
            let committed: i64 = group::committed(&client, "g", TOPIC).await?.values().sum();
            Ok((committed == old_sent as i64).then_some(()))
        })
        .await?;

        // Broker 3 sleeps through the deletion and the creation.
        cluster.kill_broker(3)?;
        cluster.run("coordinator", &["topics", "--delete", "--topic", TOPIC])?;
        eventually("the topic is gone", LIMIT, async || {
            let topics = cluster.run("coordinator", &["topics", "--list"])?;
            Ok((!topics.contains(TOPIC)).then_some(()))
        })
        .await?;
        cluster.create_topic(TOPIC, PARTITIONS, &[])?;
        cluster.start_broker(3)?;

        // Fewer records than before: a consumer at an old offset would see none of them.
        let new = Load::start(LoadOptions::new(&bootstrap, TOPIC, 1))?;
        new.wait_for_more(1_000, LIMIT)?;
        let new_sent = new.stop()?;
        ensure!(new_sent.iter().all(|sent| sent.acknowledged.is_some()), "a send failed");
        ensure!(new_sent.len() < old_sent, "{} new, {old_sent} old", new_sent.len());
        eventually("the members deliver all of the new topic", LIMIT, async || {
            let mut seen = std::collections::HashSet::new();
            for member in [&a, &b] {
                seen.extend(
                    member.delivered()?.iter().filter(|r| r.producer == 1).map(|r| r.number),
                );
            }
            ensure!(seen.len() == new_sent.len(), "{} of {}", seen.len(), new_sent.len());
            Ok(Some(()))
        })
        .await?;
        Ok(())
    })?;
    let read = read_all(&bootstrap, TOPIC, PARTITIONS)?;
    ensure!(read.iter().all(|read| read.producer == 1), "a record of the old topic is served");
    Ok(())
}
