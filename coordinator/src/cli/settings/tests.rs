//! Settings: precedence, bounds, what is printed can be read.

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let mut settings = Settings::default();
    let file = file("num.partitions = 2\nlisten = \"a:1\"\n[zookeeper]\nconnect = \"z:1/x\"\n");
    settings.read_file(file.path()).unwrap();
    let variables = [
        ("OTTLA_COORDINATOR_NUM_PARTITIONS".to_owned(), "3".to_owned()),
        ("OTTLA_COORDINATOR_MAX_CONNECTIONS".to_owned(), "7".to_owned()),
        ("OTTLA_OTHER".to_owned(), "x".to_owned()),
    ];
    settings.read_environment(variables.into_iter()).unwrap();
    settings.read_assignment("max.connections=8").unwrap();
    assert_eq!(settings.int("num.partitions"), 3);
    assert_eq!(settings.int("max.connections"), 8);
    assert_eq!(settings.text("listen"), "a:1");
    assert_eq!(settings.text("zookeeper.connect"), "z:1/x");
    assert_eq!(settings.millis("zookeeper.session.timeout.ms"), Duration::from_secs(6));
}

#[test]
fn unknown_keys_and_bad_values_say_what_would_do() {
    let mut settings = Settings::default();
    let error = settings.read_assignment("zookeper.connect=x").unwrap_err().to_string();
    assert!(error.contains("did you mean `zookeeper.connect`?"), "{error}");
    let error = settings.read_assignment("num.partitions=0").unwrap_err().to_string();
    assert!(error.contains("from 1 to 10000"), "{error}");
    let error = settings.read_assignment("listen=9097").unwrap_err().to_string();
    assert!(error.contains("HOST:PORT"), "{error}");
    assert!(settings.read_assignment("listen").is_err());
    assert!(settings.read_file(Path::new("/nonexistent")).is_err());
    assert!(settings.read_file(file("= 1").path()).is_err());
}

#[test]
fn every_default_is_valid_and_what_is_shown_can_be_read() {
    for key in KEYS {
        if !key.default.is_empty() {
            check(key.takes, key.default).unwrap();
        }
    }
    let mut settings = Settings::default();
    settings.read_assignment("num.partitions=5").unwrap();
    let shown = show(&settings);
    let mut again = Settings::default();
    again.read_file(file(&shown).path()).unwrap();
    assert_eq!(again.int("num.partitions"), 5);
    let uncommented: String = shown
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    Settings::default().read_file(file(&uncommented).path()).unwrap();
}
