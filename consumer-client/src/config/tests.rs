//! Keys, their bounds and their relations.

use super::*;

#[test]
fn every_default_is_accepted_by_its_own_key() {
    let defaults = ConsumerConfig::default();
    defaults.validate().unwrap();
    for (key, value) in defaults.entries() {
        let mut config = ConsumerConfig::default();
        config.set(key.name, &value).unwrap_or_else(|e| panic!("{}: {e}", key.name));
        assert_eq!(config, defaults, "{}", key.name);
        assert!(!key.doc.is_empty());
    }
}

#[test]
fn key_names_are_unique() {
    let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KEYS.len());
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let error = ConsumerConfig::default().set("auto.commit.intervall.ms", "1").unwrap_err();
    assert!(error.to_string().contains("did you mean `auto.commit.interval.ms`"), "{error}");
    let error = ConsumerConfig::default().set("zzz", "1").unwrap_err();
    assert!(!error.to_string().contains("did you mean"), "{error}");
}

#[test]
fn values_out_of_bounds_say_what_is_expected() {
    let mut config = ConsumerConfig::default();
    for (name, value) in [
        ("fetch.max.wait.ms", "-1"),
        ("fetch.max.wait.ms", "30001"),
        ("auto.offset.reset", "first"),
        ("enable.auto.commit", "yes"),
        ("bootstrap.servers", "localhost"),
        ("group.id", "a/b"),
    ] {
        let error = config.set(name, value).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("expected"), "{error}");
    }
    assert_eq!(config, ConsumerConfig::default());
}

#[test]
fn relations_between_keys_are_checked() {
    let mut config = ConsumerConfig::default();
    config.set("queued.max.bytes", "1024").unwrap();
    assert!(config.validate().is_err());
}
