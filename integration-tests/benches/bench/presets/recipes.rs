//! Figures that several presets share, with their names.

use proto::record::BatchBuilder;

use crate::Options;
use crate::broker::Setup;
use crate::load::{Load, VALUE_LEN};
use crate::raw::sink::{BATCH_LEN, Requests};
use crate::spec::{Produce, Spec, What};
use crate::tonic_client::Tuning;

pub(crate) const MEMCPY: &str = "limit: memcpy of the values";
pub(crate) const TCP_64K: &str = "limit: TCP framing + append, 64 KiB requests";
pub(crate) const TCP_50: &str = "limit: TCP framing + append, 50 records each";
pub(crate) const SENDFILE: &str = "limit: sendfile, batches walked and checked";
pub(crate) const TCP_TRIP: &str = "limit: TCP round trip + append, 200 B";
pub(crate) const SYNCED: &str = "limit: appends with as many fdatasync";
pub(crate) const LINGER: &str = "produce, batches by linger";
pub(crate) const FIFTY: &str = "produce, one request per 50 records";
pub(crate) const ONE: &str = "produce, one request per record";
pub(crate) const INTERVAL: &str = "produce, batches by linger, flush=interval";
pub(crate) const BEFORE_ACK: &str = "produce, batches by linger, flush=before-ack";
pub(crate) const DRAIN: &str = "drain, borrowed records";
pub(crate) const DRAIN_OWNED: &str = "drain, owned records";
pub(crate) const DRAIN_FIFTY: &str = "drain of requests of 50 records";
pub(crate) const DRAIN_ONE: &str = "drain of requests of one record";
pub(crate) const TRIP: &str = "round trip, producer's own thread";
pub(crate) const TRIP_CALLER: &str = "round trip, caller's runtime";
pub(crate) const TRIP_POLLED: &str = "round trip, caller's runtime, busy.poll.us=100 on both ends";
pub(crate) const TONIC_PRODUCE: &str = "tonic client, unary produce of 64 KiB";
pub(crate) const TONIC_FETCH: &str = "tonic client, fetch, default settings";
pub(crate) const TONIC_FETCH_LARGE: &str = "tonic client, fetch, large windows and frames";

/// Requests of the raw producer that are not yet acknowledged.
const RAW_IN_FLIGHT: u64 = 16;
/// The same where requests are small, and unacknowledged batches of ours: what the protocol allows.
const MANY_IN_FLIGHT: u64 = 1024;
const SMALL_IN_FLIGHT: &str = "max.in.flight.requests.per.connection=1024";

/// The name of a figure with so many partitions.
pub(crate) fn of(name: &str, partitions: i32) -> String {
    if partitions == 1 { name.to_owned() } else { format!("{name}, {partitions} partitions") }
}

/// The name of the end-to-end figure.
pub(crate) fn paced_name(rate: u64) -> String {
    format!("end to end, steady rate of {rate}/s")
}

/// The name of producing with acks=all to a cluster of three.
pub(crate) fn replicated_name(replicas: i32) -> String {
    format!("produce to 3 brokers, acks=all, replication {replicas}")
}

/// What figures are made of, for one run's options.
pub(crate) struct Recipes<'a> {
    pub(crate) options: &'a Options,
    pub(crate) setup: Setup,
    pub(crate) records: u64,
    pub(crate) value_len: usize,
}

impl<'a> Recipes<'a> {
    /// With these defaults where the options say nothing.
    pub(crate) fn new(options: &'a Options, brokers: i32, records: u64) -> Self {
        let setup = Setup { brokers, settings: options.broker_settings.clone() };
        let value_len = options.value_bytes.map_or(VALUE_LEN, |len| len as usize);
        Self { options, setup, records: options.records.unwrap_or(records), value_len }
    }

    pub(crate) fn load(&self, records: u64, partitions: i32) -> Load {
        Load { value_len: self.value_len, ..Load::new(records, partitions) }
    }

    pub(crate) fn at_broker(&self, name: String, against: Option<&str>, what: What) -> Spec {
        let (against, setup) = (against.map(str::to_owned), Some(self.setup.clone()));
        Spec { name, against, setup, what }
    }

    pub(crate) fn memcpy(&self) -> Spec {
        Spec { name: MEMCPY.into(), against: None, setup: None, what: What::Memcpy }
    }

    fn raw(&self, name: &str, what: What) -> Spec {
        Spec { name: name.into(), against: None, setup: None, what }
    }

    pub(crate) fn tcp_64k(&self) -> Spec {
        let requests = Requests { records: 0, batch_len: BATCH_LEN, in_flight: RAW_IN_FLIGHT };
        self.raw(TCP_64K, What::RawProduce { load: self.load(self.records, 1), requests })
    }

    pub(crate) fn tcp_50(&self) -> Spec {
        let requests = Requests { records: 50, batch_len: BATCH_LEN, in_flight: MANY_IN_FLIGHT };
        self.raw(TCP_50, What::RawProduce { load: self.load(self.records, 1), requests })
    }

    /// Requests of as many records as fit into a batch.
    pub(crate) fn tcp_sized(&self, name: String, batch_len: usize, records: u64) -> Spec {
        let in_flight = ((1 << 20) / batch_len as u64).clamp(RAW_IN_FLIGHT, MANY_IN_FLIGHT);
        let requests = Requests { records: 0, batch_len, in_flight };
        let load = self.load(records, 1);
        Spec { name, against: None, setup: None, what: What::RawProduce { load, requests } }
    }

    pub(crate) fn tcp_trip(&self) -> Spec {
        let load = self.load(self.options.round_trips, 1);
        self.raw(TCP_TRIP, What::RawRoundTrip { load })
    }

