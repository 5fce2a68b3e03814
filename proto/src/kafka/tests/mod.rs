//! The messages against the crate `kafka-protocol`, against bytes known by heart, and under hostile frames.

mod debug_tree;
mod differential;
mod golden;
mod hostile;
mod mutator;
