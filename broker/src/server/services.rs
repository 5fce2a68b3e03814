//! What the handlers of both protocols share.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::budget::Budget;
use super::complaints::Complaints;
use super::kafka::FetchSessions;
use super::kafka_endpoints::KafkaEndpoints;
use crate::api::Api;
use crate::cluster::controller_link::ControllerLink;
use crate::cluster::member::Update;
use crate::config::SocketConfig;
use crate::metrics::Metrics;

/// Everything a handler needs; one for all threads.
pub(crate) struct Services {
    pub(in crate::server) api: Arc<Api>,
    pub(in crate::server) config: SocketConfig,
    pub(in crate::server) metrics: Arc<Metrics>,
    pub(in crate::server) budget: Arc<Budget>,
    pub(in crate::server) complaints: Complaints,
    pub(in crate::server) controller: Arc<ControllerLink>,
    /// To the cluster member.
    pub(in crate::server) updates: mpsc::Sender<Update>,
    /// Whether a client that may ask for it gets missing topics created.
    pub(in crate::server) auto_create: bool,
    /// Where Kafka clients reach this broker and the others.
    pub(in crate::server) kafka: KafkaEndpoints,
    /// What Kafka clients go on fetching.
    pub(in crate::server) fetch_sessions: FetchSessions,
}

impl Services {
    pub(crate) fn new(
        api: Arc<Api>,
        config: SocketConfig,
        metrics: Arc<Metrics>,
        controller: Arc<ControllerLink>,
        updates: mpsc::Sender<Update>,
        auto_create: bool,
        kafka: KafkaEndpoints,
    ) -> Arc<Self> {
        let budget = Budget::new(config.queued_max_bytes, Arc::clone(&metrics));
        let complaints = Complaints::default();
        let fetch_sessions = FetchSessions::new(config.fetch_session_slots, Arc::clone(&metrics));
        Arc::new(Self {
            api,
            config,
            metrics,
            budget,
            complaints,
            controller,
            updates,
            auto_create,
            kafka,
            fetch_sessions,
        })
    }
}
