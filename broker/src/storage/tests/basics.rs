//! Appending, reading, reopening, on the real disk.

use super::*;

#[test]
fn records_come_back_in_order_over_segments_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real(dir.path());
    world.config.log.segment_bytes = 20_000;
    let mut expected = Vec::new();
    for run in 0..3 {
        let (set, log) = world.open_log();
        assert_eq!(log.log_end().0, expected.len() as i64);
        for i in 0..100 {
            let values: Vec<String> =
                (0..7).map(|v| format!("{run}-{i}-{v}{}", "x".repeat(100))).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let appended = append(&log, &batch(&values)).unwrap();
            assert_eq!(appended.base_offset.0, expected.len() as i64);
            for value in values {
                expected.push((expected.len() as i64, value.as_bytes().to_vec()));
            }
        }
        assert!(log.segment_count() > 3);
        assert_eq!(read_all(&log, Offset(0)).unwrap(), expected);
        assert_eq!(read_all(&log, Offset(333)).unwrap(), expected[333..]);
        set.close();
        assert!(append(&log, &batch(&["late"])).is_err());
    }
    let (_set, report) = world.open();
    assert!(report.clean);
    assert_eq!((report.scanned_bytes, report.cut_bytes), (0, 0));
}

#[test]
fn a_slice_is_the_mapped_file_and_cursors_go_on_without_look_up() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::real(dir.path());
    let (set, log) = world.open_log();
    for i in 0..2000 {
        append(&log, &batch(&[&format!("{i}{}", "y".repeat(300))])).unwrap();
    }
    let limits = ReadLimits { max_bytes: 100_000, upto: Offset(1500), first_batch_whole: true };
    let mut cursor = Cursor::at(Offset(0));
    let mut offset = 0;
    while cursor.offset() < Offset(1500) {
        let slice = log.read(cursor, limits, Wait::Never).unwrap();
        assert!(slice.len() <= 100_000 && (slice.len() > 80_000 || slice.next_offset().0 == 1500));
        assert_eq!(slice.is_mapped(), slice.len() >= 4096);
        for batch in Batches::new(slice.bytes()) {
            assert_eq!(batch.unwrap().header().base_offset.0, offset);
            offset += 1;
        }
        cursor = slice.next();
    }
    assert_eq!(offset, 1500);
    assert!(log.read(cursor, limits, Wait::Never).unwrap().is_empty());
    assert!(set.usage().mapped_bytes > 0);
    let past = Cursor::at(Offset(2001));
    assert!(matches!(log.read(past, limits, Wait::Never), Err(ReadError::OutOfRange { .. })));
}
