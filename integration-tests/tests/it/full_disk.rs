//! A full disk, and one that is almost full: produce fails with a clear error, reads and
//! administration go on, and producing resumes when there is space, without a restart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::workload::{Load, LoadOptions, nap, read_all};

/// A small tmpfs, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path, mib: u32) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let size = format!("size={mib}m");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir).status()?;
        if !status.success() {
            bail!("mounting a tmpfs needs root: run the tests as root");
        }
        Ok(Self(dir.to_path_buf()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_produce_and_keeps_the_rest_alive() -> Result<()> {
    let scratch = integration_tests::scratch("full-disk")?;
    let disk = SmallDisk::mount(&scratch.path().join("disk"), 48)?;
    let options =
        ClusterOptions { data_root: Some(disk.0.clone()), ..ClusterOptions::one("full-disk") };
    // No mark: the disk itself says no.
    let options = options.set("log.min.free.percent", "0").set("log.min.free.bytes", "0");
    let mut cluster = Cluster::start(options)?;
    cluster.create_topic("small", 1, &["segment.bytes=4194304"])?;
    // What fills the disk from outside.
    let ballast = disk.0.join("ballast");
    let status = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", "count=100", "status=none"])
        .arg(format!("of={}", ballast.display()))
        .stderr(std::process::Stdio::null())
        .status()?;
    ensure!(!status.success(), "the disk is larger than the ballast");

    let mut load = LoadOptions::new(&cluster.bootstrap(), "small", 0)
        .set("delivery.timeout.ms", "4000")
        .set("request.timeout.ms", "2000");
    load.value_len = 2_000;
    let refused = Load::start(load.clone())?;
    nap(Duration::from_secs(8));
    ensure!(refused.failed() > 0, "nothing failed although the disk is full");
    refused.stop()?;
    ensure!(cluster.broker_process(1)?.is_running(), "the broker died of a full disk");

    // Reads and administration go on.
    let described = cluster.run("coordinator", &["topics", "--describe", "--topic", "small"])?;
    ensure!(described.contains("Partition: 0"), "{described}");
    let before = read_all(&cluster.bootstrap(), "small", 1)?.len();
    let output = cluster
        .command("producer")?
        .args([
            "--topic",
            "small",
            "--set",
            "delivery.timeout.ms=3000",
            "--set",
            "request.timeout.ms=1000",
            "/etc/hostname",
        ])
        .output()?;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "the producer says all is well on a full disk");
    ensure!(message.to_lowercase().contains("full"), "the error does not say why: {message}");

    // Space again: producing resumes by itself.
    std::fs::remove_file(&ballast)?;
    load.producer = 1;
    let resumed = Load::start(load.set("delivery.timeout.ms", "30000"))?;
    resumed.wait_for_more(500, Duration::from_secs(20))?;
    let sent = resumed.stop()?;
    ensure!(sent.iter().all(|sent| sent.acknowledged.is_some()), "some sends failed after all");
    let after = read_all(&cluster.bootstrap(), "small", 1)?.len();
    ensure!(after >= before + sent.len(), "{before} before, {} sent, {after} after", sent.len());
    drop(cluster);
    drop(disk);
    Ok(())
}

/// Free bytes of the disk.
fn free_bytes(dir: &Path) -> Result<u64> {
    let output = Command::new("df").args(["--block-size=1", "--output=avail"]).arg(dir).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().nth(1).unwrap_or_default().trim().parse()?)
}

#[test]
fn below_the_mark_produce_is_refused_before_the_disk_is_full_and_retention_makes_room() -> Result<()>
{
    const MARK: u64 = 16 << 20;
    let scratch = integration_tests::scratch("low-space")?;
    let disk = SmallDisk::mount(&scratch.path().join("disk"), 48)?;
    let options =
        ClusterOptions { data_root: Some(disk.0.clone()), ..ClusterOptions::one("low-space") };
    let options = options
        .set("log.min.free.percent", "0")
        .set("log.min.free.bytes", &MARK.to_string())
        .set("log.retention.check.interval.ms", "500");
    let cluster = Cluster::start(options)?;
    cluster.create_topic("small", 1, &["segment.bytes=1048576"])?;
    let mut load = LoadOptions::new(&cluster.bootstrap(), "small", 0)
        .set("delivery.timeout.ms", "4000")
        .set("request.timeout.ms", "2000");
    load.value_len = 2_000;
    let refused = Load::start(load.clone())?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while refused.failed() == 0 {
        ensure!(Instant::now() < deadline, "nothing was refused");
        nap(Duration::from_millis(200));
    }
    refused.stop()?;
    let free = free_bytes(&disk.0)?;
    ensure!(free < MARK && free > MARK / 2, "{free} bytes are free, the mark is {MARK}");
    let metrics = cluster.metrics(1)?;
    let low = metrics.lines().find(|line| line.starts_with("ottla_log_directory_low"));
    ensure!(low.is_some_and(|line| line.ends_with(" 1")), "{low:?}");
    let before = read_all(&cluster.bootstrap(), "small", 1)?.len();
    ensure!(before > 1000, "{before} records are read");

    // Nobody makes room but retention.
    let to = ["configs", "--alter", "--topic", "small", "--add-config", "retention.bytes=4194304"];
    cluster.run("coordinator", &to)?;
    load.producer = 1;
    let resumed = Load::start(load.set("delivery.timeout.ms", "30000"))?;
    resumed.wait_for_more(500, Duration::from_secs(20))?;
    let sent = resumed.stop()?;
    ensure!(sent.iter().all(|sent| sent.acknowledged.is_some()), "some sends failed after all");
    drop(cluster);
    drop(disk);
    Ok(())
}
