//! Round trips, and the way from one process to another at a steady rate.

use anyhow::{Context, Result};
use serde_json::json;

use super::raw::with_value_len;
use crate::load::Load;
use crate::meter::merge;
use crate::run::Bench;
use crate::spec::Spec;
use crate::task::{Running, Task, call};

impl Bench<'_> {
    fn at_once(&self, more: &[String]) -> Vec<String> {
        let mut settings = vec!["linger.ms=0".to_owned()];
        settings.extend_from_slice(&self.options.producer_settings);
        settings.extend_from_slice(more);
        settings
    }

    pub(super) fn round_trip(
        &mut self,
        spec: &Spec,
        load: Load,
        current_runtime: bool,
        more: &[String],
    ) -> Result<()> {
        let topic = self.new_topic(1, 1, &self.options.flush)?;
        let settings = self.at_once(more);
        let task =
            Task::RoundTrip { client: self.client(&topic, &settings)?, load, current_runtime };
        let measured = with_value_len(self.beside_broker(|| call(&task))?, load);
        self.keep_topic(&spec.name, topic);
        let settings = self.settings(load, &self.options.flush, &settings);
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }

    pub(super) fn paced(
        &mut self,
        spec: &Spec,
        load: Load,
        rate: u64,
        more: &[String],
    ) -> Result<()> {
        let topic = self.new_topic(1, 1, &self.options.flush)?;
        let settings = self.at_once(more);
        let producer = Task::PacedProduce { client: self.client(&topic, &settings)?, load, rate };
        let mut of_consumer = self.options.consumer_settings.clone();
        of_consumer.extend_from_slice(more);
        let client = self.client(&topic, &of_consumer)?;
        let mut consumer = Running::start(&Task::PacedConsume { client, load })?;
        consumer.line().context("the consumer's ready line")?;
        let measured = self.beside_broker(move || {
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
        self.keep_topic(&spec.name, topic);
        let mut settings = self.settings(load, &self.options.flush, &settings);
        merge(&mut settings, json!({ "rate": rate }));
        let measured = with_value_len(measured, load);
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }
}
