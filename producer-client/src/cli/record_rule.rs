//! How a line becomes a record: key, value, headers, partition.

use anyhow::{Context, Result, bail};
use producer_client::{Header, Record};
use regex::bytes::Regex;

use super::args::SendArgs;

#[derive(Debug)]
enum KeyRule {
    None,
    Separator(Vec<u8>),
    Regex { regex: Regex, key: usize, value: Option<usize> },
}

/// The rules, compiled once.
#[derive(Debug)]
pub(crate) struct RecordRule {
    topic: String,
    key: KeyRule,
    headers: Vec<(String, String)>,
    null_value: Option<Vec<u8>>,
    partition: Option<i32>,
}

impl RecordRule {
    pub(crate) fn new(topic: &str, args: &SendArgs) -> Result<Self> {
        let key = match (&args.key_separator, &args.key_regex) {
            (Some(separator), _) if separator.is_empty() => {
                bail!("--key-separator is empty: give the text between key and value");
            }
            (Some(separator), _) => KeyRule::Separator(separator.as_bytes().into()),
            (None, Some(pattern)) => regex_rule(pattern)?,
            (None, None) => KeyRule::None,
        };
        let split = |header: &String| {
            let (name, value) = header
                .split_once('=')
                .with_context(|| format!("`--header {header}` is not NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        Ok(Self {
            topic: topic.into(),
            key,
            headers: args.headers.iter().map(split).collect::<Result<_>>()?,
            null_value: args.null_value.as_ref().map(|text| text.as_bytes().into()),
            partition: args.partition,
        })
    }

    /// The headers of every record.
    pub(crate) fn headers(&self) -> Vec<Header<'_>> {
        let headers = self.headers.iter();
        headers.map(|(name, value)| Header::new(name, Some(value.as_bytes()))).collect()
    }

    /// The record of a line.
    pub(crate) fn record<'a>(&'a self, line: &'a [u8], headers: &'a [Header<'a>]) -> Record<'a> {
        let (key, value) = self.split(line);
        let value = Some(value).filter(|value| self.null_value.as_deref() != Some(*value));
        let partition = self.partition;
        Record { topic: &self.topic, partition, timestamp: None, key, value, headers }
    }

    fn split<'a>(&self, line: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        match &self.key {
            KeyRule::None => (None, line),
            KeyRule::Separator(separator) => {
                match line.windows(separator.len()).position(|window| window == separator) {
                    Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
                    None => (None, line),
                }
            }
            KeyRule::Regex { regex, key, value } => match regex.captures(line) {
                None => (None, line),
                Some(captures) => {
                    let group = |i: usize| captures.get(i).map(|found| found.as_bytes());
                    (group(*key), value.and_then(group).unwrap_or(line))
                }
            },
        }
    }
}

fn regex_rule(pattern: &str) -> Result<KeyRule> {
    let regex = Regex::new(pattern).context("--key-regex cannot be read")?;
    if regex.captures_len() < 2 {
        bail!("--key-regex `{pattern}` has no group: put the key's part in parentheses");
    }
    let named = |name: &str| regex.capture_names().position(|group| group == Some(name));
    let (key, value) = (named("key"), named("value"));
    let first = (1..regex.captures_len()).find(|group| Some(*group) != value);
    let Some(key) = key.or(first) else {
        bail!("--key-regex `{pattern}` has a group for the value and none for the key");
    };
    Ok(KeyRule::Regex { regex, key, value })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Args;

    fn rule(arguments: &[&str]) -> Result<RecordRule> {
        let all = ["producer"].iter().chain(arguments);
        RecordRule::new("t", &Args::try_parse_from(all).unwrap().send)
    }

    #[test]
    fn keys_by_separator() {
        let rule = rule(&["-K", "::", "--null-value", "NULL", "-p", "3"]).unwrap();
        let record = rule.record(b"a::b::c", &[]);
        assert_eq!((record.key, record.value), (Some(&b"a"[..]), Some(&b"b::c"[..])));
        assert_eq!(record.partition, Some(3));
        let record = rule.record(b"a:b", &[]);
        assert_eq!((record.key, record.value), (None, Some(&b"a:b"[..])));
        let record = rule.record(b"a::NULL", &[]);
        assert_eq!((record.key, record.value), (Some(&b"a"[..]), None));
        assert_eq!(rule.record(b"::", &[]).key, Some(&b""[..]));
    }

    #[test]
    fn keys_by_regex() {
        let plain = rule(&["--key-regex", r"host=(\S+)"]).unwrap();
        let record = plain.record(b"x host=web-1 y", &[]);
        assert_eq!(record.key, Some(&b"web-1"[..]));
        assert_eq!(record.value, Some(&b"x host=web-1 y"[..]));
        assert_eq!(plain.record(b"no host", &[]).key, None);
        let named = rule(&["--key-regex", r"^(?<value>.*) by (?<key>\w+)$"]).unwrap();
        let record = named.record(b"done by me", &[]);
        assert_eq!((record.key, record.value), (Some(&b"me"[..]), Some(&b"done"[..])));
    }

    #[test]
    fn headers_go_with_every_record_and_wrong_rules_are_refused() {
        let with = rule(&["-H", "source=web=1", "-H", "source=2"]).unwrap();
        let headers = with.headers();
        assert_eq!(headers[0].value(), Some(&b"web=1"[..]));
        assert_eq!(with.record(b"x", &headers).headers.len(), 2);
        for wrong in [
            &["--key-regex", "("][..],
            &["--key-regex", "abc"],
            &["--key-regex", "(?<value>a)"],
            &["-H", "novalue"],
            &["-K", ""],
        ] {
            assert!(rule(wrong).is_err(), "{wrong:?}");
        }
    }
}
