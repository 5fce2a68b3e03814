//! A record as one JSON object on a line, written without allocating.
//!
//! Bytes that are no UTF-8 come as base64 under `key_base64`, `value_base64`.

use proto::TopicPartition;
use proto::record::RecordRef;

use super::format::integer;

/// Appends a record and a newline.
pub(crate) fn write(out: &mut Vec<u8>, tp: &TopicPartition, record: &RecordRef<'_>) {
    out.extend_from_slice(b"{\"topic\":");
    string(out, &tp.topic);
    out.extend_from_slice(b",\"partition\":");
    integer(out, i64::from(tp.partition));
    out.extend_from_slice(b",\"offset\":");
    integer(out, record.offset.0);
    out.extend_from_slice(b",\"timestamp\":");
    integer(out, record.timestamp);
    field(out, b",\"key", record.key);
    field(out, b",\"value", record.value);
    out.extend_from_slice(b",\"headers\":[");
    for (n, header) in record.headers.clone().enumerate() {
        out.extend_from_slice(if n > 0 { b",{\"key\":" } else { b"{\"key\":" });
        string(out, &header.key());
        field(out, b",\"value", header.value());
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
}

fn field(out: &mut Vec<u8>, name: &[u8], bytes: Option<&[u8]>) {
    out.extend_from_slice(name);
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => out.extend_from_slice(b"\":null"),
        Some((_, Ok(text))) => {
            out.extend_from_slice(b"\":");
            string(out, text);
        }
        Some((bytes, Err(_))) => {
            out.extend_from_slice(b"_base64\":\"");
            base64(out, bytes);
            out.push(b'"');
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let hex = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(hex[usize::from(control >> 4)]);
                out.push(hex[usize::from(control & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            out.push(if n <= three.len() { digit } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::record::{Batch, BatchBuilder, Header, ProducerStamp};

    fn printed(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> serde_json::Value {
        let mut builder = BatchBuilder::new(1024);
        builder.append(1234, key, value, headers).unwrap();
        let batch = builder.finish(ProducerStamp { id: -1, epoch: -1, base_sequence: -1 });
        let mut out = Vec::new();
        for record in Batch::parse(&batch).unwrap().records() {
            write(&mut out, &TopicPartition::new("t", 1), &record.unwrap());
        }
        assert_eq!(out.last(), Some(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn any_text_reads_back_as_it_was() {
        let text = (0..0x250).filter_map(char::from_u32).collect::<String>() + "\u{1F600}";
        let object = printed(Some(b"k\"\\"), Some(text.as_bytes()), &[]);
        assert_eq!(object["value"], text);
        assert_eq!(object["key"], "k\"\\");
        assert_eq!(object["timestamp"], 1234);
        assert_eq!(object["headers"], serde_json::json!([]));
    }

    #[test]
    fn nulls_bytes_and_headers_are_told_apart() {
        let headers = [Header::new("a", None), Header::new("a", Some(b""))];
        let object = printed(None, Some(b"\xff\xfe\xfd\xfc"), &headers);
        assert_eq!(object["key"], serde_json::Value::Null);
        assert_eq!(object["value_base64"], "//79/A==");
        let headers = serde_json::json!([{"key": "a", "value": null}, {"key": "a", "value": ""}]);
        assert_eq!(object["headers"], headers);
    }
}
