//! Reading, watching and writing single nodes, with lost answers resolved.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error, OneshotWatcher, Stat};

use super::RegistryError;
use crate::zk::{Fault, Payload};

/// How often a read whose answer was lost is repeated. Each repetition waits for a reconnection
/// first, so this is only reached when connections break as soon as they are made.
const READ_ATTEMPTS: u32 = 20;
/// Before something is tried again whose answer was lost.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How many reads of one listing are under way at once.
pub(crate) const PIPELINE: usize = 256;

/// Options of a persistent node.
pub(crate) const PERSISTENT: CreateOptions<'static> =
    CreateMode::Persistent.with_acls(Acls::anyone_all());
/// Options of an ephemeral node.
pub(crate) const EPHEMERAL: CreateOptions<'static> =
    CreateMode::Ephemeral.with_acls(Acls::anyone_all());

/// A value and the version of the node it was read from, for conditional writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The node's version. Restarts at 0 when a node is created again.
    pub version: i32,
    /// The session that holds the node, 0 for a persistent one.
    pub ephemeral_owner: i64,
    /// The transaction that created the node: tells it from another that was created later.
    pub created_zxid: i64,
}

impl<T: Payload> Versioned<T> {
    fn decode(path: &str, bytes: &[u8], stat: &Stat) -> Result<Self, RegistryError> {
        Ok(Self {
            value: T::decode(path, bytes)?,
            version: stat.version,
            ephemeral_owner: stat.ephemeral_owner,
            created_zxid: stat.czxid,
        })
    }
}

/// Repeats a read while its answer is lost.
pub(crate) async fn repeat<T, F>(
    operation: &str,
    path: &str,
    mut read: impl FnMut() -> F,
) -> Result<T, RegistryError>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut attempts = 0;
    loop {
        attempts += 1;
        match read().await {
            Ok(answer) => return Ok(answer),
            Err(error) if attempts < READ_ATTEMPTS && Fault::of(&error) == Fault::AnswerLost => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(RegistryError::from_client(operation, path, error)),
        }
    }
}

fn absent_is_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of a node, `None` when there is none.
pub(crate) async fn bytes(
    client: &Client,
    path: &str,
) -> Result<Option<(Vec<u8>, Stat)>, RegistryError> {
    repeat("read", path, async || absent_is_none(client.get_data(path).await)).await
}

/// The value of a node; `None` when there is none, or when it is empty (being made or unmade).
pub(crate) async fn read<T: Payload>(
    client: &Client,
    path: &str,
) -> Result<Option<Versioned<T>>, RegistryError> {
    match bytes(client, path).await? {
        Some((bytes, stat)) if !bytes.is_empty() => {
            Versioned::decode(path, &bytes, &stat).map(Some)
        }
        _ => Ok(None),
    }
}

/// As [`read`], with a watch that was armed before the value was read; it fires on creation, too.
pub(crate) async fn read_and_watch<T: Payload>(
    client: &Client,
    path: &str,
) -> Result<(Option<Versioned<T>>, OneshotWatcher), RegistryError> {
    loop {
        let found =
            repeat("watch", path, async || absent_is_none(client.get_and_watch_data(path).await));
        if let Some((bytes, stat, watcher)) = found.await? {
            let value = match bytes.is_empty() {
                true => None,
                false => Some(Versioned::decode(path, &bytes, &stat)?),
            };
            return Ok((value, watcher));
        }
        let exists = repeat("watch", path, async || client.check_and_watch_stat(path).await);
        if let (None, watcher) = exists.await? {
            return Ok((None, watcher));
        }
        // Created between the two: read it.
    }
}

/// Names of the children, sorted; none when the node is absent.
pub(crate) async fn children(client: &Client, path: &str) -> Result<Vec<String>, RegistryError> {
    let listed = repeat("list", path, async || absent_is_none(client.list_children(path).await));
    let mut names = listed.await?.unwrap_or_default();
    names.sort_unstable();
    Ok(names)
}

/// As [`children`], with a watch; on an absent node it fires when the node is created.
pub(crate) async fn children_and_watch(
    client: &Client,
    path: &str,
) -> Result<(Vec<String>, OneshotWatcher), RegistryError> {
    loop {
        let listed = repeat("watch", path, async || {
            absent_is_none(client.list_and_watch_children(path).await)
        });
        if let Some((mut names, watcher)) = listed.await? {
            names.sort_unstable();
            return Ok((names, watcher));
        }
        let exists = repeat("watch", path, async || client.check_and_watch_stat(path).await);
        if let (None, watcher) = exists.await? {
            return Ok((Vec::new(), watcher));
        }
    }
}

/// The values of many nodes, in order, read side by side.
pub(crate) async fn read_many<T: Payload>(
    client: &Client,
    paths: impl IntoIterator<Item = String>,
) -> Result<Vec<Option<Versioned<T>>>, RegistryError> {
    let reads = stream::iter(paths).map(|path| async move { read(client, &path).await });
    let mut reads = reads.buffered(PIPELINE);
    let mut values = Vec::new();
    while let Some(value) = reads.next().await {
        values.push(value?);
    }
    Ok(values)
}

