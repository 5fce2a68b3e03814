//! The listeners. Everything a client may ask goes through `api`; nothing here decides about
//! partitions.

pub(crate) mod grpc;
