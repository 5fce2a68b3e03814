//! `follower.replication.throttled.rate` as it is set now: an override, which a reassignment with a
//! throttle makes, or what this broker's own settings say.

use proto::BrokerId;

use super::metadata::MetadataCache;
use crate::replication::follower::Fetchers;

/// Tells the fetchers the rate whenever it changes. Ends with the last writer of the image.
pub(super) async fn follow(
    id: BrokerId,
    own: Option<u64>,
    metadata: &MetadataCache,
    fetchers: &Fetchers,
) {
    let mut changes = metadata.changes();
    let mut told = own;
    loop {
        let now = metadata.image().throttled_rate(id, own);
        if now != told {
            tracing::info!(bytes_per_s = now, "rate of replicas that are not in sync");
            fetchers.set_throttled_rate(now);
            told = now;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
