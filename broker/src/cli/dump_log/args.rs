//! Arguments of `broker dump-log`.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(in crate::cli) struct DumpLogOptions {
    /// Partition folders, whole log directories, or single files.
    #[arg(value_name = "DIR|FILE", required_unless_present = "files")]
    paths: Vec<PathBuf>,
    /// The same as a list separated by commas, as Kafka's tool takes it.
    #[arg(long, value_name = "FILE,...", value_delimiter = ',')]
    files: Vec<PathBuf>,
    /// Print the records of each batch too; compressed ones are decompressed.
    #[arg(long, visible_alias = "deep-iteration")]
    pub(super) deep: bool,
    /// Print keys and values of records (implies --deep). Control characters and bytes that are no
    /// UTF-8 are escaped.
    #[arg(long, visible_alias = "print-data-log")]
    pub(super) print_data: bool,
    /// Do not print what indexes say, only whether they agree with their logs.
    #[arg(long, visible_alias = "verify-index-only", alias = "index-sanity-check")]
    pub(super) verify_index: bool,
    /// Neither check CRCs nor compare indexes with logs.
    #[arg(long)]
    pub(super) no_verify: bool,
    /// Print only damage, notes and the counts of each file.
    #[arg(long, short = 's')]
    pub(super) summary: bool,
    /// Let offsets be missing between batches: for logs that Kafka itself compacted. Brokers of
    /// this project leave no such gaps.
    #[arg(long)]
    pub(super) allow_gaps: bool,
    /// How lines are printed.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: FormatName,
    /// Copy what is good of partition folders to --output, and print what is left out. What is
    /// read is never changed.
    #[arg(long, requires = "output", conflicts_with_all = ["files", "allow_gaps", "no_verify"])]
    pub(super) repair: bool,
    /// Where --repair writes: a new or empty folder, which a broker can use as a log directory.
    #[arg(long, value_name = "DIR", requires = "repair")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatName {
    /// Lines in the words of Kafka's tool.
    Text,
    /// A JSON object a line.
    Json,
}

impl DumpLogOptions {
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.paths.iter().chain(&self.files).cloned().collect()
    }

    pub(super) fn json(&self) -> bool {
        self.format == FormatName::Json
    }
}

const EXAMPLES: &str = "\
Examples:
  broker dump-log /var/lib/ottla/orders-0            batches, indexes, checkpoints of a partition
  broker dump-log -s /var/lib/ottla                  is anything in this log directory damaged?
  broker dump-log --print-data orders-0/00000000000000000000.log | head
  broker dump-log --files a/00000000000000000000.index,a/00000000000000000000.timeindex
  broker dump-log --format json --deep orders-0 | jq 'select(.type == \"record\" and .keySize < 0)'
  broker dump-log --repair --output /var/lib/ottla-repaired /var/lib/ottla/orders-0

Damage is: a batch whose CRC, lengths or offset do not hold, offsets that are missing between
batches or segments, an index that does not agree with its log, a checkpoint that cannot be read.
Bytes behind the last whole batch of a partition's last segment are a note, not damage, when they
look like a write under way: files of a running broker can be read at any time.

A repaired log has every good batch at its old offsets; the offsets of the rest are covered by empty
batches. To use it: stop the broker, move the old partition folder away, move the new one in its
place, start the broker. Where a replica is in sync it is better to delete the folder and let the
broker fetch it again.

Exit codes: 0 no damage, 1 damage (with --repair: something was left out), 2 wrong arguments,
3 something could not be read or written.";
