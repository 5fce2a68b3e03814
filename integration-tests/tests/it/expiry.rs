//! Sessions that expire again and again under real processes: registered and serving after each.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coordinator::zk::paths;
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::eventually;
use integration_tests::group::{self, Member, settled};
use integration_tests::workload::{Load, LoadOptions};
use nix::sys::signal::Signal;
use proto::BrokerId;

const TOPIC: &str = "events";
const LIMIT: Duration = Duration::from_secs(20);
/// The least that the ensemble grants: two of its ticks of 200 ms.
const SESSION_MS: &str = "400";

/// A broker and a member of a group, both stopped past their session a hundred times in a row. After
/// each, both are registered by a new session, the broker takes records and the member delivers.
#[test]
fn a_hundred_expired_sessions_of_a_broker_and_a_consumer() -> Result<()> {
    let options = ClusterOptions { brokers: 1, ..ClusterOptions::three("expiry") }
        .set("zookeeper.session.timeout.ms", SESSION_MS);
    let mut cluster = Cluster::start(options)?;
    cluster.create_topic(TOPIC, 4, &[])?;
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), TOPIC, 0))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let client = group::registry(&cluster).await?;
        let session = format!("zookeeper.session.timeout.ms={SESSION_MS}");
        let member = Member::start(&cluster, "member", "g", TOPIC, &["--set", &session])?;
        settled(&client, "g", TOPIC, 4, 1, LIMIT).await?;
        let id = paths::broker(BrokerId(1));
        for round in 1..=100 {
            // So short a session may end by itself where the machine has other things to do.
            let before = eventually(&format!("round {round}: registered"), LIMIT, async || {
                Ok(client.check_stat(&id).await?)
            })
            .await?;
            let delivered = member.delivered()?.len();
            member.process.signal(Signal::SIGSTOP)?;
            cluster.broker_process(1)?.signal(Signal::SIGSTOP)?;
            eventually(&format!("round {round}: both sessions expire"), LIMIT, async || {
                let broker = client.check_stat(&id).await?;
                let members = client.list_children(&paths::members("g")).await?;
                Ok((broker.is_none() && members.is_empty()).then_some(()))
            })
            .await?;
            cluster.broker_process(1)?.signal(Signal::SIGCONT)?;
            member.process.signal(Signal::SIGCONT)?;
            eventually(
                &format!("round {round}: the broker is registered anew"),
                LIMIT,
                async || {
                    let stat = client.check_stat(&id).await?;
                    Ok(stat.filter(|stat| stat.czxid != before.czxid))
                },
            )
            .await?;
            settled(&client, "g", TOPIC, 4, 1, LIMIT).await?;
            load.wait_for_more(10, LIMIT).with_context(|| format!("round {round}: produce"))?;
            eventually(&format!("round {round}: the member delivers"), LIMIT, async || {
                Ok((member.delivered()?.len() > delivered).then_some(()))
            })
            .await?;
        }
        ensure!(load.failed() == 0, "{} sends failed", load.failed());
        Ok(())
    })?;
    load.stop()?;
    Ok(())
}
