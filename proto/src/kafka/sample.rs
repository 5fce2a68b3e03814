//! Random values of every message, for tests.

use std::cmp::Ordering;

use bytes::Bytes;
use uuid::Uuid;

use super::wire::{Records, Str};

/// A source of values, repeatable by its seed.
pub(crate) struct Sampler {
    state: u64,
    version: i16,
    flexible: bool,
    shape: Shape,
    /// Arrays around the value that is made.
    depth: usize,
}

/// How texts and arrays look.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Of any length.
    Mixed,
    /// Much memory for few bytes: texts of so many bytes, no opaque bytes, no tagged fields, and
    /// `items` in the arrays of one depth; one item around them, none within.
    Lean { text: usize, depth: usize, items: usize },
}

impl Sampler {
    pub(crate) fn new(seed: u64, version: i16, flexible: bool) -> Self {
        Self { state: seed, version, flexible, shape: Shape::Mixed, depth: 0 }
    }

    pub(crate) fn lean(version: i16, flexible: bool, shape: Shape) -> Self {
        Self { shape, ..Self::new(0, version, flexible) }
    }

    pub(crate) fn is_lean(&self) -> bool {
        matches!(self.shape, Shape::Lean { .. })
    }

    pub(crate) fn version(&self) -> i16 {
        self.version
    }

    pub(crate) fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A value with random contents.
pub(crate) trait Sample {
    fn sample(from: &mut Sampler) -> Self;
}

macro_rules! number {
    ($($number:ty)*) => { $(
        impl Sample for $number {
            fn sample(from: &mut Sampler) -> Self {
                from.next() as $number
            }
        }
    )* };
}

number! { i8 i16 i32 i64 }

impl Sample for bool {
    fn sample(from: &mut Sampler) -> Self {
        from.below(2) == 1
    }
}

impl Sample for Uuid {
    fn sample(from: &mut Sampler) -> Self {
        Self::from_u64_pair(from.next(), from.next())
    }
}

impl Sample for Str {
    fn sample(from: &mut Sampler) -> Self {
        // Now and then longer than what one byte of a compact length can say.
        let len = match from.shape {
            Shape::Mixed => [0, 1, 5, 9, 130][from.below(5)],
            Shape::Lean { text, .. } => text,
        };
        (0..len).map(|_| char::from(b'a' + from.below(26) as u8)).collect::<String>().into()
    }
}

impl Sample for Bytes {
    fn sample(from: &mut Sampler) -> Self {
        let len = match from.shape {
            Shape::Mixed => [0, 1, 7, 130, 5000][from.below(5)],
            Shape::Lean { .. } => 0,
        };
        (0..len).map(|_| from.next() as u8).collect()
    }
}

impl Sample for Records {
    fn sample(from: &mut Sampler) -> Self {
        Self::Here(Bytes::sample(from))
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(from: &mut Sampler) -> Self {
        let is_some = from.is_lean() || from.below(4) > 0;
        is_some.then(|| T::sample(from))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(from: &mut Sampler) -> Self {
        let count = match from.shape {
            Shape::Mixed => from.below(4),
            Shape::Lean { depth, items, .. } => match from.depth.cmp(&depth) {
                Ordering::Less => 1,
                Ordering::Equal => items,
                Ordering::Greater => 0,
            },
        };
        from.depth += 1;
        let items = (0..count).map(|_| T::sample(from)).collect();
        from.depth -= 1;
        items
    }
}
