//! Items as JSON objects, one a line. Bytes that are UTF-8 are strings; others are hexadecimal
//! digits under the field's name with `Hex` at its end. Null keys and values are left out.

use std::fmt::Write;

use crate::storage::dump::{Field, Value};

/// Appends the item's line, without its end.
pub(super) fn line(line: &mut String, name: &str, fields: &[Field<'_>]) {
    let _ = write!(line, "{{\"type\":\"{name}\"");
    for (name, content) in fields {
        let suffix = match content {
            Value::Bytes(bytes) if std::str::from_utf8(bytes).is_err() => "Hex",
            _ => "",
        };
        let _ = write!(line, ",\"{name}{suffix}\":");
        value(line, content);
    }
    line.push('}');
}

fn value(line: &mut String, value: &Value<'_>) {
    match value {
        Value::Int(number) | Value::Optional(Some(number)) => {
            let _ = write!(line, "{number}");
        }
        Value::Optional(None) => line.push_str("null"),
        Value::Bool(yes) => line.push_str(if *yes { "true" } else { "false" }),
        Value::Text(content) => text(line, content),
        Value::Owned(content) => text(line, content),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(content) => text(line, content),
            Err(_) => {
                line.push('"');
                for byte in *bytes {
                    let _ = write!(line, "{byte:02x}");
                }
                line.push('"');
            }
        },
        Value::List(names) => {
            line.push('[');
            for (number, name) in names.iter().enumerate() {
                if number > 0 {
                    line.push(',');
                }
                text(line, &String::from_utf8_lossy(name));
            }
            line.push(']');
        }
    }
}

fn text(line: &mut String, content: &str) {
    line.push_str(&serde_json::Value::from(content).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_json_whatever_the_bytes() {
        let fields = [
            ("offset", Value::Int(-1)),
            ("time", Value::Optional(None)),
            ("key", Value::Bytes(b"a\"\n\x1b")),
            ("payload", Value::Bytes(&[0xff, 0])),
            ("headerKeys", Value::List(vec![b"h", &[0xfe]])),
        ];
        let mut out = String::new();
        line(&mut out, "record", &fields);
        let parsed: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            parsed,
            serde_json::json!({
                "type": "record", "offset": -1, "time": null, "key": "a\"\n\u{1b}",
                "payloadHex": "ff00", "headerKeys": ["h", "\u{fffd}"],
            })
        );
    }
}
