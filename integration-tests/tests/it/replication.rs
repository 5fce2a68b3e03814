//! Replicas that die, lose their disks or their memory, one at a time and together: nothing that was
//! acknowledged is lost, and every partition works again in time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::faults::run::{RunOptions, Scene, TOPIC};
use integration_tests::faults::schedule::{Fault, FaultKind, Schedule, Target};
use integration_tests::workload::nap;

/// How long replicas may take to be in sync again, on a machine that is busy with other tests.
const IN_SYNC_WITHIN: Duration = Duration::from_secs(40);
/// Long enough that a machine that is busy with other tests lets nobody expire who is alive.
const SESSION: Duration = Duration::from_secs(4);
/// How often the same broker is killed; more by the environment variable OTTLA_KILLS.
const KILLS: u32 = 50;

/// Goes through a scenario, then judges all that was sent and read, however it went.
fn play(name: &str, scenario: impl FnOnce(&mut Scene) -> Result<()>) -> Result<()> {
    let schedule = Schedule { seed: 0, faults: Vec::new() };
    let options =
        RunOptions { partitions: 3, rate: 300, session: SESSION, ..RunOptions::new(schedule) };
    let mut scene = Scene::start(name, &options)?;
    let ran = scene.ready().and_then(|()| scenario(&mut scene));
    let report = scene.finish(ran).ok()?;
    println!("{}", serde_json::to_string(&report)?);
    ensure!(report.acknowledged >= 1_000, "only {} acknowledged", report.acknowledged);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The newest segment of each partition of a broker that is down.
fn segments(data: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for partition in 0..3 {
        let folder = data.join(format!("{TOPIC}-{partition}"));
        let files = std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let logs = files.filter(|path| path.extension().is_some_and(|e| e == "log"));
        found.push(logs.max().with_context(|| format!("no segment in {}", folder.display()))?);
    }
    Ok(found)
}

/// A broker is killed, and counted out by the controller.
fn kill_and_wait(scene: &mut Scene, id: i32) -> Result<()> {
    scene.cluster.kill_broker(id)?;
    let what = format!("broker {id} is out of sync");
    scene.wait_for(IN_SYNC_WITHIN, &what, |s| s.isr.iter().all(|member| member.0 != id))?;
    scene.recorder.wait_for_more(500, IN_SYNC_WITHIN)
}

#[test]
fn a_broker_comes_back_with_an_old_a_corrupt_and_an_empty_disk() -> Result<()> {
    play("disks", |scene| {
        let id = 3;
        let data = scene.cluster.broker(id)?.data.clone();
        let old = scene.cluster.dir().join("old");
        scene.cluster.stop_broker(id)?;
        copy(&data, &old)?;
        scene.cluster.start_broker(id)?;
        scene.recorder.wait_for_more(1_000, IN_SYNC_WITHIN)?;
        scene.in_sync(IN_SYNC_WITHIN)?;

        kill_and_wait(scene, id)?;
        std::fs::remove_dir_all(&data)?;
        std::fs::rename(&old, &data)?;
        scene.cluster.start_broker(id)?;
        scene.in_sync(IN_SYNC_WITHIN).context("with an old disk")?;
        scene.recorder.all_partitions_work(scene.heals_within(), true)?;

        kill_and_wait(scene, id)?;
        for segment in segments(&data)? {
            let mut bytes = std::fs::read(&segment)?;
            let middle = bytes.len() / 2;
            bytes.iter_mut().skip(middle).take(200).for_each(|byte| *byte ^= 0x55);
            #[allow(clippy::disallowed_methods, reason = "damages a file as nobody else should")]
            std::fs::write(&segment, &bytes)?;
        }
        scene.cluster.start_broker(id)?;
        scene.in_sync(IN_SYNC_WITHIN).context("with a corrupt disk")?;
        scene.recorder.all_partitions_work(scene.heals_within(), true)?;

        kill_and_wait(scene, id)?;
        std::fs::remove_dir_all(&data)?;
        scene.cluster.start_broker(id)?;
        scene.in_sync(IN_SYNC_WITHIN).context("with an empty disk")?;
        scene.recorder.all_partitions_work(scene.heals_within(), true).map(drop)
    })
}

#[test]
fn leader_and_controller_die_together_then_two_of_three_brokers() -> Result<()> {
    play("together", |scene| {
        let target = Target::Leader(0);
        for kind in [FaultKind::KillBrokerAndController, FaultKind::KillTwoBrokers] {
            scene.fault(Fault { kind, target, lasts_ms: 3_000 }, &kind.name())?;
            scene.in_sync(IN_SYNC_WITHIN)?;
        }
        Ok(())
    })
}

#[test]
fn the_same_broker_is_killed_fifty_times_in_a_row() -> Result<()> {
    play("fifty", |scene| {
        let kills = std::env::var("OTTLA_KILLS").ok().and_then(|kills| kills.parse().ok());
        let kills = kills.unwrap_or(KILLS);
        for kill in 1..=kills {
            scene.cluster.kill_broker(1)?;
            nap(Duration::from_millis(fastrand::u64(0..100)));
            scene.cluster.start_broker(1)?;
            let limit = scene.heals_within();
            let works = scene.recorder.all_partitions_work(limit, kill == kills);
            works.with_context(|| format!("after kill {kill}"))?;
        }
        scene.in_sync(IN_SYNC_WITHIN)
    })
}

/// Prints how long acknowledgements took meanwhile; `integration-tests/failover` measures it.
#[test]
fn a_rolling_restart_under_load_loses_nothing() -> Result<()> {
    play("rolling", |scene| {
        for id in 1..=3 {
            scene.recorder.wait_for_more(500, IN_SYNC_WITHIN)?;
            scene.recorder.begin_pause();
            let begun = Instant::now();
            scene.cluster.stop_broker(id)?;
            let stopped = begun.elapsed();
            scene.cluster.start_broker(id)?;
            scene.recorder.all_partitions_work(scene.heals_within(), true)?;
            let pauses = scene.recorder.pauses();
            println!("broker {id}: stopped after {stopped:?}, longest pauses {pauses:?} ms");
            scene.in_sync(IN_SYNC_WITHIN)?;
        }
        ensure!(scene.recorder.failed() == 0, "{} records failed", scene.recorder.failed());
        Ok(())
    })
}

/// The bytes that were not yet flushed are gone, and so is the mark of the machine's start.
#[test]
fn a_power_loss_of_one_broker_loses_nothing() -> Result<()> {
    play("power", |scene| {
        for round in 0..2 {
            let id = scene.observer.leader(round).context("partition has no leader")?;
            scene.recorder.wait_for_more(1_000, IN_SYNC_WITHIN)?;
            scene.cluster.kill_broker(id)?;
            let data = scene.cluster.broker(id)?.data.clone();
            for segment in segments(&data)? {
                let file = std::fs::File::options().write(true).open(&segment)?;
                let length = file.metadata()?.len();
                file.set_len(length - (length / 10).min(8_000))?;
            }
            #[allow(clippy::disallowed_methods, reason = "another start of the machine")]
            std::fs::write(data.join("boot"), "of another start\n")?;
            scene.cluster.start_broker(id)?;
            scene.recorder.all_partitions_work(scene.heals_within(), true)?;
            scene.in_sync(IN_SYNC_WITHIN)?;
        }
        Ok(())
    })
}

#[test]
fn without_coordinators_data_flows_and_a_new_one_repairs() -> Result<()> {
    play("no-coordinators", |scene| {
        for coordinator in scene.cluster.coordinators() {
            coordinator.kill()?;
        }
        nap(Duration::from_secs(3));
        scene.recorder.all_partitions_work(scene.heals_within(), true)?;
        // What a broker led stands still, and nobody is there to elect.
        let id = scene.observer.leader(0).context("partition 0 has no leader")?;
        scene.cluster.kill_broker(id)?;
        nap(Duration::from_secs(3));
        ensure!(scene.observer.leader(0) == Some(id), "somebody elected a leader");
        scene.cluster.restart_coordinator(0)?;
        let limit = scene.heals_within();
        scene.recorder.all_partitions_work(limit, true).context("a new coordinator elects")?;
        scene.cluster.restart_coordinator(1)?;
        scene.cluster.start_broker(id)?;
        scene.in_sync(IN_SYNC_WITHIN)
    })
}
