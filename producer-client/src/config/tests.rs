//! Settings: documented defaults, bounds, suggestions.

use super::*;

#[test]
fn defaults_are_valid_and_every_key_takes_what_it_prints() {
    let config = ProducerConfig::default();
    config.validate().unwrap();
    for key in KEYS {
        let mut other = ProducerConfig::default();
        let value = (key.get)(&config);
        other.set(key.name, &value).unwrap();
        assert_eq!((key.get)(&other), value, "{}", key.name);
        assert!(!key.doc.is_empty() && !key.bounds.is_empty());
    }
}

#[test]
fn an_unknown_key_names_the_one_that_was_meant() {
    let mut config = ProducerConfig::default();
    for (given, meant) in [
        ("linger", Some("linger.ms")),
        ("linger_ms", Some("linger.ms")),
        ("bacth.size", Some("batch.size")),
        ("enable.idempotance", Some("enable.idempotence")),
        ("favourite.colour", None),
    ] {
        let Err(ConfigError::UnknownKey { suggestion, .. }) = config.set(given, "1") else {
            panic!("{given} was taken");
        };
        assert_eq!(suggestion, meant, "{given}");
    }
}

#[test]
fn values_outside_their_bounds_are_refused() {
    let mut config = ProducerConfig::default();
    for (key, value) in [
        ("max.in.flight.requests.per.connection", "0"),
        ("max.in.flight.requests.per.connection", "1025"),
        ("compression.type", "lzo"),
        ("compression.type", "uncompressed"),
        ("compression.gzip.level", "0"),
        ("compression.gzip.level", "10"),
        ("compression.zstd.level", "23"),
        ("compression.zstd.level", "-131073"),
        ("compression.zstd.level", "fast"),
        ("linger.ms", "-1"),
        ("acks", "2"),
        ("bootstrap.servers", "localhost"),
        ("partitioner", "murmur3"),
        ("buffer.memory", "1000"),
    ] {
        let error = config.set(key, value).unwrap_err();
        assert!(matches!(error, ConfigError::InvalidValue { .. }), "{key}={value}");
    }
    config.max_in_flight = 4096;
    assert!(config.validate().is_err());
}

#[test]
fn contradictions_are_refused() {
    let mut config = ProducerConfig { acks: Acks::None, ..ProducerConfig::default() };
    assert!(!config.is_idempotent());
    config.validate().unwrap();
    config.set("enable.idempotence", "true").unwrap();
    assert!(matches!(config.validate(), Err(ConfigError::Conflict(_))));

    let mut config = ProducerConfig::default();
    config.set("delivery.timeout.ms", "1000").unwrap();
    assert!(config.validate().unwrap_err().to_string().contains("request.timeout.ms"));
}
