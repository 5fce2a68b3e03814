//! `coordinator registry` killed with SIGKILL under load, again and again: what it answered is
//! there, what it numbered is not numbered twice, and sessions go on as if nothing had been.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::process::Process;
use integration_tests::{executable, scratch};
use zookeeper_client::{Acls, Client, CreateMode, Error};

const CLIENTS: usize = 4;
const KILLS: usize = 5;
/// Long enough that no session can expire while the process is down.
const TIMEOUT: Duration = Duration::from_secs(20);

struct Killable {
    process: Process,
    address: String,
}

impl Killable {
    fn start(dir: &Path, listen: &str) -> Result<Self> {
        let mut command = Command::new(executable("coordinator")?);
        command.args(["registry", "--listen", listen, "--data"]).arg(dir.join("registry"));
        let (process, ready) = Process::spawn_ready("registry", dir, command)?;
        let address = ready["zookeeper"].as_str().context("no address")?.to_owned();
        Ok(Self { process, address })
    }

    fn kill_and_restart(&mut self, dir: &Path) -> Result<Duration> {
        self.process.kill()?;
        let started = Instant::now();
        self.process = Self::start(dir, &self.address)?.process;
        Ok(started.elapsed())
    }
}

/// The numbers a client was told of. A request lost on the way is in doubt, not in here.
async fn create_until(
    client: Client,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Result<Vec<i64>> {
    let mode = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    let mut told = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match client.create("/q/n-", b"some value", &mode).await {
            Ok((_, sequence)) => {
                told.push(sequence.into_i64());
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::ConnectionLoss | Error::Custom(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(told)
}

/// Asks until the connection that was lost is there again.
async fn owner_of(client: &Client, path: &str) -> Result<Option<i64>> {
    loop {
        match client.check_stat(path).await {
            Err(Error::ConnectionLoss | Error::Custom(_)) => {}
            stat => return Ok(stat?.map(|stat| stat.ephemeral_owner)),
        }
    }
}

#[tokio::test]
async fn a_killed_registry_keeps_every_answer_and_every_session() -> Result<()> {
    let dir = scratch("registry-restart")?;
    let mut registry = Killable::start(dir.path(), "127.0.0.1:0")?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let connector = Client::connector().with_session_timeout(TIMEOUT);
        let client = connector.connect(&registry.address).await?;
        let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
        client.create(&format!("/e{number}"), b"", &ephemeral).await?;
        clients.push(client);
    }
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    clients[0].create("/q", b"", &persistent).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let create =
        |client: &Client| tokio::spawn(create_until(client.clone(), stop.clone(), done.clone()));
    let creating: Vec<_> = clients.iter().map(create).collect();
    for _ in 0..KILLS {
        let before = done.load(Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(20);
        while done.load(Ordering::Relaxed) < before + 100 {
            ensure!(Instant::now() < deadline, "creates stopped, {before} were answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("serves again after {:?}", registry.kill_and_restart(dir.path())?);
    }
    stop.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for client in creating {
        told.extend(client.await??);
    }
    for (number, client) in clients.iter().enumerate() {
        let owner = owner_of(client, &format!("/e{number}")).await?;
        ensure!(owner == Some(client.session_id().0), "/e{number} is owned by {owner:?}");
    }
    let there: HashSet<String> = clients[0].list_children("/q").await?.into_iter().collect();
    let unique: HashSet<i64> = told.iter().copied().collect();
    ensure!(unique.len() == told.len(), "a number was given twice");
    let lost: Vec<_> = told.iter().filter(|n| !there.contains(&format!("n-{n:010}"))).collect();
    ensure!(lost.is_empty(), "answered and gone: {lost:?}");
    println!("{} answered, {} there", told.len(), there.len());
    registry.process.stop(Duration::from_secs(5))
}
