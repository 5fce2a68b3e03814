//! What can be said on the command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

/// Ships lines from files or standard input to a topic, each line a record.
///
/// Exits with 0 only if every line was acknowledged. The settings of Kafka's producer are known under
/// their names: --set linger.ms=20, a TOML file with --config, OTTLA_PRODUCER_LINGER_MS=20; `producer
/// config show` explains each.
#[derive(Debug, Parser)]
#[command(
    name = "producer",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        producer --topic app-logs /var/log/syslog\n  \
        dmesg | producer -t kernel --stats\n  \
        producer -t web --follow /var/log/nginx/access.log --key-regex '^(\\S+)'\n  \
        producer -t users --key-separator : --acks all --format json users.txt"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) send: SendArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the settings.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints every setting with its meaning and present value, as a file for --config.
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
}

/// Where settings come from.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SettingArgs {
    /// Brokers to ask first [default: 127.0.0.1:9094].
    #[arg(
        short,
        long,
        env = "OTTLA_BOOTSTRAP_SERVER",
        value_name = "HOST:PORT,…",
        alias = "broker-list"
    )]
    pub(crate) bootstrap_server: Option<String>,
    /// A TOML file of settings.
    #[arg(long, value_name = "FILE", env = "OTTLA_PRODUCER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// A setting under Kafka's name; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", alias = "producer-property")]
    pub(crate) set: Vec<String>,
    /// Who must have a record before it counts as sent: 0 nobody, 1 the leader, all.
    #[arg(long, value_name = "0|1|all", allow_hyphen_values = true)]
    pub(crate) acks: Option<String>,
    /// How long a batch waits for more records.
    #[arg(long, value_name = "MS")]
    pub(crate) linger_ms: Option<String>,
    /// Bytes at which a batch is sent.
    #[arg(long, value_name = "BYTES")]
    pub(crate) batch_size: Option<String>,
    /// How batches are compressed: none, gzip, snappy, lz4 or zstd; gzip where no name is given.
    #[arg(short = 'z', long, value_name = "CODEC", num_args = 0..=1, default_missing_value = "gzip")]
    pub(crate) compression_codec: Option<String>,
    /// How keys choose partitions.
    #[arg(long, value_name = "NAME")]
    pub(crate) partitioner: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SendArgs {
    /// Files to send, in this order; `-` is standard input, which is also the default.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The topic.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) topic: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,

    /// Goes on reading as files grow, also across rotation, until interrupted.
    #[arg(short = 'F', long, requires = "files")]
    pub(crate) follow: bool,
    /// With --follow: skips what the files have when it starts.
    #[arg(long, requires = "follow")]
    pub(crate) from_end: bool,

    /// The key is what precedes this text, the value what follows; a line without it has no key.
    #[arg(short = 'K', long, value_name = "TEXT", conflicts_with = "key_regex")]
    pub(crate) key_separator: Option<String>,
    /// The key is what the group `key`, or the first group, captures; the value stays whole, unless
    /// there is a group `value`.
    #[arg(long, value_name = "REGEX")]
    pub(crate) key_regex: Option<String>,
    /// A header of every record; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,
    /// A line that is this text is sent as a null value.
    #[arg(long, value_name = "TEXT")]
    pub(crate) null_value: Option<String>,
    /// Sends everything to this partition.
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) partition: Option<i32>,
    /// Leaves lines out that are longer than max.request.size allows, instead of failing.
    #[arg(long)]
    pub(crate) skip_long_lines: bool,
    /// Goes on after a record could not be sent; the exit code tells all the same.
    #[arg(long)]
    pub(crate) keep_going: bool,

    /// Creates the topic if it does not exist.
    #[arg(long)]
    pub(crate) create_topic: bool,
    /// Partitions of a topic that is created [default: the cluster's num.partitions].
    #[arg(long, value_name = "COUNT", requires = "create_topic")]
    pub(crate) partitions: Option<i32>,
    /// Replicas of a topic that is created [default: the cluster's default.replication.factor].
    #[arg(long, value_name = "COUNT", requires = "create_topic")]
    pub(crate) replication_factor: Option<i32>,

    /// Prints the rate every second, also where standard error is no terminal.
    #[arg(long)]
    pub(crate) stats: bool,
    /// Prints neither rate nor summary.
    #[arg(short, long, conflicts_with = "stats")]
    pub(crate) quiet: bool,
    /// The summary at the end: text on standard error, or json on standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Logs more; twice: everything. OTTLA_LOG takes finer filters.
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn usual_calls_are_understood() {
        let args = Args::parse_from(["producer", "-t", "logs", "--acks", "-1", "a.log", "-"]);
        assert_eq!(args.send.files.len(), 2);
        assert_eq!(args.send.settings.acks.as_deref(), Some("-1"));
        let args = Args::parse_from(["producer", "config", "show", "--set", "linger.ms=1"]);
        assert!(matches!(args.command, Some(Command::Config { .. })));
        for wrong in [
            &["producer", "-t", "logs", "--follow"][..],
            &["producer", "-t", "logs", "--partitions", "3"],
            &["producer", "-t", "logs", "--key-regex", "x", "--key-separator", "y"],
        ] {
            assert!(Args::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
