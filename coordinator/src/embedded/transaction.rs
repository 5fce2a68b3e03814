//! What each changing operation may do and does: the checks of ZooKeeper's request processor, in
//! its order, then the change. Pure: tree, zxid and time in, result and changed paths out.

use super::acl::permission;
use super::error_code::ErrorCode;
use super::path;
use super::stat::Stat;
use super::tree::{Node, Tree};
use super::write::{Create, CreateMode, Write};

/// Who asks, and the position and time a change gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) session: i64,
    pub(crate) zxid: i64,
    pub(crate) time_ms: i64,
}

/// One changed path, as watches see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: ChangeKind,
    pub(crate) path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Created,
    Deleted,
    DataChanged,
}

/// What one operation answers when it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created { path: String, stat: Option<Stat> },
    Deleted,
    DataSet(Stat),
    AclSet(Stat),
    Checked,
}

/// A multi that failed: the first operation that did, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MultiFailure {
    pub(crate) index: usize,
    pub(crate) code: ErrorCode,
}

/// Applies one operation, or nothing of it.
pub(crate) fn execute(
    tree: &mut Tree,
    write: &Write<'_>,
    stamp: Stamp,
    changes: &mut Vec<Change>,
) -> Result<Outcome, ErrorCode> {
    match write {
        Write::Create(create) => execute_create(tree, create, stamp, changes),
        Write::Delete { path, version } => {
            check_delete(tree, path, *version)?;
            tree.delete(path, stamp.zxid);
            changes.push(Change { kind: ChangeKind::Deleted, path: (*path).to_owned() });
            Ok(Outcome::Deleted)
        }
        Write::SetData { path, data, version } => {
            let node = check_access(tree, path, permission::WRITE)?;
            check_version(node.version, *version)?;
            tree.set_data(path, *data, stamp.zxid, stamp.time_ms);
            changes.push(Change { kind: ChangeKind::DataChanged, path: (*path).to_owned() });
            stat_of(tree, path).map(Outcome::DataSet)
        }
        Write::SetAcl { path, acl, version } => {
            if !path::is_valid(path) {
                return Err(ErrorCode::BadArguments);
            }
            let acl = acl.usable()?;
            let node = check_access(tree, path, permission::ADMIN)?;
            check_version(node.aversion, *version)?;
            let node = tree.get_mut(path).ok_or(ErrorCode::NoNode)?;
            node.acl = acl.clone();
            node.aversion = node.aversion.wrapping_add(1);
            Ok(Outcome::AclSet(node.stat()))
        }
        Write::Check { path, version } => {
            let node = check_access(tree, path, permission::READ)?;
            check_version(node.version, *version)?;
            Ok(Outcome::Checked)
        }
        // A multi holds none of these (`Write::decode`), and sessions are not the tree's.
        Write::Multi(_) | Write::CreateSession { .. } | Write::CloseSession => {
            Err(ErrorCode::MarshallingError)
        }
    }
}

/// Applies all operations, or none of them.
pub(crate) fn execute_multi(
    tree: &mut Tree,
    writes: &[Write<'_>],
    stamp: Stamp,
    changes: &mut Vec<Change>,
) -> Result<Vec<Outcome>, MultiFailure> {
    let mut outcomes = Vec::with_capacity(writes.len());
    tree.begin();
    for (index, write) in writes.iter().enumerate() {
        match execute(tree, write, stamp, changes) {
            Ok(outcome) => outcomes.push(outcome),
            Err(code) => {
                tree.roll_back();
                changes.clear();
                return Err(MultiFailure { index, code });
            }
        }
    }
    tree.commit();
    Ok(outcomes)
}

/// Deletes the ephemerals of a session that ends.
pub(crate) fn delete_ephemerals(tree: &mut Tree, stamp: Stamp, changes: &mut Vec<Change>) {
    for path in tree.ephemerals(stamp.session) {
        tree.delete(&path, stamp.zxid);
        changes.push(Change { kind: ChangeKind::Deleted, path });
    }
}

fn execute_create(
    tree: &mut Tree,
    create: &Create<'_>,
    stamp: Stamp,
    changes: &mut Vec<Change>,
) -> Result<Outcome, ErrorCode> {
    let (ephemeral, sequential) = match create.mode {
        CreateMode::Plain { ephemeral, sequential } => (ephemeral, sequential),
        CreateMode::Unimplemented => return Err(ErrorCode::Unimplemented),
        CreateMode::Unknown => return Err(ErrorCode::BadArguments),
    };
    let (parent_path, _) = path::split(create.path).ok_or(ErrorCode::BadArguments)?;
    let acl = create.acl.usable()?;
    let parent = tree.get(parent_path).ok_or(ErrorCode::NoNode)?;
    parent.acl.check(permission::CREATE)?;
    let mut path = create.path.to_owned();
    if sequential {
        path.push_str(&format!("{:010}", parent.creations));
    }
    if !path::is_valid(&path) {
        return Err(ErrorCode::BadArguments);
    }
    if tree.get(&path).is_some() {
        return Err(ErrorCode::NodeExists);
    }
    if parent.owner != 0 {
        return Err(ErrorCode::NoChildrenForEphemerals);
    }
    let node = Node {
        data: create.data.map(Box::from),
        acl: acl.clone(),
        czxid: stamp.zxid,
        mzxid: stamp.zxid,
        pzxid: stamp.zxid,
        ctime_ms: stamp.time_ms,
        mtime_ms: stamp.time_ms,
        owner: if ephemeral { stamp.session } else { 0 },
        ..Node::default()
    };
    let stat = create.with_stat.then(|| node.stat());
    tree.create(&path, node);
    changes.push(Change { kind: ChangeKind::Created, path: path.clone() });
    Ok(Outcome::Created { path, stat })
}

/// Nodes that are the server's own and cannot be deleted.
const SPECIAL: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

fn check_delete(tree: &Tree, path: &str, version: i32) -> Result<(), ErrorCode> {
    let (parent, _) = path::split(path).ok_or(ErrorCode::BadArguments)?;
    if SPECIAL.contains(&path) {
        return Err(ErrorCode::BadArguments);
    }
    tree.get(parent).ok_or(ErrorCode::NoNode)?.acl.check(permission::DELETE)?;
    let node = tree.get(path).ok_or(ErrorCode::NoNode)?;
    check_version(node.version, version)?;
    if node.children > 0 { Err(ErrorCode::NotEmpty) } else { Ok(()) }
}

fn check_access<'a>(tree: &'a Tree, path: &str, wanted: i32) -> Result<&'a Node, ErrorCode> {
    if !path::is_valid(path) {
        return Err(ErrorCode::BadArguments);
    }
    let node = tree.get(path).ok_or(ErrorCode::NoNode)?;
    node.acl.check(wanted)?;
    Ok(node)
}

fn check_version(current: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == current { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

fn stat_of(tree: &Tree, path: &str) -> Result<Stat, ErrorCode> {
    tree.get(path).map(Node::stat).ok_or(ErrorCode::NoNode)
}
