//! Counters of the broker. Counting is one relaxed atomic addition; how they are printed is `http`'s
//! business.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds, or with a negative amount takes away; returns the new value.
    pub fn add(&self, amount: i64) -> i64 {
        self.0.fetch_add(amount, Ordering::Relaxed) + amount
    }

    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($( $field:ident: $kind:ident, $name:literal, $help:literal; )*) => {
        /// Every counter and gauge of the process.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $( #[doc = $help] pub $field: $kind, )*
        }

        impl Metrics {
            /// Calls `visit(name, type, help, value)` for each, in the order of their names here.
            pub fn each(&self, mut visit: impl FnMut(&str, &str, &str, i64)) {
                $( visit($name, metrics!(@ $kind), $help, self.$field.get() as i64); )*
            }
        }
    };
    (@ Counter) => { "counter" };
    (@ Gauge) => { "gauge" };
}

metrics! {
    produce_requests: Counter, "ottla_produce_requests_total", "Produce requests taken.";
    produce_bytes: Counter, "ottla_produce_bytes_total", "Bytes of record batches appended.";
    produce_records: Counter, "ottla_produce_records_total", "Records appended.";
    produce_errors: Counter, "ottla_produce_errors_total", "Produce requests refused.";
    fetch_rounds: Counter, "ottla_fetch_rounds_total", "Fetch rounds answered.";
    fetch_bytes: Counter, "ottla_fetch_bytes_total", "Bytes of record batches sent to consumers.";
    replica_bytes_out: Counter, "kafka_server_brokertopicmetrics_replicationbytesout_total", "Bytes of record batches sent to followers.";
    fetch_errors: Counter, "ottla_fetch_errors_total", "Fetch handles refused.";
    fetch_cold_reads: Counter, "ottla_fetch_cold_reads_total", "Fetched ranges that had to come from the disk.";
    fetch_verifications: Counter, "ottla_fetch_verifications_total", "Batches checked from the disk because a client doubted them.";
    fetch_positions_kept: Counter, "ottla_fetch_positions_kept_total", "Partitions of Kafka clients' fetch requests that were read on where the one before ended, without looking anything up.";
    fetch_positions_opened: Counter, "ottla_fetch_positions_opened_total", "Partitions of Kafka clients' fetch requests that were looked up.";
    fetch_sessions: Gauge, "kafka_server_fetchsessioncache_numincrementalfetchsessions", "Fetch sessions of Kafka clients.";
    fetch_session_partitions: Gauge, "kafka_server_fetchsessioncache_numincrementalfetchpartitionscached", "Partitions in those sessions.";
    fetch_session_evictions: Counter, "kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total", "Fetch sessions that went to make room for others.";
    appends: Counter, "ottla_appends_total", "Writes to partitions, each for all requests queued.";
    recoded_batches: Counter, "ottla_recoded_batches_total", "Batches compressed anew because their topic forces a codec.";
    appends_slow: Counter, "ottla_appends_slow_total", "Writes that took longer than 5 ms.";
    requests: Counter, "ottla_requests_total", "Requests of any kind.";
    queued_bytes: Gauge, "ottla_queued_bytes", "Bytes of produce requests taken and not yet appended.";
    charged_bytes: Gauge, "ottla_charged_bytes", "Bytes of decoded requests and of answers of Kafka's protocol that are held now, short ones left out.";
    produce_purgatory: Gauge, "ottla_produce_purgatory_size", "Produce requests that are appended and wait for replicas.";
    isr_shrinks: Counter, "kafka_server_replicamanager_isrshrinks_total", "Times that a replica left the ISR of a partition led here.";
    isr_expands: Counter, "kafka_server_replicamanager_isrexpands_total", "Times that a replica joined the ISR of a partition led here.";
    isr_update_failures: Counter, "kafka_server_replicamanager_failedisrupdates_total", "Changes of an ISR that the registry refused or could not take.";
    connections: Gauge, "ottla_connections", "Open connections.";
    connections_accepted: Counter, "ottla_connections_accepted_total", "Connections accepted.";
    connections_moved: Counter, "ottla_connections_moved_total", "Times that a connection went from one data thread to another, to be served where it is woken from, or back.";
    connections_refused: Counter, "ottla_connections_refused_total", "Connections closed at once because max.connections or max.connections.per.ip was reached.";
    connections_faulty: Counter, "ottla_connections_faulty_total", "Connections of Kafka's protocol ended because of what the peer sent, or of how its socket broke; the log names some of them.";
    connections_stalled: Counter, "ottla_connections_stalled_total", "Connections cut off because the peer took or sent nothing for socket.stalled.timeout.ms, or next to nothing for longer.";
    parked_fetches: Gauge, "ottla_parked_fetches", "Fetch rounds waiting for records.";
    partitions: Gauge, "ottla_partitions", "Partitions stored here.";
    partitions_led: Gauge, "ottla_partitions_led", "Partitions led by this broker.";
    sessions: Counter, "ottla_zookeeper_sessions_total", "Sessions made with the registry.";
    session_connected: Gauge, "ottla_zookeeper_connected", "1 while the session with the registry is connected.";
    replica_fetchers: Gauge, "ottla_replica_fetchers", "Threads that fetch from leaders.";
    replica_max_lag: Gauge, "kafka_server_replicafetchermanager_maxlag", "Offsets that the partition which is furthest behind its leader lacks.";
    replica_failed_partitions: Gauge, "kafka_server_replicafetchermanager_failedpartitionscount", "Followed partitions that are not fetched now because of an error.";
    replica_fetchers_dead: Gauge, "kafka_server_replicafetchermanager_deadthreadcount", "Fetcher threads that do not run.";
    replica_fetcher_restarts: Counter, "ottla_replica_fetcher_restarts_total", "Fetchers that failed and were set going again.";
    replica_bytes_in: Counter, "kafka_server_brokertopicmetrics_replicationbytesin_total", "Bytes of record batches fetched from leaders and appended.";
    replica_records_in: Counter, "ottla_replica_records_in_total", "Records fetched from leaders and appended.";
    replica_fetch_failures: Counter, "ottla_replica_fetch_failures_total", "Connections to leaders that broke, partitions they refused and answers that could not be appended.";
    replica_corrupt_answers: Counter, "ottla_replica_corrupt_answers_total", "Answers of leaders whose bytes did not hold; none was appended.";
    replica_truncations: Counter, "ottla_replica_truncations_total", "Times that a log was cut back to where it agrees with its leader's.";
    replica_truncated_records: Counter, "ottla_replica_truncated_records_total", "Records cut off by that.";
    replica_restarts: Counter, "ottla_replica_restarts_total", "Times that a log began anew because its leader has nothing that old any more.";
    replica_throttled_rate: Gauge, "ottla_replica_throttled_rate_bytes", "Bytes a second that replicas which are behind may fetch now; 0: no limit.";
    replica_refilling: Gauge, "ottla_replica_refilling_partitions", "Replicas that are behind and catch up, throttled (follower.replication.throttled.rate).";
    replica_refill_left: Gauge, "ottla_replica_refill_offsets_left", "Offsets that they lack together.";
    cluster_updates: Counter, "ottla_cluster_updates_total", "Updates taken from the controller.";
    cluster_rereads: Counter, "ottla_cluster_rereads_total", "Whole reads of the registry.";
}

impl Counter {
    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }
}
