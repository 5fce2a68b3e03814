//! Which names may become nodes: topics, groups, members, clients.
//!
//! Kafka's rule: letters, digits, `.`, `_` and `-`, at most 249 of them, neither `.` nor `..`.

/// The longest name that may become a node.
pub const MAX_NAME_LEN: usize = 249;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} name `{name}` is not valid: {reason}")]
pub struct InvalidName {
    what: &'static str,
    name: String,
    reason: &'static str,
}

/// Checks the name of a topic.
pub fn check_topic(name: &str) -> Result<(), InvalidName> {
    check("topic", name)
}

/// Checks the name of a consumer group.
pub fn check_group(name: &str) -> Result<(), InvalidName> {
    check("group", name)
}

/// Checks the id of a member of a group.
pub fn check_member(name: &str) -> Result<(), InvalidName> {
    check("consumer", name)
}

/// Two topics whose names differ only in `.` and `_` collide in metric names; Kafka warns, too.
pub fn collides(a: &str, b: &str) -> bool {
    a != b && a.replace('.', "_") == b.replace('.', "_")
}

fn check(what: &'static str, name: &str) -> Result<(), InvalidName> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME_LEN {
        "it is longer than 249 characters"
    } else if name == "." || name == ".." {
        "`.` and `..` are not names"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        "only ASCII letters, digits, `.`, `_` and `-` are allowed"
    } else {
        return Ok(());
    };
    Err(InvalidName { what, name: name.chars().take(64).collect(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["a", "web.logs_2-x", &"x".repeat(249)] {
            check_topic(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", &"x".repeat(250)] {
            assert!(check_group(bad).is_err(), "{bad:?}");
        }
        assert!(collides("a.b", "a_b"));
        assert!(!collides("a.b", "a.b") && !collides("a.b", "a-b"));
    }
}
