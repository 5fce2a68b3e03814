//! Compressed batches against librdkafka, by its command line `kcat`: its batches are read by us, and
//! ours by it. `integration-tests/run` installs kcat from the distribution's packages; without it
//! these tests say that they were skipped.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use integration_tests::kafka_stub::{KafkaStub, TOPIC};
use proto::record::{
    Batch, BatchBuilder, BatchDecoder, Compression, Compressor, Header, ProducerStamp,
};

const DECOMPRESSED_MAX: usize = 16 << 20;

/// What kcat answered, or `None` where there is no kcat.
fn kcat(stub: &KafkaStub, arguments: &[&str], input: &[u8]) -> Result<Option<Vec<u8>>> {
    let spawned = Command::new("kcat")
        .args(["-b", &stub.address(), "-t", TOPIC, "-p", "0"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: kcat is not installed (apt-get install kcat)");
            return Ok(None);
        }
        spawned => spawned?,
    };
    let mut stdin = child.stdin.take().context("piped")?;
    let input = input.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    writing.join().ok().context("the writer panicked")??;
    let text = String::from_utf8_lossy(&output.stderr);
    let failures = stub.failures();
    ensure!(output.status.success() && failures.is_empty(), "kcat: {text}\nstub: {failures:?}");
    Ok(Some(output.stdout))
}

/// Key and value of record `number`; long enough together for many blocks of every codec.
fn record(number: usize) -> (String, String) {
    let noise = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = format!("INFO dfs.DataNode: block blk_{noise:x} of size {} received", noise >> 40);
    (format!("key-{}", number % 100), value)
}

fn lines(count: usize) -> String {
    (0..count).map(record).map(|(key, value)| format!("{key}\t{value}\n")).collect()
}

fn read(batches: &[Bytes]) -> Result<String> {
    let mut decoder = BatchDecoder::new(DECOMPRESSED_MAX);
    let (mut text, mut next) = (String::new(), 0);
    for bytes in batches {
        let batch = Batch::parse(bytes)?;
        for record in decoder.records(&batch)? {
            let record = record?;
            ensure!(record.offset.0 == next, "offset {} for {next}", record.offset);
            next += 1;
            let [key, value] = [record.key, record.value].map(Option::unwrap_or_default);
            text += &format!("{}\t{}\n", std::str::from_utf8(key)?, std::str::from_utf8(value)?);
        }
    }
    Ok(text)
}

#[test]
fn what_librdkafka_writes_is_read() -> Result<()> {
    for codec in Compression::ALL {
        for count in [12, 20_000] {
            let stub = KafkaStub::start()?;
            let arguments = ["-P", "-K", "\t", "-z", codec.name(), "-X", "linger.ms=200"];
            let input = lines(count);
            if kcat(&stub, &arguments, input.as_bytes())?.is_none() {
                return Ok(());
            }
            let batches = stub.batches();
            for bytes in &batches {
                let used = Batch::parse(bytes)?.header().attributes.compression()?;
                ensure!(used == codec, "{used} for {codec}");
            }
            ensure!(read(&batches)? == input, "{codec}, {count} lines: they differ");
            if count == 12 {
                keep(codec, &batches)?;
            }
        }
    }
    Ok(())
}

/// Writes a small batch into the folder that `OTTLA_GOLDEN` names: how the golden files of
/// `proto/src/record/codec/tests` were made.
fn keep(codec: Compression, batches: &[Bytes]) -> Result<()> {
    let Some(folder) = std::env::var_os("OTTLA_GOLDEN") else { return Ok(()) };
    let path = std::path::Path::new(&folder).join(format!("librdkafka-{codec}.batch"));
    #[allow(clippy::disallowed_methods, reason = "a file for a developer, not for a broker")]
    std::fs::write(path, batches.concat())?;
    Ok(())
}

#[test]
fn what_we_write_is_read_by_librdkafka() -> Result<()> {
    let levels = [
        (Compression::None, None),
        (Compression::Gzip, None),
        (Compression::Gzip, Some(1)),
        (Compression::Snappy, None),
        (Compression::Lz4, None),
        (Compression::Zstd, None),
        (Compression::Zstd, Some(-50)),
        (Compression::Zstd, Some(19)),
    ];
    let stub = KafkaStub::start()?;
    let mut expected = String::new();
    for (codec, level) in levels {
        let mut compressor = Compressor::new(codec, level)?;
        // A batch of one block of every codec, and one of many.
        for count in [50, 8_000] {
            let mut builder = BatchBuilder::new(4 << 20);
            for number in 0..count {
                let (key, value) = record(number);
                let header = Header::new("number", Some(b"1"));
                builder.append(
                    1_700_000_000_000 + number as i64,
                    Some(key.as_bytes()),
                    Some(value.as_bytes()),
                    &[header],
                )?;
            }
            let bytes = builder.finish_compressed(&mut compressor, ProducerStamp::NONE);
            let used = Batch::parse(&bytes)?.header().attributes.compression()?;
            ensure!(used == codec, "{used} for {codec}");
            stub.append(&bytes)?;
            for number in 0..count {
                let (key, value) = record(number);
                expected += &format!("{key}\t{value}\tnumber=1\t{}\n", 1_700_000_000_000 + number);
            }
        }
    }
    let arguments = ["-C", "-o", "beginning", "-e", "-q", "-X", "check.crcs=true"];
    let format = ["-f", "%k\t%s\t%h\t%T\n"];
    let Some(seen) = kcat(&stub, &[&arguments[..], &format].concat(), b"")? else {
        return Ok(());
    };
    ensure!(String::from_utf8_lossy(&seen) == expected, "{} bytes seen", seen.len());
    Ok(())
}
