//! Who is told of which changes. Two tables as in the Java server, one of data watches and one of
//! child watches; persistent watches stand in both. Nothing here survives a connection.
//!
//! A connection has one mode a path and table: setting another replaces it. That, and the other
//! corners of 3.8 that clients can see, are kept on purpose.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::path;
use super::transaction::{Change, ChangeKind};

/// A connection, as the watches and the engine know it. Never used twice in a process.
pub(crate) type ConnectionId = u64;

/// The event types of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub(crate) enum EventKind {
    Created = 1,
    Deleted = 2,
    DataChanged = 3,
    ChildrenChanged = 4,
}

/// One event for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) to: ConnectionId,
    pub(crate) kind: EventKind,
    pub(crate) path: String,
}

/// How long a watch lasts and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchMode {
    Oneshot,
    Persistent,
    /// Persistent, for the path and everything below it, without `ChildrenChanged`.
    Recursive,
}

/// Which table a client means when it asks or removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatcherType {
    Children,
    Data,
    Any,
}

/// One table: which connection watches which path, in which mode.
#[derive(Debug, Default)]
struct Table {
    by_path: HashMap<Box<str>, BTreeMap<ConnectionId, WatchMode>>,
    by_connection: HashMap<ConnectionId, HashSet<Box<str>>>,
    recursive: usize,
}

impl Table {
    fn add(&mut self, path: &str, connection: ConnectionId, mode: WatchMode) {
        let watchers = self.by_path.entry(path.into()).or_default();
        let old = watchers.insert(connection, mode);
        self.recursive -= usize::from(old == Some(WatchMode::Recursive));
        self.recursive += usize::from(mode == WatchMode::Recursive);
        self.by_connection.entry(connection).or_default().insert(path.into());
    }

    fn remove(&mut self, path: &str, connection: ConnectionId) -> bool {
        let removed = self.unlink(path, connection);
        if let Some(paths) = self.by_connection.get_mut(&connection) {
            paths.remove(path);
            if paths.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
        removed
    }

    fn unlink(&mut self, path: &str, connection: ConnectionId) -> bool {
        let Some(watchers) = self.by_path.get_mut(path) else { return false };
        let old = watchers.remove(&connection);
        if watchers.is_empty() {
            self.by_path.remove(path);
        }
        self.recursive -= usize::from(old == Some(WatchMode::Recursive));
        old.is_some()
    }

    fn remove_connection(&mut self, connection: ConnectionId) {
        for path in self.by_connection.remove(&connection).into_iter().flatten() {
            self.unlink(&path, connection);
        }
    }

    fn contains(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    /// Who gets this event; their one-shot watches on the path are used up.
    fn trigger(&mut self, path: &str, kind: EventKind) -> BTreeSet<ConnectionId> {
        let mut told = BTreeSet::new();
        let mut used = Vec::new();
        let levels = if self.recursive == 0 { 1 } else { usize::MAX };
        for (level, watched) in path::with_ancestors(path).take(levels).enumerate() {
            for (connection, mode) in self.by_path.get(watched).into_iter().flatten() {
                match mode {
                    WatchMode::Recursive if kind != EventKind::ChildrenChanged => {
                        told.insert(*connection);
                    }
                    WatchMode::Persistent if level == 0 => {
                        told.insert(*connection);
                    }
                    WatchMode::Oneshot if level == 0 => {
                        told.insert(*connection);
                        used.push(*connection);
                    }
                    _ => {}
                }
            }
        }
        for connection in used {
            self.remove(path, connection);
        }
        told
    }

    fn count(&self, connection: ConnectionId) -> usize {
        self.by_connection.get(&connection).map_or(0, HashSet::len)
    }
}

/// All watches of all connections.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    data: Table,
    children: Table,
}

impl Watches {
    pub(crate) fn add_data(&mut self, path: &str, connection: ConnectionId) {
        self.data.add(path, connection, WatchMode::Oneshot);
    }

    pub(crate) fn add_children(&mut self, path: &str, connection: ConnectionId) {
        self.children.add(path, connection, WatchMode::Oneshot);
    }

    /// A persistent watch stands in both tables.
    pub(crate) fn add_persistent(&mut self, path: &str, connection: ConnectionId, mode: WatchMode) {
        self.data.add(path, connection, mode);
        self.children.add(path, connection, mode);
    }

    /// Whether the path is watched. As 3.8 answers: by anybody, not only by who asks.
    pub(crate) fn contains(&self, path: &str, of: WatcherType) -> bool {
        (of != WatcherType::Data && self.children.contains(path))
            || (of != WatcherType::Children && self.data.contains(path))
    }

    /// False if there was none of that type.
    pub(crate) fn remove(&mut self, path: &str, connection: ConnectionId, of: WatcherType) -> bool {
        let children = of != WatcherType::Data && self.children.remove(path, connection);
        let data = of != WatcherType::Children && self.data.remove(path, connection);
        children || data
    }

    pub(crate) fn remove_connection(&mut self, connection: ConnectionId) {
        self.data.remove_connection(connection);
        self.children.remove_connection(connection);
    }

    /// Whether the connection itself watches the path, in whichever way.
    pub(crate) fn has(&self, path: &str, connection: ConnectionId) -> bool {
        let of = |table: &Table| {
            table.by_path.get(path).is_some_and(|watchers| watchers.contains_key(&connection))
        };
        of(&self.data) || of(&self.children)
    }

    /// Watched paths of a connection, those in both tables counted twice.
    pub(crate) fn count(&self, connection: ConnectionId) -> usize {
        self.data.count(connection) + self.children.count(connection)
    }

    /// Watched paths of all connections.
    pub(crate) fn total(&self) -> usize {
        let of = |table: &Table| table.by_connection.values().map(HashSet::len).sum::<usize>();
        of(&self.data) + of(&self.children)
    }

    /// The events of one changed path, in the order they go on the wire.
    pub(crate) fn trigger(&mut self, change: &Change, events: &mut Vec<Event>) {
        let path = change.path.as_str();
        let parent = path::split(path).map_or("/", |(parent, _)| path::watched_parent(parent));
        match change.kind {
            ChangeKind::DataChanged => {
                let told = self.data.trigger(path, EventKind::DataChanged);
                push(events, told, EventKind::DataChanged, path);
            }
            ChangeKind::Created => {
                let told = self.data.trigger(path, EventKind::Created);
                push(events, told, EventKind::Created, path);
                self.trigger_children_of(parent, events);
            }
            ChangeKind::Deleted => {
                let mut told = self.data.trigger(path, EventKind::Deleted);
                // One cause, one event: who watched both hears of it once.
                told.append(&mut self.children.trigger(path, EventKind::Deleted));
                push(events, told, EventKind::Deleted, path);
                self.trigger_children_of(parent, events);
            }
        }
    }

    fn trigger_children_of(&mut self, parent: &str, events: &mut Vec<Event>) {
        let told = self.children.trigger(parent, EventKind::ChildrenChanged);
        push(events, told, EventKind::ChildrenChanged, parent);
    }
}

fn push(events: &mut Vec<Event>, told: BTreeSet<ConnectionId>, kind: EventKind, path: &str) {
    events.extend(told.into_iter().map(|to| Event { to, kind, path: path.to_owned() }));
}
