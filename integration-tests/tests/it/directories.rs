//! A broker with two disks, one of which goes away: its partitions are offline, the others serve,
//! nothing is made anew, and everything is there when the disk is back.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::workload::{nap, read_all};

/// A disk that can be taken away and brought back: a tmpfs, mounted a second time elsewhere, so
/// that its bytes stay.
struct Disk {
    place: PathBuf,
    keeper: PathBuf,
}

impl Disk {
    fn new(scratch: &Path) -> Result<Self> {
        let disk = Self { place: scratch.join("second"), keeper: scratch.join("keeper") };
        std::fs::create_dir_all(&disk.place)?;
        std::fs::create_dir_all(&disk.keeper)?;
        let keeper = disk.keeper.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs", &keeper])?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<()> {
        let (from, to) = (self.keeper.display().to_string(), self.place.display().to_string());
        run("mount", &["--bind", &from, &to])
    }

    fn unmount(&self) -> Result<()> {
        run("umount", &["-l", &self.place.display().to_string()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for dir in [&self.place, &self.keeper] {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(dir)
                .stderr(std::process::Stdio::null())
                .status();
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    if !Command::new(program).args(arguments).status()?.success() {
        bail!("{program} {arguments:?} failed: it needs root, run the tests as root");
    }
    Ok(())
}

/// Waits until a line of the metrics has a value.
fn wait_for_metric(cluster: &Cluster, line: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !cluster.metrics(1)?.lines().any(|found| found == line) {
        ensure!(Instant::now() < deadline, "{line} does not come: {}", cluster.metrics(1)?);
        nap(Duration::from_millis(200));
    }
    Ok(())
}

/// Sends a record to a topic.
fn produce(cluster: &Cluster, topic: &str) -> Result<std::process::Output> {
    let line = cluster.dir().join("line");
    std::fs::File::create(&line)?.write_all(b"1:1\n")?;
    let timeouts = ["--set", "delivery.timeout.ms=4000", "--set", "request.timeout.ms=1000"];
    let mut command = cluster.command("producer")?;
    Ok(command.args(["--topic", topic]).args(timeouts).arg(line).output()?)
}

#[test]
fn a_disk_that_goes_away_takes_only_its_partitions_offline_and_brings_them_back() -> Result<()> {
    let scratch = integration_tests::scratch("directories")?;
    let disk = Disk::new(scratch.path())?;
    let options = ClusterOptions {
        data_root: Some(scratch.path().join("first")),
        more_data: vec![disk.place.clone()],
        ..ClusterOptions::one("directories")
    };
    let mut cluster = Cluster::start(options)?;
    // The directory with the fewest takes the next: one each.
    let topics = ["one", "two"];
    for topic in topics {
        cluster.create_topic(topic, 1, &[])?;
        ensure!(produce(&cluster, topic)?.status.success(), "{topic} takes nothing");
    }
    let on_disk = |topic: &str| disk.keeper.join(format!("broker-1/{topic}-0")).is_dir();
    ensure!(on_disk("one") != on_disk("two"), "both are in one directory");
    let (lost, kept) = if on_disk("one") { ("one", "two") } else { ("two", "one") };

    // Away under the running broker.
    disk.unmount()?;
    wait_for_metric(&cluster, "ottla_log_directories_offline 1")?;
    ensure!(produce(&cluster, kept)?.status.success(), "{kept} does not go on");
    ensure!(!produce(&cluster, lost)?.status.success(), "{lost} takes records without its disk");
    cluster.create_topic("new", 1, &[])?;
    ensure!(produce(&cluster, "new")?.status.success(), "a new topic finds no directory");

    // Still away at the next start.
    cluster.kill_broker(1)?;
    cluster.start_broker(1)?;
    wait_for_metric(&cluster, "ottla_log_directories_offline 1")?;
    wait_for_metric(&cluster, "ottla_partitions_offline 1")?;
    ensure!(produce(&cluster, kept)?.status.success(), "{kept} does not go on");
    ensure!(!produce(&cluster, lost)?.status.success(), "{lost} takes records without its disk");
    let described = cluster.run("coordinator", &["topics", "--describe", "--topic", lost])?;
    ensure!(described.contains("not mounted"), "{described}");

    // Back.
    cluster.stop_broker(1)?;
    disk.mount()?;
    cluster.start_broker(1)?;
    wait_for_metric(&cluster, "ottla_log_directories_offline 0")?;
    ensure!(produce(&cluster, lost)?.status.success(), "{lost} did not come back");
    for (topic, records) in [(lost, 2), (kept, 3), ("new", 1)] {
        let read = read_all(&cluster.bootstrap(), topic, 1)?.len();
        ensure!(read == records, "{topic} has {read} records, not {records}");
    }

    drop(cluster);
    drop(disk);
    Ok(())
}
