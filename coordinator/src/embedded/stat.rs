//! The `Stat` record: what a client is told about a node beside its data.

use super::wire::Output;

/// Field order is that of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stat {
    pub(crate) czxid: i64,
    pub(crate) mzxid: i64,
    pub(crate) ctime_ms: i64,
    pub(crate) mtime_ms: i64,
    pub(crate) version: i32,
    pub(crate) cversion: i32,
    pub(crate) aversion: i32,
    pub(crate) ephemeral_owner: i64,
    pub(crate) data_length: i32,
    pub(crate) num_children: i32,
    pub(crate) pzxid: i64,
}

impl Stat {
    pub(crate) fn encode(&self, output: &mut Output) {
        output.i64(self.czxid);
        output.i64(self.mzxid);
        output.i64(self.ctime_ms);
        output.i64(self.mtime_ms);
        output.i32(self.version);
        output.i32(self.cversion);
        output.i32(self.aversion);
        output.i64(self.ephemeral_owner);
        output.i32(self.data_length);
        output.i32(self.num_children);
        output.i64(self.pzxid);
    }
}
