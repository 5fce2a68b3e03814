//! `bench-kafka`: Ottla's listener for Kafka clients and Apache Kafka's own broker, measured by the
//! same clients in the same run. See `integration-tests/bench-kafka`.

mod figures;
mod librdkafka;
mod system;
mod tool;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use integration_tests::kafka_client::KafkaClient;
use proto::kafka::messages::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};

use figures::{Figure, table};
use librdkafka::{Librdkafka, Pace};
use system::{Broker, System};
use tool::Tools;

/// Measures `broker dev` and Apache Kafka with Kafka's own producer-perf-test and consumer-perf-test and
/// with librdkafka's rdkafka_performance
///
/// Each round starts both, one after the other and in alternating order, on empty disks, warms them
/// up, and runs the same commands against them: producing as fast as it goes, consuming what was
/// produced, producing at a fixed rate; with librdkafka also from the producer to a consumer at that
/// rate. JSON lines on standard output, a table of medians on
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
    /// Seconds at that rate
    #[arg(long, value_name = "N", default_value_t = 15,
        value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Records a second of librdkafka's tool where the rate is fixed: it spins between records that are
    /// less than a few milliseconds apart, and takes two cores at 10,000
    #[arg(long, value_name = "N", default_value_t = 200,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    librdkafka_rate: u64,
    /// Only one of the two tools
    #[arg(long, value_name = "TOOL")]
    tool: Option<Tool>,
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
    /// What `foreign-clients install librdkafka` printed; without it only Kafka's own tools run
    #[arg(long, value_name = "FILE", env = "OTTLA_RDKAFKA_PERFORMANCE")]
    librdkafka: Option<PathBuf>,
    /// Where data goes; deleted afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
}

/// What measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tool {
    /// producer-perf-test and consumer-perf-test of Apache Kafka
    Java,
    /// rdkafka_performance
    Librdkafka,
}

impl Options {
    fn wants(&self, tool: Tool) -> bool {
        self.tool.is_none_or(|only| only == tool)
    }
}

const TOPIC: &str = "measured";
const WARM_UP: &str = "warm-up";
/// Records before anything is measured: a JVM compiles what it runs often.
const WARM_UP_RECORDS: u64 = 500_000;
/// The producer of the runs that go as fast as they can: acks=all and idempotent, as is its default.
const FAST: &[&str] = &["acks=all", "linger.ms=5", "batch.size=65536", "buffer.memory=67108864"];
const PACED: &[&str] = &["acks=all", "linger.ms=0"];
/// What librdkafka does not do by itself; batches are up to its million bytes.
const FAST_LIBRDKAFKA: &[&str] = &["acks=all", "enable.idempotence=true", "linger.ms=5"];
const PACED_LIBRDKAFKA: &[&str] = &["acks=all", "enable.idempotence=true", "linger.ms=0"];
const LIBRDKAFKA_TOPICS: [&str; 3] = ["measured-2", "paced-2", "end-to-end-2"];

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.rounds > 0 && options.records > 0, "nothing to measure");
    if options.wants(Tool::Librdkafka) && options.librdkafka.is_none() {
        eprintln!(
            "SKIPPED rdkafka_performance: integration-tests/foreign-clients install librdkafka"
        );
    }
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
    for topic in [WARM_UP, TOPIC].into_iter().chain(LIBRDKAFKA_TOPICS) {
        create_topic(options, &broker, topic)?;
    }
    let mut figures = Vec::new();
    let mut take = |name: &'static str, run: &dyn Fn() -> Result<tool::Told>| {
        let meter = broker.meter()?;
        let told = run().with_context(|| name)?;
        figures.push(Figure::new(system, round, name, &told, &meter.read(&broker)?));
        anyhow::Ok(())
    };
    if options.wants(Tool::Java) {
        with_java(options, tools, &broker.kafka, &mut take)?;
    }
    if let Some(program) = options.librdkafka.as_ref().filter(|_| options.wants(Tool::Librdkafka)) {
        let tool = Librdkafka::new(program, options.partitions, dir)?;
        with_librdkafka(options, &tool, &broker.kafka, &mut take)?;
    }
    broker.stop()?;
    Ok(figures)
}

/// Measures what a closure does under a name.
type Take<'a> = dyn FnMut(&'static str, &dyn Fn() -> Result<tool::Told>) -> Result<()> + 'a;

fn with_java(options: &Options, tools: &Tools, kafka: &str, take: &mut Take<'_>) -> Result<()> {
    let size = options.record_size;
    let produce = |topic: &str, records: u64, rate: Option<u64>, settings: &[&str]| {
        tools.produce(kafka, topic, records, size, rate, settings)
    };
    produce(WARM_UP, WARM_UP_RECORDS, None, FAST)?;
    tools.consume(kafka, WARM_UP, WARM_UP_RECORDS)?;
    take("produce", &|| produce(TOPIC, options.records, None, FAST))?;
    take("consume", &|| tools.consume(kafka, TOPIC, options.records))?;
    let paced = options.rate * options.seconds;
    take("produce at a rate", &|| produce(TOPIC, paced, Some(options.rate), PACED))
}

fn with_librdkafka(
    options: &Options,
    tool: &Librdkafka,
    kafka: &str,
    take: &mut Take<'_>,
) -> Result<()> {
    let [topic, paced, end_to_end] = LIBRDKAFKA_TOPICS;
    let produce = |topic: &str, records: u64| {
        tool.produce(kafka, topic, records, options.record_size, FAST_LIBRDKAFKA)
    };
    let (rate, seconds) = (options.librdkafka_rate, options.seconds);
    let pace = Pace { rate, seconds, record_size: options.record_size };
    produce(WARM_UP, WARM_UP_RECORDS)?;
    tool.consume(kafka, WARM_UP, WARM_UP_RECORDS)?;
    take("librdkafka: produce", &|| produce(topic, options.records))?;
    take("librdkafka: consume", &|| tool.consume(kafka, topic, options.records))?;
    take("librdkafka: produce at a rate", &|| tool.paced(kafka, paced, pace, PACED_LIBRDKAFKA))?;
    take("librdkafka: end to end", &|| tool.end_to_end(kafka, end_to_end, pace, PACED_LIBRDKAFKA))
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
