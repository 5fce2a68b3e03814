//! One file an API: a message of `proto::kafka` in, calls of `api`, a message out.
//!
//! An error of one item goes into that item's answer; its words go to the log at debug level, since
//! most answers have no room for them.

pub(super) mod api_versions;
pub(super) mod fetch;
pub(super) mod init_producer_id;
pub(super) mod list_offsets;
pub(super) mod metadata;
pub(super) mod offset_for_leader_epoch;
pub(super) mod produce;

use super::bell;
use super::context::Context;
use super::dispatch::{ADVERTISED, Answer, Work};
use super::outgoing::Outgoing;
use crate::api::Refusal;

/// No error.
const NONE: i16 = 0;

/// The number of an error, which is told to the log in full.
fn code(refusal: &Refusal) -> i16 {
    tracing::debug!(code = ?refusal.code, cause = %refusal.message, "refused");
    refusal.code as i16
}
