//! A broker with its one replica: started, told of states, killed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use coordinator::zk::payload::PartitionState;
use proto::{BrokerId, LeaderEpoch, TopicPartition};
use uuid::Uuid;

use crate::metrics::Metrics;
use crate::replication::follower::followed::Followed;
use crate::replication::tests::rig::{LAG_MAX, topic_id};
use crate::replication::{Leadership, Partition, PartitionSet, Replica};
use crate::storage::disk::faulty::FaultyDisk;
use crate::storage::{Background, FlushPolicy, LogConfig, LogSet, LogSetConfig, Loss, ManualClock};

const DIR: &str = "/logs";

/// Registered runs by broker, as somebody knows them.
pub(super) type Runs = HashMap<BrokerId, Uuid>;

/// A machine.
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) disk: FaultyDisk,
    pub(super) up: Option<Running>,
    /// Its power was cut, and it has not been started since.
    pub(super) unsynced_lost: bool,
    starts: u128,
}

/// A broker's process.
pub(super) struct Running {
    pub(super) set: PartitionSet,
    pub(super) partition: Arc<Partition>,
    pub(super) run: Uuid,
    /// Stopped, and not knowing it.
    pub(super) paused: bool,
    /// Cut off from the registry and the controller; clients and followers reach it.
    pub(super) cut: bool,
    /// The newest state it was told.
    told: (LeaderEpoch, i32),
    /// The runs it was told.
    pub(super) runs: Runs,
    pub(super) following: Option<Following>,
}

/// What it follows.
pub(super) struct Following {
    pub(super) leader: BrokerId,
    pub(super) epoch: LeaderEpoch,
    pub(super) followed: Arc<Followed>,
    /// The stream, while there is one.
    pub(super) stream: Option<u64>,
}

impl Node {
    pub(super) fn new(id: BrokerId) -> Self {
        let disk = FaultyDisk::new(Path::new(DIR));
        Self { id, disk, up: None, unsynced_lost: false, starts: 0 }
    }

    /// Starts the process; says what its log has lost.
    pub(super) fn start(&mut self, config: &LogConfig, clock: &Arc<ManualClock>) -> Option<Loss> {
        let mut set_config = LogSetConfig::new(vec![DIR.into()]);
        set_config.background = Background::Caller;
        set_config.recovery_threads = 1;
        set_config.log = config.clone();
        let disk = Arc::new(self.disk.clone());
        let (logs, _) = LogSet::open(set_config, disk, clock.clone()).expect("the disk is there");
        let set = PartitionSet::new(logs, Arc::new(Metrics::default()), LAG_MAX);
        let name = TopicPartition::new("simulated", 0);
        let partition = set.open(&name, topic_id("simulated"), config.clone()).expect("it opens");
        let loss = partition.log().opening().loss(config.flush);
        self.starts += 1;
        self.unsynced_lost = false;
        self.up = Some(Running {
            set,
            partition,
            run: Uuid::from_u128(self.starts << 8 | self.id.0 as u128),
            paused: false,
            cut: false,
            told: (LeaderEpoch::UNKNOWN, -1),
            runs: Runs::new(),
            following: None,
        });
        loss
    }

    /// Awake and running.
    pub(super) fn awake(&self) -> Option<&Running> {
        self.up.as_ref().filter(|up| !up.paused)
    }

    pub(super) fn awake_mut(&mut self) -> Option<&mut Running> {
        self.up.as_mut().filter(|up| !up.paused)
    }
}

impl Running {
    /// As followers name themselves.
    pub(super) fn replica(&self, id: BrokerId) -> Replica {
        Replica { broker_id: id, incarnation: self.run }
    }

    /// The controller, or a read of the registry, tells the state at a version.
    pub(super) fn tell(
        &mut self,
        me: BrokerId,
        state: &PartitionState,
        version: i32,
        replicas: &[BrokerId],
    ) {
        let told = (state.leader_epoch, version);
        if told <= self.told {
            return;
        }
        self.told = told;
        let epoch = state.leader_epoch;
        if self.following.as_ref().is_some_and(|f| f.epoch < epoch || state.leader.is_none()) {
            let before = self.following.take();
            before.inspect(|before| before.followed.stop());
        }
        match state.leader {
            Some(leader) if leader == me => {
                let leadership = Leadership {
                    epoch,
                    version,
                    replicas: replicas.to_vec(),
                    isr: state.isr.clone(),
                    electable: state.electable.clone(),
                    adding: Vec::new(),
                };
                self.partition.lead(me, &leadership).expect("the disk works");
            }
            Some(leader) => {
                self.partition.follow(epoch);
                if self.following.is_none() {
                    self.partition.log().cut_damage().expect("the disk works");
                    let followed = Followed::new(0, Arc::clone(&self.partition), epoch);
                    self.following = Some(Following { leader, epoch, followed, stream: None });
                }
            }
            None => self.partition.stop_leading(),
        }
    }

    /// Forces what is appended to the disk, where that is what counts.
    pub(super) fn flush_if_counted(&self) {
        if self.partition.log().config().flush == FlushPolicy::BeforeAck {
            let _ = self.partition.log().flush();
        }
    }
}
