//! [`Mutator`]: turns honest frames of every API and version into lies.
//!
//! | what it does | meant to find |
//! |---|---|
//! | flips a bit, sets a byte to an extreme | fields read as something else |
//! | cuts the frame off, at a length too | reading behind the end |
//! | overwrites a length with an extreme of its form | memory taken on a promise, overflow |
//! | writes a length in more bytes than it needs, or without an end | varints |
//! | repeats what stands between two lengths | many items, nesting that does not end |
//! | puts in a part of another API's or version's frame | structures in the wrong place |
//! | puts in bytes of no meaning | everything else |

use bytes::Bytes;

use crate::kafka::api_key::for_every_request;
use crate::kafka::messages::*;
use crate::kafka::sample::{Sample, Sampler};
use crate::kafka::{ApiKey, Malformed, Request, Str, Wire, Writer, decode};

/// A longer frame shows nothing that this does not.
const FRAME_MAX: usize = 64 << 10;

/// What came of a frame: the memory that the reader counts.
pub(super) type Outcome = Result<usize, Malformed>;

/// An API in one version, and what reads its frames.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) key: ApiKey,
    pub(super) version: i16,
    pub(super) read: fn(i16, Bytes) -> Outcome,
    make: fn(&mut Sampler) -> Honest,
}

/// A frame behind its head, and where lengths stand in it.
#[derive(Clone)]
pub(super) struct Honest {
    pub(super) bytes: Vec<u8>,
    pub(super) lengths: Vec<usize>,
}

impl Target {
    fn of<R: Request + Sample>(version: i16) -> Self {
        let read = |version, frame| decode::<R>(version, frame).map(|decoded| decoded.held);
        Self { key: R::KEY, version, read, make: make::<R> }
    }

    /// Every API in every version.
    pub(super) fn all() -> Vec<Self> {
        let mut targets = Vec::new();
        macro_rules! add {
            ($name:ident, $request:ident, $response:ident) => {
                targets.extend(ApiKey::$name.versions().map(Self::of::<$request>));
            };
        }
        for_every_request!(add);
        targets
    }

    pub(super) fn is_flexible(&self) -> bool {
        self.key.is_flexible(self.version)
    }

    pub(super) fn make(&self, sampler: &mut Sampler) -> Honest {
        (self.make)(sampler)
    }
}

fn make<R: Request + Sample>(sampler: &mut Sampler) -> Honest {
    let (version, flexible) = (sampler.version(), sampler.is_flexible());
    let mut writer = Writer::new(version, false);
    Some(Str::from("client")).write(&mut writer);
    writer.go_on(version, flexible);
    if flexible {
        writer.tagged(&[]);
    }
    R::sample(sampler).write(&mut writer);
    let lengths = writer.lengths().to_vec();
    // Where records are left out of the buffer, lengths behind them stand further on.
    let gaps = writer.gaps().to_vec();
    let moved =
        |at: usize| at + gaps.iter().filter(|gap| gap.at <= at).map(|gap| gap.len).sum::<usize>();
    let lengths = lengths.into_iter().map(moved).collect();
    Honest { bytes: writer.into_encoded().join().unwrap(), lengths }
}

/// Honest frames of everything, and a source of chance.
pub(super) struct Mutator {
    pub(super) targets: Vec<Target>,
    /// By target.
    honest: Vec<Vec<Honest>>,
    random: Sampler,
}

impl Mutator {
    pub(super) fn new(seed: u64) -> Self {
        let targets = Target::all();
        let of = |target: &Target| {
            let sample =
                |seed| target.make(&mut Sampler::new(seed, target.version, target.is_flexible()));
            (0..12).map(sample).filter(|frame| frame.bytes.len() < FRAME_MAX).collect()
        };
        let honest = targets.iter().map(of).collect();
        Self { targets, honest, random: Sampler::new(seed, 0, false) }
    }

    /// The next frame, and who is to read it.
    pub(super) fn next(&mut self) -> (Target, Vec<u8>) {
        let number = self.random.below(self.targets.len());
        // Now and then it is another's as a whole.
        let from = if self.random.below(10) == 0 { self.any() } else { number };
        let frames = &self.honest[from];
        let mut frame = frames[self.random.below(frames.len())].clone();
        for _ in 0..=self.random.below(4) {
            self.mutate(&mut frame, self.targets[number].is_flexible());
        }
        frame.bytes.truncate(FRAME_MAX);
        (self.targets[number], frame.bytes)
    }

    fn any(&mut self) -> usize {
        self.random.below(self.targets.len())
    }

    fn mutate(&mut self, Honest { bytes, lengths }: &mut Honest, flexible: bool) {
        let random = &mut self.random;
        if bytes.is_empty() {
            bytes.push(random.next() as u8);
        }
        let at = random.below(bytes.len());
        // Places behind a cut or a change of length are wrong from then on, which does no harm.
        let border = lengths.get(random.below(lengths.len().max(1))).copied().unwrap_or(at);
        let border = border.min(bytes.len() - 1);
        match random.below(12) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes.truncate(if random.below(2) == 0 { at } else { border }),
            3..=5 if flexible => {
                let wrong = VARINTS[random.below(VARINTS.len())];
                bytes.splice(border..=border, wrong.iter().copied());
            }
            3..=5 => {
                let wrong = PLAIN[random.below(PLAIN.len())];
                let upto = (border + wrong.len()).min(bytes.len());
                bytes.splice(border..upto, wrong.iter().copied());
            }
            6 | 7 => {
                let upto = lengths.iter().copied().filter(|&at| at > border).min();
                let upto = upto.unwrap_or(bytes.len()).clamp(border, bytes.len());
                let part = bytes[border..upto].repeat(1 + random.below(40));
                bytes.splice(border..border, part.into_iter().take(FRAME_MAX));
            }
            8 | 9 => {
                let other = random.below(self.honest.len());
                let other = &self.honest[other][random.below(self.honest[other].len())].bytes;
                let from = random.below(other.len().max(1)).min(other.len());
                let upto = (from + 1 + random.below(60)).min(other.len());
                let end = (border + random.below(8)).min(bytes.len());
                bytes.splice(border..end, other[from..upto].iter().copied());
            }
            10 => {
                let more: Vec<u8> = (0..random.below(20)).map(|_| random.next() as u8).collect();
                bytes.splice(at..at, more);
            }
            _ => bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]),
        }
    }
}

/// Lengths of two bytes and of four that nobody has.
const PLAIN: [&[u8]; 11] = [
    &[0xff, 0xff],
    &[0x7f, 0xff],
    &[0x80, 0x00],
    &[0xff, 0xfe],
    &[0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0x00, 0x00, 0xff, 0xff],
    &[0x00, 0x00, 0x00, 0x00],
];

/// Lengths of one byte to six: extremes, in more bytes than they need, and without an end.
const VARINTS: [&[u8]; 10] = [
    &[0x00],
    &[0x01],
    &[0x7f],
    &[0xff, 0x7f],
    &[0x80, 0x00],
    &[0x81, 0x80, 0x80, 0x80, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
];
