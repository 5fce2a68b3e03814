//! `broker config show`: every key with its meaning, bounds, default and present value, as a TOML
//! file that can be used as it stands.

use super::keys::{KEYS, Key, Kind};
use super::load::{Origin, Values};

/// The settings as a commented TOML file. Keys nobody set are commented out.
pub fn show(values: &Values) -> String {
    let mut out = String::from(
        "# Settings of an Ottla broker. A key that is commented out has the value shown, its default.\n\
         # The environment (OTTLA_BROKER_ and the key in upper case, `.` as `_`) overrides this\n\
         # file, flags override both.\n",
    );
    for key in KEYS {
        out.push('\n');
        for line in wrap(key.doc, 98) {
            out.push_str(&format!("# {line}\n"));
        }
        if let Some(bounds) = bounds(key) {
            out.push_str(&format!("# {bounds}\n"));
        }
        let (origin, name) = (values.origin(key.name), written(key.name));
        let value = literal(key, values.text(key.name));
        match origin {
            Origin::Default => out.push_str(&format!("#{name} = {value}\n")),
            _ => {
                out.push_str(&format!(
                    "# set by {origin}; default {}\n",
                    literal(key, key.default)
                ));
                out.push_str(&format!("{name} = {value}\n"));
            }
        }
    }
    out
}

/// The name as it stands in a file: where another key is its beginning, TOML takes it for a part of that
/// one, unless it is quoted.
fn written(name: &str) -> String {
    let extends = |key: &Key| name.strip_prefix(key.name).is_some_and(|rest| rest.starts_with('.'));
    if KEYS.iter().any(extends) { format!("\"{name}\"") } else { name.to_owned() }
}

fn literal(key: &Key, value: &str) -> String {
    match key.kind {
        Kind::Int { .. } | Kind::Ratio | Kind::Bool => value.to_owned(),
        _ => toml::Value::String(value.to_owned()).to_string(),
    }
}

fn bounds(key: &Key) -> Option<String> {
    match key.kind {
        Kind::Int { min, max: i64::MAX } => Some(format!("A whole number from {min}.")),
        Kind::Int { min, max } => Some(format!("A whole number from {min} to {max}.")),
        Kind::Ratio => Some("A number from 0 to 1.".to_owned()),
        Kind::Choice(words) => Some(format!("One of {}.", words.join(", "))),
        Kind::Bool | Kind::Text | Kind::Address | Kind::Listeners | Kind::Paths => None,
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
