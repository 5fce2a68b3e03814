//! [`Reader`]: takes values off the front of a frame and trusts no length in it.

use bytes::{Buf, Bytes};

use super::wire::Str;

/// Bytes of decoded items allowed for each byte of the frame; a short topic name takes most.
const ITEMS_PER_BYTE: usize = 24;
/// The same for the frame as a whole, whatever its length.
const ITEMS_BASE: usize = 64 << 10;
/// Bytes of decoded items of one request at most: what no client needs, and no server can be hurt by.
const ITEMS_MAX: usize = 16 << 20;
/// What a text takes beside its bytes: the two counts of an `Arc`, and rounding.
const TEXT_EXTRA: usize = 24;

/// A frame that is not what its header says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early.
    #[error("{wanted} bytes are expected where {left} are left")]
    CutOff {
        /// By the field.
        wanted: usize,
        /// In the frame.
        left: usize,
    },
    /// A length below -1.
    #[error("{0} is not a length")]
    Length(i64),
    /// Null where the version has no null.
    #[error("null where a value is required")]
    Null,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotText,
    /// More than five bytes, or above 32 bits.
    #[error("a variable-length number does not end")]
    Varint,
    /// Many tiny items.
    #[error("the items of the request take too much memory for its length")]
    TooManyItems,
    /// Something comes after the last field.
    #[error("{0} bytes are left after the last field")]
    Trailing(usize),
}

/// What is left of a frame, in the version it was written in.
pub struct Reader {
    left: Bytes,
    version: i16,
    flexible: bool,
    /// Bytes that further decoded items may take.
    allowance: usize,
    /// Bytes that they have taken.
    held: usize,
}

impl Reader {
    /// Reads `frame`; `flexible` has compact lengths and tagged fields.
    pub fn new(frame: Bytes, version: i16, flexible: bool) -> Self {
        let allowance = Self::items_max(frame.len());
        Self { left: frame, version, flexible, allowance, held: 0 }
    }

    /// Memory that the items of a frame of so many bytes may take together; its records and other
    /// opaque bytes stay in the frame.
    pub fn items_max(frame: usize) -> usize {
        frame.saturating_mul(ITEMS_PER_BYTE).saturating_add(ITEMS_BASE).min(ITEMS_MAX)
    }

    /// Memory that the items read so far take; of a structure that its maker holds itself nothing.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether there are compact lengths and tagged fields.
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// What has not been read.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// Refuses what comes after the last field.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.left.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.left.len())) }
    }

    fn check(&self, wanted: usize) -> Result<(), Malformed> {
        let left = self.left.len();
        if wanted > left { Err(Malformed::CutOff { wanted, left }) } else { Ok(()) }
    }

    /// The next bytes, of a fixed number.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.check(N)?;
        let mut bytes = [0; N];
        self.left.copy_to_slice(&mut bytes);
        Ok(bytes)
    }

    /// The next bytes, as a slice of the frame.
    pub fn slice(&mut self, len: usize) -> Result<Bytes, Malformed> {
        self.check(len)?;
        Ok(self.left.split_to(len))
    }

    /// An unsigned number of variable length, at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Varint)
    }

    /// The length before a text: `None` is null.
    pub fn text_len(&mut self) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return self.compact_len();
        }
        let len = i16::from_be_bytes(self.array()?);
        Self::plain_len(len.into())
    }

    /// The length before bytes, or the number of items of an array: `None` is null.
    pub fn len(&mut self) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return self.compact_len();
        }
        let len = i32::from_be_bytes(self.array()?);
        Self::plain_len(len.into())
    }

    fn plain_len(len: i64) -> Result<Option<usize>, Malformed> {
        match len {
            -1 => Ok(None),
            0.. => Ok(Some(len as usize)),
            _ => Err(Malformed::Length(len)),
        }
    }

    fn compact_len(&mut self) -> Result<Option<usize>, Malformed> {
        Ok((self.uvarint()? as usize).checked_sub(1))
    }

    /// Allows `items` of `size` bytes each to be held. Every item takes a byte of the frame at least.
    pub fn allow(&mut self, items: usize, size: usize) -> Result<(), Malformed> {
        self.check(items)?;
        self.hold(items.saturating_mul(size))
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.allowance = self.allowance.checked_sub(bytes).ok_or(Malformed::TooManyItems)?;
        self.held += bytes;
        Ok(())
    }

    /// A text of so many bytes, copied out of the frame.
    pub fn text(&mut self, len: usize) -> Result<Str, Malformed> {
        self.check(len)?;
        if len == 0 {
            // There is one for all, which takes no memory.
            return Ok(Str::default());
        }
        self.hold(len + TEXT_EXTRA)?;
        let bytes = self.slice(len)?;
        Ok(std::str::from_utf8(&bytes).map_err(|_| Malformed::NotText)?.into())
    }

    /// Reads the tagged fields behind a structure: `field` reads the one it knows and says so; what
    /// nobody knows is skipped.
    pub fn tagged(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let len = self.uvarint()? as usize;
            self.check(len)?;
            let behind = self.left.split_off(len);
            field(tag, self)?;
            self.left = behind;
        }
        Ok(())
    }
}
