//! A log's settings from topic-level keys: the broker's defaults, then the topic's overrides.

use std::collections::BTreeMap;

use super::TopicDefaults;
use crate::storage::{
    CleanupPolicy, Compression, CompressionPolicy, Expose, FlushPolicy, LogConfig, TimestampType,
};

/// The settings of a topic's logs. The controller has checked overrides before it wrote them; one
/// that this version does not understand is reported and has no effect.
pub fn log_config(
    defaults: &TopicDefaults,
    overrides: Option<&BTreeMap<String, String>>,
) -> LogConfig {
    let mut config = LogConfig::default();
    for (key, value) in &defaults.values {
        apply(&mut config, key, value);
    }
    for (key, value) in overrides.into_iter().flatten() {
        if !apply(&mut config, key, value) {
            tracing::warn!(key, value, "topic setting not understood; it has no effect");
        }
    }
    config
}

fn apply(config: &mut LogConfig, key: &str, value: &str) -> bool {
    let unlimited = |value: &str| match value.parse::<i64>() {
        Ok(-1) => Some(None),
        Ok(number) => u64::try_from(number).ok().map(Some),
        Err(_) => None,
    };
    let lag = |value: &str| {
        let lag = value.parse::<u64>().ok()?;
        Some(Some(lag).filter(|&lag| lag < i64::MAX as u64))
    };
    match key {
        "segment.bytes" => set(&mut config.segment_bytes, value.parse().ok()),
        "segment.jitter.ms" => set(&mut config.segment_jitter_ms, unlimited(value)),
        "segment.ms" => set(&mut config.segment_ms, value.parse().ok()),
        "index.interval.bytes" => set(&mut config.index_interval_bytes, value.parse().ok()),
        "retention.ms" => set(&mut config.retention_ms, unlimited(value)),
        "retention.bytes" => set(&mut config.retention_bytes, unlimited(value)),
        "flush" => set(&mut config.flush, flush_policy(value)),
        "flush.messages" => set(&mut config.flush_messages, value.parse().ok()),
        "flush.ms" => set(&mut config.flush_ms, value.parse().ok()),
        "expose" => set(&mut config.expose, expose(value)),
        "max.message.bytes" => set(&mut config.max_message_bytes, value.parse().ok()),
        "message.timestamp.type" => set(&mut config.message_timestamp_type, timestamp_type(value)),
        "message.timestamp.before.max.ms" => {
            set(&mut config.message_timestamp_before_max_ms, lag(value))
        }
        "message.timestamp.after.max.ms" => {
            set(&mut config.message_timestamp_after_max_ms, lag(value))
        }
        "cleanup.policy" => set(&mut config.cleanup_policy, cleanup_policy(value)),
        "min.cleanable.dirty.ratio" => {
            set(&mut config.min_cleanable_dirty_ratio, value.parse().ok())
        }
        "min.compaction.lag.ms" => set(&mut config.min_compaction_lag_ms, value.parse().ok()),
        "max.compaction.lag.ms" => set(&mut config.max_compaction_lag_ms, lag(value)),
        "min.insync.replicas" => set(&mut config.min_insync_replicas, value.parse().ok()),
        // Only the controller goes by it.
        "unclean.leader.election.enable" => value.parse::<bool>().is_ok(),
        "delete.retention.ms" => set(&mut config.delete_retention_ms, value.parse().ok()),
        "compression.type" => set(&mut config.compression, compression(value)),
        "compression.gzip.level" => set(
            &mut config.compression_gzip_level,
            value.parse().ok().map(|level: i32| (level > 0).then_some(level)),
        ),
        "compression.zstd.level" => set(&mut config.compression_zstd_level, value.parse().ok()),
        _ => false,
    }
}

fn cleanup_policy(value: &str) -> Option<CleanupPolicy> {
    let mut policy = CleanupPolicy { delete: false, compact: false };
    for word in value.split(',').map(str::trim) {
        match word {
            "delete" => policy.delete = true,
            "compact" => policy.compact = true,
            _ => return None,
        }
    }
    Some(policy)
}

fn compression(value: &str) -> Option<CompressionPolicy> {
    match value {
        "producer" => Some(CompressionPolicy::Producer),
        "uncompressed" => Some(CompressionPolicy::Forced(Compression::None)),
        "none" => None,
        codec => codec.parse().ok().map(CompressionPolicy::Forced),
    }
}

fn set<T>(field: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            *field = value;
            true
        }
        None => false,
    }
}

fn flush_policy(value: &str) -> Option<FlushPolicy> {
    match value {
        "os" => Some(FlushPolicy::Os),
        "interval" => Some(FlushPolicy::Interval),
        "before-ack" => Some(FlushPolicy::BeforeAck),
        _ => None,
    }
}

fn expose(value: &str) -> Option<Expose> {
    match value {
        "appended" => Some(Expose::Appended),
        "flushed" => Some(Expose::Flushed),
        _ => None,
    }
}

fn timestamp_type(value: &str) -> Option<TimestampType> {
    match value {
        "CreateTime" => Some(TimestampType::CreateTime),
        "LogAppendTime" => Some(TimestampType::LogAppendTime),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerConfig, Values};

    #[test]
    fn overrides_win_over_the_brokers_defaults() {
        let mut values = Values::default();
        values.read_assignment("log.segment.bytes=2048").unwrap();
        values.read_assignment("log.flush.policy=os").unwrap();
        values.read_assignment("log.retention.ms=-1").unwrap();
        let defaults = BrokerConfig::new(&values, 1 << 30, 1).topics;
        let overrides = BTreeMap::from([
            ("flush".to_owned(), "before-ack".to_owned()),
            ("retention.bytes".to_owned(), "5000".to_owned()),
            ("no.such.key".to_owned(), "1".to_owned()),
        ]);
        let config = log_config(&defaults, Some(&overrides));
        assert_eq!(config.segment_bytes, 2048);
        assert_eq!(config.flush, FlushPolicy::BeforeAck);
        assert_eq!((config.retention_ms, config.retention_bytes), (None, Some(5000)));
    }

    #[test]
    fn retention_and_rolls_in_longer_units_stand_back_behind_shorter_ones() {
        let told = |assignments: &[&str]| {
            let mut values = Values::default();
            assignments.iter().for_each(|text| values.read_assignment(text).unwrap());
            let config = log_config(&BrokerConfig::new(&values, 1 << 30, 1).topics, None);
            (config.retention_ms, config.segment_ms)
        };
        const WEEK: u64 = 7 * 86_400_000;
        assert_eq!(told(&[]), (Some(WEEK), WEEK));
        assert_eq!(told(&["log.retention.hours=2"]), (Some(7_200_000), WEEK));
        let hours = ["log.retention.hours=2", "log.retention.minutes=5", "log.roll.hours=1"];
        assert_eq!(told(&hours), (Some(300_000), 3_600_000));
        let all = [hours[0], hours[1], "log.retention.ms=604800000", hours[2], "log.roll.ms=7"];
        assert_eq!(told(&all), (Some(WEEK), 7));
        assert_eq!(told(&["log.retention.hours=-1"]).0, None);
        assert_eq!(told(&["log.retention.hours=2147483647"]).0, Some(2_147_483_647 * 3_600_000));
    }

    #[test]
    fn every_default_of_the_broker_reaches_the_log() {
        let defaults = BrokerConfig::new(&Values::default(), 1 << 30, 1).topics;
        let mut config = LogConfig::default();
        for (key, value) in &defaults.values {
            assert!(apply(&mut config, key, value), "{key} = {value}");
        }
        assert_eq!(config, LogConfig::default());
    }
}
