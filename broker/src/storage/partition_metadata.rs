//! `partition.metadata`: which topic id a folder belongs to. Kafka's text:
//!
//! ```text
//! version: 0
//! topic_id: AAECAwQFBgcICQoLDA0ODw
//! ```

use proto::TopicId;

/// The file's name.
pub(super) const FILE_NAME: &str = "partition.metadata";

/// The file's text.
pub(super) fn encode(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}\n")
}

/// Reads the file; `None` when it is not whole and right.
pub(super) fn decode(bytes: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    if lines.next()? != "version: 0" {
        return None;
    }
    lines.next()?.strip_prefix("topic_id: ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_survives_and_cut_files_are_refused() {
        let id = TopicId::random();
        let text = encode(id);
        assert_eq!(decode(text.as_bytes()), Some(id));
        for len in 0..text.len() - 1 {
            assert_eq!(decode(&text.as_bytes()[..len]), None, "{len}");
        }
    }
}
