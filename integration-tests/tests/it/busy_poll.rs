//! `busy.poll.us` on both ends: many connections are served as ever, and who has no traffic uses no
//! processor.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use consumer_client::{Consumer, ConsumerConfig, StartAt};
use integration_tests::dev::Dev;
use producer_client::{Producer, ProducerConfig, Record};
use proto::TopicPartition;

const SPAN: &str = "busy.poll.us";
/// The longest that may be set.
const SPAN_US: &str = "1000";
const PRODUCERS: usize = 24;
const RECORDS: usize = 40;
/// Of a second, what a broker without traffic may use: its timers, on a loaded machine.
const IDLE_CPU_MAX: f64 = 0.15;

#[test]
fn many_connections_are_served_and_idle_ones_cost_nothing() -> Result<()> {
    let scratch = integration_tests::scratch("busy-poll")?;
    let broker = Dev::start(scratch.path(), &[&format!("{SPAN}={SPAN_US}")])?;
    let mut config = ConsumerConfig::new([broker.bootstrap.as_str()]);
    config.set(SPAN, SPAN_US)?;
    let mut consumer = Consumer::new(config)?;
    consumer.assign([(TopicPartition::new("ping", 0), StartAt::Beginning)])?;

    let producers: Vec<Producer> = (0..PRODUCERS)
        .map(|_| {
            let mut config = ProducerConfig::new([broker.bootstrap.as_str()]);
            config.set(SPAN, SPAN_US)?;
            config.set("linger.ms", "0")?;
            Ok(Producer::start(config)?)
        })
        .collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let sending: Vec<_> = producers
            .iter()
            .map(|producer| {
                scope.spawn(move || -> Result<()> {
                    for i in 0..RECORDS {
                        let value = i.to_string();
                        producer.send(Record::to("ping").partition(0).value(&value)).wait()?;
                    }
                    Ok(())
                })
            })
            .collect();
        sending.into_iter().try_for_each(|thread| thread.join().expect("a panic"))
    })?;
    let mut seen = 0;
    let until = Instant::now() + Duration::from_secs(30);
    while seen < PRODUCERS * RECORDS {
        ensure!(Instant::now() < until, "{seen} records came");
        seen += consumer.poll(Duration::from_secs(1))?.items.len();
    }

    // All connections stay open; the consumer's poll is what passes the time.
    let used = broker.process.cpu_seconds()?;
    let polled = consumer.poll(Duration::from_secs(1))?;
    ensure!(polled.items.is_empty(), "more records than were sent");
    let used = broker.process.cpu_seconds()? - used;
    ensure!(used < IDLE_CPU_MAX, "an idle broker used {used} s of a second");
    consumer.close()?;
    drop(producers);
    broker.stop()
}
