//! The ZooKeeper side of Ottla.
