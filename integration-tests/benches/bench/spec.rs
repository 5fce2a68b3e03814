//! One figure before it is measured: its name, what it is held against, and what is to be done.

use crate::broker::Setup;
use crate::load::Load;
use crate::raw::sink::Requests;
use crate::tonic_client::Tuning;

#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// The figure, measured before in the same repeat, that its ratios are to.
    pub(crate) against: Option<String>,
    /// The brokers it needs; `None`: whatever runs.
    pub(crate) setup: Option<Setup>,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Memcpy,
    RawProduce {
        load: Load,
        requests: Requests,
    },
    RawRoundTrip {
        load: Load,
    },
    /// Files that the figure `of` produced, sent by `sendfile`.
    RawDrain {
        of: String,
    },
    Produce(Produce),
    /// What the figure `of` produced, by as many consumers, each with partitions of its own.
    Drain {
        of: String,
        owned: bool,
        consumers: i32,
    },
    /// Producers and one consumer at the same time.
    Both(Produce),
    TonicProduce {
        load: Load,
        requests: Requests,
    },
    TonicDrain {
        of: String,
        tuning: Tuning,
    },
    RoundTrip {
        load: Load,
        current_runtime: bool,
        /// Of producers, after the usual ones.
        settings: Vec<String>,
    },
    /// From one process to another at a steady rate.
    Paced {
        load: Load,
        rate: u64,
        /// Of producer and consumer.
        settings: Vec<String>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Produce {
    pub(crate) load: Load,
    pub(crate) producers: i32,
    pub(crate) replicas: i32,
    pub(crate) flush: String,
    /// `KEY=VALUE` of the producers.
    pub(crate) settings: Vec<String>,
    /// The name of a loop that appends as much and calls `fdatasync` as often as the broker did: it is
    /// run right after and is what the figure is held against.
    pub(crate) synced_loop: Option<String>,
}

impl Spec {
    /// The figure whose topic it reads.
    pub(crate) fn reads(&self) -> Option<&str> {
        match &self.what {
            What::RawDrain { of } | What::Drain { of, .. } | What::TonicDrain { of, .. } => {
                Some(of)
            }
            _ => None,
        }
    }

    /// Every name it reports under.
    pub(crate) fn names(&self) -> Vec<&str> {
        let synced = match &self.what {
            What::Produce(produce) => produce.synced_loop.as_deref(),
            _ => None,
        };
        synced.into_iter().chain([self.name.as_str()]).collect()
    }
}
