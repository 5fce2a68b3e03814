//! [`Wire`]: how one value stands on the wire.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::api_key::ApiKey;
use super::reader::{Malformed, Reader};
use super::writer::Writer;

/// A text of a message; cheap to clone.
pub type Str = Arc<str>;

/// A value that is read and written in the version that its message has.
pub trait Wire: Sized {
    /// Takes it off the front of a frame.
    fn read(from: &mut Reader) -> Result<Self, Malformed>;
    /// Appends it to a message.
    fn write(&self, to: &mut Writer);
}

/// The body of a request.
pub trait Request: Wire {
    /// Its API.
    const KEY: ApiKey;
    /// What answers it.
    type Response: Wire;
}

/// A value that may be null; a field may be so in some versions only.
pub(crate) trait Nullable {
    /// What it is otherwise.
    type Value: Wire + Default;
}

impl<T: Wire + Default> Nullable for Option<T> {
    type Value = T;
}

/// Record batches of an answer: either here, or only their number of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// These.
    Here(Bytes),
    /// So many bytes, which whoever sends the frame has.
    Elsewhere(usize),
}

impl Default for Records {
    fn default() -> Self {
        Self::Here(Bytes::new())
    }
}

impl Records {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Elsewhere(len) => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Wire for Records {
    /// Null is read as none.
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self::Here(Option::read(from)?.unwrap_or_default()))
    }

    fn write(&self, to: &mut Writer) {
        to.records(self);
    }
}

macro_rules! number {
    ($($number:ty)*) => { $(
        impl Wire for $number {
            fn read(from: &mut Reader) -> Result<Self, Malformed> {
                Ok(Self::from_be_bytes(from.array()?))
            }

            fn write(&self, to: &mut Writer) {
                to.put(&self.to_be_bytes());
            }
        }
    )* };
}

number! { i8 i16 i32 i64 }

impl Wire for bool {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(i8::read(from)? != 0)
    }

    fn write(&self, to: &mut Writer) {
        to.put(&[u8::from(*self)]);
    }
}

impl Wire for Uuid {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self::from_bytes(from.array()?))
    }

    fn write(&self, to: &mut Writer) {
        to.put(self.as_bytes());
    }
}

impl Wire for Str {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Option::read(from)?.ok_or(Malformed::Null)
    }

    fn write(&self, to: &mut Writer) {
        to.text_len(Some(self.len()));
        to.put(self.as_bytes());
    }
}

impl Wire for Option<Str> {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let Some(len) = from.text_len()? else { return Ok(None) };
        from.text(len).map(Some)
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Some(text) => text.write(to),
            None => to.text_len(None),
        }
    }
}

impl Wire for Bytes {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Option::read(from)?.ok_or(Malformed::Null)
    }

    fn write(&self, to: &mut Writer) {
        to.len(Some(self.len()));
        to.put(self);
    }
}

impl Wire for Option<Bytes> {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        match from.len()? {
            Some(len) => from.slice(len).map(Some),
            None => Ok(None),
        }
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Some(bytes) => bytes.write(to),
            None => to.len(None),
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Option::read(from)?.ok_or(Malformed::Null)
    }

    fn write(&self, to: &mut Writer) {
        to.len(Some(self.len()));
        self.iter().for_each(|item| item.write(to));
    }
}

impl<T: Wire> Wire for Option<Vec<T>> {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let Some(len) = from.len()? else { return Ok(None) };
        from.allow(len, size_of::<T>())?;
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(T::read(from)?);
        }
        Ok(Some(items))
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Some(items) => items.write(to),
            None => to.len(None),
        }
    }
}
