//! `coordinator run` and `coordinator registry`: long-running processes.
//!
//! Each prints one line of JSON on standard output when it is ready, and ends with 0 after SIGTERM or
//! SIGINT.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::args::{RegistryArgs, RunArgs, SettingsArgs};
use super::failure::Failure;
use super::output;
use super::settings::{Origin, SettingError, Settings};
use crate::controller::{Balance, Controller, ControllerOptions, Defaults};
use crate::embedded::{EmbeddedOptions, Server};
use crate::zk::{ConnectString, SessionOptions};

/// How long `run` waits for the registry before it says that it is not there; it then fails, and
/// whoever supervises it starts it again.
const FIRST_CONNECT: Duration = Duration::from_secs(30);

/// Gathers the settings: file, environment, flags.
pub(crate) fn settings(args: &SettingsArgs) -> Result<Settings, Failure> {
    gather(args).map_err(|error| Failure::usage(error.to_string()))
}

/// Whether a configuration file of `coordinator run` is valid, for those who keep such files: every
/// key known, every value within its bounds.
pub fn check_config_file(path: &std::path::Path) -> Result<(), String> {
    let mut settings = Settings::default();
    settings.read_file(path).map_err(|error| error.to_string())?;
    connect_string(settings.text("zookeeper.connect")).map_err(|failure| failure.text)?;
    Ok(())
}

fn gather(args: &SettingsArgs) -> Result<Settings, SettingError> {
    let mut settings = Settings::default();
    if let Some(path) = &args.config {
        settings.read_file(path)?;
    }
    // This one names the file, it is no key of it.
    let variables = std::env::vars().filter(|(name, _)| name != "OTTLA_COORDINATOR_CONFIG");
    settings.read_environment(variables)?;
    for assignment in &args.set {
        settings.read_assignment(assignment)?;
    }
    Ok(settings)
}

fn options(args: &RunArgs) -> Result<ControllerOptions, Failure> {
    let mut settings = settings(&args.settings)?;
    let timeout = args.zookeeper_session_timeout_ms.map(|ms| ms.to_string());
    let flags = [
        ("listen", &args.listen),
        ("advertise", &args.advertise),
        ("zookeeper.connect", &args.zookeeper),
        ("zookeeper.session.timeout.ms", &timeout),
    ];
    for (key, value) in flags {
        let Some(value) = value else { continue };
        settings
            .set(key, value, Origin::Flag)
            .map_err(|error| Failure::usage(error.to_string()))?;
    }
    let session = SessionOptions::new(connect_string(settings.text("zookeeper.connect"))?)
        .with_timeout(settings.millis("zookeeper.session.timeout.ms"))
        .failing_after(FIRST_CONNECT);
    let advertise = settings.text("advertise");
    let int = |key| i32::try_from(settings.int(key)).unwrap_or(i32::MAX);
    Ok(ControllerOptions {
        listen: settings.text("listen").to_owned(),
        advertise: (!advertise.is_empty()).then(|| advertise.to_owned()),
        defaults: Defaults {
            partitions: int("num.partitions"),
            replication_factor: int("default.replication.factor"),
            min_insync_replicas: usize::try_from(settings.int("min.insync.replicas")).unwrap_or(1),
            unclean_leader_election: settings.flag("unclean.leader.election.enable"),
        },
        balance: settings.flag("auto.leader.rebalance.enable").then(|| Balance {
            interval: Duration::from_secs(
                settings.int("leader.imbalance.check.interval.seconds").unsigned_abs(),
            ),
            percentage: settings.int("leader.imbalance.per.broker.percentage").unsigned_abs(),
        }),
        max_connections: usize::try_from(settings.int("max.connections")).unwrap_or(1),
        ..ControllerOptions::new(session)
    })
}

/// Reads a connect string.
pub(crate) fn connect_string(text: &str) -> Result<ConnectString, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{error}")))
}

/// `coordinator run`
pub(crate) async fn run(args: RunArgs) -> Result<(), Failure> {
    let options = options(&args)?;
    let zookeeper = options.session.connect.to_string();
    let stop = stop_signal()?;
    let controller = tokio::select! {
        started = Controller::start(options) => {
            started.map_err(|error| Failure::unreachable(error.to_string()))?
        }
        () = stopped(stop.clone()) => return Ok(()),
    };
    let listen = controller.local_addr().to_string();
    let ready = serde_json::json!({ "ready": true, "listen": listen, "zookeeper": zookeeper });
    output::line(&ready)?;
    controller.run(stopped(stop)).await;
    Ok(())
}

/// `coordinator registry`
pub(crate) async fn registry(args: RegistryArgs) -> Result<(), Failure> {
    let listen = resolve(&args.listen).await?;
    let stop = stop_signal()?;
    let failed = |error: crate::embedded::EmbeddedError| Failure::refused(error.to_string());
    let server = Server::bind(EmbeddedOptions::new(args.data, listen)).map_err(failed)?;
    let ready = serde_json::json!({ "ready": true, "zookeeper": server.local_addr().to_string() });
    output::line(&ready)?;
    server.run(stopped(stop)).await.map_err(failed)
}

async fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let invalid = |cause: String| {
        Failure::usage(format!("--listen {address}: {cause}; HOST:PORT is expected"))
    };
    let mut found = lookup_host(address).await.map_err(|error| invalid(error.to_string()))?;
    found.next().ok_or_else(|| invalid("the name has no address".to_owned()))
}

/// Listens for SIGTERM and SIGINT from now on; true once one has come.
fn stop_signal() -> Result<watch::Receiver<bool>, Failure> {
    let failed =
        |error: std::io::Error| Failure::refused(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        sender.send_replace(true);
    });
    Ok(receiver)
}

async fn stopped(mut signal: watch::Receiver<bool>) {
    // An error means that the task above is gone, which ends only when a signal has come.
    let _ = signal.wait_for(|&stop| stop).await;
}
