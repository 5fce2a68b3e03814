//! Tests of the coordinator over real logs: what is stored, what a new leader reads, who is told
//! what when leadership goes.

mod expiry;
mod fail_over;
mod forgetting;
mod members;
mod offsets;
mod rig;
mod scale;
