//! The codec numbers of a batch's attributes. The codecs themselves are a feature: `codec`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// How the records of a batch are compressed (all of them as one block, after the header).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy in Kafka's xerial framing.
    Snappy = 2,
    /// LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

/// A codec this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown compression `{0}`: expected none (0), gzip (1), snappy (2), lz4 (3) or zstd (4); \
     a newer client may have written it"
)]
pub struct UnknownCompression(String);

/// Why a block could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// More would come out than is allowed.
    #[error(
        "compressed with {codec}, they take more than {max} bytes decompressed, which is the limit \
         here: whoever sent them compressed an enormous batch or means harm"
    )]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// The limit in bytes.
        max: usize,
    },
    /// The bytes are not what the codec writes.
    #[error("compressed with {codec}, they cannot be decompressed: {what}")]
    Malformed {
        /// The codec.
        codec: Compression,
        /// What is wrong.
        what: Cow<'static, str>,
    },
}

impl Compression {
    /// Every codec, by number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of a number.
    #[inline]
    pub fn from_id(id: u8) -> Result<Self, UnknownCompression> {
        Self::ALL.get(usize::from(id)).copied().ok_or_else(|| UnknownCompression(id.to_string()))
    }

    /// The name as `compression.type` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        let found = Self::ALL.into_iter().find(|codec| codec.name() == name);
        found.ok_or_else(|| UnknownCompression(name.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_survive_a_round_trip() {
        for (id, codec) in Compression::ALL.into_iter().enumerate() {
            assert_eq!(codec as usize, id);
            assert_eq!(Compression::from_id(id as u8).unwrap(), codec);
            assert_eq!(codec.name().parse::<Compression>().unwrap(), codec);
        }
        assert!(Compression::from_id(5).is_err());
        assert!("lzo".parse::<Compression>().is_err());
    }
}
