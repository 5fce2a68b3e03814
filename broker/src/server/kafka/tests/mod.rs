//! The listener from outside: what clients send and get, over sockets.

mod fetch_sessions;
mod groups;
mod hostile;
mod produce_fetch;
mod protocol;
mod rig;
mod versions;
