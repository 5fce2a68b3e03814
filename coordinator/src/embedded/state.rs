//! The server as a pure state machine: tree, sessions and watches; a request and the time in, a
//! reply, events and perhaps a record for the log out. It does no I/O and reads no clock.
//!
//! What must survive a restart changes only through [`State::write`], and the same function applied
//! to the logged records in order rebuilds it. A write that fails changes nothing, takes no zxid
//! and is not logged. Reads are in `read`.

use super::error_code::ErrorCode;
use super::op_code;
use super::session_table::{Session, SessionTable};
use super::transaction::{self, Change, MultiFailure, Outcome, Stamp};
use super::tree::Tree;
use super::watches::{Event, Watches};
use super::wire::Output;
use super::write::Write;

/// Bounds on what clients may make the server keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Nodes with their data and overhead; creates and sets beyond it are refused.
    pub(crate) tree_bytes: usize,
    /// Watched paths of one connection.
    pub(crate) watches_per_session: usize,
    pub(crate) sessions: usize,
}

/// Whether the log can take more, as the one that writes it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Enough,
    /// The disk is full; what only shrinks still fits in the reserve.
    OnlyReserve,
    /// The reserve is used up too.
    Nothing,
}

/// One changing operation as the log keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) stamp: Stamp,
    pub(crate) op: i32,
    /// The body of the request, byte for byte.
    pub(crate) body: &'a [u8],
}

/// The answer to a request without its header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0, or an error.
    pub(crate) code: i32,
    /// Empty where the code is not 0.
    pub(crate) body: Vec<u8>,
    /// To be sent before the reply, in this order.
    pub(crate) events: Vec<Event>,
    /// The operation took the zxid it was offered and must be logged before the reply goes out.
    pub(crate) logged: bool,
}

impl Answer {
    pub(crate) fn error(code: ErrorCode) -> Self {
        Self { code: code.number(), ..Self::default() }
    }

    pub(crate) fn of(output: Output) -> Self {
        Self { body: output.into_bytes(), ..Self::default() }
    }
}

/// `zxid` is that of the last write applied; every zxid in the tree is at most that.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) tree: Tree,
    pub(crate) sessions: SessionTable,
    pub(crate) watches: Watches,
    pub(crate) zxid: i64,
    pub(crate) limits: Limits,
}

/// A record of the log that does not fit what came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {zxid:#x} cannot be applied after {after:#x} (code {code})")]
pub(crate) struct Inapplicable {
    zxid: i64,
    after: i64,
    code: i32,
}

