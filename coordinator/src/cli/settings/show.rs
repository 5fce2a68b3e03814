//! `coordinator config show`: every key with meaning, bounds, default and present value, as a TOML
//! file that can be used as it stands.

use super::{ENVIRONMENT_PREFIX, KEYS, Key, Origin, Settings, Takes};

/// The settings as a commented TOML file. Keys nobody set are commented out.
pub(crate) fn show(settings: &Settings) -> String {
    let mut out = format!(
        "# Settings of `coordinator run`. A key that is commented out has the value shown, its default.\n\
         # The environment ({ENVIRONMENT_PREFIX} and the key in upper case, `.` as `_`) overrides this\n\
         # file, flags override both.\n",
    );
    for key in KEYS {
        out.push_str(&format!("\n# {}\n", key.doc));
        if let Takes::Int { min, max } = key.takes {
            out.push_str(&format!("# A whole number from {min} to {max}.\n"));
        }
        let value = literal(key, settings.text(key.name));
        match settings.origin(key.name) {
            Origin::Default => out.push_str(&format!("#{} = {value}\n", key.name)),
            origin => {
                let default = literal(key, key.default);
                out.push_str(&format!("# set by {origin}; default {default}\n"));
                out.push_str(&format!("{} = {value}\n", key.name));
            }
        }
    }
    out
}

fn literal(key: &Key, value: &str) -> String {
    match key.takes {
        Takes::Int { .. } | Takes::Flag => value.to_owned(),
        Takes::Text | Takes::Address => toml::Value::String(value.to_owned()).to_string(),
    }
}
