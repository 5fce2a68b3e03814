//! One run: the figures of a preset in turn, as often as asked for, with the brokers they need.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Options;
use crate::bars;
use crate::broker::{Broker, Setup};
use crate::congestion::{Congestion, check_interrupted};
use crate::machine;
use crate::meter::{Peak, cpu_seconds, merge};
use crate::plot;
use crate::presets;
use crate::report::{Figure, add_ratios, derive, print_table};
use crate::spec::Spec;
use crate::task::Client;

/// The name under which memory and start-up of `broker dev` with nothing to do are kept.
pub(crate) const IDLE: &str = "idle broker";

pub(crate) fn run(options: &Options) -> Result<()> {
    let specs = presets::specs(options);
    if options.list {
        specs.iter().flat_map(Spec::names).for_each(|name| println!("{name}"));
        return Ok(());
    }
    let congestion = Congestion::set(&options.congestion_control)?;
    let mut told = machine::describe();
    let disk = machine::disk(&options.data);
    merge(&mut told, json!({ "congestion_control": congestion.told(), "disk": disk }));
    println!("{}", json!({ "machine": told }));
    let mut bench = Bench {
        broker: None,
        options,
        specs,
        topics: HashMap::new(),
        topics_made: 0,
        figures: Vec::new(),
        repeat: 0,
    };
    for repeat in 0..options.repeat {
        bench.repeat = repeat;
        bench.forget_topics()?;
        for at in 0..bench.specs.len() {
            let spec = bench.specs[at].clone();
            if !options.is_wanted(&spec) {
                continue;
            }
            check_interrupted()?;
            bench.measure(&spec).with_context(|| {
                let log = bench.broker.as_ref().map(|(_, broker)| broker.log_tail());
                format!("{}; the broker's log ends:\n{}", spec.name, log.unwrap_or_default())
            })?;
            bench.delete_what_nobody_reads_after(at)?;
        }
    }
    let figures = std::mem::take(&mut bench.figures);
    drop(bench);
    if !options.json {
        print_table(&figures);
    }
    bars::print(&figures, options.json);
    if let Some(dir) = &options.svg {
        plot::write_all(dir, &figures)?;
    }
    Ok(())
}

pub(crate) struct Bench<'a> {
    // Before the options, whose directory it uses.
    broker: Option<(Setup, Broker)>,
    pub(crate) options: &'a Options,
    specs: Vec<Spec>,
    /// Those of the brokers that run, by the figure that produced them.
    topics: HashMap<String, String>,
    topics_made: u32,
    figures: Vec<Figure>,
    repeat: usize,
}

