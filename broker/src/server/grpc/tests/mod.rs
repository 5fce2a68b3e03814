//! The server on a real socket, over partitions in a scratch directory and without a cluster.

pub(in crate::server) mod rig;

mod fetch;
mod following;
mod groups;
mod hostile;
mod produce;
mod replica;
mod unmodified_client;
