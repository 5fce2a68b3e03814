//! The operations that change nothing that persists: reads, and setting, asking for and removing
//! watches. Pure, like `state`, of which this is the other half.

use super::acl::permission;
use super::error_code::ErrorCode;
use super::op_code;
use super::state::{Answer, State, multi_end, multi_error, multi_header};
use super::tree::Node;
use super::watches::{ConnectionId, Event, EventKind, WatchMode, WatcherType};
use super::wire::{Input, Malformed, Output};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) session: i64,
    /// The address it comes from, without the port.
    pub(crate) address: &'a str,
}

type Result<T> = std::result::Result<T, ErrorCode>;

impl State {
    /// Answers a request that is not a write; `None` where there is no such operation.
    pub(crate) fn read(&mut self, asker: Asker<'_>, op: i32, body: &[u8]) -> Option<Answer> {
        let mut input = Input::new(body);
        let result = match op {
            op_code::EXISTS => self.exists(asker, &mut input),
            op_code::GET_DATA => self.get_data(asker, &mut input),
            op_code::GET_CHILDREN => self.get_children(asker, &mut input, false),
            op_code::GET_CHILDREN2 => self.get_children(asker, &mut input, true),
            op_code::GET_ACL => self.get_acl(&mut input),
            op_code::SYNC => sync(&mut input),
            op_code::MULTI_READ => self.multi_read(body),
            op_code::SET_WATCHES => return Some(self.set_watches(asker, &mut input, false)),
            op_code::SET_WATCHES2 => return Some(self.set_watches(asker, &mut input, true)),
            op_code::ADD_WATCH => self.add_watch(asker, &mut input),
            op_code::CHECK_WATCHES => self.check_watches(&mut input),
            op_code::REMOVE_WATCHES => self.remove_watches(asker, &mut input),
            op_code::GET_EPHEMERALS => self.get_ephemerals(asker, &mut input),
            op_code::GET_ALL_CHILDREN_NUMBER => self.get_all_children_number(&mut input),
            op_code::WHO_AM_I => Ok(who_am_i(asker)),
            op_code::CREATE_CONTAINER | op_code::CREATE_TTL => Err(ErrorCode::Unimplemented),
            _ => return None,
        };
        Some(result.map_or_else(Answer::error, Answer::of))
    }

    fn readable(&self, path: &str) -> Result<&Node> {
        let node = self.tree.get(path).ok_or(ErrorCode::NoNode)?;
        node.acl.check(permission::READ)?;
        Ok(node)
    }

    fn check_watch_limit(&self, asker: Asker<'_>, path: &str) -> Result<()> {
        let connection = asker.connection;
        let room = self.watches.count(connection) < self.limits.watches_per_session;
        if room || self.watches.has(path, connection) {
            Ok(())
        } else {
            Err(ErrorCode::QuotaExceeded)
        }
    }

    fn exists(&mut self, asker: Asker<'_>, input: &mut Input<'_>) -> Result<Output> {
        let (path, watch) = (input.string()?, input.bool()?);
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        if self.tree.get(path).is_some() {
            self.readable(path)?;
        }
        if watch {
            // Also on a node that is not there: the watch waits for its creation.
            self.check_watch_limit(asker, path)?;
            self.watches.add_data(path, asker.connection);
        }
        let mut output = Output::new();
        self.readable(path)?.stat().encode(&mut output);
        Ok(output)
    }

    fn get_data(&mut self, asker: Asker<'_>, input: &mut Input<'_>) -> Result<Output> {
        let (path, watch) = (input.string()?, input.bool()?);
        let mut output = Output::new();
        encode_data(self.readable(path)?, &mut output);
        if watch {
            self.check_watch_limit(asker, path)?;
            self.watches.add_data(path, asker.connection);
        }
        Ok(output)
    }

