//! The broker's own files sent by `sendfile`: the limit of draining. The client walks the batches,
//! checks each CRC and each record, as the figures of the product do.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::sendfile::sendfile64;
use proto::record::{Batch, BatchError};
use serde_json::Value;

use super::socket::{connect, serve};
use crate::load::{Load, Verifier};
use crate::meter::Meter;

/// What one `sendfile` is asked for: the kernel goes on by itself as the socket drains.
const SEND_LEN: usize = 1 << 30;
/// Small enough to stay in the second-level cache between the kernel's copy and the walk.
const BUFFER_LEN: usize = 512 << 10;
/// Less room than this is made larger, by moving the batch that is not yet whole to the front.
const ROOM_MIN: usize = 64 << 10;

/// Sends `files`, named `<topic>-<partition>/…`, each with its partition and length before it.
pub(crate) fn serve_files(files: &[String]) -> Result<Value> {
    serve(|mut stream| {
        for path in files {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            let mut head = Vec::from(partition_of(path)?.to_be_bytes());
            head.extend_from_slice(&length.to_be_bytes());
            stream.write_all(&head)?;
            let mut position = 0;
            while (position as u64) < length {
                let wanted = SEND_LEN.min((length - position as u64) as usize);
                let sent = sendfile64(&stream, &file, Some(&mut position), wanted)?;
                ensure!(sent > 0, "{path} became shorter");
            }
        }
        Ok(())
    })
}

fn partition_of(path: &str) -> Result<i32> {
    let directory = Path::new(path).parent().and_then(Path::file_name).unwrap_or_default();
    let name = directory.to_string_lossy();
    let (_, partition) = name.rsplit_once('-').with_context(|| format!("{path}: partition?"))?;
    Ok(partition.parse()?)
}

/// Reads what [`serve_files`] sends, walks the batches, checks CRC and every record.
pub(crate) fn drain(address: &str, load: Load) -> Result<Value> {
    let mut verifier = Verifier::new(load);
    let mut stream = connect(address)?;
    let mut received = Received { buffer: vec![0; BUFFER_LEN], begin: 0, end: 0 };
    let meter = Meter::start()?;
    while !verifier.is_done() {
        let (mut partition, mut length) = ([0; 4], [0; 8]);
        stream.read_exact(&mut partition)?;
        stream.read_exact(&mut length)?;
        let partition = i32::from_be_bytes(partition);
        let mut left = u64::from_be_bytes(length) as usize;
        while left > 0 {
            left -= received.read(&mut stream, left)?;
            received.begin += walk(received.whole(), partition, &mut verifier)?;
        }
        ensure!(received.whole().is_empty(), "a file of partition {partition} ends in a batch");
    }
    Ok(meter.stop(verifier.seen))
}

/// Bytes off the socket that are not yet walked: those from `begin` to `end`.
struct Received {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Received {
    /// Once more, at most `limit` bytes.
    fn read(&mut self, stream: &mut TcpStream, limit: usize) -> Result<usize> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < ROOM_MIN {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            if self.buffer.len() - self.end < ROOM_MIN {
                self.buffer.resize(2 * self.buffer.len(), 0);
            }
        }
        let room = limit.min(self.buffer.len() - self.end);
        let got = stream.read(&mut self.buffer[self.end..self.end + room])?;
        if got == 0 {
            bail!("the source ended early");
        }
        self.end += got;
        Ok(got)
    }

    fn whole(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }
}

/// Checks the whole batches at the front and returns how many bytes they take.
fn walk(bytes: &[u8], partition: i32, verifier: &mut Verifier) -> Result<usize> {
    let mut used = 0;
    loop {
        let batch = match Batch::parse(&bytes[used..]) {
            Ok(batch) => batch,
            Err(BatchError::Truncated { .. }) => return Ok(used),
            Err(error) => return Err(error.into()),
        };
        check(&batch, partition, verifier)?;
        used += batch.bytes().len();
    }
}

/// Checks every record of a batch.
pub(crate) fn check(batch: &Batch<'_>, partition: i32, verifier: &mut Verifier) -> Result<()> {
    for record in batch.records() {
        let record = record?;
        verifier.check(partition, record.offset.0, record.value)?;
    }
    Ok(())
}
