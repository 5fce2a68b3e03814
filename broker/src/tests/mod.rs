//! Brokers as a whole, several in this process, over disks that break when told to.

mod disks;
mod in_process;
