//! Which figures there are, in which order, and against which limit each is held.

use std::collections::HashMap;

use anyhow::{Context, Result};
use proto::record::BatchBuilder;
use serde_json::{Value, json};

use crate::Options;
use crate::broker::Broker;
use crate::load::{Load, VALUE_LEN};
use crate::machine;
use crate::meter::{Peak, cpu_seconds, merge};
use crate::paced;
use crate::report::{Figure, derive, print_table};
use crate::task::{Client, Running, Task, call};

const MEMCPY: &str = "limit: memcpy of the values";
const TCP_64K: &str = "limit: TCP framing + append, 64 KiB requests";
const TCP_50: &str = "limit: TCP framing + append, 50 records each";
const SENDFILE: &str = "limit: sendfile, batches walked and checked";
const TCP_TRIP: &str = "limit: TCP round trip + append, 200 B";
const LINGER: &str = "produce, batches by linger";
const FIFTY: &str = "produce, one request per 50 records";
const ONE: &str = "produce, one request per record";
const INTERVAL: &str = "produce, batches by linger, flush=interval";
const BEFORE_ACK: &str = "produce, batches by linger, flush=before-ack";
const DRAIN: &str = "drain, borrowed records";
const DRAIN_OWNED: &str = "drain, owned records";
const DRAIN_FIFTY: &str = "drain of requests of 50 records";
const DRAIN_ONE: &str = "drain of requests of one record";
const TRIP: &str = "round trip, producer's own thread";
const TRIP_CALLER: &str = "round trip, caller's runtime";
const END_TO_END: &str = "end to end, steady rate";

const ALL: [&str; 17] = [
    MEMCPY,
    TCP_64K,
    LINGER,
    SENDFILE,
    DRAIN,
    DRAIN_OWNED,
    TCP_50,
    FIFTY,
    DRAIN_FIFTY,
    ONE,
    DRAIN_ONE,
    TCP_TRIP,
    TRIP_CALLER,
    TRIP,
    END_TO_END,
    INTERVAL,
    BEFORE_ACK,
];

/// The limit of each figure.
fn limit(name: &str) -> Option<&'static str> {
    Some(match name {
        LINGER | INTERVAL | BEFORE_ACK => TCP_64K,
        FIFTY | ONE => TCP_50,
        DRAIN | DRAIN_OWNED | DRAIN_FIFTY | DRAIN_ONE => SENDFILE,
        TRIP | TRIP_CALLER => TCP_TRIP,
        _ => return None,
    })
}

/// Requests of the raw producer that are not yet acknowledged.
const RAW_IN_FLIGHT: u64 = 16;
/// Unacknowledged batches where batches are small: what the protocol allows.
const SMALL_IN_FLIGHT: &str = "max.in.flight.requests.per.connection=1024";

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        ALL.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let mut bench = Bench {
        broker: Broker::start(options)?,
        options,
        topics: HashMap::new(),
        figures: Vec::new(),
        repeat: 0,
    };
    println!("{}", json!({ "machine": machine::describe(), "idle_broker": bench.idle()? }));
    for repeat in 0..options.repeat {
        bench.repeat = repeat;
        bench.topics.clear();
        for name in ALL {
            if bench.is_wanted(name) {
                bench.measure(name).with_context(|| {
                    format!("{name}; the broker's log ends:\n{}", bench.broker.log_tail())
                })?;
            }
        }
        for topic in bench.topics.values() {
            bench.broker.delete_topic(topic)?;
        }
    }
    if !options.json {
        print_table(&bench.figures);
    }
    Ok(())
}

struct Bench<'a> {
    // Before the options, whose directory it uses.
    broker: Broker,
    options: &'a Options,
    /// Produced in this repeat, by the figure that did.
    topics: HashMap<&'static str, String>,
    figures: Vec<Figure>,
    repeat: usize,
}

