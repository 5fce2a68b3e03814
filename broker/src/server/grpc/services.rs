//! What the handlers share.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::budget::Budget;
use crate::api::Api;
use crate::cluster::controller_link::ControllerLink;
use crate::cluster::member::Update;
use crate::config::GrpcConfig;
use crate::metrics::Metrics;

/// Everything a handler needs; one for all threads.
pub(crate) struct Services {
    pub(super) api: Arc<Api>,
    pub(super) config: GrpcConfig,
    pub(super) metrics: Arc<Metrics>,
    pub(super) budget: Arc<Budget>,
    pub(super) controller: Arc<ControllerLink>,
    /// To the cluster member.
    pub(super) updates: mpsc::Sender<Update>,
    /// Whether a client that may ask for it gets missing topics created.
    pub(super) auto_create: bool,
}

impl Services {
    pub(crate) fn new(
        api: Arc<Api>,
        config: GrpcConfig,
        metrics: Arc<Metrics>,
        controller: Arc<ControllerLink>,
        updates: mpsc::Sender<Update>,
        auto_create: bool,
    ) -> Arc<Self> {
        let budget = Budget::new(config.queued_max_bytes, Arc::clone(&metrics));
        Arc::new(Self { api, config, metrics, budget, controller, updates, auto_create })
    }
}