    fn get_children(
        &mut self,
        asker: Asker<'_>,
        input: &mut Input<'_>,
        with_stat: bool,
    ) -> Result<Output> {
        let (path, watch) = (input.string()?, input.bool()?);
        let node = self.readable(path)?;
        let mut output = Output::new();
        self.encode_children(path, node, &mut output);
        if with_stat {
            node.stat().encode(&mut output);
        }
        if watch {
            self.check_watch_limit(asker, path)?;
            self.watches.add_children(path, asker.connection);
        }
        Ok(output)
    }

    fn encode_children(&self, path: &str, node: &Node, output: &mut Output) {
        output.size(usize::try_from(node.children).unwrap_or(usize::MAX));
        for name in self.tree.children(path) {
            output.string(name);
        }
    }

    fn get_acl(&self, input: &mut Input<'_>) -> Result<Output> {
        let path = input.string()?;
        let node = self.tree.get(path).ok_or(ErrorCode::NoNode)?;
        node.acl.check(permission::READ | permission::ADMIN)?;
        let mut output = Output::new();
        node.acl.encode(&mut output);
        node.stat().encode(&mut output);
        Ok(output)
    }

    /// Each read of a multi-read answers for itself; only a malformed one spoils the whole.
    fn multi_read(&self, body: &[u8]) -> Result<Output> {
        let mut input = Input::new(body);
        let mut output = Output::new();
        while let Some(op) = super::write::next_of_multi(&mut input)? {
            let (path, _watch) = (input.string()?, input.bool()?);
            if !matches!(op, op_code::GET_DATA | op_code::GET_CHILDREN) {
                return Err(ErrorCode::MarshallingError);
            }
            match self.readable(path) {
                Err(code) => multi_error(code.number(), &mut output),
                Ok(node) => {
                    multi_header(op, false, 0, &mut output);
                    if op == op_code::GET_DATA {
                        encode_data(node, &mut output);
                    } else {
                        self.encode_children(path, node, &mut output);
                    }
                }
            }
        }
        multi_end(&mut output);
        Ok(output)
    }

    fn add_watch(&mut self, asker: Asker<'_>, input: &mut Input<'_>) -> Result<Output> {
        let (path, mode) = (input.string()?, input.i32()?);
        let mode = match mode {
            0 => WatchMode::Persistent,
            1 => WatchMode::Recursive,
            _ => return Err(ErrorCode::MarshallingError),
        };
        self.check_watch_limit(asker, path)?;
        self.watches.add_persistent(path, asker.connection, mode);
        let mut output = Output::new();
        output.i32(0);
        Ok(output)
    }

    fn check_watches(&self, input: &mut Input<'_>) -> Result<Output> {
        let (path, of) = (input.string()?, watcher_type(input)?);
        // The Java server walks up the path, and stumbles where there is no slash to walk to.
        match path {
            "" => Err(ErrorCode::NoWatcher),
            path if !path.contains('/') => Err(ErrorCode::MarshallingError),
            path if self.watches.contains(path, of) => Ok(Output::new()),
            _ => Err(ErrorCode::NoWatcher),
        }
    }

    fn remove_watches(&mut self, asker: Asker<'_>, input: &mut Input<'_>) -> Result<Output> {
        let (path, of) = (input.string()?, watcher_type(input)?);
        if self.watches.remove(path, asker.connection, of) {
            Ok(Output::new())
        } else {
            Err(ErrorCode::NoWatcher)
        }
    }

    fn get_ephemerals(&self, asker: Asker<'_>, input: &mut Input<'_>) -> Result<Output> {
        let prefix = input.buffer()?.unwrap_or_default();
        let prefix = std::str::from_utf8(prefix).map_err(|_| ErrorCode::MarshallingError)?;
        // Java's trim: control characters count as blanks.
        let all = matches!(prefix.trim_matches(|c| c <= ' '), "" | "/");
        let mut paths = self.tree.ephemerals(asker.session);
        paths.retain(|path| all || path.starts_with(prefix));
        let mut output = Output::new();
        output.size(paths.len());
        for path in paths {
            output.string(&path);
        }
        Ok(output)
    }