impl Bench<'_> {
    fn is_wanted(&self, name: &str) -> bool {
        let only = &self.options.only;
        only.is_empty() || only.iter().any(|text| name.contains(text.as_str()))
    }

    fn idle(&self) -> Result<Value> {
        Ok(json!({ "ready_ms": self.broker.ready_ms, "memory_mib": self.broker.memory_mib()? }))
    }

    /// Measures and reports one figure.
    fn measure(&mut self, name: &'static str) -> Result<()> {
        // What the last figure wrote goes to the disk now, not during this one.
        nix::unistd::sync();
        match name {
            MEMCPY => {
                let measured = call(&Task::Memcpy)?;
                self.report(name, &json!({}), measured);
                Ok(())
            }
            TCP_64K => self.raw_produce(name, 0),
            TCP_50 => self.raw_produce(name, 50),
            TCP_TRIP => self.raw_round_trip(name),
            SENDFILE => self.raw_drain(name),
            LINGER | FIFTY | ONE | INTERVAL | BEFORE_ACK => self.produce(name, true),
            DRAIN => self.drain(name, LINGER, false),
            DRAIN_OWNED => self.drain(name, LINGER, true),
            DRAIN_FIFTY => self.drain(name, FIFTY, false),
            DRAIN_ONE => self.drain(name, ONE, false),
            TRIP => self.round_trip(name, false),
            TRIP_CALLER => self.round_trip(name, true),
            _ => self.end_to_end(name),
        }
    }

    /// Prints a figure and keeps it for the table.
    fn report(&mut self, name: &str, settings: &Value, mut values: Value) {
        derive(&mut values);
        if let Some(ratio) = self.ratio(name, &values) {
            merge(
                &mut values,
                json!({ "ratio": (ratio * 1e3).round() / 1e3, "ratio_to": limit(name) }),
            );
        }
        let mut line = json!({ "figure": name, "repeat": self.repeat, "settings": settings });
        merge(&mut line, json!({ "repeat": self.repeat }));
        merge(&mut line, values.clone());
        println!("{line}");
        merge(&mut values, json!({ "repeat": self.repeat }));
        self.figures.push(Figure { name: name.to_owned(), values });
    }

    /// Records/s against the limit's, or p99 against the limit's.
    fn ratio(&self, name: &str, values: &Value) -> Option<f64> {
        let limit = limit(name)?;
        let same =
            |figure: &&Figure| figure.name == limit && figure.values["repeat"] == self.repeat;
        let limit = &self.figures.iter().find(same)?.values;
        let key = if limit["p99_us"].is_number() { "p99_us" } else { "records_per_second" };
        Some(values[key].as_f64()? / limit[key].as_f64()?)
    }

    /// Adds what `server` and everybody else used while `work` ran.
    fn beside(&self, server: u32, work: impl FnOnce() -> Result<Value>) -> Result<Value> {
        let memory = Peak::watch_whole(server)?;
        let (cpu, busy) = (cpu_seconds(server)?, machine::busy_seconds());
        let start = std::time::Instant::now();
        let mut measured = work()?;
        let elapsed = start.elapsed().as_secs_f64();
        let (used, now) = (cpu_seconds(server)? - cpu, machine::busy_seconds());
        let (peak, file) = memory.stop();
        let own = used + measured["client_cpu_seconds"].as_f64().unwrap_or_default();
        let own = own + measured["producer_cpu_seconds"].as_f64().unwrap_or_default();
        merge(
            &mut measured,
            json!({
                "broker_cpu_seconds": used, "broker_peak_kib": peak, "broker_peak_file_kib": file,
                "other_cores": ((now.0 - busy.0 - own) / elapsed).max(0.0),
                "stolen_cores": (now.1 - busy.1) / elapsed,
            }),
        );
        Ok(measured)
    }

    fn client(&self, topic: &str, settings: &[String]) -> Client {
        let (bootstrap, topic) = (self.broker.bootstrap.clone(), topic.to_owned());
        Client { bootstrap, topic, settings: settings.to_vec() }
    }

    fn load(&self, kind: &str) -> Load {
        let records = if kind == ONE { self.options.records / 4 } else { self.options.records };
        Load { records, partitions: self.options.partitions, run: 50 }
    }

    fn settings(&self, load: Load, flush: &str, client: &[String]) -> Value {
        json!({
            "records": load.records, "value_bytes": VALUE_LEN, "partitions": load.partitions,
            "flush": flush, "replicas": self.options.replicas,
            "broker": self.options.broker_settings, "client": client,
        })
    }

    /// Produces a fresh topic for the figure `kind`.
    fn produce(&mut self, kind: &'static str, report: bool) -> Result<()> {
        let flush = match kind {
            INTERVAL => "interval",
            BEFORE_ACK => "before-ack",
            _ => &self.options.flush,
        };
        let topic =
            format!("bench-{}-{}", self.repeat, ALL.iter().position(|n| *n == kind).unwrap_or(99));
        self.broker.create_topic(&topic, self.options.partitions, flush)?;
        let load = self.load(kind);
        let mut settings: Vec<String> = match kind {
            FIFTY => vec![format!("batch.size={}", batch_len(50)), SMALL_IN_FLIGHT.into()],
            ONE => vec!["batch.size=0".into(), "linger.ms=0".into(), SMALL_IN_FLIGHT.into()],
            _ => Vec::new(),
        };
        settings.extend_from_slice(&self.options.producer_settings);
        let client = self.client(&topic, &settings);
        let mut measured =
            self.beside(self.broker.process_id()?, || call(&Task::Produce { client, load }))?;
        let disk = self.broker.bytes_on_disk(&topic)? as f64 / load.records as f64;
        merge(&mut measured, json!({ "disk_bytes_per_record": disk }));
        self.topics.insert(kind, topic);
        if report {
            self.report(kind, &self.settings(load, flush, &settings), measured);
        }
        Ok(())
    }

    /// The topic of the figure `kind`, produced now where that was left out.
    fn topic(&mut self, kind: &'static str) -> Result<String> {
        if !self.topics.contains_key(kind) {
            self.produce(kind, false)?;
        }
        Ok(self.topics[kind].clone())
    }

    fn drain(&mut self, name: &str, kind: &'static str, owned: bool) -> Result<()> {
        let topic = self.topic(kind)?;
        let load = self.load(kind);
        let settings = self.options.consumer_settings.clone();
        let client = self.client(&topic, &settings);
        let measured =
            self.beside(self.broker.process_id()?, || call(&Task::Drain { client, load, owned }))?;
        self.report(name, &self.settings(load, &self.options.flush, &settings), measured);
        Ok(())
    }

    /// Starts a raw server and hands its address and process id to `client`.
    fn raw(&self, server: &Task, client: impl FnOnce(String) -> Task) -> Result<Value> {
        let mut server = Running::start(server)?;
        let ready = server.line()?;
        let address = ready["address"].as_str().context("no address")?.to_owned();
        self.beside(server.id(), || call(&client(address)))
    }

    fn raw_file(&self) -> String {
        self.broker.dir().join("raw").display().to_string()
    }

    fn raw_produce(&mut self, name: &str, run: u64) -> Result<()> {
        let load = Load { run, ..self.load(LINGER) };
        let in_flight = if run == 0 { RAW_IN_FLIGHT } else { 1024 };
        let measured = self.raw(&Task::RawSink { file: self.raw_file() }, |address| {
            Task::RawProduce { address, load, in_flight }
        })?;
        std::fs::remove_file(self.raw_file())?;
        self.report(name, &json!({ "records": load.records, "in_flight": in_flight }), measured);
        Ok(())
    }

    fn raw_round_trip(&mut self, name: &str) -> Result<()> {
        let records = self.options.round_trips;
        let measured = self.raw(&Task::RawSink { file: self.raw_file() }, |address| {
            Task::RawRoundTrip { address, records }
        })?;
        self.report(name, &json!({ "records": records, "in_flight": 1 }), measured);
        Ok(())
    }

    fn raw_drain(&mut self, name: &str) -> Result<()> {
        let topic = self.topic(LINGER)?;
        let load = self.load(LINGER);
        let files = self.broker.files(&topic, "log")?;
        let files = files.iter().map(|path| path.display().to_string()).collect();
        let measured =
            self.raw(&Task::RawSource { files }, |address| Task::RawDrain { address, load })?;
        self.report(name, &json!({ "records": load.records }), measured);
        Ok(())
    }

    fn round_trip(&mut self, name: &str, current_runtime: bool) -> Result<()> {
        let topic = format!("bench-trip-{}-{}", u8::from(current_runtime), self.repeat);
        self.broker.create_topic(&topic, 1, &self.options.flush)?;
        let mut settings = vec!["linger.ms=0".to_owned()];
        settings.extend_from_slice(&self.options.producer_settings);
        let (client, records) = (self.client(&topic, &settings), self.options.round_trips);
        let task = Task::RoundTrip { client, records, current_runtime };
        let measured = self.beside(self.broker.process_id()?, || call(&task))?;
        let load = Load { records, partitions: 1, run: 1 };
        self.report(name, &self.settings(load, &self.options.flush, &settings), measured);
        Ok(())
    }

    fn end_to_end(&mut self, name: &str) -> Result<()> {
        let topic = format!("bench-paced-{}", self.repeat);
        self.broker.create_topic(&topic, 1, &self.options.flush)?;
        let mut settings = vec!["linger.ms=0".to_owned()];
        settings.extend_from_slice(&self.options.producer_settings);
        let (rate, seconds) = (self.options.rate, self.options.seconds);
        let records = paced::records(rate, seconds);
        let producer = Task::PacedProduce { client: self.client(&topic, &settings), rate, seconds };
        let client = self.client(&topic, &self.options.consumer_settings);
        let mut consumer = Running::start(&Task::PacedConsume { client, records })?;
        consumer.line().context("the consumer's ready line")?;
        let measured = self.beside(self.broker.process_id()?, move || {
            let sent = call(&producer)?;
            let mut measured = consumer.finish()?;
            let producer = json!({
                "producer_cpu_seconds": sent["client_cpu_seconds"],
                "producer_peak_kib": sent["client_peak_kib"],
                "sender_behind": sent["sender_behind"],
            });
            merge(&mut measured, producer);
            Ok(measured)
        })?;
        let load = Load { records, partitions: 1, run: 1 };
        let mut settings = self.settings(load, &self.options.flush, &settings);
        merge(&mut settings, json!({ "rate": rate }));
        self.report(name, &settings, measured);
        Ok(())
    }
}

/// The size of a batch of exactly `records` records.
fn batch_len(records: usize) -> usize {
    let mut builder = BatchBuilder::new(1 << 20);
    for _ in 0..records {
        let appended = builder.append(0, None, Some(&[0; VALUE_LEN]), &[]);
        debug_assert!(appended.is_ok(), "there is room");
    }
    // A later timestamp may take two bytes more a record; one record more takes at least 200.
    builder.size_in_bytes() + 2 * records
}
