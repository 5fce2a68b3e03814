//! A cluster in this process: the embedded registry, a controller, and brokers over disks in memory
//! that break when told to. They talk to each other through their sockets, as processes do.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coordinator::controller::{Controller, ControllerOptions};
use coordinator::embedded::{EmbeddedOptions, Server};
use coordinator::zk::SessionOptions;
use proto::record::ProducerStamp;
use proto::v1::admin_client::AdminClient;
use proto::{LeaderEpoch, v1};
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::broker::Broker;
use crate::config::{BrokerConfig, Origin, Values};
use crate::replication::tests::rig;
use crate::replication::{Partition, PartitionSet, RequiredAcks};
use crate::storage::Appended;
use crate::storage::disk::Disk;
use crate::storage::disk::faulty::FaultyDisk;

/// Long, for machines that are busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something others do.
pub(super) fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = done() {
            return done;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A server on a thread of its own; it ends with the handle.
struct Running {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Returns when `serve` has told something.
    fn start<T, F, Fut>(serve: F) -> (Self, T)
    where
        T: Send + 'static,
        F: FnOnce(mpsc::Sender<T>, watch::Receiver<bool>) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (stop, stopping) = watch::channel(false);
        let (told, hears) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(told, stopping));
        });
        let told = hears.recv().expect("it serves");
        (Self { stop, thread: Some(thread) }, told)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let joined = self.thread.take().map_or(Ok(()), JoinHandle::join);
        assert!(joined.is_ok() || std::thread::panicking(), "a server panicked");
    }
}

async fn told_to_stop(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

/// One broker, with two log directories.
pub(super) struct Member {
    pub(super) disk: FaultyDisk,
    pub(super) partitions: Arc<PartitionSet>,
    _running: Running,
}

/// See the module. Fields drop in order: brokers before the controller before the registry.
pub(super) struct InProcess {
    pub(super) members: Vec<Member>,
    controller: String,
    _controller: Running,
    _registry: Running,
    _dir: TempDir,
}

/// The directories of every broker.
pub(super) const DIRS: [&str; 2] = ["/disk-a", "/disk-b"];

impl InProcess {
    /// Brokers 1 to `brokers`, with keys set.
    pub(super) fn start(brokers: i32, keys: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions::new(dir.path(), "127.0.0.1:0".parse().unwrap());
        let (registry, address) = Running::start(|told, stop| async move {
            let server = Server::bind(options).unwrap();
            told.send(server.local_addr()).unwrap();
            server.run(told_to_stop(stop)).await.unwrap();
        });
        let zookeeper = format!("{address}/ottla");
        let session = SessionOptions::new(zookeeper.parse().unwrap());
        let mut options = ControllerOptions::new(session);
        options.balance = None;
        let (running, controller) = Running::start(|told, stop| async move {
            let controller = Controller::start(options).await.unwrap();
            told.send(controller.address().to_owned()).unwrap();
            controller.run(told_to_stop(stop)).await;
        });
        let members = (1..=brokers).map(|id| member(id, &zookeeper, keys)).collect();
        Self { members, controller, _controller: running, _registry: registry, _dir: dir }
    }

    /// Makes a topic, and waits until everybody leads what it is to lead, with all in sync.
    pub(super) fn create(&self, name: &str, partitions: i32) {
        let replicas = self.members.len();
        let topic = v1::NewTopic {
            name: name.to_owned(),
            partitions,
            replication_factor: replicas as i32,
            ..Default::default()
        };
        let mut request = v1::CreateTopicsRequest {
            request_id: uuid::Uuid::new_v4().into_bytes().to_vec().into(),
            topics: vec![topic],
            ..Default::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = format!("http://{}", self.controller);
            let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
            let mut client = AdminClient::new(channel);
            let begun = Instant::now();
            // The controller hears of brokers a moment after they have joined.
            while let created = client.create_topics(request.clone()).await.unwrap().into_inner()
                && let Some(error) = &created.results[0].error
            {
                assert!(begun.elapsed() < PATIENCE, "{error:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                request.request_id = uuid::Uuid::new_v4().into_bytes().to_vec().into();
            }
        });
        for partition in 0..partitions {
            self.in_sync(name, partition, replicas);
        }
    }

    /// What a broker has of a partition.
    pub(super) fn replica(
        &self,
        member: usize,
        topic: &str,
        number: i32,
    ) -> Option<Arc<Partition>> {
        let mut all = self.members[member].partitions.all().into_iter();
        all.find(|p| &*p.name().topic == topic && p.name().partition == number)
    }

    /// Who leads, in the newest epoch.
    pub(super) fn leader(&self, topic: &str, number: i32) -> Option<usize> {
        let members = 0..self.members.len();
        let leading = members.filter_map(|member| {
            let epoch = self.replica(member, topic, number)?.leading()?;
            Some((epoch, member))
        });
        leading.max().map(|(_, member)| member)
    }

    /// Waits until so many replicas are in sync with a leader; returns that.
    pub(super) fn in_sync(&self, topic: &str, number: i32, replicas: usize) -> usize {
        eventually(&format!("{replicas} in sync of {topic}-{number}"), || {
            let leader = self.leader(topic, number)?;
            let view = self.replica(leader, topic, number)?.replication()?;
            (view.isr.len() == replicas).then_some(leader)
        })
    }

    /// Appends a batch with acks=all, at whoever leads, until it is acknowledged.
    pub(super) fn append(&self, topic: &str, number: i32, records: usize) -> Appended {
        self.append_stamped(topic, number, records, ProducerStamp::NONE)
    }

    /// The same as a producer of its own.
    pub(super) fn append_stamped(
        &self,
        topic: &str,
        number: i32,
        records: usize,
        stamp: ProducerStamp,
    ) -> Appended {
        eventually(&format!("an acknowledgement of {topic}-{number}"), || {
            let leader = self.replica(self.leader(topic, number)?, topic, number)?;
            let batch = rig::batch(records, 100, stamp);
            let (mut job, outcome) = rig::job(batch, LeaderEpoch::UNKNOWN);
            job.acks = RequiredAcks::All;
            leader.queue(job);
            leader.drive();
            eventually("an answer", || outcome.lock().take()).ok()
        })
    }
}

fn member(id: i32, zookeeper: &str, keys: &[(&str, &str)]) -> Member {
    let mut values = Values::default();
    let own = [
        ("broker.id", id.to_string()),
        ("listen.grpc", "127.0.0.1:0".to_owned()),
        ("listen.http", "127.0.0.1:0".to_owned()),
        ("zookeeper.connect", zookeeper.to_owned()),
        ("num.network.threads", "1".to_owned()),
        ("log.mmap.bytes", (64 << 20).to_string()),
    ];
    for (key, value) in &own {
        values.set(key, value, Origin::Flag).unwrap();
    }
    for (key, value) in keys {
        values.set(key, value, Origin::Flag).unwrap();
    }
    let mut config = BrokerConfig::new(&values, 2 << 30, 2);
    config.dirs = DIRS.map(PathBuf::from).to_vec();
    let disk = FaultyDisk::new(Path::new(DIRS[0]));
    disk.create_dir_all(Path::new(DIRS[1])).unwrap();
    let given = Arc::new(disk.clone());
    let (running, partitions) = Running::start(move |told, stop| async move {
        let broker = Box::pin(Broker::start_over(config, given)).await.unwrap();
        told.send(broker.partitions()).unwrap();
        Box::pin(broker.run(told_to_stop(stop))).await.unwrap();
    });
    Member { disk, partitions, _running: running }
}
