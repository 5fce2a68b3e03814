//! `/metrics` in Prometheus' text format. Partition metrics carry kafka_exporter's names where it
//! has them.

use std::fmt::Write;

use crate::groups::Report;
use crate::metrics::Metrics;
use crate::replication::{Partition, PartitionSet};
use crate::storage::{DamagedRange, DirectoryState};

/// The page.
pub(super) fn render(
    metrics: &Metrics,
    partitions: &PartitionSet,
    groups: Option<&Report>,
) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    metrics.each(|name, kind, help, value| {
        page.head(name, kind, help);
        page.line(name, "", value);
    });
    storage(&mut page, partitions);
    super::replication_metrics::render(&mut page, partitions);
    directories(&mut page, partitions);
    cleaner(&mut page, partitions);
    process(&mut page);
    if let Some(groups) = groups {
        super::group_metrics::render(&mut page, groups, partitions);
    }
    let mut all = partitions.all();
    all.sort_by(|a, b| a.name().cmp(b.name()));
    for (name, help, value) in PARTITION {
        page.head(name, "gauge", help);
        for partition in &all {
            let of = partition.name();
            let labels = format!("{{topic=\"{}\",partition=\"{}\"}}", of.topic, of.partition);
            page.line(name, &labels, value(partition));
        }
    }
    page.0
}

type PartitionMetric = (&'static str, &'static str, fn(&Partition) -> i64);

const PARTITION: &[PartitionMetric] = &[
    (
        "kafka_topic_partition_current_offset",
        "Offset after the last record that consumers see (the high watermark).",
        |partition| partition.visible_end().0,
    ),
    ("kafka_topic_partition_oldest_offset", "First offset of the partition.", |partition| {
        partition.log().log_start().0
    }),
    ("ottla_partition_log_end_offset", "Offset of the next record to be appended.", |partition| {
        partition.log().log_end().0
    }),
    (
        "ottla_partition_flushed_offset",
        "Offset below which everything is on stable storage.",
        |partition| partition.log().flushed().0,
    ),
    ("ottla_partition_size_bytes", "Bytes of the partition's segments.", |partition| {
        partition.log().size() as i64
    }),
    ("ottla_partition_segments", "Segments of the partition.", |partition| {
        partition.log().segment_count() as i64
    }),
    (
        "ottla_partition_damaged_ranges",
        "Ranges of the log whose bytes are not what was written; not served, the rest is.",
        |partition| partition.log().damaged().len() as i64,
    ),
    (
        "ottla_partition_damaged_offsets",
        "Offsets that cannot be read because their bytes are damaged.",
        |partition| partition.log().damaged().iter().map(DamagedRange::offsets).sum(),
    ),
    (
        "ottla_partition_damaged_bytes",
        "Bytes of damaged ranges; 0 for a segment that is missing.",
        |partition| partition.log().damaged().iter().map(|range| range.bytes() as i64).sum(),
    ),
    ("ottla_partition_leader_epoch", "Epoch this broker leads in; -1: it does not.", |partition| {
        partition.leading().map_or(-1, |epoch| epoch.0.into())
    }),
    ("ottla_partition_parked_fetches", "Fetch handles that wait for records.", |partition| {
        partition.parked() as i64
    }),
];

fn storage(page: &mut Page, partitions: &PartitionSet) {
    let usage = partitions.logs().usage();
    for (name, help, value) in [
        ("ottla_log_mapped_bytes", "Bytes of segments mapped for fetches.", usage.mapped_bytes),
        (
            "ottla_log_pinned_bytes",
            "Mapped bytes that answers under way still hold.",
            usage.pinned_bytes,
        ),
        ("ottla_log_maps", "Mappings of segments.", usage.maps as u64),
        ("ottla_log_open_files", "Files of segments that are open.", usage.open_files as u64),
        (
            "ottla_log_open_files_max",
            "How many files of segments may be open (log.open.files.max).",
            usage.open_files_limit as u64,
        ),
        (
            "ottla_log_files_closed",
            "Files of segments closed because others needed the descriptor, since the start.",
            usage.files_closed,
        ),
        ("ottla_producer_state_bytes", "Bytes that remembered batches take.", usage.producer_bytes),
    ] {
        page.head(name, "gauge", help);
        page.line(name, "", value as i64);
    }
    let name = "ottla_log_syncs_total";
    page.head(name, "counter", "Times that a segment was made durable (fdatasync).");
    page.line(name, "", usage.files_synced as i64);
    let deleted = partitions.logs().deleted_segments();
    let name = "ottla_log_segments_deleted_total";
    page.head(name, "counter", "Segments that retention deleted, by reason.");
    for (reason, value) in
        [("time", deleted.by_time), ("size", deleted.by_size), ("log-start", deleted.below_start)]
    {
        page.line(name, &format!("{{reason=\"{reason}\"}}"), value as i64);
    }
    let offline = partitions.offline().len() + partitions.logs().absent_count();
    page.head(
        "ottla_partitions_offline",
        "gauge",
        "Partitions whose log failed, or is in a directory that cannot be used.",
    );
    page.line("ottla_partitions_offline", "", offline as i64);
    let failed = partitions.logs().failed_dirs().len();
    page.head("ottla_log_directories_offline", "gauge", "Log directories that failed.");
    page.line("ottla_log_directories_offline", "", failed as i64);
}

