//! DescribeLogDirs: this broker's directories and the logs in them.

use std::collections::{BTreeMap, HashSet};

use proto::ErrorCode;
use proto::kafka::Str;
use proto::kafka::messages::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};

use super::{Context, NONE};
use crate::storage::DirectoryState;

pub(in super::super) async fn describe_log_dirs(
    context: Context,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let named = request.topics;
    let names: Vec<String> = named.iter().flatten().map(|topic| topic.topic.to_string()).collect();
    let wanted: Option<HashSet<(&str, i32)>> = named.as_ref().map(|named| {
        let each = named.iter();
        each.flat_map(|of| of.partitions.iter().map(|&number| (&*of.topic, number))).collect()
    });
    let is_wanted = |topic: &str, partition: i32| {
        wanted.as_ref().is_none_or(|wanted| wanted.contains(&(topic, partition)))
    };
    let directories = context.services.api.describe_logs(&names);
    let results = directories.into_iter().map(|directory| result(directory, &is_wanted));
    DescribeLogDirsResponse { results: results.collect(), ..Default::default() }
}

fn result(
    directory: DirectoryState,
    is_wanted: &dyn Fn(&str, i32) -> bool,
) -> DescribeLogDirsResult {
    let mut topics: BTreeMap<Str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for log in directory.logs {
        let of = log.partition;
        if !is_wanted(&of.topic, of.partition) {
            continue;
        }
        topics.entry(of.topic).or_default().push(DescribeLogDirsPartition {
            partition_index: of.partition,
            partition_size: i64::try_from(log.size).unwrap_or(i64::MAX),
            // How far a replica is behind is the leader's to tell.
            offset_lag: 0,
            is_future_key: false,
        });
    }
    let bytes = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let error = directory.failed.map_or(NONE, |_| ErrorCode::KafkaStorageError as i16);
    DescribeLogDirsResult {
        error_code: error,
        log_dir: directory.path.display().to_string().into(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| DescribeLogDirsTopic { name, partitions })
            .collect(),
        total_bytes: bytes(directory.space.total),
        usable_bytes: bytes(directory.space.free),
    }
}
