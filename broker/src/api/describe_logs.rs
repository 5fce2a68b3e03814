//! DescribeLogs: what is on this broker's disks, for people.

use std::collections::HashSet;

use super::Api;
use crate::storage::DirectoryState;

impl Api {
    /// Every log directory, with the logs of these topics; of all where none is named.
    pub fn describe_logs(&self, topics: &[String]) -> Vec<DirectoryState> {
        let topics: HashSet<&str> = topics.iter().map(String::as_str).collect();
        self.partitions
            .logs()
            .describe(|partition| topics.is_empty() || topics.contains(&*partition.topic))
    }
}
