//! The limits: two raw processes, or one.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::load::Load;
use crate::meter::merge;
use crate::raw::disk::Synced;
use crate::raw::sink::Requests;
use crate::run::{Bench, beside};
use crate::spec::Spec;
use crate::task::{Running, Task, call};

/// Starts a raw server and hands its address to `client`.
fn serve(server: &Task, client: impl FnOnce(String) -> Task) -> Result<Value> {
    let mut server = Running::start(server)?;
    let ready = server.line()?;
    let address = ready["address"].as_str().context("no address")?.to_owned();
    beside(server.id(), &[server.id()], || call(&client(address)))
}

impl Bench<'_> {
    /// A scratch file on the disk that brokers use.
    fn raw_file(&self) -> String {
        self.options.data.join(format!("raw-{}", std::process::id())).display().to_string()
    }

    pub(super) fn memcpy(&mut self, spec: &Spec) -> Result<()> {
        let load = Load::new(0, 1);
        let measured = with_value_len(call(&Task::Memcpy { load })?, load);
        self.report(&spec.name, None, &json!({}), measured);
        Ok(())
    }

    pub(super) fn raw_produce(
        &mut self,
        spec: &Spec,
        load: Load,
        requests: Requests,
    ) -> Result<()> {
        let file = self.raw_file();
        let measured = serve(&Task::RawSink { file: file.clone() }, |address| Task::RawProduce {
            address,
            load,
            requests,
        });
        let removed = std::fs::remove_file(file);
        let measured = with_value_len(measured?, load);
        removed?;
        let settings = json!({ "records": load.records, "requests": requests });
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }

    pub(super) fn raw_round_trip(&mut self, spec: &Spec, load: Load) -> Result<()> {
        let file = self.raw_file();
        let measured = serve(&Task::RawSink { file: file.clone() }, |address| Task::RawRoundTrip {
            address,
            load,
        });
        let removed = std::fs::remove_file(file);
        let measured = with_value_len(measured?, load);
        removed?;
        let settings = json!({ "records": load.records, "in_flight": 1 });
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }

    pub(super) fn raw_drain(&mut self, spec: &Spec, of: &str) -> Result<()> {
        let (topic, produce) = self.produced(of)?;
        let files = self.broker()?.files(&topic, "log")?;
        let files = files.iter().map(|path| path.display().to_string()).collect();
        let load = produce.load;
        let measured =
            serve(&Task::RawSource { files }, |address| Task::RawDrain { address, load })?;
        let settings = json!({ "records": load.records, "partitions": load.partitions });
        let measured = with_value_len(measured, load);
        self.report(&spec.name, spec.against.as_deref(), &settings, measured);
        Ok(())
    }

    /// One process, on the disk that the broker uses.
    pub(super) fn synced_loop(&mut self, name: &str, load: Load, synced: Synced) -> Result<()> {
        nix::unistd::sync();
        let dir = self.options.data.display().to_string();
        let measured = call(&Task::RawSynced { dir, load, synced })?;
        let measured = with_value_len(measured, load);
        self.report(name, None, &json!({ "synced": synced }), measured);
        Ok(())
    }
}

/// Adds what rates in bytes are reckoned with.
pub(super) fn with_value_len(mut measured: Value, load: Load) -> Value {
    merge(&mut measured, json!({ "value_bytes": load.value_len }));
    measured
}
