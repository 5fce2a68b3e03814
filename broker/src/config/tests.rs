//! The settings as a person writes them.

use std::path::PathBuf;

use super::*;

fn from_toml(text: &str) -> Result<Values, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broker.toml");
    #[allow(clippy::disallowed_methods)]
    std::fs::write(&path, text).unwrap();
    let mut values = Values::default();
    values.read_file(&path).map(|()| values)
}

#[test]
fn every_default_fits_its_own_key() {
    for key in keys::KEYS {
        Values::default()
            .set(key.name, key.default, Origin::Flag)
            .or_else(|error| {
                // Text may be empty; everything else must be valid as it stands.
                if key.default.is_empty() { Ok(()) } else { Err(error) }
            })
            .unwrap();
        assert!(key.doc.ends_with('.'), "{}", key.name);
    }
}

#[test]
fn dotted_keys_and_tables_are_the_same() {
    let dotted = from_toml("log.segment.bytes = 4096\nlog.dirs = ['/a', '/b']").unwrap();
    let table = from_toml("[log]\ndirs = '/a, /b'\n[log.segment]\nbytes = 4096").unwrap();
    for values in [dotted, table] {
        let config = BrokerConfig::new(&values, 1 << 30, 2);
        assert_eq!(config.dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert!(config.topics.values.contains(&("segment.bytes", "4096".to_owned())));
    }
}

#[test]
fn later_sources_win() {
    let mut values = from_toml("broker.id = 1\nbroker.rack = 'a'\nmax.connections = 10").unwrap();
    let environment =
        [("OTTLA_BROKER_BROKER_ID", "2"), ("OTTLA_BROKER_BROKER_RACK", "b"), ("PATH", "/bin")];
    values
        .read_environment(environment.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())))
        .unwrap();
    values.read_assignment("broker.id = 3").unwrap();
    let config = BrokerConfig::new(&values, 1 << 30, 2);
    assert_eq!((config.id.0, config.rack.as_str(), config.sockets.max_connections), (3, "b", 10));
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_key() {
    let error = from_toml("log.segment.byte = 1").unwrap_err().to_string();
    assert!(error.contains("`log.segment.byte`"), "{error}");
    assert!(error.contains("did you mean `log.segment.bytes`?"), "{error}");
    let error = Values::default().read_assignment("zzz=1").unwrap_err().to_string();
    assert!(error.contains("the command line") && !error.contains("did you mean"), "{error}");
}

#[test]
fn a_value_out_of_bounds_says_what_would_fit() {
    for (assignment, expected) in [
        ("broker.id=-1", "from 0 to 2147483647"),
        ("log.flush.policy=sometimes", "os, interval, before-ack"),
        ("listen.grpc=9094", "HOST:PORT"),
        ("auto.create.topics.enable=yes", "true or false"),
    ] {
        let error = Values::default().read_assignment(assignment).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_shown_can_be_read_back() {
    let mut values = Values::default();
    values.read_assignment("log.dirs=/x,/y").unwrap();
    values.read_assignment("broker.id=7").unwrap();
    let shown = show(&values);
    let config = BrokerConfig::new(&from_toml(&shown).unwrap(), 1 << 30, 2);
    assert_eq!((config.id.0, config.dirs.len()), (7, 2));
    // And with every comment mark before a key removed, it is still valid.
    let all: String = shown
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.contains(" = ") && !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    from_toml(&all).unwrap();
}

#[test]
fn a_key_that_begins_with_another_is_quoted() {
    let quoted = from_toml("max.connections = 5\n\"max.connections.per.ip\" = 3\n").unwrap();
    assert_eq!((quoted.int("max.connections"), quoted.int("max.connections.per.ip")), (5, 3));
    let error = from_toml("max.connections = 5\nmax.connections.per.ip = 3\n").unwrap_err();
    assert!(error.to_string().contains("in quotes"), "{error}");
}

#[test]
fn limits_follow_from_memory_when_not_set() {
    let config = BrokerConfig::new(&Values::default(), 8 << 30, 4);
    assert_eq!(config.sockets.max_connections, 512);
    assert_eq!(config.sockets.queued_max_bytes, 256 << 20);
    assert_eq!(config.sockets.threads, 4);
}
