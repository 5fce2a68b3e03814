//! `bench-kafka`: Ottla's listener for Kafka clients and Apache Kafka's own broker, measured by the
//! same clients in the same run. See `integration-tests/bench-kafka`.

mod figures;
mod system;
mod tool;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use integration_tests::kafka_client::KafkaClient;
use proto::kafka::messages::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};

use figures::{Figure, table};
use system::{Broker, System};
use tool::Tools;

/// Measures `broker dev` and Apache Kafka with Kafka's own producer-perf-test and consumer-perf-test
///
/// Each round starts both, one after the other and in alternating order, on empty disks, warms them
/// up, and runs the same commands against them: producing as fast as it goes, consuming what was
/// produced, producing at a fixed rate. JSON lines on standard output, a table of medians on
/// standard error.
#[derive(Debug, Parser)]
#[command(name = "bench-kafka", max_term_width = 100)]
struct Options {
    /// Records of a run
    #[arg(long, value_name = "N", default_value_t = 3_000_000)]
    records: u64,
    /// Bytes of a record
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    record_size: u32,
    /// Records a second where the rate is fixed
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rate: u64,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: i32,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Only one of the two
    #[arg(long, value_name = "SYSTEM")]
    only: Option<System>,
    /// Java heap of Apache Kafka's broker, as its start script has it
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    heap: String,
    /// More configuration of the topic in Ottla; Apache Kafka never forces a file to the disk, and
    /// flush=os is the same
    #[arg(long, value_name = "KEY=VALUE", default_value = "flush=os")]
    topic_config: String,
    /// What `foreign-clients install java` printed
    #[arg(long, value_name = "DIR", env = "OTTLA_KAFKA")]
    kafka: PathBuf,
    /// Where data goes; deleted afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
}

const TOPIC: &str = "measured";
const WARM_UP: &str = "warm-up";
/// Records before anything is measured: a JVM compiles what it runs often.
const WARM_UP_RECORDS: u64 = 500_000;
/// Seconds at a fixed rate.
const PACED_SECONDS: u64 = 15;
/// The producer of the runs that go as fast as they can: acks=all and idempotent, as is its default.
const FAST: &[&str] = &["acks=all", "linger.ms=5", "batch.size=65536", "buffer.memory=67108864"];
const PACED: &[&str] = &["acks=all", "linger.ms=0"];

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.rounds > 0 && options.records > 0, "nothing to measure");
    let tools = Tools::new(&options.kafka)?;
    let mut all = Vec::new();
    for round in 0..options.rounds {
        let mut systems = vec![System::Ottla, System::ApacheKafka];
        systems.retain(|system| options.only.is_none_or(|only| only == *system));
        if round % 2 == 1 {
            systems.reverse();
        }
        for system in systems {
            let dir = tempfile::tempdir_in(&options.data)?;
            let figures = measure(&options, &tools, system, round, dir.path())
                .with_context(|| format!("{system:?}, round {round}"))?;
            for figure in figures {
                println!("{}", serde_json::to_string(&figure)?);
                all.push(figure);
            }
        }
    }
    eprint!("{}", table(&all));
    Ok(())
}

fn measure(
    options: &Options,
    tools: &Tools,
    system: System,
    round: usize,
    dir: &Path,
) -> Result<Vec<Figure>> {
    let broker = Broker::start(system, tools, &options.heap, dir)?;
    for topic in [WARM_UP, TOPIC] {
        create_topic(options, &broker, topic)?;
    }
    let size = options.record_size;
    let mut figures = Vec::new();
    let mut take = |name: &'static str, run: &dyn Fn() -> Result<tool::Told>| {
        let meter = broker.meter()?;
        let told = run()?;
        figures.push(Figure::new(system, round, name, &told, &meter.read(&broker)?));
        anyhow::Ok(())
    };
    let produce = |topic: &str, records: u64, rate: Option<u64>, settings: &[&str]| {
        tools.produce(&broker.kafka, topic, records, size, rate, settings)
    };
    produce(WARM_UP, WARM_UP_RECORDS, None, FAST)?;
    tools.consume(&broker.kafka, WARM_UP, WARM_UP_RECORDS)?;
    take("produce", &|| produce(TOPIC, options.records, None, FAST))?;
    take("consume", &|| tools.consume(&broker.kafka, TOPIC, options.records))?;
    let paced = options.rate * PACED_SECONDS;
    take("produce at a rate", &|| produce(TOPIC, paced, Some(options.rate), PACED))?;
    broker.stop()?;
    Ok(figures)
}

fn create_topic(options: &Options, broker: &Broker, name: &str) -> Result<()> {
    let mut topic = CreatableTopic {
        name: name.into(),
        num_partitions: options.partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    if broker.system == System::Ottla {
        let (key, value) = options.topic_config.split_once('=').context("--topic-config K=V")?;
        let config = CreatableTopicConfig { name: key.into(), value: Some(value.into()) };
        topic.configs.push(config);
    }
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 20_000, ..Default::default() };
    let answer = KafkaClient::connect(&broker.kafka)?.call(7, &request)?;
    ensure!(answer.topics[0].error_code == 0, "creating {name}: {answer:?}");
    Ok(())
}
