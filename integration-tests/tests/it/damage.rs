//! Bytes of a closed segment go bad under a real broker, stopped or running, in a batch's records
//! or in its header: the rest is read, and the damage has a name wherever one would look.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use integration_tests::cluster::{Cluster, ClusterOptions};
use proto::record::Batches;

const RECORDS: usize = 1_500;
/// What `consumer` ends with where it comes to damage.
const DAMAGED: i32 = 4;

fn line(i: usize) -> String {
    format!("record {i} {}", "p".repeat(i % 60))
}

fn fill(cluster: &Cluster, topic: &str) -> Result<()> {
    cluster.create_topic(topic, 1, &["segment.bytes=12000"])?;
    let arguments = ["--topic", topic, "--batch-size", "1000"];
    let mut producer =
        cluster.command("producer")?.args(arguments).stdin(Stdio::piped()).spawn()?;
    let lines: String = (0..RECORDS).map(|i| format!("{}\n", line(i))).collect();
    producer.stdin.take().context("piped")?.write_all(lines.as_bytes())?;
    ensure!(producer.wait()?.success(), "the producer failed");
    Ok(())
}

/// A batch in the middle of a closed segment.
struct Target {
    file: PathBuf,
    position: u64,
    from: usize,
    to: usize,
}

fn target(data: &Path, topic: &str) -> Result<Target> {
    let folder = data.join(format!("{topic}-0"));
    let mut logs: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    ensure!(logs.len() > 3, "several segments are needed: {logs:?}");
    let file = logs.swap_remove(logs.len() / 2);
    let bytes = std::fs::read(&file)?;
    let mut batches = Vec::new();
    let mut position = 0;
    for batch in Batches::new(&bytes) {
        let header = batch?.header().clone();
        batches.push((position, header.base_offset.0 as usize, header.next_offset().0 as usize));
        position += header.size_in_bytes() as u64;
    }
    ensure!(batches.len() > 3, "several batches are needed");
    let (position, from, to) = batches[batches.len() / 2];
    Ok(Target { file, position, from, to })
}

impl Target {
    /// Flips a byte of the batch, in the page cache that a running broker serves from.
    fn flip(&self, at: u64) -> Result<()> {
        let file = std::fs::File::options().read(true).write(true).open(&self.file)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.position + at)?;
        file.write_all_at(&[byte[0] ^ 0x10], self.position + at)?;
        Ok(())
    }
}

fn consume(cluster: &Cluster, topic: &str, more: &[&str]) -> Result<(i32, Vec<String>, String)> {
    let arguments = ["--topic", topic, "--from-beginning", "--exit-at-end"];
    let output = cluster.command("consumer")?.args(arguments).args(more).output()?;
    let lines = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code().context("an exit code")?, lines, errors))
}

/// Everybody tells the same.
fn judge(cluster: &mut Cluster, topic: &str, hit: &Target) -> Result<()> {
    let last = hit.to - 1;
    let named = format!("{topic}-0: offsets {} to {last} cannot be read", hit.from);

    let (code, lines, errors) = consume(cluster, topic, &["--skip-damaged"])?;
    ensure!(code == 0, "{code}: {errors}");
    let expected: Vec<String> =
        (0..RECORDS).filter(|i| !(hit.from..hit.to).contains(i)).map(line).collect();
    ensure!(lines == expected, "{topic}: {} of {} lines", lines.len(), expected.len());
    ensure!(errors.matches(&named).count() == 1, "one event: {errors}");

    let (code, lines, errors) = consume(cluster, topic, &[])?;
    ensure!(code == DAMAGED, "{code}: {errors}");
    ensure!(lines == (0..hit.from).map(line).collect::<Vec<_>>(), "{} lines", lines.len());
    ensure!(errors.contains(&named) && errors.contains(&format!("seek to {}", hit.to)), "{errors}");

    let described = cluster.run("coordinator", &["topics", "describe", topic])?;
    let count = hit.to - hit.from;
    let told = format!("\t\tDamaged: broker 1, offsets {} to {last} ({count}), bytes ", hit.from);
    ensure!(described.contains(&told), "{described}");
    let labels = format!("{{topic=\"{topic}\",partition=\"0\"}}");
    let page = metrics(&cluster.broker(1)?.http)?;
    for (name, value) in [("ranges", 1), ("offsets", count)] {
        let metric = format!("ottla_partition_damaged_{name}{labels} {value}\n");
        ensure!(page.contains(&metric), "{metric} is not in {page}");
    }
    let log = cluster.broker_process(1)?.log_text();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("damaged batches on disk"))
        .filter(|line| line.contains(&format!("{topic}-0")))
        .collect();
    ensure!(told.len() == 1 && told[0].contains(".log"), "{told:?}");
    Ok(())
}

fn metrics(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

#[test]
fn damage_costs_one_batch_and_has_a_name_everywhere() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions::one("damage"))?;
    let data = cluster.broker(1)?.data.clone();
    // In the records, and in the base offset, which no checksum covers.
    let places = [("payload", 90), ("header", 6)];
    for (place, _) in places {
        fill(&cluster, &format!("stopped-{place}"))?;
        fill(&cluster, &format!("running-{place}"))?;
    }
    cluster.stop_broker(1)?;
    for (place, at) in places {
        let topic = format!("stopped-{place}");
        let hit = target(&data, &topic)?;
        hit.flip(at)?;
        cluster.start_broker(1)?;
        judge(&mut cluster, &topic, &hit)?;
        cluster.stop_broker(1)?;
    }
    cluster.start_broker(1)?;
    for (place, at) in places {
        let topic = format!("running-{place}");
        let (code, lines, errors) = consume(&cluster, &topic, &[])?;
        ensure!(code == 0 && lines.len() == RECORDS, "{code}, {} lines: {errors}", lines.len());
        let hit = target(&data, &topic)?;
        hit.flip(at)?;
        judge(&mut cluster, &topic, &hit)?;
    }
    // What was found is known by the next run, without anybody reading.
    cluster.stop_broker(1)?;
    cluster.start_broker(1)?;
    let described = cluster.run("coordinator", &["topics", "describe"])?;
    ensure!(described.matches("\t\tDamaged: broker 1, ").count() == 4, "{described}");
    let page = metrics(&cluster.broker(1)?.http)?;
    ensure!(page.matches("ottla_partition_damaged_ranges{").count() == 4, "{page}");
    Ok(())
}
