//! A group of more and more members, of both memberships: how long until everybody has a share, after
//! all came at once, after one left and after one joined.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use consumer_client::{Consumer, Control, Subscription};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Options;
use crate::fleet::{consumer_config, runtime};
use crate::point::Report;
use crate::subject::{Subject, pause};

const SERIES: &str = "group";
const TOPIC: &str = "shared";
const MEMBERSHIPS: [&str; 2] = ["zookeeper", "broker"];
/// A rebalance that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A member that polls until it is told to leave.
struct Member {
    control: Control,
    leave: Arc<Notify>,
    polls: JoinHandle<Result<()>>,
}

impl Member {
    /// Starts one on the current runtime.
    fn start(subject: &Subject, membership: &str) -> Result<Self> {
        let mut config = consumer_config(&subject.dev.bootstrap)?;
        config.set("group.id", "crowd")?;
        config.set("membership", membership)?;
        let mut consumer = Consumer::on_current_runtime(config)?;
        consumer.subscribe(&Subscription::topics([TOPIC]))?;
        let (control, leave) = (consumer.control(), Arc::new(Notify::new()));
        let left = Arc::clone(&leave);
        let polls = tokio::spawn(async move {
            loop {
                tokio::select! {
                    polled = consumer.poll_async() => drop(polled?),
                    () = left.notified() => break,
                }
            }
            Ok(consumer.close_async().await?)
        });
        Ok(Self { control, leave, polls })
    }

    async fn leave(self) -> Result<()> {
        self.leave.notify_one();
        self.polls.await?
    }
}

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    for membership in MEMBERSHIPS {
        for &count in &options.members {
            point(options, membership, count, report)?;
        }
    }
    Ok(())
}

fn point(options: &Options, membership: &str, count: u32, report: &mut Report) -> Result<()> {
    let (at, units) = (u64::from(count), f64::from(count));
    let (subject, runtime) = (Subject::start(options)?, runtime()?);
    let partitions = 2 * count;
    subject.create_topic(TOPIC, partitions)?;
    let kib = subject.settled_kib()?;
    let name = |what: &str| format!("{membership}: {what}");
    let start = |_| runtime.block_on(async { Member::start(&subject, membership) });
    let watch = subject.watch()?;
    let mut all = (0..count).map(start).collect::<Result<Vec<_>>>()?;
    let seconds = settled(&all, partitions)?;
    let used = watch.stop()?;
    report.figure(SERIES, at, &name("all come, s"), seconds);
    report.cost(SERIES, at, &name("all come, broker CPU ms/member"), used.broker_cpu * 1e3 / units);
    report.cost(SERIES, at, &name("all come, member CPU ms each"), used.client_cpu * 1e3 / units);
    let grown = subject.settled_kib()? - kib;
    report.cost(SERIES, at, &name("broker memory, KiB/member"), grown / units);
    // Commits and signs of life.
    let watch = subject.watch()?;
    pause(Duration::from_secs(5));
    let used = watch.stop()?;
    let each = used.broker_cpu * 1e3 / 5.0 / units;
    report.cost(SERIES, at, &name("broker CPU ms/s a member that waits"), each);

    let watch = subject.watch()?;
    let seconds = leave_one(&runtime, &mut all, partitions)?;
    report.figure(SERIES, at, &name("one leaves, s"), seconds);
    all.push(start(0)?);
    report.figure(SERIES, at, &name("one joins, s"), settled(&all, partitions)?);
    let used = watch.stop()?;
    let each = used.broker_cpu * 1e3 / units;
    report.cost(SERIES, at, &name("one leaves, one joins, broker CPU ms/member"), each);
    runtime.block_on(async {
        let leaving: Vec<_> = all.into_iter().map(Member::leave).collect();
        futures_util::future::try_join_all(leaving).await
    })?;
    Ok(())
}

fn leave_one(runtime: &Runtime, all: &mut Vec<Member>, partitions: u32) -> Result<f64> {
    let Some(first) = all.pop() else { bail!("no members") };
    let start = Instant::now();
    runtime.block_on(first.leave())?;
    settled(all, partitions)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds until every partition is somebody's and every member has some.
fn settled(all: &[Member], partitions: u32) -> Result<f64> {
    let start = Instant::now();
    loop {
        let shares: Vec<usize> =
            all.iter().map(|member| member.control.assignment().len()).collect();
        if shares.iter().sum::<usize>() == partitions as usize && !shares.contains(&0) {
            return Ok(start.elapsed().as_secs_f64());
        }
        if start.elapsed() > LIMIT {
            let without = shares.iter().filter(|&&share| share == 0).count();
            bail!("after {LIMIT:?} {without} of {} members have no partition", shares.len());
        }
        pause(LOOK_EVERY);
    }
}
