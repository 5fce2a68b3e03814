//! How a record is printed: kcat's format strings, compiled once, written without allocating.

use anyhow::{Result, bail};
use proto::TopicPartition;
use proto::record::RecordRef;

/// A compiled format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    parts: Vec<Part>,
    null: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Value,
    ValueLen,
    Key,
    KeyLen,
    Offset,
    Partition,
    Topic,
    Timestamp,
    Headers,
}

impl Layout {
    /// Compiles a format string; `null` is printed for a null key or value.
    pub(crate) fn compile(format: &str, null: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut text = Vec::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => text.push(escaped(&mut chars, format)?),
                '%' => {
                    let part = match chars.next() {
                        Some('%') => {
                            text.push(b'%');
                            continue;
                        }
                        Some('s') => Part::Value,
                        Some('S') => Part::ValueLen,
                        Some('k') => Part::Key,
                        Some('K') => Part::KeyLen,
                        Some('o') => Part::Offset,
                        Some('p') => Part::Partition,
                        Some('t') => Part::Topic,
                        Some('T') => Part::Timestamp,
                        Some('h') => Part::Headers,
                        Some(other) => bail!(
                            "`%{other}` is not known in --output-format; known are %s %S %k %K %o \
                             %p %t %T %h %%"
                        ),
                        None => bail!("--output-format ends with a lone `%`: write `%%`"),
                    };
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(part);
                }
                c => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { parts, null: null.as_bytes().to_vec() })
    }

    /// Appends a record.
    #[inline]
    pub(crate) fn write(&self, out: &mut Vec<u8>, tp: &TopicPartition, record: &RecordRef<'_>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Value => out.extend_from_slice(record.value.unwrap_or(&self.null)),
                Part::ValueLen => integer(out, len(record.value)),
                Part::Key => out.extend_from_slice(record.key.unwrap_or(&self.null)),
                Part::KeyLen => integer(out, len(record.key)),
                Part::Offset => integer(out, record.offset.0),
                Part::Partition => integer(out, i64::from(tp.partition)),
                Part::Topic => out.extend_from_slice(tp.topic.as_bytes()),
                Part::Timestamp => integer(out, record.timestamp),
                Part::Headers => self.headers(out, record),
            }
        }
    }

    fn headers(&self, out: &mut Vec<u8>, record: &RecordRef<'_>) {
        for (n, header) in record.headers.clone().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(header.key_bytes());
            out.push(b'=');
            out.extend_from_slice(header.value().unwrap_or(&self.null));
        }
    }
}

fn len(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

fn escaped(chars: &mut std::str::Chars<'_>, format: &str) -> Result<u8> {
    Ok(match chars.next() {
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            match u8::from_str_radix(&digits, 16) {
                Ok(byte) if digits.len() == 2 => byte,
                _ => {
                    bail!("`\\x{digits}` in --output-format `{format}`: two hex digits follow \\x")
                }
            }
        }
        Some(other) => bail!("`\\{other}` is not known in --output-format `{format}`"),
        None => bail!("--output-format `{format}` ends with a lone `\\`: write `\\\\`"),
    })
}

/// Appends a number in decimal.
pub(crate) fn integer(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::record::{Batch, BatchBuilder, Header, ProducerStamp};

    fn printed(format: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> String {
        let mut builder = BatchBuilder::new(1024);
        let headers = [Header::new("h", Some(b"1")), Header::new("h", None)];
        builder.append(1234, key, value, &headers).unwrap();
        let batch = builder.finish(ProducerStamp { id: -1, epoch: -1, base_sequence: -1 });
        let mut out = Vec::new();
        let layout = Layout::compile(format, "NULL").unwrap();
        let tp = TopicPartition::new("logs", 3);
        for record in Batch::parse(&batch).unwrap().records() {
            layout.write(&mut out, &tp, &record.unwrap());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_what_kcat_prints() {
        let all = "%t [%p] %o %T %k/%K %s/%S %h 100%%\\t\\x41\\n";
        assert_eq!(
            printed(all, Some(b"key"), Some(b"value")),
            "logs [3] 0 1234 key/3 value/5 h=1,h=NULL 100%\tA\n"
        );
        assert_eq!(printed("%k|%K|%s|%S", None, None), "NULL|-1|NULL|-1");
        assert_eq!(printed("ü%s", None, Some(b"")), "ü");
    }

    #[test]
    fn mistakes_are_named() {
        for (format, named) in [("%x", "%x"), ("%", "lone `%`"), ("\\q", "\\q"), ("\\x4", "hex")] {
            let error = Layout::compile(format, "").unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn integers_print_as_they_are() {
        for value in [0, 7, -1, 10, 1234567890123, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            integer(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