/// The log cleaners, in the words of Kafka's JMX beans.
fn cleaner(page: &mut Page, partitions: &PartitionSet) {
    let usage = partitions.logs().cleaner_usage();
    for (name, help, value) in [
        ("cleanings_total", "Partitions compacted.", usage.cleanings),
        ("passes_total", "Passes over partitions: more where keys did not fit.", usage.passes),
        ("failures_total", "Compactions that failed.", usage.failures),
        ("restarts_total", "Cleaners that panicked and were set going again.", usage.restarts),
        ("read_bytes_total", "Bytes that cleaners read.", usage.read_bytes),
        ("written_bytes_total", "Bytes that cleaners wrote.", usage.written_bytes),
        ("records_total", "Records that cleaners looked at.", usage.records_read),
        ("records_removed_total", "Records that compaction removed.", usage.records_removed),
    ] {
        let name = format!("ottla_log_cleaner_{name}");
        page.head(&name, "counter", help);
        page.line(&name, "", value as i64);
    }
    // Where there was no run yet: -1.
    let since = usage.since_last_run_ms.map_or(-1, |since| since as i64);
    for (name, help, value) in [
        (
            "recopy_percent",
            "Written of what the last compaction read.",
            usage.recopy_percent as i64,
        ),
        (
            "max_dirty_percent",
            "Dirty part of the dirtiest partition.",
            usage.max_dirty_percent as i64,
        ),
        (
            "max_buffer_utilization_percent",
            "How full the keys' buffer of the last compaction was.",
            usage.buffer_percent as i64,
        ),
        ("time_since_last_run_ms", "Milliseconds since a compaction ended; -1: none yet.", since),
        ("dead_thread_count", "Cleaner threads that do not run.", usage.dead_threads as i64),
        (
            "uncleanable_partitions_count",
            "Partitions that are not compacted as they should be; the log says why.",
            usage.uncleanable_partitions as i64,
        ),
        (
            "uncleanable_bytes",
            "Bytes of those partitions that wait for it.",
            usage.uncleanable_bytes as i64,
        ),
    ] {
        let name = format!("ottla_log_cleaner_{name}");
        page.head(&name, "gauge", help);
        page.line(&name, "", value);
    }
}

/// Each log directory: its room and its state.
fn directories(page: &mut Page, partitions: &PartitionSet) {
    type Value = fn(&DirectoryState) -> i64;
    let figures: [(&str, &str, Value); 4] = [
        ("ottla_log_directory_free_bytes", "Bytes free on its file system.", |dir| {
            dir.space.free as i64
        }),
        ("ottla_log_directory_total_bytes", "Bytes of its file system.", |dir| {
            dir.space.total as i64
        }),
        (
            "ottla_log_directory_low",
            "1 while produce is refused because the disk is almost full.",
            |dir| i64::from(dir.low),
        ),
        ("ottla_log_directory_offline", "1 when it failed.", |dir| i64::from(dir.failed.is_some())),
    ];
    let directories = partitions.logs().describe(|_| false);
    for (name, help, value) in figures {
        page.head(name, "gauge", help);
        for directory in &directories {
            let path = directory.path.display().to_string();
            let path = escaped(&path);
            page.line(name, &format!("{{directory=\"{path}\"}}"), value(directory));
        }
    }
}

/// Memory as the kernel counts it: mapped segments are page cache and shown apart.
fn process(page: &mut Page) {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    for (field, name, help) in [
        ("RssAnon:", "ottla_process_rss_anon_bytes", "Anonymous memory: heaps and stacks."),
        ("RssShmem:", "ottla_process_rss_shmem_bytes", "Shared memory."),
        ("RssFile:", "ottla_process_rss_file_bytes", "Mapped file pages, the page cache's."),
    ] {
        let kib = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = kib.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<i64>().ok());
        if let Some(kib) = kib {
            page.head(name, "gauge", help);
            page.line(name, "", kib * 1024);
        }
    }
}

/// As a label's value is written.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[derive(Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn line(&mut self, name: &str, labels: &str, value: i64) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}
