//! What breaks: processes, machines, sessions, streams, the way to the registry.

use std::sync::Arc;

use coordinator::registry::in_sync;
use proto::BrokerId;

use super::cluster::Cluster;
use super::registry::Stage;
use crate::storage::FlushPolicy;

impl Cluster {
    pub(super) fn break_stream(&mut self, number: usize) {
        let Some(number) = self.streams.keys().nth(number).copied() else { return };
        // What is on the way to the leader may still arrive, or not.
        let arrives = self.random.bool();
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.close(arrives);
        let follower = stream.follower;
        if let Some(following) = self.following_mut(follower)
            && following.stream == Some(number)
        {
            following.stream = None;
        }
    }

    /// Kills a process, or cuts a machine's power where what is lost by that may be lost.
    pub(super) fn crash(&mut self, id: BrokerId) {
        let power = self.random.bool() && self.may_lose_unsynced(id);
        let flushes = self.config.flush == FlushPolicy::BeforeAck;
        let mut random = self.random.fork();
        let node = self.node_mut(id);
        let Some(up) = node.up.take() else { return };
        if power {
            node.disk.power_cut(&mut random);
            node.unsynced_lost = !flushes;
        } else {
            node.disk.kill();
        }
        if power && !flushes {
            // What it asked for is void with it: it may have counted on what it has lost.
            let asked = |stage: &Stage| matches!(stage, Stage::Asked);
            self.changes.retain(|change| change.run != up.run || !asked(&change.stage));
            if self.alters || self.config.min_insync_replicas == 1 {
                // At a minimum of one, the ISR may shrink to one who is dead and not known to be: that
                // one may not have lost anything.
                self.registered.remove(&id);
            }
        }
        drop(up);
        // Connections break with their process: what it had not answered it never answers.
        for producer in self.producers.iter_mut().filter(|producer| producer.target == id) {
            producer.give_up_waiting(id);
        }
        let arrives = self.random.bool();
        for stream in self.streams.values_mut().filter(|stream| stream.follower == id) {
            stream.close(arrives);
        }
    }

    /// Whether somebody else has all that is committed, and is known to: machines lose power one at a
    /// time. Everybody in the ISR and electable has it, as long as the ISR shrinks in the registry
    /// first.
    fn may_lose_unsynced(&self, id: BrokerId) -> bool {
        let others_keep = self.nodes.iter().all(|node| node.id == id || !node.unsynced_lost);
        let mut complete = self.state.isr.iter().chain(&self.state.electable);
        self.config.flush == FlushPolicy::BeforeAck
            || (others_keep && complete.any(|other| *other != id))
    }

    /// Stops a process, or lets it go on.
    pub(super) fn pause(&mut self, id: BrokerId) {
        if let Some(up) = self.node_mut(id).up.as_mut() {
            up.paused = !up.paused;
        }
        self.session_again(id);
    }

    /// Cuts the way between a broker and the registry and the controller, or mends it: its clients and
    /// followers reach it all the time.
    pub(super) fn cut(&mut self, id: BrokerId) {
        if let Some(up) = self.node_mut(id).up.as_mut() {
            up.cut = !up.cut;
        }
        self.session_again(id);
    }

    /// Where a broker's session has expired, it registers again, as the same run.
    fn session_again(&mut self, id: BrokerId) {
        let up = self.node(id).awake().filter(|up| !up.cut);
        let Some(run) = up.map(|up| up.run) else { return };
        self.registered.entry(id).or_insert(run);
    }

    /// The session of who is silent ends.
    pub(super) fn expire(&mut self, id: BrokerId) {
        if self.node(id).awake().is_none_or(|up| up.cut) {
            self.registered.remove(&id);
        }
    }

    pub(super) fn restart(&mut self, id: BrokerId) {
        if self.node(id).up.is_some() {
            return;
        }
        let (config, clock) = (self.config.clone(), Arc::clone(&self.clock));
        if let Some(loss) = self.node_mut(id).start(&config, &clock) {
            let others = self.state.isr.iter().chain(&self.state.electable);
            if others.into_iter().any(|other| *other != id) {
                self.write(in_sync::lose(&self.state, id));
            } else {
                let flushed = self.config.flush == FlushPolicy::BeforeAck;
                assert!(flushed || !self.state.isr.contains(&id), "the last one lost {loss}");
            }
        }
        if let Some(up) = &self.node(id).up {
            up.set.logs().losses_told();
        }
        self.register(id);
    }
}
