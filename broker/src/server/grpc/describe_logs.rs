//! `BrokerControl.DescribeLogs`: the state of directories and logs, as messages.

use std::sync::Arc;

use hyper::body::Incoming;
use proto::{ErrorCode, v1};
use tonic::Status;

use super::requests::Requests;
use super::watch::StreamGuard;
use super::{ResponseBody, Services, wire};
use crate::storage::{DamagedRange, DirectoryState, LogState};

/// Ranges of one log that are told; a log with more has them in its `damaged-ranges` file.
const RANGES_MAX: usize = 100;

/// `DescribeLogs`.
pub(super) async fn answer(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Result<http::Response<ResponseBody>, Status> {
    let request: v1::DescribeLogsRequest = Requests::small(body, guard).only().await?;
    let directories = services.api.describe_logs(&request.topics).iter().map(directory).collect();
    Ok(wire::answer_message(&v1::DescribeLogsResponse { directories }))
}

fn directory(state: &DirectoryState) -> v1::LogDirectory {
    v1::LogDirectory {
        path: state.path.display().to_string(),
        error: state.failed.as_deref().map(|cause| {
            let remedy = "check the disk and the kernel's log, then restart the broker";
            ErrorCode::KafkaStorageError.to_message(cause, remedy)
        }),
        logs: state.logs.iter().map(log).collect(),
    }
}

fn log(state: &LogState) -> v1::StoredLog {
    v1::StoredLog {
        topic: state.partition.topic.to_string(),
        topic_id: state.topic_id.to_bytes(),
        partition: state.partition.partition,
        log_start_offset: state.log_start.0,
        high_watermark: state.high_watermark.0,
        flushed_offset: state.flushed.0,
        log_end_offset: state.log_end.0,
        size_bytes: state.size,
        segments: u32::try_from(state.segments).unwrap_or(u32::MAX),
        error: state.offline.as_deref().map(|cause| {
            let remedy = "see the broker's log; repair the disk and restart the broker";
            ErrorCode::KafkaStorageError.to_message(cause, remedy)
        }),
        damaged: state.damaged.iter().take(RANGES_MAX).map(damaged).collect(),
        damaged_ranges: u32::try_from(state.damaged.len()).unwrap_or(u32::MAX),
    }
}

fn damaged(range: &DamagedRange) -> v1::DamagedRange {
    v1::DamagedRange {
        from_offset: range.from.0,
        to_offset: range.to.0,
        segment: range.segment.0,
        position: range.position,
        end_position: range.end_position,
    }
}
