//! Long runs under faults: a cluster with load, a schedule of faults that a seed decides, and a
//! checker that judges what producers and consumers saw.
//!
//! [`schedule`] decides, before the run, what is broken and for how long; [`inject`] breaks and heals
//! it in a running cluster; [`observer`] watches the registry meanwhile; [`run`] goes through the
//! schedule and demands after each fault that every partition works again; [`report`] is the line
//! of JSON at the end. Where clients are Kafka's, [`group_log`] is what their group's coordinator has on
//! record. The executable is `faults`; tests of single scenarios use the parts.

pub mod group_log;
pub mod inject;
pub mod observer;
pub mod replicas;
pub mod report;
pub mod run;
pub mod schedule;