/// Makes a persistent, empty node and its ancestors; there already is fine.
pub(crate) async fn ensure(client: &Client, path: &str) -> Result<(), RegistryError> {
    // Looks first: a failed create is a write to all servers.
    if repeat("look at", path, async || client.check_stat(path).await).await?.is_some() {
        return Ok(());
    }
    repeat("make", path, async || client.mkdir(path, &PERSISTENT).await).await
}

/// Writes a value where the node's version is `expected`: the new version, or `None` when the
/// node has another version or is gone, so somebody else wrote.
///
/// A lost answer is resolved by reading back: the next version with the same value is ours. Where
/// two writers may write equal values, the value must name its writer.
pub(crate) async fn set<T: Payload + PartialEq>(
    client: &Client,
    path: &str,
    value: &T,
    expected: i32,
) -> Result<Option<i32>, RegistryError> {
    let bytes = value.encode()?;
    let mut in_doubt = false;
    loop {
        match client.set_data(path, &bytes, Some(expected)).await {
            Ok(stat) => return Ok(Some(stat.version)),
            Err(Error::NoNode) => return Ok(None),
            Err(Error::BadVersion) if !in_doubt => return Ok(None),
            Err(error) if error != Error::BadVersion && Fault::of(&error) != Fault::AnswerLost => {
                return Err(RegistryError::from_client("write", path, error));
            }
            Err(_) => {}
        }
        in_doubt = true;
        match self::bytes(client, path).await? {
            Some((_, stat)) if stat.version == expected => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Some((found, stat)) => {
                let ours = stat.version == expected.wrapping_add(1) && found == bytes;
                return Ok(ours.then_some(stat.version));
            }
            None => return Ok(None),
        }
    }
}

/// What became of an attempt to create an ephemeral node.
#[derive(Debug)]
pub(crate) enum Created {
    /// It is there, held by this session, with this value.
    Ours,
    /// Another session holds it; `None` when it was gone again at the look.
    Theirs(Option<(Vec<u8>, Stat)>),
}

/// Creates an ephemeral node, once. A node of this very session is given the value.
pub(crate) async fn create_ephemeral(
    client: &Client,
    path: &str,
    bytes: &[u8],
) -> Result<Created, RegistryError> {
    loop {
        match client.create(path, bytes, &EPHEMERAL).await {
            Ok(_) => return Ok(Created::Ours),
            Err(Error::NodeExists) => {}
            Err(error) if Fault::of(&error) == Fault::AnswerLost => {}
            Err(error) => return Err(RegistryError::from_client("create", path, error)),
        }
        match self::bytes(client, path).await? {
            Some((found, stat)) if stat.ephemeral_owner == client.session_id().0 => {
                if found == bytes {
                    return Ok(Created::Ours);
                }
                // While our session holds it nobody else writes it.
                match client.set_data(path, bytes, Some(stat.version)).await {
                    Ok(_) => return Ok(Created::Ours),
                    Err(Error::NoNode | Error::BadVersion) => {}
                    Err(error) if Fault::of(&error) == Fault::AnswerLost => {}
                    Err(error) => return Err(RegistryError::from_client("write", path, error)),
                }
            }
            Some(theirs) => return Ok(Created::Theirs(Some(theirs))),
            None => return Ok(Created::Theirs(None)),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Deletes a node that this session holds; not there is fine, another's is left alone.
pub(crate) async fn delete_own_ephemeral(client: &Client, path: &str) -> Result<(), RegistryError> {
    loop {
        let stat = repeat("look at", path, async || client.check_stat(path).await).await?;
        match stat {
            Some(stat) if stat.ephemeral_owner == client.session_id().0 => {}
            _ => return Ok(()),
        }
        // Our session holds it, so no other node can stand here while the delete can succeed:
        // after an expiry the delete is refused as a whole.
        match client.delete(path, None).await {
            Ok(()) | Err(Error::NoNode) => return Ok(()),
            Err(error) if Fault::of(&error) == Fault::AnswerLost => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(RegistryError::from_client("delete", path, error)),
        }
    }
}

/// Waits until a node is gone, or until the limit; true when it is gone.
pub(crate) async fn gone_within(
    client: &Client,
    path: &str,
    limit: Duration,
) -> Result<bool, RegistryError> {
    let waiting = async {
        loop {
            let exists = repeat("watch", path, async || client.check_and_watch_stat(path).await);
            match exists.await? {
                (None, _) => return Ok(()),
                (Some(_), watcher) => {
                    watcher.changed().await;
                }
            }
        }
    };
    match tokio::time::timeout(limit, waiting).await {
        Ok(done) => done.map(|()| true),
        Err(_) => Ok(false),
    }
}
