//! Which topics a consumer wants: names, or a pattern that new topics may match later.

use std::collections::BTreeMap;
use std::fmt;

use coordinator::rebalance::TopicPattern;

use crate::error::ConsumerError;

/// Topics wanted, each with the number of message streams that share its partitions.
#[derive(Debug, Clone)]
pub enum Subscription {
    /// These topics, present or not: one that does not exist yet is taken up when it is created.
    Topics(BTreeMap<String, u32>),
    /// Every topic, present or future, whose whole name matches.
    Pattern {
        /// What it means.
        pattern: TopicPattern,
        /// As it was given, and as it is registered.
        text: String,
        /// Message streams over all matching topics.
        streams: u32,
    },
}

impl Subscription {
    /// These topics with one stream each.
    pub fn topics<T: Into<String>>(topics: impl IntoIterator<Item = T>) -> Self {
        Self::Topics(topics.into_iter().map(|topic| (topic.into(), 1)).collect())
    }

    /// Topics whose whole name matches; `,` separates alternatives as in Kafka's whitelists.
    pub fn pattern(text: &str) -> Result<Self, ConsumerError> {
        Self::pattern_with_streams(text, 1)
    }

    pub(crate) fn pattern_with_streams(text: &str, streams: u32) -> Result<Self, ConsumerError> {
        let pattern = TopicPattern::new(text).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            ConsumerError::InvalidPattern { pattern: text.to_owned(), reason: reason.to_owned() }
        })?;
        Ok(Self::Pattern { pattern, text: text.to_owned(), streams })
    }

    /// Streams wanted of a topic, `None` where it is not wanted. Topics of the system (`__…`) match
    /// no pattern, only their own name.
    pub fn streams_of(&self, topic: &str) -> Option<u32> {
        match self {
            Self::Topics(topics) => topics.get(topic).copied(),
            Self::Pattern { pattern, streams, .. } => pattern.matches(topic).then_some(*streams),
        }
    }
}

impl PartialEq for Subscription {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Topics(a), Self::Topics(b)) => a == b,
            (
                Self::Pattern { text: a, streams: n, .. },
                Self::Pattern { text: b, streams: m, .. },
            ) => a == b && n == m,
            _ => false,
        }
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topics(topics) => {
                f.write_str(&topics.keys().cloned().collect::<Vec<_>>().join(","))
            }
            Self::Pattern { text, .. } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_and_no_system_topics() {
        let pattern = Subscription::pattern("logs\\..*, metrics").unwrap();
        assert_eq!(pattern.streams_of("logs.hdfs"), Some(1));
        assert_eq!(pattern.streams_of("metrics"), Some(1));
        assert_eq!(pattern.streams_of("metrics2"), None);
        assert_eq!(pattern.streams_of("old-logs.x"), None);
        assert_eq!(Subscription::pattern(".*").unwrap().streams_of("__consumer_offsets"), None);
        assert_eq!(Subscription::topics(["__x"]).streams_of("__x"), Some(1));
    }

    #[test]
    fn a_broken_pattern_says_why() {
        let error = Subscription::pattern("logs(").unwrap_err().to_string();
        assert!(error.contains("unclosed group"), "{error}");
    }
}
