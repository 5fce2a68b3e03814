//! What the product's own client crate needs of the server.

use std::time::Duration;

use zookeeper_client as zk;
use zookeeper_client::{Acls, AddWatchMode, Client, CreateMode, Error, EventType};

use super::{Running, options};

const PERSISTENT: &zk::CreateOptions<'static> =
    &CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: &zk::CreateOptions<'static> = &CreateMode::Ephemeral.with_acls(Acls::anyone_all());

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn connect(server: &Running) -> Client {
    let connector = Client::connector().with_session_timeout(Duration::from_secs(1));
    connector.connect(&server.address.to_string()).await.unwrap()
}

#[test]
fn nodes_come_change_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::start(directory.path());
    runtime().block_on(async {
        let client = connect(&server).await;
        let (stat, _) = client.create("/a", b"one", PERSISTENT).await.unwrap();
        assert_eq!((stat.version, stat.data_length, stat.ephemeral_owner), (0, 3, 0));
        assert_eq!(client.create("/a", b"", PERSISTENT).await, Err(Error::NodeExists));
        assert_eq!(client.create("/b/c", b"", PERSISTENT).await, Err(Error::NoNode));
        let stat = client.set_data("/a", b"two!", Some(0)).await.unwrap();
        assert_eq!((stat.version, stat.data_length), (1, 4));
        assert_eq!(client.set_data("/a", b"", Some(0)).await, Err(Error::BadVersion));
        assert_eq!(client.get_data("/a").await.unwrap(), (b"two!".to_vec(), stat));
        client.mkdir("/a/b/c", PERSISTENT).await.unwrap();
        assert_eq!(client.list_children("/a").await.unwrap(), ["b"]);
        assert_eq!(client.delete("/a", None).await, Err(Error::NotEmpty));
        client.delete("/a/b/c", None).await.unwrap();
        assert_eq!(client.check_stat("/a/b/c").await.unwrap(), None);
        assert_eq!(client.count_descendants_number("/a").await.unwrap(), 1);
        client.create("/a/e", b"", EPHEMERAL).await.unwrap();
        assert_eq!(
            client.create("/a/e/x", b"", PERSISTENT).await,
            Err(Error::NoChildrenForEphemerals)
        );
        assert_eq!(client.list_ephemerals("/a").await.unwrap(), ["/a/e"]);
        let sequential = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
        let (_, first) = client.create("/a/n-", b"", &sequential).await.unwrap();
        let (_, second) = client.create("/a/n-", b"", &sequential).await.unwrap();
        assert_eq!(second.into_i64(), first.into_i64() + 1);
    });
    server.stop().unwrap();
}

#[test]
fn transactions_apply_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::start(directory.path());
    runtime().block_on(async {
        let client = connect(&server).await;
        client.create("/epoch", b"", PERSISTENT).await.unwrap();
        let mut good = client.new_multi_writer();
        good.add_check_version("/epoch", 0).unwrap();
        good.add_create("/t", b"1", PERSISTENT).unwrap();
        good.add_create("/t/p", b"2", PERSISTENT).unwrap();
        good.add_set_data("/t", b"3", Some(0)).unwrap();
        assert_eq!(good.commit().await.unwrap().len(), 4);
        let mut bad = client.new_multi_writer();
        bad.add_delete("/t/p", None).unwrap();
        bad.add_check_version("/epoch", 7).unwrap();
        bad.add_create("/u", b"", PERSISTENT).unwrap();
        let failed = bad.commit().await.unwrap_err();
        let expected = zk::MultiWriteError::OperationFailed { index: 1, source: Error::BadVersion };
        assert_eq!(failed, expected);
        assert!(client.check_stat("/t/p").await.unwrap().is_some());
        let mut fenced = client.new_check_writer("/epoch", Some(1)).unwrap();
        fenced.add_delete("/t/p", None).unwrap();
        let failed = fenced.commit().await.unwrap_err();
        assert!(matches!(failed, zk::CheckWriteError::CheckFailed { .. }), "{failed}");
        let lock = client
            .lock(zk::LockPrefix::new_curator("/locks", "x-").unwrap(), b"", Acls::anyone_all())
            .await;
        assert_eq!(lock.err(), Some(Error::NoNode));
    });
    server.stop().unwrap();
}