impl State {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            tree: Tree::new(),
            sessions: SessionTable::default(),
            watches: Watches::default(),
            zxid: 0,
            limits,
        }
    }

    /// The stamp of the next write.
    pub(crate) fn next_stamp(&self, session: i64, time_ms: i64) -> Stamp {
        Stamp { session, zxid: self.zxid + 1, time_ms }
    }

    /// Applies a changing operation; `None` where `record.op` is not one.
    pub(crate) fn write(&mut self, record: Record<'_>, room: Room) -> Option<Answer> {
        let write = match Write::decode(record.op, record.body)? {
            Ok(write) => write,
            Err(malformed) => return Some(Answer::error(malformed.into())),
        };
        Some(match self.admit(&write, record, room) {
            Ok(()) => self.execute(&write, record.stamp),
            Err(code) => Answer::error(code),
        })
    }

    /// Applies a record of the log, which must be the next one.
    pub(crate) fn replay(&mut self, record: Record<'_>) -> Result<(), Inapplicable> {
        let zxid = record.stamp.zxid;
        let wrong = |code| Inapplicable { zxid, after: self.zxid, code };
        if zxid != self.zxid + 1 {
            return Err(wrong(0));
        }
        let write = match Write::decode(record.op, record.body) {
            Some(Ok(write)) => write,
            _ => return Err(wrong(ErrorCode::MarshallingError.number())),
        };
        let answer = self.execute(&write, record.stamp);
        if answer.logged {
            Ok(())
        } else {
            Err(Inapplicable { zxid, after: self.zxid, code: answer.code })
        }
    }

    fn admit(&self, write: &Write<'_>, record: Record<'_>, room: Room) -> Result<(), ErrorCode> {
        if let Write::CreateSession { .. } = write {
            if self.sessions.len() >= self.limits.sessions {
                return Err(ErrorCode::QuotaExceeded);
            }
        } else if self.sessions.get(record.stamp.session).is_none() {
            return Err(ErrorCode::SessionExpired);
        }
        if write.only_shrinks() {
            return if room == Room::Nothing { Err(ErrorCode::QuotaExceeded) } else { Ok(()) };
        }
        if room != Room::Enough || self.tree.bytes() + record.body.len() > self.limits.tree_bytes {
            return Err(ErrorCode::QuotaExceeded);
        }
        Ok(())
    }

    fn execute(&mut self, write: &Write<'_>, stamp: Stamp) -> Answer {
        let mut changes = Vec::new();
        let mut output = Output::new();
        match write {
            Write::CreateSession { timeout_ms, password } => {
                let session = Session { timeout_ms: *timeout_ms, password: *password };
                self.sessions.insert(stamp.session, session);
            }
            Write::CloseSession => {
                if !self.sessions.remove(stamp.session) {
                    return Answer::error(ErrorCode::SessionExpired);
                }
                transaction::delete_ephemerals(&mut self.tree, stamp, &mut changes);
            }
            Write::Multi(writes) => {
                match transaction::execute_multi(&mut self.tree, writes, stamp, &mut changes) {
                    Ok(outcomes) => encode_multi(&outcomes, &mut output),
                    Err(failure) => {
                        encode_multi_failure(writes.len(), failure, &mut output);
                        return Answer::of(output);
                    }
                }
            }
            single => match transaction::execute(&mut self.tree, single, stamp, &mut changes) {
                Ok(outcome) => encode_outcome(&outcome, &mut output),
                Err(code) => return Answer::error(code),
            },
        }
        self.zxid = stamp.zxid;
        Answer { code: 0, body: output.into_bytes(), events: self.events(&changes), logged: true }
    }

    fn events(&mut self, changes: &[Change]) -> Vec<Event> {
        let mut events = Vec::new();
        for change in changes {
            self.watches.trigger(change, &mut events);
        }
        events
    }
}

fn encode_outcome(outcome: &Outcome, output: &mut Output) {
    match outcome {
        Outcome::Created { path, stat } => {
            output.string(path);
            if let Some(stat) = stat {
                stat.encode(output);
            }
        }
        Outcome::DataSet(stat) | Outcome::AclSet(stat) => stat.encode(output),
        Outcome::Deleted | Outcome::Checked => {}
    }
}

fn encode_multi(outcomes: &[Outcome], output: &mut Output) {
    for outcome in outcomes {
        let op = match outcome {
            Outcome::Created { .. } => op_code::CREATE,
            Outcome::Deleted => op_code::DELETE,
            Outcome::DataSet(_) => op_code::SET_DATA,
            Outcome::AclSet(_) => op_code::SET_ACL,
            Outcome::Checked => op_code::CHECK,
        };
        multi_header(op, false, 0, output);
        encode_outcome(outcome, output);
    }
    multi_end(output);
}

/// Each operation gets an error record: 0 before the one that failed, its code, then "not tried".
fn encode_multi_failure(count: usize, failure: MultiFailure, output: &mut Output) {
    for index in 0..count {
        let code = match index.cmp(&failure.index) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => failure.code.number(),
            std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency.number(),
        };
        multi_error(code, output);
    }
    multi_end(output);
}

pub(crate) fn multi_header(op: i32, done: bool, code: i32, output: &mut Output) {
    output.i32(op);
    output.bool(done);
    output.i32(code);
}

pub(crate) fn multi_error(code: i32, output: &mut Output) {
    multi_header(op_code::ERROR, false, code, output);
    output.i32(code);
}

pub(crate) fn multi_end(output: &mut Output) {
    multi_header(-1, true, -1, output);
}
