//! Items as lines in the words of Kafka's tool. Whatever a user's bytes hold, a line stays one
//! line and a terminal obeys nothing in it.

use std::fmt::Write;

use crate::storage::dump::{Field, Kind, Value};

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Appends the item's line, without its end.
pub(super) fn line(
    line: &mut String,
    name: &str,
    kind: Option<Kind>,
    fields: &[Field<'_>],
    color: bool,
) {
    let paint = match kind {
        Some(Kind::Damage) => RED,
        Some(Kind::Note) => YELLOW,
        Some(Kind::File | Kind::Summary) | None => BOLD,
        Some(Kind::Batch | Kind::Record | Kind::Entry) => "",
    };
    let painted = color && !paint.is_empty();
    if painted {
        line.push_str(paint);
    }
    let mut fields = fields;
    match kind {
        Some(Kind::File) => {
            line.push_str("Dumping ");
            if let Some(((_, path), rest)) = fields.split_first() {
                value(line, path);
                fields = rest;
            }
            line.push(' ');
        }
        Some(Kind::Record) => line.push_str("| "),
        Some(Kind::Batch | Kind::Entry) => {}
        Some(Kind::Damage | Kind::Note | Kind::Summary) | None => {
            let _ = write!(line, "{name}: ");
            if let Some(((_, path), rest)) = fields.split_first().filter(|_| kind.is_some()) {
                value(line, path);
                line.push_str(": ");
                fields = rest;
            }
        }
    }
    for (number, (name, content)) in fields.iter().enumerate() {
        if number > 0 {
            line.push(' ');
        }
        if *name == "what" {
            value(line, content);
            line.push(';');
        } else {
            let _ = write!(line, "{name}: ");
            match content {
                Value::Optional(number) if OPTIONAL_IN_KAFKA.contains(name) => {
                    optional_as_kafka(line, *number);
                }
                content => value(line, content),
            }
        }
    }
    if line.ends_with(';') {
        line.pop();
    }
    if painted {
        line.push_str(PLAIN);
    }
}

/// Fields that Kafka's tool prints as Java does, for scripts that read its lines.
const OPTIONAL_IN_KAFKA: [&str; 2] = ["deleteHorizonMs", "currentTxnFirstOffset"];

fn optional_as_kafka(line: &mut String, number: Option<i64>) {
    match number {
        Some(number) => {
            let _ = write!(line, "OptionalLong[{number}]");
        }
        None => line.push_str("OptionalLong.empty"),
    }
}

fn value(line: &mut String, value: &Value<'_>) {
    match value {
        Value::Int(number) | Value::Optional(Some(number)) => {
            let _ = write!(line, "{number}");
        }
        Value::Optional(None) => line.push_str("none"),
        Value::Bool(yes) => line.push_str(if *yes { "true" } else { "false" }),
        Value::Text(text) => escape(line, text.as_bytes()),
        Value::Owned(text) => escape(line, text.as_bytes()),
        Value::Bytes(bytes) => escape(line, bytes),
        Value::List(names) => {
            line.push('[');
            for (number, name) in names.iter().enumerate() {
                if number > 0 {
                    line.push(',');
                }
                escape(line, name);
            }
            line.push(']');
        }
    }
}

/// Appends text as it is, and escapes what a terminal would obey or a reader could not see.
fn escape(line: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => line.push_str("\\\\"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                c if c.is_control() || is_invisible(c) => {
                    let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
                }
                c => line.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(line, "\\x{byte:02x}");
        }
    }
}

/// Marks that change the direction of text or take no room.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_reaches_the_terminal() {
        let mut line = String::new();
        escape(&mut line, "a\u{1b}[31m\n\u{202e}ü\\".as_bytes());
        escape(&mut line, &[0xff, b'z', 0xc3]);
        assert_eq!(line, "a\\u{1b}[31m\\n\\u{202e}ü\\\\\\xffz\\xc3");
    }

    #[test]
    fn a_batch_reads_as_in_kafkas_tool() {
        let mut out = String::new();
        let fields = [
            ("baseOffset", Value::Int(7)),
            ("isControl", Value::Bool(false)),
            ("deleteHorizonMs", Value::Optional(None)),
            ("headerKeys", Value::List(vec![b"a", b"b"])),
            ("endOffset", Value::Optional(None)),
        ];
        line(&mut out, "batch", Some(Kind::Batch), &fields, true);
        assert_eq!(
            out,
            "baseOffset: 7 isControl: false deleteHorizonMs: OptionalLong.empty headerKeys: [a,b] \
             endOffset: none"
        );
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        let fields = [("file", Value::Text("a.log")), ("what", Value::Text("bad"))];
        let mut plain = String::new();
        line(&mut plain, "damage", Some(Kind::Damage), &fields, false);
        assert_eq!(plain, "damage: a.log: bad");
        let mut red = String::new();
        line(&mut red, "damage", Some(Kind::Damage), &fields, true);
        assert_eq!(red, format!("{RED}{plain}{PLAIN}"));
    }
}
