//! The nodes: one ordered map of all of them, with the Stat fields that persist.
//!
//! The tree does as it is told: whether an operation is allowed is decided in `transaction`. It
//! can take back everything since [`Tree::begin`], which is how a failed multi leaves no trace.
//! It knows nothing of watches, sessions or the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use super::acl::Acl;
use super::path;
use super::stat::Stat;

/// Bytes a node is counted with beside its path and data.
const NODE_OVERHEAD_BYTES: usize = 160;

/// A node without its name. The zxids order as `czxid <= mzxid` and `czxid <= pzxid`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    /// `None` is null, which clients can tell from empty.
    pub(crate) data: Option<Box<[u8]>>,
    pub(crate) acl: Acl,
    pub(crate) czxid: i64,
    pub(crate) mzxid: i64,
    pub(crate) pzxid: i64,
    pub(crate) ctime_ms: i64,
    pub(crate) mtime_ms: i64,
    pub(crate) version: i32,
    pub(crate) aversion: i32,
    /// Children ever created here. Never goes back: sequence numbers come from it.
    pub(crate) creations: i32,
    /// The session that owns this node, 0 for a persistent one.
    pub(crate) owner: i64,
    /// Children there are now.
    pub(crate) children: u32,
}

impl Node {
    pub(crate) fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }

    pub(crate) fn stat(&self) -> Stat {
        let children = i32::try_from(self.children).unwrap_or(i32::MAX);
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            // Each creation and each deletion counts one.
            cversion: self.creations.wrapping_mul(2).wrapping_sub(children),
            aversion: self.aversion,
            ephemeral_owner: self.owner,
            data_length: i32::try_from(self.data_len()).unwrap_or(i32::MAX),
            num_children: children,
            pzxid: self.pzxid,
        }
    }
}

/// Orders nodes by parent, then name: `"/a\0b"` for `/a/b`, so that children lie side by side and
/// list in order. The root is `"/"`.
fn key(path: &str) -> Option<String> {
    match path {
        "" | "/" => Some("/".to_owned()),
        _ => path.rsplit_once('/').map(|(parent, name)| child_key(parent, name)),
    }
}

fn child_key(parent: &str, name: &str) -> String {
    let mut key = String::with_capacity(parent.len() + 1 + name.len());
    key.push_str(parent);
    key.push('\0');
    key.push_str(name);
    key
}

fn key_to_path(key: &str) -> String {
    key.replacen('\0', "/", 1)
}

/// All nodes. `bytes` is the sum over all of path, data and a fixed overhead.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<Box<str>, Node>,
    ephemerals: HashMap<i64, BTreeSet<Box<str>>>,
    bytes: usize,
    /// What nodes were before the running transaction touched them; `None`: outside of one.
    before: Option<HashMap<Box<str>, Option<Node>>>,
}

impl Tree {
    /// The tree of a new server: the root and ZooKeeper's own three nodes.
    pub(crate) fn new() -> Self {
        let mut tree = Self::without_nodes();
        let empty = Node { data: Some(Box::default()), ..Node::default() };
        tree.put("/", Node { children: 1, ..empty.clone() });
        tree.put("/zookeeper", Node { children: 2, ..empty.clone() });
        tree.put("/zookeeper/quota", empty.clone());
        tree.put("/zookeeper/config", Node { acl: Acl::read_only(), aversion: -1, ..empty });
        tree
    }

    /// No node at all, to load a snapshot into.
    pub(crate) fn without_nodes() -> Self {
        Self { nodes: BTreeMap::new(), ephemerals: HashMap::new(), bytes: 0, before: None }
    }

    /// Puts a node as a snapshot has it. Nothing is derived; false if the path cannot be one.
    pub(crate) fn put(&mut self, path: &str, node: Node) -> bool {
        match key(path) {
            Some(key) => {
                self.replace(key.into_boxed_str(), Some(node));
                true
            }
            None => false,
        }
    }