    pub(crate) fn sendfile(&self, partitions: i32) -> Spec {
        let of_topic = of(LINGER, partitions);
        self.at_broker(of(SENDFILE, partitions), None, What::RawDrain { of: of_topic })
    }

    /// Everything at its default but what is given.
    pub(crate) fn produce(&self, load: Load, settings: &[&str]) -> Produce {
        let mut settings: Vec<String> = settings.iter().map(|&setting| setting.into()).collect();
        settings.extend_from_slice(&self.options.producer_settings);
        let (producers, replicas) = (1, self.setup.brokers);
        let flush = self.options.flush.clone();
        Produce { load, producers, replicas, flush, settings, synced_loop: None }
    }

    pub(crate) fn linger(&self, partitions: i32) -> Spec {
        let produce = self.produce(self.load(self.records, partitions), &[]);
        self.at_broker(of(LINGER, partitions), Some(TCP_64K), What::Produce(produce))
    }

    pub(crate) fn interval(&self, partitions: i32) -> Spec {
        let produce = self.produce(self.load(self.records, partitions), &[]);
        let produce = Produce { flush: "interval".into(), ..produce };
        self.at_broker(of(INTERVAL, partitions), Some(TCP_64K), What::Produce(produce))
    }

    pub(crate) fn before_ack(&self, partitions: i32) -> Spec {
        let produce = self.produce(self.load(self.records, partitions), &[]);
        let limit = of(SYNCED, partitions);
        let synced_loop = Some(limit.clone());
        let produce = Produce { flush: "before-ack".into(), synced_loop, ..produce };
        self.at_broker(of(BEFORE_ACK, partitions), Some(&limit), What::Produce(produce))
    }

    pub(crate) fn fifty(&self, partitions: i32) -> Spec {
        let size = format!("batch.size={}", self.batch_len(50));
        let load = self.load(self.records, partitions);
        let produce = self.produce(load, &[&size, SMALL_IN_FLIGHT]);
        self.at_broker(of(FIFTY, partitions), Some(TCP_50), What::Produce(produce))
    }

    pub(crate) fn one(&self, partitions: i32, records: u64) -> Spec {
        let load = self.load(records, partitions);
        let produce = self.produce(load, &["batch.size=0", "linger.ms=0", SMALL_IN_FLIGHT]);
        self.at_broker(of(ONE, partitions), Some(TCP_50), What::Produce(produce))
    }

    /// Of what the figure `produced` left, with one consumer.
    pub(crate) fn drain(&self, name: &str, produced: &str, partitions: i32) -> Spec {
        let what =
            What::Drain { of: of(produced, partitions), owned: name == DRAIN_OWNED, consumers: 1 };
        self.at_broker(of(name, partitions), Some(&of(SENDFILE, partitions)), what)
    }

    pub(crate) fn trip(&self, name: &str, settings: &[&str]) -> Spec {
        let what = What::RoundTrip {
            load: self.load(self.options.round_trips, 1),
            current_runtime: name.starts_with(TRIP_CALLER),
            settings: settings.iter().map(|&setting| setting.into()).collect(),
        };
        self.at_broker(name.into(), Some(TCP_TRIP), what)
    }

    /// On the caller's runtime, with a broker and a producer that poll before they sleep.
    pub(crate) fn polled_trip(&self) -> Spec {
        let mut spec = self.trip(TRIP_POLLED, &["busy.poll.us=100"]);
        if let Some(setup) = &mut spec.setup {
            setup.settings.push("busy.poll.us=100".into());
        }
        spec
    }

    pub(crate) fn paced(&self, rate: u64) -> Spec {
        let load = self.load(rate * self.options.seconds, 1);
        let what = What::Paced { load, rate, settings: Vec::new() };
        self.at_broker(paced_name(rate), Some(TCP_TRIP), what)
    }

    pub(crate) fn tonic_fetch(&self, tuning: Tuning) -> Spec {
        let name = match tuning {
            Tuning::Default => TONIC_FETCH,
            Tuning::Large => TONIC_FETCH_LARGE,
        };
        let what = What::TonicDrain { of: LINGER.into(), tuning };
        self.at_broker(name.into(), Some(SENDFILE), what)
    }

    pub(crate) fn tonic_produce(&self) -> Spec {
        let each = self.records_in(BATCH_LEN);
        let requests = Requests { records: 0, batch_len: BATCH_LEN, in_flight: RAW_IN_FLIGHT };
        let load = self.load(self.records.div_ceil(each) * each, 1);
        let load = Load { run: each, lines: each, ..load };
        let what = What::TonicProduce { load, requests };
        self.at_broker(TONIC_PRODUCE.into(), Some(TCP_64K), what)
    }

    /// How many records a batch of `len` bytes holds.
    fn records_in(&self, len: usize) -> u64 {
        let mut builder = BatchBuilder::new(len);
        let value = vec![0; self.value_len];
        while builder.append(0, None, Some(&value), &[]).is_ok() {}
        builder.record_count() as u64
    }

    /// The size of a batch of exactly `records` records.
    fn batch_len(&self, records: usize) -> usize {
        let mut builder = BatchBuilder::new(records * (self.value_len + 100) + 100);
        let value = vec![0; self.value_len];
        for _ in 0..records {
            let appended = builder.append(0, None, Some(&value), &[]);
            debug_assert!(appended.is_ok(), "there is room");
        }
        // A later timestamp may take two bytes more a record; one record more takes more than those.
        builder.size_in_bytes() + (2 * records).min(self.value_len)
    }
}
