//! tonic's own client against the broker.

use anyhow::Result;
use serde_json::json;

use super::raw::with_value_len;
use crate::load::Load;
use crate::raw::sink::Requests;
use crate::run::Bench;
use crate::spec::Spec;
use crate::task::{Task, call};
use crate::tonic_client::Tuning;

impl Bench<'_> {
    /// What was appended is read back and checked before the figure counts.
    pub(super) fn tonic_produce(
        &mut self,
        spec: &Spec,
        load: Load,
        requests: Requests,
    ) -> Result<()> {
        let topic = self.new_topic(1, 1, &self.options.flush)?;
        let client = self.client(&topic, &[])?;
        let task = Task::TonicProduce { client: client.clone(), load, requests };
        let measured = with_value_len(self.beside_broker(|| call(&task))?, load);
        let (loads, partitions) = (vec![load], load.range());
        call(&Task::Drain { client, loads, partitions, owned: false })?;
        self.keep_topic(&spec.name, topic);
        let settings = json!({ "records": load.records, "requests": requests });
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }

    pub(super) fn tonic_drain(&mut self, spec: &Spec, of: &str, tuning: Tuning) -> Result<()> {
        let (topic, produce) = self.produced(of)?;
        let (client, load) = (self.client(&topic, &[])?, produce.load);
        let task = Task::TonicDrain { client, load, tuning };
        let measured = with_value_len(self.beside_broker(|| call(&task))?, load);
        let settings = json!({
            "records": load.records, "partitions": load.partitions, "tuning": tuning,
        });
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }
}
