//! [`Writer`]: puts values behind each other, and leaves large records where they are.

use bytes::Bytes;

use super::wire::Records;

/// Records shorter than this are copied into the answer: sending them apart costs more.
const COPY_BELOW: usize = 4096;

/// A message being written, in one version.
pub struct Writer {
    buffer: Vec<u8>,
    gaps: Vec<Gap>,
    version: i16,
    flexible: bool,
    /// Where lengths stand, for tests that lie about them.
    #[cfg(test)]
    lengths: Vec<usize>,
}

/// Records that are not in the buffer and go out between two bytes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// How many bytes of the buffer go before.
    pub at: usize,
    /// How many bytes.
    pub len: usize,
    /// The bytes; `None`: whoever sends the frame has them.
    pub bytes: Option<Bytes>,
}

/// The tag of a field, and what writes it.
pub type Tagged<'a> = (u32, &'a dyn Fn(&mut Writer));

/// A written frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// All but the gaps.
    pub buffer: Vec<u8>,
    /// In the order of their places.
    pub gaps: Vec<Gap>,
}

impl Encoded {
    /// How many bytes go out.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.gaps.iter().map(|gap| gap.len).sum::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece; `None` where somebody else has a part of them.
    pub fn join(&self) -> Option<Vec<u8>> {
        let mut joined = Vec::with_capacity(self.len());
        let mut from = 0;
        for gap in &self.gaps {
            joined.extend_from_slice(&self.buffer[from..gap.at]);
            joined.extend_from_slice(gap.bytes.as_ref()?);
            from = gap.at;
        }
        joined.extend_from_slice(&self.buffer[from..]);
        Some(joined)
    }
}

impl Writer {
    /// Begins a message.
    pub fn new(version: i16, flexible: bool) -> Self {
        Self {
            buffer: Vec::new(),
            gaps: Vec::new(),
            version,
            flexible,
            #[cfg(test)]
            lengths: Vec::new(),
        }
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether there are compact lengths and tagged fields.
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// The rest is written like this: the header before it has a version of its own.
    pub(super) fn go_on(&mut self, version: i16, flexible: bool) {
        self.version = version;
        self.flexible = flexible;
    }

    /// Appends bytes as they are.
    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends an unsigned number of variable length.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    /// Appends the length before a text; `None` is null.
    pub fn text_len(&mut self, len: Option<usize>) {
        self.note_length();
        if self.flexible {
            self.compact_len(len);
        } else {
            self.put(&len.map_or(-1, |len| len as i16).to_be_bytes());
        }
    }

    /// Appends the length before bytes, or the number of items of an array; `None` is null.
    pub fn len(&mut self, len: Option<usize>) {
        self.note_length();
        if self.flexible {
            self.compact_len(len);
        } else {
            self.put(&len.map_or(-1, |len| len as i32).to_be_bytes());
        }
    }

    fn note_length(&mut self) {
        #[cfg(test)]
        self.lengths.push(self.buffer.len());
    }

    fn compact_len(&mut self, len: Option<usize>) {
        self.uvarint(len.map_or(0, |len| len as u32 + 1));
    }

    /// Appends records with their length, or leaves a gap for them.
    pub fn records(&mut self, records: &Records) {
        self.len(Some(records.len()));
        let at = self.buffer.len();
        match records {
            Records::Here(bytes) if bytes.len() < COPY_BELOW => self.put(bytes),
            Records::Here(bytes) => {
                let bytes = Some(bytes.clone());
                self.gaps.push(Gap { at, len: records.len(), bytes });
            }
            Records::Elsewhere(len) => self.gaps.push(Gap { at, len: *len, bytes: None }),
        }
    }

    /// Appends the tagged fields behind a structure, in the order of their tags.
    pub fn tagged(&mut self, fields: &[Tagged<'_>]) {
        self.note_length();
        self.uvarint(fields.len() as u32);
        for (tag, write) in fields {
            let mut field = Self::new(self.version, self.flexible);
            write(&mut field);
            self.uvarint(*tag);
            self.note_length();
            self.uvarint(field.buffer.len() as u32);
            #[cfg(test)]
            self.lengths.extend(field.lengths.iter().map(|at| self.buffer.len() + at));
            self.put(&field.buffer);
        }
    }

    /// What was written, without a frame around it; of a message without records.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        debug_assert!(self.gaps.is_empty(), "records are not in the buffer");
        self.buffer
    }

    /// What was written, without a frame around it.
    #[cfg(test)]
    pub(super) fn into_encoded(self) -> Encoded {
        Encoded { buffer: self.buffer, gaps: self.gaps }
    }

    /// Records that are not in the buffer.
    #[cfg(test)]
    pub(super) fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Where lengths stand in it.
    #[cfg(test)]
    pub(super) fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The frame, with the size of what follows in its first four bytes, which were left for it.
    pub(super) fn into_frame(mut self) -> Encoded {
        let gaps: usize = self.gaps.iter().map(|gap| gap.len).sum();
        let size = (self.buffer.len() - 4 + gaps) as i32;
        self.buffer[..4].copy_from_slice(&size.to_be_bytes());
        Encoded { buffer: self.buffer, gaps: self.gaps }
    }
}