    /// All nodes with their paths, parents before children's children but in no tree order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, &Node)> {
        self.nodes.iter().map(|(key, node)| (key_to_path(key), node))
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(key(path)?.as_str())
    }

    /// Names of the children, in order.
    pub(crate) fn children<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let parent = if path == "/" { "" } else { path };
        let from = format!("{parent}\0");
        let to = format!("{parent}\u{1}");
        let skip = from.len();
        self.nodes
            .range::<str, _>((Bound::Included(from.as_str()), Bound::Excluded(to.as_str())))
            .map(move |(key, _)| &key[skip..])
    }

    /// How many nodes lie below this one.
    pub(crate) fn descendants(&self, path: &str) -> usize {
        let path = if path == "/" { "" } else { path };
        let mut count = 0;
        let mut open = vec![path.to_owned()];
        while let Some(parent) = open.pop() {
            for name in self.children(&parent) {
                count += 1;
                let child = format!("{parent}/{name}");
                if self.get(&child).is_some_and(|node| node.children > 0) {
                    open.push(child);
                }
            }
        }
        count
    }

    /// Paths of the session's ephemerals, in order.
    pub(crate) fn ephemerals(&self, session: i64) -> Vec<String> {
        let paths = self.ephemerals.get(&session);
        paths.into_iter().flatten().map(|path| path.to_string()).collect()
    }

    /// From here on changes can be taken back.
    pub(crate) fn begin(&mut self) {
        self.before = Some(HashMap::new());
    }

    pub(crate) fn commit(&mut self) {
        self.before = None;
    }

    /// Takes back every change since [`begin`](Self::begin).
    pub(crate) fn roll_back(&mut self) {
        for (key, node) in self.before.take().into_iter().flatten() {
            self.replace(key, node);
        }
    }

    /// Sets or removes what is under a key, keeping the counts and the ephemerals' index true.
    fn replace(&mut self, key: Box<str>, node: Option<Node>) {
        let key_len = key.len();
        let cost = |node: &Node| key_len + node.data_len() + NODE_OVERHEAD_BYTES;
        let added = node.as_ref().map_or(0, cost);
        let owner = node.as_ref().map_or(0, |node| node.owner);
        let path = key_to_path(&key);
        let old = match node {
            Some(node) => self.nodes.insert(key, node),
            None => self.nodes.remove(&key),
        };
        let removed = old.as_ref().map_or(0, cost);
        self.bytes = (self.bytes + added).saturating_sub(removed);
        let old_owner = old.map_or(0, |node| node.owner);
        if old_owner != owner {
            self.disown(old_owner, &path);
        }
        if owner != 0 {
            self.ephemerals.entry(owner).or_default().insert(path.into_boxed_str());
        }
    }

    fn disown(&mut self, owner: i64, path: &str) {
        if let Some(paths) = self.ephemerals.get_mut(&owner) {
            paths.remove(path);
            if paths.is_empty() {
                self.ephemerals.remove(&owner);
            }
        }
    }

    fn remember(&mut self, key: &str) {
        if let Some(before) = &mut self.before
            && !before.contains_key(key)
        {
            before.insert(key.into(), self.nodes.get(key).cloned());
        }
    }

    /// The node to be changed in place. Its data and owner must go through
    /// [`set_data`](Self::set_data), [`create`](Self::create) and [`delete`](Self::delete).
    pub(crate) fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        let key = key(path)?;
        self.remember(&key);
        self.nodes.get_mut(key.as_str())
    }

    /// Adds a node under a parent that exists and does not have it.
    pub(crate) fn create(&mut self, path: &str, node: Node) {
        let Some((parent, name)) = path::split(path) else { return };
        let key = child_key(parent, name);
        self.remember(&key);
        let zxid = node.czxid;
        self.replace(key.into_boxed_str(), Some(node));
        if let Some(parent) = self.get_mut(parent) {
            parent.children += 1;
            parent.creations = parent.creations.wrapping_add(1);
            parent.pzxid = zxid;
        }
    }

    /// Removes a node that exists.
    pub(crate) fn delete(&mut self, path: &str, zxid: i64) {
        let Some((parent, name)) = path::split(path) else { return };
        let key = child_key(parent, name);
        self.remember(&key);
        self.replace(key.into_boxed_str(), None);
        if let Some(parent) = self.get_mut(parent) {
            parent.children = parent.children.saturating_sub(1);
            parent.pzxid = parent.pzxid.max(zxid);
        }
    }

    /// Gives a node that exists new data, and with it version, zxid and time.
    pub(crate) fn set_data(&mut self, path: &str, data: Option<&[u8]>, zxid: i64, time_ms: i64) {
        let added = data.map_or(0, <[u8]>::len);
        let Some(node) = self.get_mut(path) else { return };
        let removed = node.data_len();
        node.data = data.map(Box::from);
        node.version = node.version.wrapping_add(1);
        node.mzxid = zxid;
        node.mtime_ms = time_ms;
        self.bytes = (self.bytes + added).saturating_sub(removed);
    }
}
