//! The line of records that wait for room.

use std::sync::Barrier;
use std::time::Duration;

use super::*;
use crate::record::Record;

fn waiting(topic: &str, name: &str) -> (Waiting, Arc<Admission>) {
    let admission = Arc::new(Admission::default());
    let record = OwnedRecord::copy(&Record::to(topic).key(name), 0);
    let waiting =
        Waiting { record, size: 10, admission: Arc::clone(&admission), since: Instant::now() };
    (waiting, admission)
}

/// Offers everything; records of topic `later` are parked, and after `room` records there is no more.
fn admit(line: &Line, room: usize) -> Vec<String> {
    let mut admitted = Vec::new();
    let (_, failed) = line.advance(|queue| {
        queue.admit_while(|waiting| {
            if waiting.record.topic() == "later" {
                return Step::Park;
            }
            if admitted.len() == room {
                return Step::Stop;
            }
            let name = waiting.record.with(|record| record.key.unwrap_or_default().to_vec());
            admitted.push(String::from_utf8_lossy(&name).into_owned());
            Step::Admitted(Err(SendError::Closed { in_doubt: false }))
        });
    });
    assert_eq!(failed.map_or(0, |(count, _)| count), admitted.len() as u64);
    admitted
}

#[test]
fn the_order_of_a_topic_is_kept_and_an_unknown_topic_holds_up_nobody() {
    let line = Line::new(1000);
    for (topic, name) in
        [("t", "1"), ("later", "a"), ("t", "2"), ("later", "b"), ("t", "3"), ("t", "4")]
    {
        line.push(waiting(topic, name).0, None).unwrap();
    }
    assert_eq!(admit(&line, 2), ["1", "2"]);
    assert_eq!(admit(&line, 9), ["3", "4"]);
    assert!(!line.is_empty());
    line.push(waiting("t", "5").0, None).unwrap();
    line.push(waiting("later", "c").0, None).unwrap();
    line.advance(|queue| {
        assert_eq!(queue.parked_topics().collect::<Vec<_>>(), ["later"]);
        assert_eq!(queue.admissions().len(), 4);
    });
    let mut names = Vec::new();
    line.advance(|queue| {
        queue.admit_while(|waiting| match waiting.record.topic() {
            "later" => Step::Park,
            _ => Step::Stop,
        });
        queue.unpark("later");
        queue.admit_while(|waiting| {
            names.push(waiting.record.with(|record| record.key.unwrap_or_default().to_vec()));
            Step::Admitted(Err(SendError::Closed { in_doubt: false }))
        });
    });
    assert_eq!(names, [b"a", b"b", b"5", b"c"]);
    assert!(line.is_empty());
}

#[test]
fn a_full_line_refuses_or_makes_wait() {
    let line = Arc::new(Line::new(20));
    line.push(waiting("t", "1").0, None).unwrap();
    line.push(waiting("t", "2").0, None).unwrap();
    assert_eq!(line.push(waiting("t", "3").0, None).unwrap_err(), Refused::Full);
    let soon = Instant::now() + Duration::from_millis(20);
    assert_eq!(line.push(waiting("t", "3").0, Some(soon)).unwrap_err(), Refused::Full);
    let begun = Arc::new(Barrier::new(2));
    let pushing = {
        let (line, begun) = (Arc::clone(&line), Arc::clone(&begun));
        std::thread::spawn(move || {
            begun.wait();
            line.push(waiting("t", "3").0, Some(Instant::now() + Duration::from_secs(20)))
        })
    };
    begun.wait();
    assert_eq!(admit(&line, 1), ["1"]);
    pushing.join().unwrap().unwrap();
    assert_eq!(admit(&line, 9), ["2", "3"]);
    line.advance(|queue| queue.close(&SendError::Closed { in_doubt: false }));
    assert_eq!(line.push(waiting("t", "4").0, None).unwrap_err(), Refused::Closed);
}

#[test]
fn who_waits_too_long_is_told() {
    let line = Line::new(1000);
    let (first, admission) = waiting("t", "1");
    line.push(first, None).unwrap();
    line.push(waiting("later", "2").0, None).unwrap();
    line.advance(|queue| {
        queue.admit_while(|waiting| match waiting.record.topic() {
            "later" => Step::Park,
            _ => Step::Stop,
        });
    });
    // "1" stopped the line before "2" could be parked.
    let mut told = Vec::new();
    let (_, failed) = line.advance(|queue| {
        queue.expire(Instant::now(), |waiting, is_parked| {
            told.push((waiting.record.topic().to_owned(), is_parked));
            SendError::Closed { in_doubt: false }
        });
    });
    assert_eq!(told, [("t".into(), false), ("later".into(), false)]);
    assert_eq!(failed.map_or(0, |(count, _)| count), 2);
    drop(admission);
    assert!(line.is_empty());
}
