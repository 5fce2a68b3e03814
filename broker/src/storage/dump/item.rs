//! What a dump says: items of named fields, which a sink prints as text or JSON.

use std::io;

/// What an item is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file begins.
    File,
    /// A record batch.
    Batch,
    /// A record of the batch before.
    Record,
    /// An entry of an index, a snapshot, a checkpoint.
    Entry,
    /// Something is not as it should be: damage.
    Damage,
    /// Worth knowing, and not damage.
    Note,
    /// The end of a file: counts.
    Summary,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A number.
    Int(i64),
    /// A number that may be missing.
    Optional(Option<i64>),
    /// Yes or no.
    Bool(bool),
    /// Text of our own, or text that was checked.
    Text(&'a str),
    /// Text made for this item; may hold anything.
    Owned(String),
    /// Bytes of a user: anything.
    Bytes(&'a [u8]),
    /// Names of headers: anything.
    List(Vec<&'a [u8]>),
}

/// A field's name, in Kafka's words where it has one, and its value.
pub type Field<'a> = (&'static str, Value<'a>);

/// Takes items as they are found.
pub trait DumpSink {
    /// Whether items of this kind are wanted; others are not made.
    fn wants(&self, kind: Kind) -> bool;

    /// Takes an item. An error ends the dump.
    fn item(&mut self, kind: Kind, fields: &[Field<'_>]) -> io::Result<()>;

    /// Is told how many more bytes were gone through.
    fn progress(&mut self, bytes: u64);
}
