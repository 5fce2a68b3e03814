//! Which topics a pattern subscription means. Everybody who asks uses this one rule: the member
//! that watches topics, the one that computes the plan, and whoever checks whether it fits.

use regex::Regex;

/// A regular expression over whole topic names; `,` separates alternatives, as in Kafka's
/// whitelists. Topics of the system (`__…`) match no pattern, only their own name.
#[derive(Debug, Clone)]
pub struct TopicPattern(Regex);

impl TopicPattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let alternatives = text.split(',').map(str::trim).collect::<Vec<_>>().join("|");
        Regex::new(&format!("^(?:{alternatives})$")).map(Self)
    }

    /// True when a topic of this name is meant.
    pub fn matches(&self, topic: &str) -> bool {
        !topic.starts_with("__") && self.0.is_match(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_and_no_system_topics() {
        let pattern = TopicPattern::new(r"logs\..*, metrics").unwrap();
        assert!(pattern.matches("logs.hdfs") && pattern.matches("metrics"));
        assert!(!pattern.matches("metrics2") && !pattern.matches("old-logs.x"));
        assert!(!TopicPattern::new(".*").unwrap().matches("__consumer_offsets"));
        assert!(TopicPattern::new("logs(").is_err());
    }
}
