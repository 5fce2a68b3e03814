//! The listener from outside: what clients send and get, over sockets.

mod hostile;
mod produce_fetch;
mod protocol;
mod rig;