    fn get_all_children_number(&self, input: &mut Input<'_>) -> Result<Output> {
        let path = input.string()?;
        self.readable(path)?;
        let mut output = Output::new();
        // Asked for the path "", the Java server counts the root too, under its other name.
        output.size(self.tree.descendants(path) + usize::from(path.is_empty()));
        Ok(output)
    }

    /// Takes up a client's watches after it reconnected. What it missed since `last_zxid` is sent
    /// as events at once; a one-shot watch that such an event answers is not set again.
    fn set_watches(&mut self, asker: Asker<'_>, input: &mut Input<'_>, two: bool) -> Answer {
        match SetWatches::decode(input, two) {
            Err(malformed) => Answer::error(malformed.into()),
            Ok(request) => {
                let added = request.count();
                let held = self.watches.count(asker.connection);
                if held + added > self.limits.watches_per_session {
                    return Answer::error(ErrorCode::QuotaExceeded);
                }
                Answer { events: self.catch_up(asker.connection, &request), ..Answer::default() }
            }
        }
    }

    fn catch_up(&mut self, to: ConnectionId, request: &SetWatches<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut tell = |kind, path: &str| events.push(Event { to, kind, path: path.to_owned() });
        let since = request.last_zxid;
        for path in &request.data {
            match self.tree.get(path) {
                None => tell(EventKind::Deleted, path),
                Some(node) if node.mzxid > since => tell(EventKind::DataChanged, path),
                Some(_) => self.watches.add_data(path, to),
            }
        }
        for path in &request.exist {
            match self.tree.get(path) {
                Some(_) => tell(EventKind::Created, path),
                None => self.watches.add_data(path, to),
            }
        }
        for path in &request.children {
            match self.tree.get(path) {
                None => tell(EventKind::Deleted, path),
                Some(node) if node.pzxid > since => tell(EventKind::ChildrenChanged, path),
                Some(_) => self.watches.add_children(path, to),
            }
        }
        for path in &request.persistent {
            self.watches.add_persistent(path, to, WatchMode::Persistent);
        }
        for path in &request.recursive {
            self.watches.add_persistent(path, to, WatchMode::Recursive);
        }
        events
    }
}

/// The body of `setWatches` and, with the last two lists, `setWatches2`.
#[derive(Debug, Default)]
struct SetWatches<'a> {
    last_zxid: i64,
    data: Vec<&'a str>,
    exist: Vec<&'a str>,
    children: Vec<&'a str>,
    persistent: Vec<&'a str>,
    recursive: Vec<&'a str>,
}

impl<'a> SetWatches<'a> {
    fn decode(input: &mut Input<'a>, two: bool) -> std::result::Result<Self, Malformed> {
        let mut request = Self {
            last_zxid: input.i64()?,
            data: input.strings()?,
            exist: input.strings()?,
            children: input.strings()?,
            ..Self::default()
        };
        if two {
            request.persistent = input.strings()?;
            request.recursive = input.strings()?;
        }
        Ok(request)
    }

    fn count(&self) -> usize {
        let persistent = self.persistent.len() + self.recursive.len();
        self.data.len() + self.exist.len() + self.children.len() + 2 * persistent
    }
}

fn watcher_type(input: &mut Input<'_>) -> Result<WatcherType> {
    match input.i32()? {
        1 => Ok(WatcherType::Children),
        2 => Ok(WatcherType::Data),
        3 => Ok(WatcherType::Any),
        _ => Err(ErrorCode::MarshallingError),
    }
}

fn encode_data(node: &Node, output: &mut Output) {
    output.buffer(node.data.as_deref());
    node.stat().encode(output);
}

fn sync(input: &mut Input<'_>) -> Result<Output> {
    let path = input.string()?;
    let mut output = Output::new();
    output.string(path);
    Ok(output)
}

fn who_am_i(asker: Asker<'_>) -> Output {
    let mut output = Output::new();
    output.size(1);
    output.string("ip");
    output.string(asker.address);
    output
}
