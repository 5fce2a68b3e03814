//! What can be said on the command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

/// Writes the records of topics to standard output, each value a line.
///
/// Alone it reads every partition; as a member of a --group it reads its share and commits what it
/// has written out. The settings of Kafka's consumer are known under their names: --set
/// fetch.max.wait.ms=100, a TOML file with --config, OTTLA_CONSUMER_FETCH_MAX_WAIT_MS=100;
/// `consumer config show` explains each.
#[derive(Debug, Parser)]
#[command(
    name = "consumer",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        consumer --topic app-logs --from-beginning --exit-at-end\n  \
        consumer -t app-logs -g indexers --output-format '%t [%p] %o %k %s\\n'\n  \
        consumer --whitelist 'logs\\..*' -g archive --format json | gzip > logs.json.gz\n  \
        consumer -t web -p 0 --offset -10 -e\n  \
        consumer -t web --timestamp 1790000000000 --max-messages 100\n\n\
        Output format: %s value, %S its length (-1 where null), %k key, %K its length, %o offset,\n\
        %p partition, %t topic, %T timestamp in ms, %h headers as name=value,…, %% percent;\n\
        \\n \\r \\t \\0 \\\\ \\xNN.\n\n\
        Exit codes: 0 read what was asked for, was interrupted, or the reader of its output\n\
        went away; 1 failed; 2 wrong usage; 3 --timeout-ms passed before --max-messages had come;\n\
        4 came to offsets that cannot be read."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
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
    #[arg(long, value_name = "FILE", env = "OTTLA_CONSUMER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// A setting under Kafka's name; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", alias = "consumer-property")]
    pub(crate) set: Vec<String>,
    /// Reads as a member of this group, and commits what was written out.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// Who keeps the group together: zookeeper, or broker (as for Kafka's consumers) [default: zookeeper].
    #[arg(long, value_name = "KIND")]
    pub(crate) membership: Option<String>,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct ReadArgs {
    /// The topic; several are separated by commas.
    #[arg(short, long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "whitelist")]
    pub(crate) topic: Vec<String>,
    /// Every topic, present or future, whose whole name matches.
    #[arg(short, long, value_name = "REGEX", visible_alias = "include")]
    pub(crate) whitelist: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,

    /// Begins at the oldest record; in a group, where it has no committed offset.
    #[arg(long)]
    pub(crate) from_beginning: bool,
    /// Begins here: beginning, end, an offset, or -N for the last N records of each partition.
    #[arg(
        short,
        long,
        value_name = "OFFSET",
        allow_hyphen_values = true,
        conflicts_with_all = ["from_beginning", "timestamp", "group"]
    )]
    pub(crate) offset: Option<String>,
    /// Begins at the first record of this time or later, in milliseconds since the epoch.
    #[arg(long, value_name = "MS", conflicts_with_all = ["from_beginning", "group"])]
    pub(crate) timestamp: Option<i64>,
    /// Only these partitions.
    #[arg(
        short,
        long,
        value_name = "NUMBER,…",
        value_delimiter = ',',
        conflicts_with_all = ["group", "whitelist"]
    )]
    pub(crate) partition: Vec<i32>,

    /// Ends after so many records.
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) max_messages: Option<u64>,
    /// Ends when nothing came for so long.
    #[arg(long, value_name = "MS")]
    pub(crate) timeout_ms: Option<u64>,
    /// Ends at what was the end of each partition when it began to be read.
    #[arg(short, long)]
    pub(crate) exit_at_end: bool,

    /// How a record is printed; see below.
    #[arg(short = 'f', long, value_name = "FORMAT", default_value = "%s\\n")]
    pub(crate) output_format: String,
    /// text prints by --output-format, json an object a line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// What is printed for a null key or value.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) null_value: String,
    /// Goes on behind offsets that cannot be read instead of ending there, and names them
    /// (on.damage=skip).
    #[arg(long)]
    pub(crate) skip_damaged: bool,

    /// Prints the rate every second and a summary at the end, on standard error.
    #[arg(long)]
    pub(crate) stats: bool,
    /// Prints errors only.
    #[arg(short, long, conflicts_with = "stats")]
    pub(crate) quiet: bool,
    /// Logs more; twice: everything. OTTLA_LOG takes finer filters.
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}
