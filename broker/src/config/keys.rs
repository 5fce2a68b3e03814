//! The table of every key: name, what it takes, default, meaning. The only place a key is named
//! together with its default; `broker config show` prints this table.

use proto::client::BusyPoll;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// A whole number within bounds, both inclusive.
    Int { min: i64, max: i64 },
    /// A number from 0 to 1.
    Ratio,
    /// `true` or `false`.
    Bool,
    /// One of a fixed set of words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// `HOST:PORT`; port 0 picks a free one.
    Address,
    /// `NAME://HOST:PORT`, several separated by commas; without a name `PLAINTEXT`; empty: none.
    Listeners,
    /// One or more paths, separated by commas (or a TOML array).
    Paths,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name, Kafka's where Kafka has it.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// The default as text; empty where it is worked out at start (the documentation says how).
    pub(crate) default: &'static str,
    /// Meaning, unit and consequences.
    pub(crate) doc: &'static str,
}

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

const FOREVER: i64 = i64::MAX;
const DAY_MS: i64 = 86_400_000;
const GIB: i64 = 1 << 30;

macro_rules! keys {
    ($( $name:literal $kind:expr, $default:literal, $doc:literal; )*) => {
        /// Every key of a broker, in the order `config show` prints them.
        pub(crate) const KEYS: &[Key] =
            &[ $( Key { name: $name, kind: $kind, default: $default, doc: $doc }, )* ];
    };
}

