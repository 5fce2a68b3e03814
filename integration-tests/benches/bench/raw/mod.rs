//! What the machine allows, by the simplest blocking programs: the figures of the product are ratios
//! to these. Two processes each, as with the product; the same congestion control, the same batches.
//!
//! [`sink`] is what a producer can reach, [`source`] what a consumer can, [`disk`] what appending
//! with syncs and copying in memory cost.

pub(crate) mod disk;
pub(crate) mod sink;
mod socket;
pub(crate) mod source;
