//! The gRPC framing that both ends of the data path share.
