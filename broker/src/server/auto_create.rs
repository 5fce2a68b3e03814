//! Topics that a client asks for and that are not there: created where `auto.create.topics.enable`
//! and the client allow it.

use std::collections::HashSet;
use std::time::Duration;

use super::Services;
use crate::api::Wanted;
use crate::api::groups::{GroupError, OFFSETS_TOPIC};

/// How long a topic that was just created may take to be known here.
const CREATED_WITHIN: Duration = Duration::from_secs(5);

/// Creates the topics that are missing and waits until they are known here. What fails is left
/// out: the answer says that the topic does not exist.
pub(super) async fn create_missing(services: &Services, names: &[String]) {
    let mut changes = services.api.metadata_changes();
    let view = services.api.metadata(&Wanted::Named(names.to_vec()));
    let mut awaited = HashSet::new();
    for (name, _) in view.topics.into_iter().filter_map(Result::err) {
        if name == OFFSETS_TOPIC {
            // Compacted, with settings of its own: whoever asks for a group has it created.
            if let Ok(groups) = services.api.groups() {
                let found = groups.find_coordinator("");
                if found != Err(GroupError::TooFewBrokers) {
                    awaited.insert(name);
                }
            }
            continue;
        }
        match services.controller.create_topic(&name).await {
            Ok(()) => {
                tracing::info!(topic = name, "topic created because a client asked for it");
                awaited.insert(name);
            }
            Err(status) => {
                tracing::info!(topic = name, cause = status.message(), "topic not created");
            }
        }
    }
    let known = async {
        loop {
            let view = services.api.metadata(&Wanted::Named(awaited.iter().cloned().collect()));
            if view.topics.iter().all(Result::is_ok) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    if tokio::time::timeout(CREATED_WITHIN, known).await.is_err() {
        tracing::warn!("topics were created and are not known here yet");
    }
}
