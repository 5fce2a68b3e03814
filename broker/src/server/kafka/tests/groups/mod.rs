//! The group APIs over a socket, each case by its number in the list of what clients check.

mod administration;
mod coordinators;
mod joining;
mod offsets;
mod rig;
mod versions;
