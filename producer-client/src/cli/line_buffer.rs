//! Divides a stream of bytes into lines without an allocation a line.

use std::io::{self, Read};

/// Bytes asked for at once.
const READ_LEN: usize = 1 << 20;

/// A buffer that lines are taken from; what is left of a line stays for the next fill.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// Up to here there is no line end after `begin`.
    searched: usize,
    line_len_max: usize,
    /// The rest of a line that was too long is passed over.
    is_skipping: bool,
}

/// What is at the front.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A line without its line end.
    Line(&'a [u8]),
    /// A line of more bytes than are allowed; its rest is passed over.
    TooLong(usize),
    /// More has to be read.
    NeedMore,
}

impl LineBuffer {
    pub(crate) fn new(line_len_max: usize) -> Self {
        Self {
            buffer: vec![0; READ_LEN],
            begin: 0,
            end: 0,
            searched: 0,
            line_len_max,
            is_skipping: false,
        }
    }

    /// Reads once; 0 is the end. Only after `next` said that it needs more.
    pub(crate) fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.searched -= self.begin;
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.buffer.len() - self.end < READ_LEN / 2 {
            // `next` passes over lines above the limit, so this grows to the limit at most.
            self.buffer.resize(self.end + READ_LEN, 0);
        }
        loop {
            match from.read(&mut self.buffer[self.end..]) {
                Ok(len) => {
                    self.end += len;
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the next line.
    pub(crate) fn next(&mut self) -> Next<'_> {
        loop {
            let Some(at) = find_line_end(&self.buffer[self.searched..self.end]) else {
                self.searched = self.end;
                let len = self.end - self.begin;
                if self.is_skipping {
                    self.begin = self.end;
                } else if len > self.line_len_max {
                    self.is_skipping = true;
                    self.begin = self.end;
                    return Next::TooLong(len);
                }
                return Next::NeedMore;
            };
            let (begin, end) = (self.begin, self.searched + at);
            (self.begin, self.searched) = (end + 1, end + 1);
            if std::mem::take(&mut self.is_skipping) {
                continue;
            }
            if end - begin > self.line_len_max {
                return Next::TooLong(end - begin);
            }
            return Next::Line(&self.buffer[begin..end]);
        }
    }

    /// At the end of input: a last line that has no line end.
    pub(crate) fn take_rest(&mut self) -> Option<&[u8]> {
        let (begin, end) = (self.begin, self.end);
        (self.begin, self.searched) = (end, end);
        let was_skipping = std::mem::take(&mut self.is_skipping);
        (begin < end && !was_skipping).then(|| &self.buffer[begin..end])
    }

    /// The last `len` bytes read, of which there are as many since the last fill began.
    pub(crate) fn last_read(&self, len: usize) -> &[u8] {
        &self.buffer[self.end.saturating_sub(len)..self.end]
    }

    /// Bytes of an unfinished line.
    pub(crate) fn rest_len(&self) -> usize {
        self.end - self.begin
    }
}

/// The first `\n`, eight bytes at a time.
fn find_line_end(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        // A byte that is `\n` becomes 0; the lowest high bit set is that of the first 0 byte.
        let x = u64::from_le_bytes(*word) ^ (LOW * u64::from(b'\n'));
        let found = x.wrapping_sub(LOW) & !x & HIGH;
        if found != 0 {
            return Some(8 * i + found.trailing_zeros() as usize / 8);
        }
    }
    let at = tail.iter().position(|&byte| byte == b'\n')?;
    Some(8 * words.len() + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a few bytes at a time.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(len);
            buffer[..len].copy_from_slice(now);
            self.0 = later;
            Ok(len)
        }
    }

    fn lines(input: &[u8], step: usize, limit: usize) -> (Vec<Vec<u8>>, usize) {
        let mut buffer = LineBuffer::new(limit);
        let mut from = Dribble(input, step);
        let (mut lines, mut too_long) = (Vec::new(), 0);
        loop {
            match buffer.next() {
                Next::Line(line) => lines.push(line.to_vec()),
                Next::TooLong(_) => too_long += 1,
                Next::NeedMore => {
                    if buffer.fill(&mut from).unwrap() == 0 {
                        lines.extend(buffer.take_rest().map(<[u8]>::to_vec));
                        return (lines, too_long);
                    }
                }
            }
        }
    }

    #[test]
    fn lines_with_and_without_an_end() {
        let (found, _) = lines(b"a\n\nbc\r\nd", 3, 100);
        assert_eq!(found, [&b"a"[..], b"", b"bc\r", b"d"]);
        assert_eq!(lines(b"", 3, 100).0.len(), 0);
        assert_eq!(lines(b"\n", 3, 100).0, [b""]);
    }

    #[test]
    fn long_lines_are_passed_over_in_bounded_memory() {
        let mut input = vec![b'x'; 5 << 20];
        input.extend(b"\nshort\n");
        input.extend(vec![b'y'; 11]);
        input.extend(b"\nend");
        let (found, too_long) = lines(&input, 70_000, 10);
        assert_eq!(found, [&b"short"[..], b"end"]);
        assert_eq!(too_long, 2);
    }

    proptest! {
        #[test]
        fn agrees_with_split(
            input in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            step in 1usize..40,
        ) {
            let mut expected: Vec<&[u8]> = input.split(|&b| b == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            prop_assert_eq!(lines(&input, step, 1000).0, expected);
        }
    }
}
