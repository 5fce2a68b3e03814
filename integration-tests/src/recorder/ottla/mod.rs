//! Our own clients, over gRPC; a group agrees by the registry.

mod reader;
mod sender;

pub(super) use reader::{join, tail};
pub(super) use sender::produce;
