//! Producing and draining whole logs.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::raw::with_value_len;
use crate::load::Load;
use crate::meter::{merge, together};
use crate::raw::disk::Synced;
use crate::run::Bench;
use crate::spec::{Produce, Spec, What};
use crate::task::{Running, Task, call_all};

/// Counts every `fdatasync` of a log.
const SYNCS: &str = "ottla_log_syncs_total";

impl Bench<'_> {
    /// Produces a fresh topic; without `report` only so that somebody can read it.
    pub(super) fn produce(&mut self, spec: &Spec, produce: &Produce, report: bool) -> Result<()> {
        let load = produce.load;
        let topic = self.new_topic(load.partitions, produce.replicas, &produce.flush)?;
        let loads = load.split(produce.producers)?;
        let tasks = self.producers(&topic, produce, &loads)?;
        let syncs = self.broker()?.counter(SYNCS)?;
        let mut measured = self.beside_broker(|| Ok(together(&call_all(&tasks)?)))?;
        let syncs = self.broker()?.counter(SYNCS)?.zip(syncs).map(|(now, before)| now - before);
        let bytes = self.broker()?.bytes_on_disk(&topic)?;
        let sent: u64 = loads.iter().map(|load| load.records).sum();
        let each = bytes as f64 / sent as f64;
        merge(&mut measured, json!({ "disk_bytes_per_record": each, "syncs": syncs }));
        self.keep_topic(&spec.name, topic);
        if !report {
            return Ok(());
        }
        if let Some((name, syncs)) = produce.synced_loop.as_ref().zip(syncs) {
            let synced = Synced { bytes, syncs, files: load.partitions };
            self.synced_loop(name, load, synced)?;
        }
        let mut settings = self.settings(load, &produce.flush, &produce.settings);
        merge(
            &mut settings,
            json!({ "producers": produce.producers, "replicas": produce.replicas }),
        );
        let measured = with_value_len(measured, load);
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }

    fn producers(&self, topic: &str, produce: &Produce, loads: &[Load]) -> Result<Vec<Task>> {
        let client = self.client(topic, &produce.settings)?;
        Ok(loads.iter().map(|load| Task::Produce { client: client.clone(), load: *load }).collect())
    }

    /// The topic of the figure `of`, produced now where that was left out, and how.
    pub(super) fn produced(&mut self, of: &str) -> Result<(String, Produce)> {
        let spec = self.spec(of)?;
        let What::Produce(produce) = &spec.what else { bail!("{of} produces nothing") };
        if self.topic(of).is_none() {
            self.produce(&spec, produce, false)?;
            nix::unistd::sync();
        }
        Ok((self.topic(of).context("it was just produced")?, produce.clone()))
    }

    pub(super) fn drain(
        &mut self,
        spec: &Spec,
        of: &str,
        owned: bool,
        consumers: i32,
    ) -> Result<()> {
        let (topic, produce) = self.produced(of)?;
        let load = produce.load;
        let loads = load.split(produce.producers)?;
        let client = self.client(&topic, &self.options.consumer_settings)?;
        let tasks: Vec<Task> = load
            .split(consumers)?
            .into_iter()
            .map(|share| {
                let (client, loads) = (client.clone(), loads.clone());
                Task::Drain { client, loads, partitions: share.range(), owned }
            })
            .collect();
        let measured = self.beside_broker(|| Ok(together(&call_all(&tasks)?)))?;
        let mut settings =
            self.settings(load, &produce.flush, &self.options.consumer_settings.clone());
        merge(&mut settings, json!({ "consumers": consumers, "replicas": produce.replicas }));
        let measured = with_value_len(measured, load);
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }

    /// Producers and one consumer of the same topic; the rate is the producers', and the consumer's
    /// stands beside it.
    pub(super) fn both(&mut self, spec: &Spec, produce: &Produce) -> Result<()> {
        let load = produce.load;
        let topic = self.new_topic(load.partitions, produce.replicas, &produce.flush)?;
        let loads = load.split(produce.producers)?;
        let mut tasks = self.producers(&topic, produce, &loads)?;
        let client = self.client(&topic, &self.options.consumer_settings)?;
        let drain = Task::Drain { client, loads, partitions: load.range(), owned: false };
        tasks.insert(0, drain);
        let measured = self.beside_broker(|| {
            let running = tasks.iter().map(Running::start).collect::<Result<Vec<_>>>()?;
            let parts = running.into_iter().map(Running::finish).collect::<Result<Vec<_>>>()?;
            let (consumed, produced) = parts.split_first().context("a consumer and producers")?;
            let mut measured = together(produced);
            merge(&mut measured, of_consumer(consumed));
            Ok(measured)
        })?;
        let bytes = self.broker()?.bytes_on_disk(&topic)? as f64;
        let mut measured = with_value_len(measured, load);
        merge(&mut measured, json!({ "disk_bytes_per_record": bytes / load.records as f64 }));
        self.keep_topic(&spec.name, topic);
        let settings = self.settings(load, &produce.flush, &produce.settings);
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }
}

/// The client of such a figure is the consumer; the producer has names of its own.
fn of_consumer(consumed: &Value) -> Value {
    let rate = consumed["records"].as_f64().unwrap_or_default()
        / consumed["seconds"].as_f64().unwrap_or(f64::INFINITY);
    json!({
        "consumer_cpu_seconds": consumed["client_cpu_seconds"],
        "consumer_peak_kib": consumed["client_peak_kib"],
        "consumer_peak_file_kib": consumed["client_peak_file_kib"],
        "consumed_per_second": rate,
    })
}
