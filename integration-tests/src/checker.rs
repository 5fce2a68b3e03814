//! Judges a recorded history of sends and reads.
//!
//! Values name themselves (`<producer>:<number>`), so that a read value tells which send it came
//! from. The checker knows nothing of the system: it sees what was sent, what was acknowledged and
//! what was read, and names every promise that was broken.

use std::collections::{BTreeMap, HashMap, HashSet};

/// One send and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Which producer instance sent it; order is judged within one.
    pub producer: u32,
    /// The producer's own count, ascending in the order of its sends.
    pub number: u64,
    /// Where it was acknowledged; `None` where the outcome is unknown or an error.
    pub acknowledged: Option<Position>,
}

/// A place in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// One record read from the whole log, from the start to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Where it was.
    pub position: Position,
    /// Who sent it.
    pub producer: u32,
    /// The producer's count.
    pub number: u64,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Violation {
    /// Acknowledged, but not in the log.
    Lost(u32, u64),
    /// Acknowledged at one place, found at another.
    Moved(u32, u64),
    /// In the log more than once.
    Duplicated(u32, u64),
    /// In the log, but never sent.
    Invented(u32, u64),
    /// In one partition, an earlier send of a producer stands behind a later one.
    OutOfOrder(u32, u64),
    /// One offset was read with two values.
    TwoValues(Position),
}

/// Every promise that the history breaks; empty when none.
pub fn check(sent: &[Sent], read: &[Read]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let known: HashSet<(u32, u64)> = sent.iter().map(|s| (s.producer, s.number)).collect();

    let mut by_position: BTreeMap<Position, (u32, u64)> = BTreeMap::new();
    let mut places: HashMap<(u32, u64), Position> = HashMap::new();
    for record in read {
        let value = (record.producer, record.number);
        match by_position.insert(record.position, value) {
            // The same record read twice, by two readers, is no fault of the log.
            Some(before) if before == value => continue,
            Some(_) => violations.push(Violation::TwoValues(record.position)),
            None => {}
        }
        if !known.contains(&value) {
            violations.push(Violation::Invented(record.producer, record.number));
        }
        if places.insert(value, record.position).is_some() {
            violations.push(Violation::Duplicated(record.producer, record.number));
        }
    }

    let mut newest: HashMap<(i32, u32), u64> = HashMap::new();
    for (position, &(producer, number)) in &by_position {
        let last = newest.entry((position.partition, producer)).or_insert(number);
        if number < *last {
            violations.push(Violation::OutOfOrder(producer, number));
        }
        *last = number.max(*last);
    }

    for send in sent {
        let Some(acknowledged) = send.acknowledged else { continue };
        match places.get(&(send.producer, send.number)) {
            None => violations.push(Violation::Lost(send.producer, send.number)),
            Some(&place) if place != acknowledged => {
                violations.push(Violation::Moved(send.producer, send.number));
            }
            Some(_) => {}
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, offset: i64) -> Position {
        Position { partition, offset }
    }

    /// Two producers, two partitions, everything acknowledged and read.
    fn history() -> (Vec<Sent>, Vec<Read>) {
        let mut sent = Vec::new();
        let mut read = Vec::new();
        let mut next = [0i64; 2];
        for number in 0..100 {
            for producer in 0..2 {
                let partition = (number % 2) as i32;
                let position = at(partition, next[partition as usize]);
                next[partition as usize] += 1;
                sent.push(Sent { producer, number, acknowledged: Some(position) });
                read.push(Read { position, producer, number });
            }
        }
        (sent, read)
    }

    #[test]
    fn a_clean_history_passes_even_when_read_twice() {
        let (sent, mut read) = history();
        assert_eq!(check(&sent, &read), []);
        read.extend(read.clone());
        assert_eq!(check(&sent, &read), []);
    }

    #[test]
    fn an_unacknowledged_send_may_be_there_or_not() {
        let (mut sent, read) = history();
        sent[10].acknowledged = None;
        assert_eq!(check(&sent, &read), []);
        sent.push(Sent { producer: 0, number: 1000, acknowledged: None });
        assert_eq!(check(&sent, &read), []);
    }

    #[test]
    fn each_injected_fault_is_named() {
        let (sent, read) = history();

        let mut lost = read.clone();
        lost.remove(7);
        assert_eq!(check(&sent, &lost), [Violation::Lost(1, 3)]);

        let mut duplicated = read.clone();
        duplicated.push(Read { position: at(0, 5000), ..read[20] });
        let found = check(&sent, &duplicated);
        assert!(found.contains(&Violation::Duplicated(0, 10)), "{found:?}");

        let mut invented = read.clone();
        invented.push(Read { position: at(1, 5000), producer: 9, number: 1 });
        assert_eq!(check(&sent, &invented), [Violation::Invented(9, 1)]);

        let mut swapped = read.clone();
        let (a, b) = (swapped[0].position, swapped[4].position);
        swapped[0].position = b;
        swapped[4].position = a;
        let found = check(&sent, &swapped);
        assert!(found.contains(&Violation::OutOfOrder(0, 0)), "{found:?}");
        assert!(found.contains(&Violation::Moved(0, 0)), "{found:?}");

        let mut two = read.clone();
        two.push(Read { producer: 1, number: 0, position: read[0].position });
        let found = check(&sent, &two);
        assert!(found.contains(&Violation::TwoValues(at(0, 0))), "{found:?}");
    }
}
