//! This broker as a member of the cluster. Lives on the control thread; never on the data path.
//!
//! [`member`] is the one task that follows the session and the controller: it registers
//! ([`identity`]), reads the registry whole ([`whole_read`]) or takes numbered updates
//! ([`update`]), and keeps the image every thread reads ([`metadata`]). Beside it [`settling`] has
//! partitions opened, led, followed and removed: [`placement`] decides, [`settle`] and [`roles`] do,
//! [`raise`] makes epochs certain, [`losses`] takes this broker out where it lost what it told it
//! has, [`offline`] opens anew what failed.
//!
//! What leaders here wish of their in-sync replicas [`isr_changes`] writes. [`states_changed`] tells
//! the controller what was written, [`controlled_shutdown`] has it take leadership away before a
//! stop. [`controller_link`] forwards Admin calls, [`producer_ids`] holds a block of producer ids.

mod blocking;
mod controlled_shutdown;
pub mod controller_link;
pub mod identity;
mod isr_changes;
mod losses;
pub mod member;
pub mod membership;
pub mod metadata;
mod offline;
mod placement;
pub mod producer_ids;
mod raise;
mod roles;
mod settle;
mod settling;
mod states_changed;
mod update;
mod whole_read;