#[test]
fn watches_fire() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::start(directory.path());
    runtime().block_on(async {
        let client = connect(&server).await;
        let other = connect(&server).await;
        let (stat, created) = client.check_and_watch_stat("/w").await.unwrap();
        assert_eq!(stat, None);
        let (_, children) = client.list_and_watch_children("/").await.unwrap();
        let mut tree = client.watch("/w", AddWatchMode::PersistentRecursive).await.unwrap();
        other.create("/w", b"", PERSISTENT).await.unwrap();
        assert_eq!(created.changed().await.event_type, EventType::NodeCreated);
        assert_eq!(children.changed().await.event_type, EventType::NodeChildrenChanged);
        other.create("/w/x", b"", PERSISTENT).await.unwrap();
        other.set_data("/w/x", b"1", None).await.unwrap();
        other.delete("/w/x", None).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let event = tree.changed().await;
            seen.push((event.event_type, event.path));
        }
        assert_eq!(seen.remove(0), (EventType::NodeCreated, "/w".to_owned()));
        let expected = [EventType::NodeCreated, EventType::NodeDataChanged, EventType::NodeDeleted]
            .map(|kind| (kind, "/w/x".to_owned()));
        assert_eq!(seen[..], expected);
        drop(tree);
        let (_, _, gone) = client.get_and_watch_data("/w").await.unwrap();
        other.delete("/w", None).await.unwrap();
        assert_eq!(gone.changed().await.event_type, EventType::NodeDeleted);
    });
    server.stop().unwrap();
}

#[test]
fn silent_sessions_expire_and_closed_ones_go_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::start(directory.path());
    runtime().block_on(async {
        let watcher = connect(&server).await;
        let closing = connect(&server).await;
        closing.create("/closing", b"", EPHEMERAL).await.unwrap();
        drop(closing);
        let detached = Client::connector().with_session_timeout(Duration::from_millis(600));
        let silent = detached.with_detached().connect(&server.address.to_string()).await.unwrap();
        silent.create("/silent", b"", EPHEMERAL).await.unwrap();
        drop(silent);
        let started = std::time::Instant::now();
        let (stat, gone) = watcher.check_and_watch_stat("/silent").await.unwrap();
        assert!(stat.is_some());
        assert_eq!(gone.changed().await.event_type, EventType::NodeDeleted);
        assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
        assert_eq!(watcher.check_stat("/closing").await.unwrap(), None);
    });
    server.stop().unwrap();
}

#[test]
fn a_restart_keeps_sessions_ephemerals_and_counters() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::start(directory.path());
    let runtime = runtime();
    let sequential = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    let (client, first) = runtime.block_on(async {
        let connector = Client::connector().with_session_timeout(Duration::from_secs(5));
        let client = connector.connect(&server.address.to_string()).await.unwrap();
        client.create("/d", b"data", PERSISTENT).await.unwrap();
        let (_, first) = client.create("/d/n-", b"", &sequential).await.unwrap();
        client.delete(&format!("/d/n-{first}"), None).await.unwrap();
        client.create("/d/mine", b"", EPHEMERAL).await.unwrap();
        (client, first)
    });
    let address = server.address;
    server.stop().unwrap();
    let server =
        Running::with(super::EmbeddedOptions { listen: address, ..options(directory.path()) });
    runtime.block_on(async {
        // The first requests may still find out that the old connection is gone.
        let stat = loop {
            match client.check_stat("/d/mine").await {
                Err(Error::ConnectionLoss) => {}
                stat => break stat.unwrap().unwrap(),
            }
        };
        assert_eq!(stat.ephemeral_owner, client.session_id().0);
        let (_, second) = client.create("/d/n-", b"", &sequential).await.unwrap();
        assert_eq!(second.into_i64(), first.into_i64() + 2);
        assert_eq!(client.get_data("/d").await.unwrap().0, b"data");
    });
    server.stop().unwrap();
}
