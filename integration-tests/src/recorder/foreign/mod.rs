//! Kafka clients of other makes: each is a process of its own ([`library`]) that does as ours do and says
//! what it does, a line of JSON each ([`line`]).

mod library;
mod line;
mod process;
mod reader;
mod sender;

pub(super) use library::Library;
pub(super) use reader::{join, tail};
pub(super) use sender::produce;