impl Bench<'_> {
    /// Measures and reports one figure.
    fn measure(&mut self, spec: &Spec) -> Result<()> {
        if let Some(setup) = &spec.setup {
            self.set_up(setup)?;
        }
        // What the last figure wrote goes to the disk now, not during this one.
        nix::unistd::sync();
        self.perform(spec)
    }

    /// Has the brokers run that `setup` asks for; others end, and their topics with them.
    fn set_up(&mut self, setup: &Setup) -> Result<()> {
        if self.broker.as_ref().is_some_and(|(running, _)| running == setup) {
            return Ok(());
        }
        self.topics.clear();
        self.broker = None;
        let broker = Broker::start(setup, &self.options.data)?;
        let (ready_ms, idle_mib) = (broker.ready_ms, broker.memory_mib()?);
        let values = json!({ "ready_ms": ready_ms, "idle_mib": idle_mib, "repeat": self.repeat });
        println!("{}", json!({ "brokers": setup, "ready_ms": ready_ms, "idle_mib": idle_mib }));
        if setup.brokers == 1 && setup.settings.is_empty() {
            self.figures.push(Figure { name: IDLE.to_owned(), values });
        }
        self.broker = Some((setup.clone(), broker));
        Ok(())
    }

    pub(crate) fn broker(&self) -> Result<&Broker> {
        Ok(&self.broker.as_ref().context("no broker runs")?.1)
    }

    /// The plan of a figure by its name, whether it is wanted or not.
    pub(crate) fn spec(&self, name: &str) -> Result<Spec> {
        let found = self.specs.iter().find(|spec| spec.name == name);
        found.cloned().with_context(|| format!("no figure {name}"))
    }

    pub(crate) fn new_topic(
        &mut self,
        partitions: i32,
        replicas: i32,
        flush: &str,
    ) -> Result<String> {
        self.topics_made += 1;
        let topic = format!("bench-{}", self.topics_made);
        self.broker()?.create_topic(&topic, partitions, replicas, flush)?;
        Ok(topic)
    }

    /// The topic that the figure `of` produced.
    pub(crate) fn topic(&self, of: &str) -> Option<String> {
        self.topics.get(of).cloned()
    }

    pub(crate) fn keep_topic(&mut self, of: &str, topic: String) {
        self.topics.insert(of.to_owned(), topic);
    }

    fn delete_what_nobody_reads_after(&mut self, at: usize) -> Result<()> {
        let later = &self.specs[at + 1..];
        let wanted = |of: &str| {
            let mut readers = later.iter().filter(|spec| spec.reads() == Some(of));
            readers.any(|spec| self.options.is_wanted(spec))
        };
        let unread: Vec<String> = self.topics.keys().filter(|of| !wanted(of)).cloned().collect();
        for of in unread {
            if let Some(topic) = self.topics.remove(&of) {
                self.broker()?.delete_topic(&topic)?;
            }
        }
        Ok(())
    }

    fn forget_topics(&mut self) -> Result<()> {
        for topic in std::mem::take(&mut self.topics).into_values() {
            self.broker()?.delete_topic(&topic)?;
        }
        Ok(())
    }

    /// Prints a figure and keeps it for the table.
    pub(crate) fn report(
        &mut self,
        name: &str,
        against: Option<&str>,
        settings: &Value,
        mut values: Value,
    ) {
        derive(&mut values);
        let limit = against.and_then(|against| {
            let same = |of: &&Figure| of.name == against && of.values["repeat"] == self.repeat;
            // The last one, where a preset measures several in turn.
            self.figures.iter().rev().find(same)
        });
        if let Some(limit) = limit {
            add_ratios(&mut values, limit);
        }
        merge(&mut values, json!({ "repeat": self.repeat }));
        let mut line = json!({ "figure": name, "settings": settings });
        merge(&mut line, values.clone());
        println!("{line}");
        self.figures.push(Figure { name: name.to_owned(), values });
    }

    /// Measures `work` at the brokers that run: the first one's own, and all together.
    pub(crate) fn beside_broker(&self, work: impl FnOnce() -> Result<Value>) -> Result<Value> {
        let broker = self.broker()?;
        beside(broker.process_id()?, &broker.process_ids()?, work)
    }

    pub(crate) fn client(&self, topic: &str, settings: &[String]) -> Result<Client> {
        let (bootstrap, topic) = (self.broker()?.bootstrap.clone(), topic.to_owned());
        Ok(Client { bootstrap, topic, settings: settings.to_vec() })
    }
}

/// Adds what `server`, all `servers` and everybody else used while `work` ran.
pub(crate) fn beside(
    server: u32,
    servers: &[u32],
    work: impl FnOnce() -> Result<Value>,
) -> Result<Value> {
    let of_all = || servers.iter().map(|id| cpu_seconds(*id)).sum::<Result<f64>>();
    let memory = Peak::watch_whole(server)?;
    let (cpu, all, busy) = (cpu_seconds(server)?, of_all()?, machine::busy_seconds());
    let start = Instant::now();
    let mut measured = work()?;
    let elapsed = start.elapsed().as_secs_f64();
    let (used, all) = (cpu_seconds(server)? - cpu, of_all()? - all);
    let now = machine::busy_seconds();
    let (peak, file) = memory.stop();
    let of_client = |key: &str| measured[key].as_f64().unwrap_or_default();
    let clients = of_client("client_cpu_seconds") + of_client("producer_cpu_seconds");
    merge(
        &mut measured,
        json!({
            "broker_cpu_seconds": used, "all_cpu_seconds": all + clients,
            "broker_peak_kib": peak, "broker_peak_file_kib": file,
            "other_cores": ((now.0 - busy.0 - all - clients) / elapsed).max(0.0),
            "stolen_cores": (now.1 - busy.1) / elapsed,
        }),
    );
    Ok(measured)
}
