//! The listener from outside: what clients send and get, over sockets.

mod addresses;
mod both_protocols;
mod fetch_sessions;
mod groups;
mod hostile;
mod limits;
mod produce_fetch;
mod protocol;
mod requests;
mod rig;
mod versions;
