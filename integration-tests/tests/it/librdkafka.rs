//! librdkafka, by its command line `kcat`, against the listener for Kafka clients: what it writes is read
//! by us over either protocol, and what we write by it. `integration-tests/run` installs kcat from the
//! distribution's packages; without it these tests say that they were skipped.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use integration_tests::dev::Dev;
use integration_tests::kafka_client::KafkaClient;
use proto::record::{
    Batch, BatchBuilder, BatchDecoder, Compression, Compressor, Header, ProducerStamp,
};

const DECOMPRESSED_MAX: usize = 16 << 20;

/// What kcat answered, or `None` where there is no kcat.
fn kcat(broker: &Dev, arguments: &[&str], input: &[u8]) -> Result<Option<Vec<u8>>> {
    let spawned = Command::new("kcat")
        .args(["-b", &broker.kafka])
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
    ensure!(output.status.success(), "kcat {arguments:?}: {text}");
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
fn what_librdkafka_writes_is_read_over_both_protocols() -> Result<()> {
    let scratch = integration_tests::scratch("kcat-writes")?;
    let broker = Dev::start(scratch.path(), &[])?;
    for codec in Compression::ALL {
        for count in [12, 20_000] {
            let topic = format!("{codec}-{count}");
            let arguments = ["-P", "-t", &topic, "-K", "\t", "-z", codec.name()];
            let arguments = [&arguments[..], &["-X", "linger.ms=200"]].concat();
            let input = lines(count);
            if kcat(&broker, &arguments, input.as_bytes())?.is_none() {
                return Ok(());
            }
            let batches = KafkaClient::connect(&broker.kafka)?.fetch_all(&topic, 0)?;
            for bytes in &batches {
                let used = Batch::parse(bytes)?.header().attributes.compression()?;
                ensure!(used == codec, "{used} for {codec}");
            }
            ensure!(read(&batches)? == input, "{codec}, {count} lines: they differ");
            if count == 12 {
                keep(codec, &batches)?;
            }
            let (number, format) = (count.to_string(), "%k\\t%s\\n");
            let arguments = [
                "--topic",
                &topic,
                "--group",
                &topic,
                "--max-messages",
                &number,
                "--from-beginning",
            ];
            let arguments = [&arguments[..], &["--output-format", format]].concat();
            let seen = broker.run("consumer", &arguments, "")?;
            ensure!(seen == input, "{codec}, {count} lines: they differ over gRPC");
        }
    }
    broker.stop()
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
    let scratch = integration_tests::scratch("kcat-reads")?;
    let broker = Dev::start(scratch.path(), &[])?;
    broker.run("coordinator", &["topics", "--create", "--topic", "t"], "")?;
    let mut client = KafkaClient::connect(&broker.kafka)?;
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
            let (error, _) = client.produce("t", 0, &bytes)?;
            ensure!(error == 0, "error {error}");
            for number in 0..count {
                let (key, value) = record(number);
                expected += &format!("{key}\t{value}\tnumber=1\t{}\n", 1_700_000_000_000 + number);
            }
        }
    }
    let arguments = ["-C", "-t", "t", "-o", "beginning", "-e", "-q", "-X", "check.crcs=true"];
    let format = ["-f", "%k\t%s\t%h\t%T\n"];
    let Some(seen) = kcat(&broker, &[&arguments[..], &format].concat(), b"")? else {
        return Ok(());
    };
    ensure!(String::from_utf8_lossy(&seen) == expected, "{} bytes seen", seen.len());
    broker.stop()
}

#[test]
fn kcat_lists_topics_and_reads_by_offset_and_by_time() -> Result<()> {
    let scratch = integration_tests::scratch("kcat-lists")?;
    let broker = Dev::start(scratch.path(), &[])?;
    broker.run(
        "coordinator",
        &["topics", "--create", "--topic", "two", "--partitions", "2"],
        "",
    )?;
    let Some(listed) = kcat(&broker, &["-L"], b"")? else { return Ok(()) };
    let listed = String::from_utf8(listed)?;
    ensure!(listed.contains(&format!("broker 1 at {}", broker.kafka)), "{listed}");
    ensure!(listed.contains("topic \"two\" with 2 partitions"), "{listed}");
    ensure!(listed.contains("partition 1, leader 1, replicas: 1, isrs: 1"), "{listed}");

    // Over gRPC, with headers and times; the stamps are the producer's own clock.
    broker.run("producer", &["--topic", "two", "--partition", "1", "--header", "h=v"], "a\nb\n")?;
    let read = |arguments: &[&str]| -> Result<String> {
        let read = ["-C", "-t", "two", "-p", "1", "-e", "-q", "-f", "%o %T %h %s\\n"];
        let seen = kcat(&broker, &[&read[..], arguments].concat(), b"")?;
        Ok(String::from_utf8(seen.context("kcat was there")?)?)
    };
    let all = read(&["-o", "beginning"])?;
    let lines: Vec<&str> = all.lines().collect();
    ensure!(lines.len() == 2 && lines[0].ends_with("h=v a"), "{all}");
    ensure!(read(&["-o", "1"])? == format!("{}\n", lines[1]), "by offset");
    ensure!(read(&["-o", "-1"])? == format!("{}\n", lines[1]), "from the end");
    let time = lines[0].split(' ').nth(1).context("a time")?;
    ensure!(read(&["-o", &format!("s@{time}")])? == all, "from the first one's time");
    let later = time.parse::<i64>()? + 3_600_000;
    ensure!(read(&["-o", &format!("s@{later}")])?.is_empty(), "from a later time");
    // An idempotent producer of another make, and one that wants no answers.
    for setting in ["enable.idempotence=true", "acks=0"] {
        kcat(&broker, &["-P", "-t", "two", "-p", "0", "-X", setting], b"x\n")?;
    }
    let count = || -> Result<usize> {
        let seen = kcat(&broker, &["-C", "-t", "two", "-p", "0", "-e", "-q"], b"")?;
        Ok(seen.unwrap_or_default().len() / 2)
    };
    let begun = std::time::Instant::now();
    while count()? < 2 {
        ensure!(begun.elapsed().as_secs() < 10, "acks=0 did not arrive");
    }
    broker.stop()
}
