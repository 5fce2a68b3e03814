//! Arguments of every subcommand.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::dump_log::DumpLogOptions;
use crate::config::{ConfigError, Origin, Values};

/// Stores partitions and serves them over gRPC.
#[derive(Debug, Parser)]
#[command(name = "broker", version, about, propagate_version = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a broker of a cluster that is registered in ZooKeeper.
    ///
    /// Prints one JSON line on standard output when it serves; logs go to standard error
    /// (OTTLA_LOG=debug for more). SIGTERM and SIGINT stop it cleanly.
    Run(RunOptions),
    /// Run a whole cluster in one process, on loopback: broker, controller and registry.
    ///
    /// For a laptop: no Java, no other server, topics are created when a producer first asks for
    /// them. Everything it keeps is below --data.
    Dev(DevOptions),
    /// Print, verify and repair the files of partitions, without a broker.
    ///
    /// Reads segments, indexes, snapshots and checkpoints, of a stopped broker or a running one, and
    /// says what is damaged. Nothing that is read is ever changed.
    DumpLog(DumpLogOptions),
    /// Show the settings.
    Config(ConfigOptions),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Where settings come from, for every subcommand that has any.
#[derive(Debug, clap::Args)]
pub(super) struct Sources {
    /// Configuration file (TOML). The environment (OTTLA_BROKER_<KEY>) and flags override it.
    #[arg(long, value_name = "FILE", env = "OTTLA_CONFIG")]
    config: Option<PathBuf>,
    /// Set one key; may be repeated. `broker config show` lists every key.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where clients connect (listen.grpc); port 0 picks one.
    #[arg(long, value_name = "HOST:PORT")]
    listen_grpc: Option<String>,
    /// Where metrics and health are served (listen.http); port 0 picks one.
    #[arg(long, value_name = "HOST:PORT")]
    listen_http: Option<String>,
    /// Where Kafka clients connect (listeners); port 0 picks one. On 127.0.0.1:9092 in `dev`, off
    /// otherwise; several are NAME://HOST:PORT,...
    #[arg(long, value_name = "HOST:PORT")]
    listen_kafka: Option<String>,
    /// How Kafka clients reach that (advertised.listeners); without it they are told the address
    /// they came in on.
    #[arg(long, value_name = "HOST:PORT")]
    advertise_kafka: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunOptions {
    #[command(flatten)]
    pub(super) sources: Sources,
    /// Number of this broker, unique in the cluster (broker.id).
    #[arg(long, value_name = "NUMBER")]
    id: Option<String>,
    /// Where partitions are stored (log.dirs); may be repeated.
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// ZooKeeper and the cluster's chroot (zookeeper.connect).
    #[arg(long, value_name = "HOST:PORT,.../CHROOT")]
    zookeeper: Option<String>,
    /// How others reach this broker (advertised.grpc).
    #[arg(long, value_name = "HOST:PORT")]
    advertise_grpc: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct DevOptions {
    #[command(flatten)]
    pub(super) sources: Sources,
    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = ".ottla")]
    pub(super) data: PathBuf,
    /// Where the registry listens; port 0 picks one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2181")]
    pub(super) listen_zookeeper: String,
    /// Where the controller's Admin service listens; port 0 picks one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub(super) listen_controller: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct ConfigOptions {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every key with its meaning, bounds, default and present value, as a TOML file.
    Show(RunOptions),
}

impl Sources {
    /// Adds file, environment and flags to `values`, in this order.
    fn add_to(
        &self,
        values: &mut Values,
        flags: &[(&str, Option<String>)],
    ) -> Result<(), ConfigError> {
        if let Some(path) = &self.config {
            values.read_file(path)?;
        }
        values.read_environment(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )?;
        for assignment in &self.set {
            values.read_assignment(assignment)?;
        }
        let own = [
            ("listen.grpc", &self.listen_grpc),
            ("listen.http", &self.listen_http),
            ("listeners", &self.listen_kafka),
            ("advertised.listeners", &self.advertise_kafka),
        ];
        for (key, value) in own.into_iter().chain(flags.iter().map(|(key, value)| (*key, value))) {
            if let Some(value) = value {
                values.set(key, value, Origin::Flag)?;
            }
        }
        Ok(())
    }
}

impl RunOptions {
    /// The settings of `run`.
    pub(super) fn values(&self) -> Result<Values, ConfigError> {
        let mut values = Values::default();
        let dirs: Vec<_> = self.data.iter().map(|dir| dir.display().to_string()).collect();
        let flags = [
            ("broker.id", self.id.clone()),
            ("log.dirs", (!dirs.is_empty()).then(|| dirs.join(","))),
            ("zookeeper.connect", self.zookeeper.clone()),
            ("advertised.grpc", self.advertise_grpc.clone()),
        ];
        self.sources.add_to(&mut values, &flags)?;
        Ok(values)
    }
}

impl DevOptions {
    /// The settings of the broker in `dev`, whose registry is at `zookeeper`.
    pub(super) fn values(&self, zookeeper: &str) -> Result<Values, ConfigError> {
        let mut values = Values::default();
        let dir = self.data.join("broker").display().to_string();
        for (key, value) in [
            ("auto.create.topics.enable", "true"),
            ("listeners", "PLAINTEXT://127.0.0.1:9092"),
            ("offsets.topic.replication.factor", "1"),
            ("zookeeper.connect", zookeeper),
            ("log.dirs", &dir),
        ] {
            values.set(key, value, Origin::Command)?;
        }
        self.sources.add_to(&mut values, &[])?;
        Ok(values)
    }
}
