//! Limits without a socket: appends with `fdatasync` between them, and copying in memory.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sink::{BATCH_LEN, Requests, batches};
use crate::load::{LINES, Load, Values};
use crate::meter::{Meter, merge};

/// What a producer's requests came to at the broker: what the loop repeats.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Synced {
    /// Bytes appended to all files together.
    pub(crate) bytes: u64,
    /// How many times `fdatasync` was called.
    pub(crate) syncs: u64,
    pub(crate) files: i32,
}

/// Appends batches of 64 KiB to the files in turn and calls `fdatasync` as often as `synced` says, at
/// even distances, each time on the file that was appended to.
pub(crate) fn append_synced(dir: &str, load: Load, synced: Synced) -> Result<Value> {
    let requests = Requests { records: 0, batch_len: BATCH_LEN, in_flight: 1 };
    let prebuilt = batches(load, requests, 64);
    let names: Vec<_> =
        (0..synced.files).map(|n| Path::new(dir).join(format!("raw-{n}"))).collect();
    let files = names.iter().map(File::create).collect::<Result<Vec<_>, _>>()?;
    for file in &files {
        file.sync_all()?;
    }
    let meter = Meter::start()?;
    let (mut written, mut records, mut next) = (0, 0, 0);
    for sync in 1..=synced.syncs.max(1) {
        let mut file = files.get(sync as usize % files.len()).context("at least one file")?;
        // As far as the appends must have come by this sync.
        let due = synced.bytes * sync / synced.syncs.max(1);
        while written < due {
            let (batch, count) = &prebuilt[next % prebuilt.len()];
            file.write_all(batch)?;
            (written, records, next) = (written + batch.len() as u64, records + count, next + 1);
        }
        file.sync_data()?;
    }
    let mut measured = meter.stop(records);
    merge(&mut measured, json!({ "wire_bytes": written, "syncs": synced.syncs }));
    for name in &names {
        std::fs::remove_file(name)?;
    }
    Ok(measured)
}

/// Copies the values, and nothing else, into buffers of the size of a batch.
pub(crate) fn memcpy(load: Load) -> Value {
    let values = Values::new(load);
    let start = Instant::now();
    let mut records = 0;
    while start.elapsed() < Duration::from_millis(500) {
        let mut buffer = Vec::with_capacity(BATCH_LEN);
        while buffer.len() + load.value_len <= BATCH_LEN {
            buffer.extend_from_slice(values.of(records % LINES));
            records += 1;
        }
        black_box(&buffer);
    }
    json!({ "records": records, "seconds": start.elapsed().as_secs_f64() })
}
