//! Our own small files: lines of text under a version and a checksum.
//!
//! ```text
//! 1            version
//! 3f2a90c1     CRC-32 of all lines below, with their line ends, in hex
//! 2            how many lines follow
//! …
//! ```

const VERSION: &str = "1";

/// The file's text. Lines must not contain line ends.
pub(super) fn encode<S: AsRef<str>>(lines: &[S]) -> String {
    let mut body = format!("{}\n", lines.len());
    for line in lines {
        body.push_str(line.as_ref());
        body.push('\n');
    }
    format!("{VERSION}\n{:08x}\n{body}", crc32fast::hash(body.as_bytes()))
}

/// The lines of a file; `None` when it is not whole and right.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (version, rest) = text.split_once('\n')?;
    let (crc, body) = rest.split_once('\n')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    if version != VERSION || crc != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let mut lines = body.lines();
    let count: usize = lines.next()?.parse().ok()?;
    let lines: Vec<_> = lines.collect();
    (lines.len() == count).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_and_any_flipped_byte_is_found() {
        let text = encode(&["a 1", "", "b 2"]);
        assert_eq!(decode(text.as_bytes()).unwrap(), ["a 1", "", "b 2"]);
        assert_eq!(decode(encode::<&str>(&[]).as_bytes()).unwrap(), Vec::<&str>::new());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(decode(&bytes).is_none(), "byte {at}");
            assert!(decode(&text.as_bytes()[..at]).is_none(), "cut at {at}");
        }
    }
}
