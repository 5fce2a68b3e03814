//! How each kind of figure is measured: [`raw`] limits, [`log`]s produced and drained, [`latency`],
//! and the [`foreign`] client that has only our `.proto` files.

mod foreign;
mod latency;
mod log;
mod raw;

use anyhow::Result;
use serde_json::{Value, json};

use crate::load::Load;
use crate::run::Bench;
use crate::spec::{Spec, What};

impl Bench<'_> {
    /// Measures and reports `spec`; the brokers it needs run.
    pub(crate) fn perform(&mut self, spec: &Spec) -> Result<()> {
        match &spec.what {
            What::Memcpy => self.memcpy(spec),
            What::RawProduce { load, requests } => self.raw_produce(spec, *load, *requests),
            What::RawRoundTrip { load } => self.raw_round_trip(spec, *load),
            What::RawDrain { of } => self.raw_drain(spec, of),
            What::Produce(produce) => self.produce(spec, produce, true),
            What::Drain { of, owned, consumers } => self.drain(spec, of, *owned, *consumers),
            What::Both(produce) => self.both(spec, produce),
            What::TonicProduce { load, requests } => self.tonic_produce(spec, *load, *requests),
            What::TonicDrain { of, tuning } => self.tonic_drain(spec, of, *tuning),
            What::RoundTrip { load, current_runtime, settings } => {
                self.round_trip(spec, *load, *current_runtime, settings)
            }
            What::Paced { load, rate, settings } => self.paced(spec, *load, *rate, settings),
        }
    }

    fn settings(&self, load: Load, flush: &str, client: &[String]) -> Value {
        json!({
            "records": load.records, "value_bytes": load.value_len, "partitions": load.partitions,
            "flush": flush, "broker": self.options.broker_settings, "client": client,
        })
    }
}
