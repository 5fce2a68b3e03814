//! A warning where groups of both kinds share a name and members: they know nothing of each other, so
//! that each reads everything. Whoever cannot be asked is taken to have nothing to say.

use std::sync::Arc;
use std::time::Duration;

use proto::client::{ClientError, Cluster, Connection};
use proto::v1;
use proto::v1::admin_client::AdminClient;
use proto::v1::groups_client::GroupsClient;

use crate::config::Membership;
use crate::shared::Shared;

/// Nobody waits for the answer.
const WITHIN: Duration = Duration::from_secs(10);

/// Asks once, and warns.
pub(super) async fn warn(shared: Arc<Shared>, cluster: Cluster, group: String) {
    let (asked, other) = match shared.config.membership {
        Membership::Broker => (in_registry(&cluster, &group).await, "zookeeper"),
        Membership::ZooKeeper => (at_brokers(&cluster, &group).await, "broker"),
    };
    if asked > 0 {
        tracing::warn!(
            group,
            members = asked,
            "a group of this name has live members with membership={other}, too: each of the two \
             reads everything; give one of them another name"
        );
    }
}

/// Live members of the registry's group.
async fn in_registry(cluster: &Cluster, group: &str) -> usize {
    let request = v1::DescribeGroupRequest { name: group.to_owned() };
    let asked = cluster.ask_any(move |connection: Connection| {
        let request = request.clone();
        async move {
            let address = connection.address().to_owned();
            let answer = AdminClient::new(connection).describe_group(request).await;
            answer.map_err(|status| ClientError::Refused { address, status })
        }
    });
    match tokio::time::timeout(WITHIN, asked).await {
        Ok(Ok(answer)) => answer.into_inner().members.len(),
        _ => 0,
    }
}

/// Members that a broker coordinates. Every broker is asked, not the coordinator: looking for that would
/// have the topic of groups created.
async fn at_brokers(cluster: &Cluster, group: &str) -> usize {
    let mut known = cluster.subscribe();
    let known = tokio::time::timeout(WITHIN, known.wait_for(|known| !known.brokers.is_empty()));
    let Ok(Ok(metadata)) = known.await.map(|known| known.map(|known| Arc::clone(&known))) else {
        return 0;
    };
    let mut members = 0;
    for id in metadata.brokers.keys() {
        let Ok(connection) = cluster.connection(*id).await else { continue };
        let request = v1::DescribeCoordinatedRequest { group: group.to_owned() };
        let mut client = GroupsClient::new(connection);
        if let Ok(Ok(answer)) = tokio::time::timeout(WITHIN, client.describe(request)).await {
            members += answer.into_inner().members.len();
        }
    }
    members
}
