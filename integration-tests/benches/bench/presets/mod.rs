//! Which figures a run has, in which order, and what each is held against.

mod bars;
mod batch_size;
mod linkedin;
mod paper;
mod standard;

pub(crate) mod recipes;

pub(crate) use batch_size::{KINDS, SIZES, sized};

use crate::Options;
use crate::spec::Spec;

/// `--preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// Limits, producing, draining and latency, with one number of partitions.
    Standard,
    /// Everything that a bar is set for: 1 and 12 partitions, a plain tonic client, replication.
    Bars,
    /// As in the Kafka paper (2011): 10 million records of 200 bytes, batches of 1 and 50, one consumer.
    Paper,
    /// As LinkedIn measured Kafka in 2014, with a tenth of its 50 million records of 100 bytes: 1 and 3
    /// producers, replication 1 and 3, 1 and 3 consumers.
    #[value(name = "linkedin")]
    LinkedIn,
    /// Rates at batch sizes from 1 KiB to 1 MiB.
    BatchSize,
}

pub(crate) fn specs(options: &Options) -> Vec<Spec> {
    match options.preset {
        Preset::Standard => standard::specs(options),
        Preset::Bars => bars::specs(options),
        Preset::Paper => paper::specs(options),
        Preset::LinkedIn => linkedin::specs(options),
        Preset::BatchSize => batch_size::specs(options),
    }
}
