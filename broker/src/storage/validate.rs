//! Whether a leader takes the timestamps of what a producer sends
//! (`message.timestamp.before.max.ms`, `message.timestamp.after.max.ms`, KIP-937).
//!
//! Only under `CreateTime`: with `LogAppendTime` the producer's stamps are written over. A record
//! without a timestamp (-1) is always taken.
//!
//! The bound on the future is checked by the header alone: its base and its largest timestamp. A
//! producer that lies there gains nothing by it, because all that the broker decides by time
//! (retention, rolls, the time index) goes by the header as well. The bound on the past needs the
//! oldest record, which no header has, so that where it is set the records are read, also those
//! that are compressed, and both bounds are checked by record. Followers check nothing: what the
//! leader took is in the log.

use bytes::Bytes;
use proto::record::{
    Batch, BatchDecoder, BatchError, BatchHeader, ChunkedBatches, RecordError, TimestampType,
};

use super::config::{DECOMPRESSED_MAX, LogConfig};
use super::log::Log;

/// Why a batch is not taken for its timestamps.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TimestampError {
    /// Of the future.
    #[error(
        "a record is stamped {timestamp_ms}, {} ms after this broker's clock; the topic takes at \
         most {limit_ms} ms (message.timestamp.after.max.ms)",
        .timestamp_ms.saturating_sub(*.now_ms)
    )]
    TooNew {
        /// The record's.
        timestamp_ms: i64,
        /// The broker's clock.
        now_ms: i64,
        /// The bound.
        limit_ms: u64,
    },
    /// Of the past.
    #[error(
        "a record is stamped {timestamp_ms}, {} ms before this broker's clock; the topic takes at \
         most {limit_ms} ms (message.timestamp.before.max.ms)",
        .now_ms.saturating_sub(*.timestamp_ms)
    )]
    TooOld {
        /// The record's.
        timestamp_ms: i64,
        /// The broker's clock.
        now_ms: i64,
        /// The bound.
        limit_ms: u64,
    },
    /// The records cannot be read, so that nobody knows how old they are.
    #[error("the records cannot be read for their timestamps: {0}")]
    Unreadable(#[from] RecordError),
    /// The bytes are no batches.
    #[error(transparent)]
    Malformed(#[from] BatchError),
}

impl Log {
    /// Checks the timestamps of batches that a producer sent; `chunks` are the bytes of `headers`.
    /// Reads records only where the topic bounds the past.
    pub fn check_timestamps(
        &self,
        headers: &[BatchHeader],
        chunks: &[Bytes],
    ) -> Result<(), TimestampError> {
        check_batches(headers, chunks, &self.config(), self.context.clock.now_ms())
    }
}

fn check_batches(
    headers: &[BatchHeader],
    chunks: &[Bytes],
    config: &LogConfig,
    now_ms: i64,
) -> Result<(), TimestampError> {
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    for header in headers {
        // Without timestamps both are -1.
        check(header.base_timestamp, config, now_ms)?;
        check(header.max_timestamp, config, now_ms)?;
    }
    if config.message_timestamp_before_max_ms.is_none() {
        return Ok(());
    }
    let mut decoder = BatchDecoder::new(DECOMPRESSED_MAX);
    for batch in ChunkedBatches::new(chunks.iter().cloned()) {
        let bytes = batch?.into_bytes();
        let batch = Batch::parse_without_crc(&bytes)?;
        for record in decoder.records(&batch)? {
            check(record?.timestamp, config, now_ms)?;
        }
    }
    Ok(())
}

fn check(timestamp_ms: i64, config: &LogConfig, now_ms: i64) -> Result<(), TimestampError> {
    let ahead = u64::try_from(timestamp_ms.saturating_sub(now_ms)).unwrap_or(0);
    let behind = u64::try_from(now_ms.saturating_sub(timestamp_ms)).unwrap_or(0);
    let after = config.message_timestamp_after_max_ms;
    let before = config.message_timestamp_before_max_ms;
    match (after, before) {
        _ if timestamp_ms < 0 => Ok(()),
        (Some(limit_ms), _) if ahead > limit_ms => {
            Err(TimestampError::TooNew { timestamp_ms, now_ms, limit_ms })
        }
        (_, Some(limit_ms)) if behind > limit_ms => {
            Err(TimestampError::TooOld { timestamp_ms, now_ms, limit_ms })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proto::record::{BatchBuilder, Compression, Compressor, ProducerStamp, check_chunks};

    use super::*;

    const NOW: i64 = 1_000_000_000;

    fn config(before: Option<u64>, after: Option<u64>) -> LogConfig {
        LogConfig {
            message_timestamp_before_max_ms: before,
            message_timestamp_after_max_ms: after,
            ..LogConfig::default()
        }
    }

    fn checked(batch: &Bytes, config: &LogConfig) -> Result<(), TimestampError> {
        // In two chunks, as a connection may bring it.
        let chunks = [batch.slice(..70), batch.slice(70..)];
        check_batches(&check_chunks(&chunks).unwrap(), &chunks, config, NOW)
    }

    fn batch(stamps: &[i64]) -> Bytes {
        let mut builder = BatchBuilder::new(4096);
        for &stamp in stamps {
            builder.append(stamp, None, Some(b"a value"), &[]).unwrap();
        }
        builder.finish(ProducerStamp::NONE)
    }

    #[test]
    fn stamps_of_the_future_are_refused_by_the_header_alone() {
        let hour = config(None, Some(3_600_000));
        checked(&batch(&[NOW, NOW + 3_600_000, -1]), &hour).unwrap();
        let error = checked(&batch(&[NOW, NOW + 3_600_001]), &hour).unwrap_err();
        assert!(matches!(error, TimestampError::TooNew { limit_ms: 3_600_000, .. }));
        assert!(error.to_string().contains("3600001 ms after"), "{error}");
        checked(&batch(&[0, i64::MAX / 2]), &config(None, None)).unwrap();
        checked(&batch(&[NOW, NOW + 1]), &config(None, Some(0))).unwrap_err();
        // Not where the stamps are written over.
        let message_timestamp_type = TimestampType::LogAppendTime;
        let stamping = LogConfig { message_timestamp_type, ..config(Some(0), Some(0)) };
        checked(&batch(&[0, i64::MAX / 2]), &stamping).unwrap();
    }

    #[test]
    fn the_oldest_record_decides_about_the_past_wherever_it_is() {
        let bounded = config(Some(1000), Some(1000));
        checked(&batch(&[NOW - 1000, NOW + 1000, -1]), &bounded).unwrap();
        for stamps in [[NOW - 1001, NOW], [NOW, NOW - 1001]] {
            let error = checked(&batch(&stamps), &bounded).unwrap_err();
            assert!(matches!(error, TimestampError::TooOld { limit_ms: 1000, .. }), "{stamps:?}");
        }
        checked(&batch(&[NOW, 0]), &config(None, Some(1000))).unwrap();
        let mut compressor = Compressor::new(Compression::Gzip, None).unwrap();
        let mut builder = BatchBuilder::new(4096);
        for number in 0..100 {
            let stamp = if number == 57 { NOW - 1001 } else { NOW };
            builder.append(stamp, None, Some(b"the same value again and again"), &[]).unwrap();
        }
        let compressed = builder.finish_compressed(&mut compressor, ProducerStamp::NONE);
        assert!(compressed.len() < 1000);
        let error = checked(&compressed, &bounded).unwrap_err();
        assert!(matches!(error, TimestampError::TooOld { .. }));
    }

    #[test]
    fn a_header_that_lies_is_found_out_where_records_are_read_and_harms_nobody_elsewhere() {
        let honest = batch(&[NOW, NOW + 50_000]);
        let mut header = BatchHeader::parse(&honest).unwrap();
        header.max_timestamp = NOW;
        header.crc = header.compute_crc([&honest[proto::record::HEADER_LEN..]]);
        let mut lying = honest.to_vec();
        lying[..proto::record::HEADER_LEN].copy_from_slice(&header.encode());
        let lying = Bytes::from(lying);
        checked(&lying, &config(None, Some(1000))).unwrap();
        let error = checked(&lying, &config(Some(1000), Some(1000))).unwrap_err();
        assert!(matches!(error, TimestampError::TooNew { .. }));
    }
}
