//! The listener from outside: what clients send and get, over sockets.

mod groups;
