//! Reading and writing of ZooKeeper's record encoding ("jute"): big-endian integers, buffers and
//! strings with a 4-byte length (-1 is null), vectors with a 4-byte count.
//!
//! No I/O here, and nothing of what the records mean. A length is checked against what is left of
//! the input before anything is allocated, so hostile bytes cost no more than their own size.

/// A body that does not hold the record it should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed record")]
pub(crate) struct Malformed;

/// The unread rest of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.array::<1>()?[0] != 0)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A buffer; `None` is the null buffer, which is not the empty one.
    pub(crate) fn buffer(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.i32()? {
            -1 => Ok(None),
            len => self.take(usize::try_from(len).map_err(|_| Malformed)?).map(Some),
        }
    }

    /// A string that must not be null.
    pub(crate) fn string(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.buffer()?.ok_or(Malformed)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed)
    }

    /// The count of a vector whose elements take at least four bytes each; null counts as empty.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        match self.i32()? {
            -1 => Ok(0),
            count => {
                let count = usize::try_from(count).map_err(|_| Malformed)?;
                if count > self.rest.len() / 4 { Err(Malformed) } else { Ok(count) }
            }
        }
    }

    pub(crate) fn strings(&mut self) -> Result<Vec<&'a str>, Malformed> {
        let count = self.count()?;
        (0..count).map(|_| self.string()).collect()
    }
}

/// A record being written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Starts a frame: four bytes are kept free for its length, filled in by
    /// [`into_frame`](Self::into_frame).
    pub(crate) fn frame() -> Self {
        Self { bytes: vec![0; 4] }
    }

    /// The frame with its length in front.
    pub(crate) fn into_frame(mut self) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(prefix) = self.bytes.first_chunk_mut::<4>() {
            *prefix = len.to_be_bytes();
        }
        self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// Writes a length or count; everything written here is far below 2 GiB.
    pub(crate) fn size(&mut self, value: usize) {
        self.i32(i32::try_from(value).unwrap_or(i32::MAX));
    }

    pub(crate) fn buffer(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.i32(-1),
            Some(bytes) => {
                self.size(bytes.len());
                self.raw(bytes);
            }
        }
    }

    pub(crate) fn string(&mut self, value: &str) {
        self.buffer(Some(value.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut output = Output::frame();
        output.i32(-7);
        output.i64(i64::MIN);
        output.bool(true);
        output.buffer(None);
        output.buffer(Some(b""));
        output.string("/a");
        let frame = output.into_frame();
        assert_eq!(frame[..4], 27u32.to_be_bytes());
        let mut input = Input::new(&frame[4..]);
        assert_eq!(input.i32(), Ok(-7));
        assert_eq!(input.i64(), Ok(i64::MIN));
        assert_eq!(input.bool(), Ok(true));
        assert_eq!(input.buffer(), Ok(None));
        assert_eq!(input.buffer(), Ok(Some(&b""[..])));
        assert_eq!(input.string(), Ok("/a"));
        assert_eq!(input.remaining(), 0);
        assert_eq!(input.bool(), Err(Malformed));
    }

    #[test]
    fn lengths_beyond_the_input_are_refused() {
        for bytes in [&[0x7f, 0xff, 0xff, 0xff, 1][..], &[0xff, 0xff, 0xff, 0xfe], &[0, 0, 0, 2, 1]]
        {
            assert_eq!(Input::new(bytes).buffer(), Err(Malformed));
            assert_eq!(Input::new(bytes).count(), Err(Malformed));
        }
        assert_eq!(Input::new(&[0, 0, 0, 1, 0xff]).string(), Err(Malformed));
        assert_eq!(Input::new(&[0xff; 4]).string(), Err(Malformed));
        assert_eq!(Input::new(&[0xff; 4]).strings(), Ok(vec![]));
    }
}
