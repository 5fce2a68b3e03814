//! The little a broker reads of what consumers tell each other: which topics they subscribe to.
//!
//! | field | |
//! |---|---|
//! | version | i16; later ones only add behind |
//! | topics | i32 count, each an i16 length and UTF-8 |

use std::collections::BTreeSet;

/// The topics of a consumer's subscription; `None` where the bytes are none.
pub fn subscribed_topics(metadata: &[u8]) -> Option<BTreeSet<&str>> {
    let mut rest = metadata;
    take::<2>(&mut rest)?;
    let count = usize::try_from(i32::from_be_bytes(take(&mut rest)?)).ok()?;
    // Each takes its length, at least.
    if count > rest.len() / 2 {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let (topic, after) = rest.split_at_checked(length)?;
        topics.insert(str::from_utf8(topic).ok()?);
        rest = after;
    }
    Some(topics)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_what_follows_them_is_not_looked_at() {
        let bytes = [&[0, 1, 0, 0, 0, 2, 0, 1][..], b"a", &[0, 2], b"bc", &[9, 9, 9]].concat();
        assert_eq!(subscribed_topics(&bytes), Some(["a", "bc"].into()));
        for cut in 0..bytes.len() - 3 {
            assert_eq!(subscribed_topics(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(subscribed_topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None, "counts are checked");
        assert_eq!(subscribed_topics(&[0, 0, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(subscribed_topics(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None, "no UTF-8");
    }
}
