//! This broker as a member of the cluster. Lives on the control thread; never on the data path.
//!
//! [`member`] is the one task that follows the session and the controller: it registers
//! ([`identity`]), reads the registry whole ([`whole_read`]) or takes numbered updates
//! ([`update`]), keeps the image every thread reads ([`metadata`]), and has partitions opened, led
//! and removed ([`placement`] decides, [`settle`] does). [`controller_link`] forwards Admin calls,
//! [`producer_ids`] holds a block of producer ids.

mod blocking;
pub(crate) mod controlled_shutdown;
pub mod controller_link;
pub mod identity;
pub mod member;
pub mod metadata;
mod placement;
pub mod producer_ids;
mod raise;
mod settle;
mod settling;
pub mod states_changed;
mod update;
mod whole_read;
