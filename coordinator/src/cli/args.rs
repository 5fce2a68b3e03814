//! What a person may write on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::elect::ElectArgs;
use super::reassign::args::{Pace, ReassignArgs};

const AFTER_HELP: &str = "\
Examples:
  coordinator topics --create --topic app-logs --partitions 4
  coordinator topics --describe
  coordinator topics --describe --under-replicated
  coordinator groups --describe --group indexers
  coordinator reassign --list
  coordinator brokers --drain 3 --wait
  coordinator elect --election-type preferred --all-topic-partitions
  coordinator run --zookeeper zk1:2181,zk2:2181,zk3:2181/ottla --listen 0.0.0.0:9097 --advertise host:9097

Both spellings work: `topics --list` and `topics list`.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the cluster cannot be reached.";

const DELETE_RECORDS_HELP: &str = "\
Examples:
  coordinator topics --delete-records --topic app-logs --partition 0 --offset 1200
  coordinator topics --delete-records --topic app-logs --offset latest
  coordinator topics --delete-records --offset-json-file offsets.json
where offsets.json is
  {\"partitions\": [{\"topic\": \"app-logs\", \"partition\": 0, \"offset\": 1200}], \"version\": 1}

Only records below the high watermark can be deleted, and nothing brings them back. The partition
begins at the offset from the answer on, also after a crash or with another leader, since all in-sync
replicas are waited for (10 s at most: then ask again); the disk space follows with the broker's next
look for old segments, by whole segments. Consumers that stood before the offset are
told that their position is out of range. Topics that are only compacted refuse: write tombstones.
Exit codes: 0 all done, 1 refused for at least one partition, 2 wrong usage, 3 nobody answers.";

const BROKERS_HELP: &str = "\
Examples:
  coordinator brokers --list
  coordinator brokers --drain 3 --throttle 50000000 --wait
  coordinator brokers --undrain 3

--drain moves every replica off a broker, to live brokers in other racks first, then where there is
least. Nothing is unavailable meanwhile. It is refused, and nothing moved, where the brokers that are
left are too few for a topic's replicas. From then on the broker gets no new replicas, also after
restarts, until --undrain, which takes back what is not done yet, too. Without --wait it goes on by
itself; `brokers --list` and `reassign --list` show how far it is. To keep new replicas away and move
nothing: `configs --alter --broker 3 --add-config cordoned.log.dirs=*`. Both spellings work:
`brokers drain 3`.";

/// Heading of the options that every subcommand of the tool has.
const COMMON: &str = "Cluster and output";

/// The cluster's controller, and the operator's tool
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the controller: elected among all coordinators, the others stand by
    Run(RunArgs),
    /// Run the embedded registry alone: a single node that speaks ZooKeeper's protocol
    Registry(RegistryArgs),
    /// List, create, describe, grow and delete topics
    Topics(TopicsArgs),
    /// List the live brokers; drain one
    #[command(after_help = BROKERS_HELP)]
    Brokers(BrokersArgs),
    /// Give partitions other replicas: more, fewer, elsewhere
    #[command(after_help = super::reassign::args::HELP)]
    Reassign(ReassignArgs),
    /// Elect leaders: the preferred ones, or, where data may be lost, any
    #[command(after_help = super::elect::HELP)]
    Elect(ElectArgs),
    /// List and describe consumer groups, reset their offsets, delete them
    Groups(GroupsArgs),
    /// Describe and alter configuration overrides
    Configs(ConfigsArgs),
    /// The settings of `coordinator run`
    Config(ConfigArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Configuration file (TOML); `coordinator config show` prints one
    #[arg(long, value_name = "FILE", env = "OTTLA_COORDINATOR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Set any key of the configuration
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Where the Admin service listens; port 0 picks a free one [default: 127.0.0.1:9097]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Where brokers reach this coordinator [default: the address it listens on]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// The registry with its chroot [default: 127.0.0.1:2181/ottla]
    #[arg(long, value_name = "HOST:PORT,.../CHROOT")]
    pub(crate) zookeeper: Option<String>,
    /// Session timeout [default: 6000]
    #[arg(long, value_name = "MS")]
    pub(crate) zookeeper_session_timeout_ms: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Directory of its log and snapshots
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2181")]
    pub(crate) listen: String,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Print every key with meaning, bounds and value, as a file that can be used as it stands
    Show(SettingsArgs),
}

/// How the cluster is found, and how answers are printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// One or more brokers; they forward to the controller
    #[arg(
        long,
        global = true, help_heading = COMMON,
        value_name = "HOST:PORT,...",
        env = "OTTLA_BOOTSTRAP_SERVER",
        default_value = "127.0.0.1:9094"
    )]
    pub(crate) bootstrap_server: String,
    /// Find the controller in the registry instead of through a broker
    #[arg(long, global = true, help_heading = COMMON, value_name = "HOST:PORT,.../CHROOT")]
    pub(crate) zookeeper: Option<String>,
    /// How answers are printed
    #[arg(long, global = true, help_heading = COMMON, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// How long to try before giving up
    #[arg(long, global = true, help_heading = COMMON, value_name = "MS", default_value_t = 5_000)]
    pub(crate) timeout_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, in Kafka's line formats where there are any
    Text,
    /// One JSON document
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) action: TopicsAction,
}

