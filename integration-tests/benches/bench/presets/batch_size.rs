//! Rates at each batch size, ours beside the limit's: what the plot of `--svg` shows.

use super::recipes::{Recipes, SENDFILE};
use crate::Options;
use crate::spec::{Spec, What};

/// Bytes of a batch.
pub(crate) const SIZES: [usize; 11] = [
    1 << 10,
    2 << 10,
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
];

const RECORDS: u64 = 4_000_000;
/// Up to this size, where a request costs more than its records, half of the records are sent.
const SMALL: usize = 4 << 10;

/// The three kinds of figure, as they are named and as the plot's legend has them.
pub(crate) const KINDS: [&str; 3] =
    ["TCP framing + append (limit)", "Ottla, producer", "Ottla, consumer"];

/// The name of a figure.
pub(crate) fn sized(kind: &str, size: usize) -> String {
    format!("{kind}, batches of {} KiB", size >> 10)
}

pub(super) fn specs(options: &Options) -> Vec<Spec> {
    let make = Recipes::new(options, 1, RECORDS);
    let [tcp, producer, consumer] = KINDS;
    let each = |size: usize| {
        let records = if size <= SMALL { make.records / 2 } else { make.records };
        let limit = sized(tcp, size);
        let batch = format!("batch.size={size}");
        // Whole batches only: what is measured is their size, not how long one waits.
        let settings = [&batch, "linger.ms=1000", "max.in.flight.requests.per.connection=1024"];
        let produce = make.produce(make.load(records, 1), &settings);
        let drain = What::Drain { of: sized(producer, size), owned: false, consumers: 1 };
        [
            make.tcp_sized(limit.clone(), size, records),
            make.at_broker(sized(producer, size), Some(&limit), What::Produce(produce)),
            make.at_broker(sized(consumer, size), Some(SENDFILE), drain),
        ]
    };
    SIZES.into_iter().flat_map(each).collect()
}
