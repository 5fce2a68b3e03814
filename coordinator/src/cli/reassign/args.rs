//! What a person may write after `coordinator reassign`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::args::Target;

pub(crate) const HELP: &str = "\
Examples:
  coordinator reassign --generate --topics-to-move app-logs,clicks --broker-list 1,2,3
  coordinator reassign --execute --reassignment-json-file plan.json --throttle 50000000 --wait
  coordinator reassign --list
  coordinator reassign --verify --reassignment-json-file plan.json
  coordinator reassign --cancel --reassignment-json-file plan.json
where plan.json is the second JSON that --generate prints, or written by hand:
  {\"version\": 1, \"partitions\": [{\"topic\": \"app-logs\", \"partition\": 0, \"replicas\": [2, 3]}]}

The first of the replicas is the preferred leader. Longer lists raise the replication factor,
shorter ones lower it. New replicas are filled first; an old one goes when its successor is in
sync, so the partition is written and read all the time. What is asked for is recorded: it goes on
when this command has ended, when brokers or the controller die, and takes another target at any
time. Both spellings work: `reassign --execute` and `reassign execute`.
Exit codes: 0 done (--verify: all completed), 1 refused, failed or not complete, 2 wrong usage,
3 the cluster cannot be reached.";

#[derive(Debug, Args)]
pub(crate) struct ReassignArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) action: ReassignAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReassignAction {
    /// Print a balanced, rack-aware plan for whole topics, and change nothing
    Generate(Generate),
    /// Give partitions the replicas of a plan
    Execute(Execute),
    /// Tell which partitions of a plan have their replicas
    Verify(Verify),
    /// List what is under way, and how far it is
    List,
    /// Take back what is under way: the partitions get the replicas they had
    Cancel(Cancel),
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// Topics, separated by commas
    #[arg(
        long,
        value_name = "TOPIC,...",
        value_delimiter = ',',
        required_unless_present = "topics_to_move_json_file"
    )]
    pub(crate) topics_to_move: Vec<String>,
    /// Topics from a file as Kafka's tool takes it: {"topics": [{"topic": "a"}], "version": 1}
    #[arg(long, value_name = "FILE", conflicts_with = "topics_to_move")]
    pub(crate) topics_to_move_json_file: Option<PathBuf>,
    /// Brokers that take the partitions [default: all that are live]
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    pub(crate) broker_list: Vec<i32>,
    /// Replicas of each partition [default: as many as now]
    #[arg(long, value_name = "N")]
    pub(crate) replication_factor: Option<usize>,
    /// Place replicas without regard to racks
    #[arg(long)]
    pub(crate) disable_rack_aware: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Execute {
    /// The plan; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) reassignment_json_file: PathBuf,
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// Taken for the sake of Kafka's spelling: what is under way never stands in the way
    #[arg(long, hide = true)]
    pub(crate) additional: bool,
}

/// How a move goes on.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Pace {
    /// Bytes a second that each broker fetches for replicas that are not in sync, while this goes
    /// on; it has to be more than is produced meanwhile, or it never ends. Given again for what is
    /// under way, it is changed [default: as the brokers have it]
    #[arg(long, value_name = "BYTES_PER_S",
        value_parser = clap::value_parser!(i64).range(1024..))]
    pub(crate) throttle: Option<i64>,
    /// Show how far it is until all is done; an interrupted wait changes nothing
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The plan; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) reassignment_json_file: PathBuf,
    /// Taken for the sake of Kafka's spelling: a throttle ends with what it was given for, and what
    /// is set for brokers stays
    #[arg(long, hide = true)]
    pub(crate) preserve_throttles: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The plan whose partitions are meant; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present_any = ["all", "topic"])]
    pub(crate) reassignment_json_file: Option<PathBuf>,
    /// Everything that is under way
    #[arg(long, conflicts_with_all = ["reassignment_json_file", "topic"])]
    pub(crate) all: bool,
    /// What is under way of these topics
    #[arg(
        long,
        value_name = "TOPIC,...",
        value_delimiter = ',',
        conflicts_with = "reassignment_json_file"
    )]
    pub(crate) topic: Vec<String>,
    /// Wait until the partitions have the replicas they had
    #[arg(long)]
    pub(crate) wait: bool,
    /// Taken for the sake of Kafka's spelling: a throttle ends with what it was given for, and what
    /// is set for brokers stays
    #[arg(long, hide = true)]
    pub(crate) preserve_throttles: bool,
}