/// One or more topics, by position or by option.
#[derive(Debug, Args)]
pub(crate) struct TopicNames {
    /// Topics
    #[arg(value_name = "TOPIC")]
    positional: Vec<String>,
    /// Topics, separated by commas
    #[arg(long = "topic", value_name = "TOPIC", value_delimiter = ',')]
    option: Vec<String>,
}

impl TopicNames {
    pub(crate) fn all(&self) -> Vec<String> {
        self.positional.iter().chain(&self.option).cloned().collect()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsAction {
    /// Print the names of all topics
    List,
    /// Create topics
    Create(CreateTopics),
    /// Describe topics and their partitions; all when none is named
    Describe(DescribeTopics),
    /// Delete topics with everything in them
    Delete(DeleteTopics),
    /// Give topics more partitions
    Alter(AlterTopics),
    /// Delete the records of partitions before an offset; what remains begins there
    #[command(alias = "trim-prefix", after_help = DELETE_RECORDS_HELP)]
    DeleteRecords(DeleteRecords),
}

#[derive(Debug, Args)]
pub(crate) struct CreateTopics {
    #[command(flatten)]
    pub(crate) names: TopicNames,
    /// Number of partitions [default: num.partitions of the controller]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) partitions: i32,
    /// Replicas of each partition [default: default.replication.factor of the controller]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) replication_factor: i32,
    /// Override a configuration key
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) config: Vec<String>,
    /// Brokers of each partition: `1:2,2:3` puts partition 0 on 1 and 2, partition 1 on 2 and 3
    #[arg(long, value_name = "ID:ID,...", conflicts_with_all = ["partitions", "replication_factor"])]
    pub(crate) replica_assignment: Option<String>,
    /// Do nothing where the topic exists
    #[arg(long)]
    pub(crate) if_not_exists: bool,
    /// Check everything and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeTopics {
    #[command(flatten)]
    pub(crate) names: TopicNames,
    #[command(flatten)]
    pub(crate) only: OnlyPartitions,
    /// Only topics with overrides, without their partitions
    #[arg(long)]
    pub(crate) topics_with_overrides: bool,
}

/// Which partitions are described.
#[derive(Debug, Clone, Copy, Default, Args)]
#[group(multiple = false)]
pub(crate) struct OnlyPartitions {
    /// Only partitions without a live leader
    #[arg(long, visible_alias = "unavailable")]
    pub(crate) unavailable_partitions: bool,
    /// Only partitions with fewer replicas in sync than they have
    #[arg(long, visible_alias = "under-replicated")]
    pub(crate) under_replicated_partitions: bool,
    /// Only partitions with fewer replicas in sync than min.insync.replicas: acks=all is refused
    #[arg(long, visible_alias = "under-min-isr")]
    pub(crate) under_min_isr_partitions: bool,
    /// Only partitions with as many replicas in sync as min.insync.replicas: none may fail
    #[arg(long, visible_alias = "at-min-isr")]
    pub(crate) at_min_isr_partitions: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteTopics {
    #[command(flatten)]
    pub(crate) names: TopicNames,
    /// Do nothing where there is no such topic
    #[arg(long)]
    pub(crate) if_exists: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AlterTopics {
    #[command(flatten)]
    pub(crate) names: TopicNames,
    /// Number of partitions after the call
    #[arg(long, value_name = "N")]
    pub(crate) partitions: i32,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteRecords {
    #[command(flatten)]
    pub(crate) names: TopicNames,
    /// Partitions, separated by commas [default: all of the topic]
    #[arg(long, value_name = "P", value_delimiter = ',')]
    pub(crate) partition: Vec<i32>,
    /// Records before this offset go; -1 or `latest`: all there are
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) offset: Option<String>,
    /// Partitions and offsets from a file, as Kafka's delete-records tool takes it; `-` is
    /// standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["offset", "partition", "option", "positional"])]
    pub(crate) offset_json_file: Option<PathBuf>,
    /// Find the partitions and their leaders, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BrokersArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) action: Option<BrokersAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BrokersAction {
    /// List the live brokers
    List,
    /// The same, and the cluster's id and controller
    Describe,
    /// Move every replica off a broker for good, so that it can be taken away
    Drain(Drain),
    /// Let a drained broker take replicas again, and take back what of the drain is not done
    Undrain(Undrain),
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The broker
    #[arg(value_name = "ID")]
    pub(crate) broker: i32,
    #[command(flatten)]
    pub(crate) pace: Pace,
}

#[derive(Debug, Args)]
pub(crate) struct Undrain {
    /// The broker
    #[arg(value_name = "ID")]
    pub(crate) broker: i32,
    /// Wait until the partitions have the replicas they had
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) action: GroupsAction,
}

/// One or more groups, by position or by option.
#[derive(Debug, Args)]
pub(crate) struct GroupNames {
    /// Groups
    #[arg(value_name = "GROUP")]
    positional: Vec<String>,
    /// Groups, separated by commas
    #[arg(long = "group", value_name = "GROUP", value_delimiter = ',')]
    option: Vec<String>,
    /// Which kind, where both have a group of the name
    #[arg(long, value_enum)]
    pub(crate) kind: Option<Kind>,
}

/// Who keeps a group together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Its members, in the registry
    Zookeeper,
    /// A broker: groups of Kafka's consumers, and of ours with membership=broker
    Broker,
}

impl GroupNames {
    pub(crate) fn all(&self) -> Vec<String> {
        self.positional.iter().chain(&self.option).cloned().collect()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupsAction {
    /// List all groups, of both kinds
    List,
    /// Offsets, lag and owners of a group's partitions
    Describe(DescribeGroups),
    /// Set where a group without live members goes on
    ResetOffsets(ResetOffsets),
    /// Delete groups without live members, with their offsets
    Delete {
        #[command(flatten)]
        names: GroupNames,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DescribeGroups {
    #[command(flatten)]
    pub(crate) names: GroupNames,
    /// All groups
    #[arg(long)]
    pub(crate) all_groups: bool,
    /// The members instead of the partitions
    #[arg(long)]
    pub(crate) members: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResetOffsets {
    #[command(flatten)]
    pub(crate) names: GroupNames,
    /// Topic, or topic and partitions: `logs` or `logs:0,3`
    #[arg(long = "topic", value_name = "TOPIC[:P,P]")]
    pub(crate) topics: Vec<String>,
    /// All topics that the group has offsets of
    #[arg(long, conflicts_with = "topics")]
    pub(crate) all_topics: bool,
    #[command(flatten)]
    pub(crate) to: ResetTo,
    /// Do it; without this, what would be done is printed
    #[arg(long)]
    pub(crate) execute: bool,
    /// Only print what would be done (the default)
    #[arg(long, conflicts_with = "execute")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ResetTo {
    /// To the oldest message there is
    #[arg(long)]
    pub(crate) to_earliest: bool,
    /// Past the newest message
    #[arg(long)]
    pub(crate) to_latest: bool,
    /// To this offset, within what there is
    #[arg(long, value_name = "OFFSET")]
    pub(crate) to_offset: Option<i64>,
    /// To the first message of this time or later, in milliseconds since 1970
    #[arg(long, value_name = "MS")]
    pub(crate) to_timestamp: Option<i64>,
    /// Forward by so many messages, backward if negative
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) shift_by: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigsArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) action: ConfigsAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EntityType {
    /// Topics
    Topics,
    /// Brokers
    Brokers,
    /// Clients
    Clients,
}

/// What is configured.
#[derive(Debug, Args)]
pub(crate) struct Entity {
    /// A topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// A broker, by id
    #[arg(long, value_name = "ID", conflicts_with = "topic")]
    broker: Option<String>,
    /// A client, by client id
    #[arg(long, value_name = "CLIENT-ID", conflicts_with_all = ["topic", "broker"])]
    client: Option<String>,
    /// Kind of what is configured
    #[arg(long, value_enum, conflicts_with_all = ["topic", "broker", "client"])]
    entity_type: Option<EntityType>,
    /// Its name
    #[arg(long, value_name = "NAME", requires = "entity_type")]
    entity_name: Option<String>,
}

impl Entity {
    /// Kind and name; topics when no kind is given.
    pub(crate) fn get(&self) -> (EntityType, Option<String>) {
        if let Some(kind) = self.entity_type {
            return (kind, self.entity_name.clone());
        }
        match (&self.topic, &self.broker, &self.client) {
            (_, Some(broker), _) => (EntityType::Brokers, Some(broker.clone())),
            (_, _, Some(client)) => (EntityType::Clients, Some(client.clone())),
            (topic, None, None) => (EntityType::Topics, topic.clone()),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigsAction {
    /// Print the overrides of one resource, or of all that have any
    Describe {
        #[command(flatten)]
        entity: Entity,
        /// Also the keys that are not overridden
        #[arg(long)]
        all: bool,
    },
    /// Set or remove overrides
    Alter {
        #[command(flatten)]
        entity: Entity,
        /// Set keys
        #[arg(long, visible_alias = "set", value_name = "KEY=VALUE,...", value_delimiter = ',')]
        add_config: Vec<String>,
        /// Remove keys: the default holds again
        #[arg(long, visible_alias = "remove", value_name = "KEY,...", value_delimiter = ',')]
        delete_config: Vec<String>,
    },
}
