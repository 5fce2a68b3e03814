//! The connection both client crates share.
