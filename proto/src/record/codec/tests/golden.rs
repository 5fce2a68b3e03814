//! Batches that other clients compressed, as they sent them: twelve records each, by librdkafka 2.0.2
//! (`kcat -P -K '\t' -z <codec>`, with `OTTLA_GOLDEN=<folder>` and the integration test `librdkafka`)
//! and by `MemoryRecords.withRecords` of Kafka's Java client 4.1.1 (lz4-java 1.8.0, snappy-java
//! 1.1.10, zstd-jni 1.5.6).

use super::*;

const GOLDEN: [(Compression, &str, &[u8]); 8] = [
    (Compression::Gzip, "librdkafka", include_bytes!("golden/librdkafka-gzip.batch")),
    (Compression::Snappy, "librdkafka", include_bytes!("golden/librdkafka-snappy.batch")),
    (Compression::Lz4, "librdkafka", include_bytes!("golden/librdkafka-lz4.batch")),
    (Compression::Zstd, "librdkafka", include_bytes!("golden/librdkafka-zstd.batch")),
    (Compression::Gzip, "java", include_bytes!("golden/java-gzip.batch")),
    (Compression::Snappy, "java", include_bytes!("golden/java-snappy.batch")),
    (Compression::Lz4, "java", include_bytes!("golden/java-lz4.batch")),
    (Compression::Zstd, "java", include_bytes!("golden/java-zstd.batch")),
];

/// The value of record `number`, as the writers made it.
fn value(number: u64) -> String {
    let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("INFO dfs.DataNode: block blk_{noise:x} of size {} received", noise >> 40)
}

#[test]
fn batches_of_other_clients_are_read() {
    for (codec, client, bytes) in GOLDEN {
        let batch = Batch::parse(bytes).unwrap();
        assert_eq!(batch.header().attributes.compression(), Ok(codec));
        assert_eq!(batch.header().size_in_bytes(), bytes.len());
        let mut decoder = BatchDecoder::new(10_000);
        let mut number = 0;
        for record in decoder.records(&batch).unwrap() {
            let record = record.unwrap();
            assert_eq!(record.offset.0, number as i64);
            assert_eq!(record.key.unwrap(), format!("key-{number}").as_bytes());
            assert_eq!(record.value.unwrap(), value(number).as_bytes(), "{client} {codec}");
            number += 1;
        }
        assert_eq!(number, 12, "{client} {codec}");
    }
}

/// Which shapes these files have, so that each branch of the readers has met a foreign writer.
#[test]
fn the_files_differ_where_the_clients_do() {
    let block = |client, codec| {
        let found = GOLDEN.iter().find(|(c, by, _)| *c == codec && *by == client);
        Batch::parse(found.unwrap().2).unwrap().block()
    };
    assert!(block("java", Compression::Snappy).starts_with(b"\x82SNAPPY\0"));
    assert!(!block("librdkafka", Compression::Snappy).starts_with(b"\x82SNAPPY\0"));
    for client in ["java", "librdkafka"] {
        // Magic, then independent blocks.
        let lz4 = block(client, Compression::Lz4);
        assert!(lz4.starts_with(&[4, 0x22, 0x4d, 0x18]) && lz4[4] & 0x20 != 0, "{client}");
    }
}
