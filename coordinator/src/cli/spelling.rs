//! Spellings that Kafka's tools taught: `topics --list` means `topics list`.
//!
//! The action may stand anywhere after its subject, as with Kafka's tools, so the words are put in
//! order before clap sees them.

/// Subjects and the actions that may be written as options.
const SPELLINGS: &[(&str, &[&str])] = &[
    ("topics", &["list", "create", "describe", "delete", "alter", "delete-records"]),
    ("brokers", &["list", "describe", "drain", "undrain"]),
    ("reassign", &["generate", "execute", "verify", "list", "cancel"]),
    ("groups", &["list", "describe", "reset-offsets", "delete"]),
    ("configs", &["describe", "alter"]),
];

/// Puts `topics … --list …` into the order `topics list … …`; anything else is left alone.
pub(crate) fn put_in_order(mut words: Vec<String>) -> Vec<String> {
    let subject = words.get(1).map(String::as_str);
    let Some((_, actions)) = SPELLINGS.iter().find(|(name, _)| Some(*name) == subject) else {
        return words;
    };
    if words.get(2).is_some_and(|word| actions.contains(&word.as_str())) {
        return words;
    }
    let is_action =
        |word: &String| word.strip_prefix("--").is_some_and(|action| actions.contains(&action));
    if let Some(at) = words.iter().position(is_action) {
        let action = words.remove(at);
        words.insert(2, action.trim_start_matches('-').to_owned());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(line: &str) -> String {
        put_in_order(line.split(' ').map(str::to_owned).collect()).join(" ")
    }

    #[test]
    fn an_action_written_as_an_option_becomes_a_subcommand() {
        assert_eq!(ordered("coordinator topics --list"), "coordinator topics list");
        assert_eq!(
            ordered("coordinator topics --bootstrap-server a:1 --create --topic t"),
            "coordinator topics create --bootstrap-server a:1 --topic t"
        );
        assert_eq!(
            ordered("coordinator groups --reset-offsets --group g --to-earliest"),
            "coordinator groups reset-offsets --group g --to-earliest"
        );
        assert_eq!(
            ordered("coordinator topics --delete-records --topic t --offset 5"),
            "coordinator topics delete-records --topic t --offset 5"
        );
        assert_eq!(
            ordered(
                "coordinator reassign --bootstrap-server a:1 --reassignment-json-file f --execute"
            ),
            "coordinator reassign execute --bootstrap-server a:1 --reassignment-json-file f"
        );
        assert_eq!(
            ordered("coordinator brokers --drain 3 --wait"),
            "coordinator brokers drain 3 --wait"
        );
        assert_eq!(
            ordered("coordinator configs --alter --topic t --delete-config k"),
            "coordinator configs alter --topic t --delete-config k"
        );
    }

    #[test]
    fn everything_else_is_left_alone() {
        for line in ["coordinator", "coordinator run --list", "coordinator topics list --list"] {
            assert_eq!(ordered(line), line);
        }
    }
}
