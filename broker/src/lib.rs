//! The Ottla broker.

pub mod storage;