keys! {
    // Who it is and where it listens.
    "broker.id" int(0, 2_147_483_647), "1",
        "Number of this broker, unique in the cluster. A data directory keeps the first one it was used with.";
    "broker.rack" Kind::Text, "",
        "Rack or zone of this broker: replicas are spread over racks.";
    "listen.grpc" Kind::Address, "127.0.0.1:9094",
        "Where clients and the controller connect.";
    "listen.http" Kind::Address, "127.0.0.1:9095",
        "Where /metrics, /healthz and /readyz are served.";
    "advertised.grpc" Kind::Text, "",
        "HOST:PORT other processes reach this broker under. Empty: listen.grpc, with this machine's name where that is a wildcard.";
    "listeners" Kind::Listeners, "",
        "Where Kafka clients connect: NAME://HOST:PORT, several separated by commas; HOST:PORT alone is PLAINTEXT. A client is sent to the listeners of the same name on other brokers. Empty: Kafka's protocol is not spoken. PLAINTEXT://127.0.0.1:9092 in `broker dev`.";
    "advertised.listeners" Kind::Listeners, "",
        "NAME://HOST:PORT that Kafka clients reach the listeners under. A listener not named here: this broker tells clients the address they came in on, and other brokers tell its HOST:PORT, with this machine's name where that is a wildcard.";
    "zookeeper.connect" Kind::Text, "127.0.0.1:2181/ottla",
        "Members of the ZooKeeper ensemble and the chroot of this cluster: host:port,host:port/chroot.";
    "zookeeper.clients.connect" Kind::Text, "",
        "Connect string told to consumers; empty: zookeeper.connect.";
    "zookeeper.session.timeout.ms" int(400, 600_000), "6000",
        "Milliseconds without a sign of life after which the ensemble takes this broker for dead.";

    // Where and how partitions are stored. Topics override what has a topic-level key.
    "log.dirs" Kind::Paths, ".ottla/broker",
        "Directories for partitions; a new partition goes to the one with the fewest.";
    "log.min.free.bytes" int(0, FOREVER), "1073741824",
        "Bytes that are to stay free on the file system of a log directory: below, produce to its partitions is refused while reads, retention and administration go on, until there is a quarter more. The smaller of this and log.min.free.percent counts; 0 leaves this one out.";
    "log.min.free.percent" int(0, 99), "5",
        "The same as hundredths of the file system; 0 leaves this one out, both 0: produce goes on until the disk is full.";
    "log.segment.bytes" int(1_024, 2_147_483_647), "1073741824",
        "Bytes after which a partition starts a new segment (topic: segment.bytes).";
    "log.roll.ms" int(1, FOREVER), "604800000",
        "Milliseconds after its first record, by this broker's clock, after which a segment is closed and a new one started, also where nothing more comes (topic: segment.ms).";
    "log.roll.hours" int(0, 2_147_483_647), "0",
        "The same in hours; 0: not set. Has no effect where log.roll.ms is set.";
    "log.roll.jitter.ms" int(-1, FOREVER), "-1",
        "A segment is closed up to so many milliseconds earlier, each by another amount, so that many partitions do not start new segments together; -1: a twentieth of log.roll.ms (topic: segment.jitter.ms).";
    "log.index.interval.bytes" int(0, GIB), "4096",
        "Bytes of log between two entries of the offset index (topic: index.interval.bytes).";
    "log.retention.ms" int(-1, FOREVER), "604800000",
        "Milliseconds a record is kept, by whole segments: one goes when its newest record is older. -1: for ever (topic: retention.ms). A timestamp of the future counts as the time of the segment's last append.";
    "log.retention.minutes" int(-1, 2_147_483_647), "0",
        "The same in minutes; -1: for ever, 0: not set. Has no effect where log.retention.ms is set.";
    "log.retention.hours" int(-1, 2_147_483_647), "0",
        "The same in hours; -1: for ever, 0: not set. Has no effect where log.retention.ms or log.retention.minutes is set.";
    "log.retention.bytes" int(-1, FOREVER), "-1",
        "Bytes a partition keeps, by whole segments; -1: no limit (topic: retention.bytes).";
    "log.retention.check.interval.ms" int(10, DAY_MS), "300000",
        "Milliseconds between two looks for segments to delete.";
    "log.segment.delete.delay.ms" int(0, FOREVER), "60000",
        "Milliseconds the files of a deleted topic stay under another name before they go. Segments that retention deletes go at once: answers under way keep their bytes.";
    "log.flush.policy" Kind::Choice(&["os", "interval", "before-ack"]), "interval",
        "When appended records go to the disk (topic: flush). os: when the kernel likes; interval: after the messages or milliseconds below; before-ack: before the producer is answered, many requests sharing one flush.";
    "log.flush.interval.messages" int(1, FOREVER), "10000",
        "Under interval: messages after which a partition is flushed (topic: flush.messages).";
    "log.flush.interval.ms" int(1, FOREVER), "1000",
        "Under interval: milliseconds after which a partition is flushed (topic: flush.ms).";
    "log.expose" Kind::Choice(&["appended", "flushed"]), "appended",
        "What consumers may see (topic: expose). flushed: a message is visible only after its flush, as in the paper.";
    "log.message.timestamp.type" Kind::Choice(&["CreateTime", "LogAppendTime"]), "CreateTime",
        "Whose clock stamps records (topic: message.timestamp.type).";
    "log.message.timestamp.before.max.ms" int(0, FOREVER), "9223372036854775807",
        "A record stamped more milliseconds before this broker's clock is refused (topic: message.timestamp.before.max.ms).";
    "log.message.timestamp.after.max.ms" int(0, FOREVER), "3600000",
        "A record stamped more milliseconds after this broker's clock is refused (topic: message.timestamp.after.max.ms).";
    "compression.type" Kind::Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]), "producer",
        "How batches are stored (topic: compression.type). producer: as the producer compressed them; a codec: with that one, the broker compressing anew what comes otherwise.";
    "compression.gzip.level" Kind::Choice(&["-1", "1", "2", "3", "4", "5", "6", "7", "8", "9"]), "-1",
        "How hard gzip tries where compression.type forces it (topic: compression.gzip.level): 1 fast, 9 small, -1 its default.";
    "compression.zstd.level" int(-131_072, 22), "3",
        "How hard zstd tries where compression.type forces it (topic: compression.zstd.level): the higher, the smaller and slower.";
    "log.cleanup.policy" Kind::Choice(&["delete", "compact", "compact,delete", "delete,compact"]), "delete",
        "What becomes of old records (topic: cleanup.policy).";
    "log.cleaner.min.cleanable.ratio" Kind::Ratio, "0.5",
        "Part of a compacted partition that may be dirty before it is compacted (topic: min.cleanable.dirty.ratio).";
    "log.cleaner.min.compaction.lag.ms" int(0, FOREVER), "0",
        "Milliseconds a record of a compacted topic stays whatever comes after it (topic: min.compaction.lag.ms).";
    "log.cleaner.max.compaction.lag.ms" int(1, FOREVER), "9223372036854775807",
        "Milliseconds after which a record makes its partition due for compaction (topic: max.compaction.lag.ms).";
    "log.cleaner.delete.retention.ms" int(0, FOREVER), "86400000",
        "Milliseconds a tombstone stays after it was first compacted (topic: delete.retention.ms).";
    "log.cleaner.enable" Kind::Bool, "true",
        "Whether compacted topics are compacted. Off: their logs only grow.";
    "log.cleaner.threads" int(1, 64), "1",
        "Threads that compact.";
    "log.cleaner.backoff.ms" int(1, DAY_MS), "15000",
        "Milliseconds a cleaner thread waits when no partition is due for compaction.";
    "log.cleaner.dedupe.buffer.size" int(65_536, 1_099_511_627_776), "134217728",
        "Bytes for the keys of what is being compacted, all cleaner threads together: 24 bytes a key at the load factor below. Taken only as far as a partition needs it. Keys that do not fit are compacted in further passes.";
    "log.cleaner.io.buffer.load.factor" Kind::Ratio, "0.9",
        "How full the keys' buffer may get, 0.1 to 0.95: fuller holds more keys and looks them up slower.";
    "log.cleaner.io.max.bytes.per.second" int(1_024, FOREVER), "9223372036854775807",
        "Most bytes that cleaners read and write in a second, all threads together. A whole number, unlike Kafka's.";
    "log.mmap.bytes" int(0, FOREVER), "4294967296",
        "Bytes of segments mapped for fetches at one time, over all partitions. Mapped pages are page cache, not memory of the process.";
    "num.recovery.threads.per.data.dir" int(1, 256), "4",
        "Threads that open and check the partitions of each log directory at start, and close them at the end. Directories are worked on side by side.";
    "log.open.files.max" int(0, 10_000_000), "0",
        "Files of segments kept open at one time, over all partitions; others are opened when they are read. Files with unflushed records stay open beyond it. 0: what the limit on open files leaves beside max.connections, at least half of it, at most 32768.";
    "message.max.bytes" int(1_024, 1_073_741_824), "1048588",
        "Largest record batch accepted (topic: max.message.bytes).";

    // Replication.
    "min.insync.replicas" int(1, 2_147_483_647), "1",
        "Replicas that must be in sync, the leader among them, for produce with acks=all to be taken; below it what is appended is not shown to consumers either (topic: min.insync.replicas).";
    "replica.lag.time.max.ms" int(100, DAY_MS), "10000",
        "Milliseconds a follower may go without having caught up with the leader before it leaves the ISR.";
    "num.replica.fetchers" int(1, 64), "1",
        "Threads that fetch from each other broker that leads partitions stored here.";
    "replica.fetch.max.bytes" int(1_024, 1_073_741_824), "1048576",
        "Bytes a follower asks for of one partition at a time; one batch always comes whole.";
    "replica.fetch.response.max.bytes" int(1_024, 1_073_741_824), "10485760",
        "Bytes a follower asks for in one round over all partitions.";
    "replica.fetch.wait.max.ms" int(1, 60_000), "500",
        "Milliseconds a leader may hold a follower's round that has nothing to carry; keep it well below replica.lag.time.max.ms.";
    "replica.fetch.backoff.ms" int(1, 60_000), "200",
        "Milliseconds before a follower asks again after an error.";
    "follower.replication.throttled.rate" int(1_024, FOREVER), "9223372036854775807",
        "Bytes a second that replicas which are not in sync (new ones, and those whose disk was lost) fetch, all of this broker together. Replicas in sync are never throttled.";
    "controlled.shutdown.enable" Kind::Bool, "true",
        "Whether leadership moves to other brokers before this one stops.";

    // Groups of Kafka's consumers.
    "group.initial.rebalance.delay.ms" int(0, DAY_MS), "3000",
        "Milliseconds an empty group waits for more members when the first one joins, and again while they come.";
    "group.min.session.timeout.ms" int(1, 2_147_483_647), "6000",
        "Shortest session timeout a member may ask for, in milliseconds.";
    "group.max.session.timeout.ms" int(1, 2_147_483_647), "1800000",
        "Longest session timeout a member may ask for, in milliseconds.";
    "group.max.size" int(1, 2_147_483_647), "2147483647",
        "Members that a group may have; further ones are refused.";
    "group.coordinator.memory.max.bytes" int(0, FOREVER), "0",
        "Bytes that the groups coordinated here may take in memory; at it, new members, new offsets and larger ones are refused for a while; 0: an eighth of the machine's memory.";
    "offset.metadata.max.bytes" int(0, 32_767), "4096",
        "Bytes a client may note beside an offset it commits.";
    "offsets.commit.timeout.ms" int(1, DAY_MS), "5000",
        "Milliseconds after which a client is told that a commit is not known to have reached all in-sync replicas.";
    "offsets.load.buffer.size" int(1_024, 1_073_741_824), "5242880",
        "Bytes read at a time from a partition of __consumer_offsets when this broker begins to lead it.";
    "offsets.retention.minutes" int(1, 2_147_483_647), "10080",
        "Minutes an offset is kept after its group has become empty, or after its commit where no member reads the topic.";
    "offsets.retention.check.interval.ms" int(1, DAY_MS), "600000",
        "Milliseconds between two looks for offsets that have expired.";
    "offsets.topic.num.partitions" int(1, 10_000), "50",
        "Partitions of __consumer_offsets when it is created. Not to be changed afterwards: groups would be looked for elsewhere.";
    "offsets.topic.replication.factor" int(1, 32_767), "3",
        "Replicas of __consumer_offsets when it is created, which waits until so many brokers are live. A cluster that is to have fewer brokers needs it lower; broker dev has 1.";
    "offsets.topic.segment.bytes" int(1_024, 2_147_483_647), "104857600",
        "Bytes of a segment of __consumer_offsets when it is created: small ones are compacted and read sooner.";

    // What a client may use.
    "num.network.threads" int(0, 256), "0",
        "Threads that serve clients, each with its own connections; one that another thread wakes time and again goes there while both have little to do. 0: one a core.";
    "max.connections" int(0, 10_000_000), "0",
        "Connections served at one time; one more is closed at once. 0: from memory, one for every 16 MiB, at least 256.";
    "max.connections.per.ip" int(1, 2_147_483_647), "2147483647",
        "Connections served at one time from one address, over both protocols; one more is closed at once. Brokers and clients behind one address share it.";
    "max.streams.per.connection" int(1, 100_000), "256",
        "Requests and streams open at one time on a connection.";
    "socket.request.max.bytes" int(1_024, 1_073_741_824), "67108864",
        "Largest request accepted.";
    "queued.max.bytes" int(0, FOREVER), "0",
        "Bytes of requests taken from clients and not yet done with. Above it no new request is read until others are done. As much again may be held of what Kafka clients' requests and answers take in memory. 0: a sixteenth of memory, 16 MiB to 256 MiB.";
    "socket.congestion.control" Kind::Text, "auto",
        "TCP congestion control of accepted connections: auto (reno where the peer is loopback, which bbr paces needlessly; else the system's), os, or a name the kernel knows.";
    "busy.poll.us" int(0, BusyPoll::MICROS_MAX as i64), "0",
        "Microseconds a data thread looks for more after traffic before it sleeps. Takes tens of microseconds off each wake-up (20 to 50 will do on one machine) and costs a core while there is traffic; stops by itself where nothing comes within the time. 0: off.";
    "socket.stalled.timeout.ms" int(100, DAY_MS), "30000",
        "Milliseconds after which a peer that takes no byte of its answer, sends half a request and no more, or does not answer pings is cut off.";
    "connections.max.idle.ms" int(1_000, FOREVER), "600000",
        "Milliseconds without a request or an open stream after which a connection is closed.";
    "max.incremental.fetch.session.cache.slots" int(0, 100_000), "1000",
        "Fetch sessions of Kafka clients kept at one time; a client without one names all its partitions with each request. 0: none.";
    "fetch.max.bytes" int(1_024, 1_073_741_824), "57671680",
        "Most bytes in one round of a fetch, whatever the client asks; one batch is always sent whole.";
    "fetch.max.wait.ms" int(0, 3_600_000), "30000",
        "Longest wait of a long poll, whatever the client asks.";
    "request.timeout.ms" int(100, 3_600_000), "30000",
        "How long a produce request is held for its acknowledgement when it names no time.";
    "auto.create.topics.enable" Kind::Bool, "false",
        "Create a topic when a client that may ask for it (allow_auto_create) asks for its metadata. On in `broker dev`.";
}

/// The key of a name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known name that is most like an unknown one, if any is like it at all.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|key| (strsim::jaro_winkler(key.name, name), key.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
