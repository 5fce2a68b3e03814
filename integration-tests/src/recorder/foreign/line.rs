//! What a process says on its standard output. Times are milliseconds since the run began.

use serde::Deserialize;

use crate::checker::Millis;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// The next sends; said before they are handed to the library.
    Sent {
        /// When.
        at: Millis,
        /// The number of the first.
        first: u64,
        /// Where each goes to.
        partitions: Vec<i32>,
    },
    /// Sends were acknowledged: number, partition, offset (below 0: not told).
    Acknowledged { at: Millis, sends: Vec<(u64, i32, i64)> },
    /// A send ended with an error.
    Failed { at: Millis, number: u64, error: String },
    /// Records with consecutive offsets of one partition: producer and number of each.
    Delivered { at: Millis, partition: i32, first: i64, values: Vec<(u32, u64)> },
    /// The group gives the client, which is this member of it, these partitions in addition.
    Assigned { at: Millis, member: String, partitions: Vec<i32> },
    /// The group takes these partitions back; the member may still commit.
    Revoked { at: Millis, partitions: Vec<i32> },
    /// The member is no longer one: others may have these partitions already.
    Lost { at: Millis, partitions: Vec<i32> },
    /// Commits of partitions and offsets ended; with what, where not confirmed.
    Committed { begun: Millis, at: Millis, offsets: Vec<(i32, i64, Option<String>)> },
    /// Something for whoever looks into a failed run.
    Note { at: Millis, text: String },
    /// The library can do no more, or did what it must not.
    Fatal { at: Millis, error: String },
    /// The last line: everything was said.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_processes_write_them() {
        let read = |line: &str| serde_json::from_str::<Line>(line).unwrap();
        assert_eq!(
            read(r#"{"event":"sent","at":5,"first":16,"partitions":[2,2,3]}"#),
            Line::Sent { at: 5, first: 16, partitions: vec![2, 2, 3] }
        );
        assert_eq!(
            read(r#"{"event":"acknowledged","at":9,"sends":[[16,2,40],[17,2,-1]]}"#),
            Line::Acknowledged { at: 9, sends: vec![(16, 2, 40), (17, 2, -1)] }
        );
        let offsets = vec![(0, 7, None), (1, 8, Some("ILLEGAL_GENERATION".to_owned()))];
        assert_eq!(
            read(
                r#"{"event":"committed","begun":1,"at":2,"offsets":[[0,7,null],[1,8,"ILLEGAL_GENERATION"]]}"#
            ),
            Line::Committed { begun: 1, at: 2, offsets }
        );
        assert_eq!(read(r#"{"event":"ended"}"#), Line::Ended);
        assert!(serde_json::from_str::<Line>(r#"{"event":"sent","at":5}"#).is_err());
    }
}
