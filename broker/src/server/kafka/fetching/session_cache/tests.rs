//! Who has room, who goes, and what a lent session comes back to.

use super::super::session::{Position, Slot, TopicKey};
use super::*;

fn session(partitions: i32) -> Session {
    named("t", partitions)
}

fn named(topic: &str, partitions: i32) -> Session {
    let position = Position {
        fetch_offset: 0,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        max_bytes: 1,
    };
    let key = |number| (TopicKey::Name(topic.into()), number);
    Session::of((0..partitions).map(|number| Slot::new(key(number), position)))
}

struct Rig {
    sessions: FetchSessions,
    metrics: Arc<Metrics>,
    now: Instant,
}

impl Rig {
    fn new(slots: usize, bytes: usize) -> Self {
        let metrics = Arc::new(Metrics::default());
        let cache = SessionCache::new(slots, bytes, Arc::clone(&metrics));
        let sessions = FetchSessions { cache: Arc::new(Mutex::new(cache)) };
        Self { sessions, metrics, now: Instant::now() }
    }

    fn pass(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
    }

    fn open(&self, partitions: i32) -> i32 {
        self.sessions.open(session(partitions), false, self.now)
    }

    fn begin(&self, id: i32, epoch: i32) -> Result<Lease, Option<ErrorCode>> {
        match self.sessions.begin(Asked { id, epoch, by_id: false }, self.now) {
            Begun::Incremental(lease) => Ok(lease),
            Begun::Full { .. } => Err(None),
            Begun::Refused(code) => Err(Some(code)),
        }
    }

    fn is_open(&self, id: i32) -> bool {
        self.sessions.cache.lock().sessions.contains_key(&id)
    }

    /// Sessions and partitions, counted and told.
    fn counts(&self) -> (i64, i64) {
        let cache = self.sessions.cache.lock();
        let partitions: usize = cache.sessions.values().map(|entry| entry.len).sum();
        let bytes: usize = cache.sessions.values().map(|entry| entry.bytes).sum();
        assert_eq!(bytes, cache.bytes);
        let counted = (cache.sessions.len() as i64, partitions as i64);
        let told = (self.metrics.fetch_sessions.get(), self.metrics.fetch_session_partitions.get());
        assert_eq!(counted, told);
        counted
    }
}

fn refusal(outcome: Result<Lease, Option<ErrorCode>>) -> i16 {
    outcome.err().flatten().map_or(0, |code| code as i16)
}

#[test]
fn a_session_goes_from_epoch_to_epoch() {
    let rig = Rig::new(10, 1 << 20);
    let id = rig.open(3);
    assert!(id > 0);
    assert_eq!(refusal(rig.begin(id, 2)), 71, "1 comes first");
    for epoch in 1..5 {
        let mut lease = rig.begin(id, epoch).ok().unwrap();
        assert_eq!((lease.id(), lease.session().len()), (id, 3));
        assert_eq!(refusal(rig.begin(id, epoch + 1)), 71, "it is lent out");
        drop(lease);
        assert_eq!(refusal(rig.begin(id, epoch)), 71, "the epoch before");
    }
    assert_eq!(refusal(rig.begin(id.wrapping_add(1).max(1), 5)), 70);
    rig.sessions.cache.lock().sessions.get_mut(&id).unwrap().epoch = i32::MAX;
    drop(rig.begin(id, i32::MAX).ok().unwrap());
    drop(rig.begin(id, 1).ok().unwrap());
    assert_eq!(rig.counts(), (1, 3));
}

#[test]
fn a_full_request_closes_the_session_that_it_names() {
    let rig = Rig::new(10, 1 << 20);
    for (epoch, opens) in [(-1, false), (0, true)] {
        let (id, other) = (rig.open(3), rig.open(2));
        let begun = rig.sessions.begin(Asked { id, epoch, by_id: false }, rig.now);
        assert!(matches!(begun, Begun::Full { opens: o } if o == opens));
        assert!(!rig.is_open(id) && rig.is_open(other));
        assert_eq!(refusal(rig.begin(id, 1)), 70);
    }
    assert_eq!(rig.counts(), (2, 4));
}

#[test]
fn what_is_closed_while_it_is_lent_does_not_come_back() {
    let rig = Rig::new(10, 1 << 20);
    let id = rig.open(3);
    let mut lease = rig.begin(id, 1).ok().unwrap();
    assert!(matches!(rig.begin(id, 0), Err(None)));
    lease.session().put(session(9).slots()[8].clone());
    assert!(lease.keeps(rig.now), "its request is answered");
    drop(lease);
    assert!(!rig.is_open(id));
    assert_eq!(rig.counts(), (0, 0));
}

#[test]
fn a_session_changes_its_size_and_closes_when_nothing_is_left() {
    let rig = Rig::new(10, 1 << 20);
    let id = rig.open(3);
    let mut lease = rig.begin(id, 1).ok().unwrap();
    *lease.session() = session(5);
    assert!(lease.keeps(rig.now));
    drop(lease);
    assert_eq!(rig.counts(), (1, 5));
    let mut lease = rig.begin(id, 2).ok().unwrap();
    *lease.session() = session(1);
    assert!(lease.keeps(rig.now));
    assert_eq!(rig.counts(), (1, 1));
    *lease.session() = session(0);
    assert!(!lease.keeps(rig.now));
    drop(lease);
    assert!(!rig.is_open(id));
    assert_eq!(rig.counts(), (0, 0));
}

#[test]
fn young_sessions_stay_and_unused_ones_go_first() {
    let mut rig = Rig::new(2, 1 << 20);
    let (first, second) = (rig.open(3), rig.open(1));
    assert_eq!(rig.open(100), NO_SESSION, "nobody is two minutes old");
    rig.pass(60);
    drop(rig.begin(first, 1).ok().unwrap());
    rig.pass(60);
    assert_eq!(rig.open(100), NO_SESSION, "two minutes are not more than two minutes");
    rig.pass(1);
    let third = rig.open(1);
    assert!(third > 0 && rig.is_open(first) && !rig.is_open(second), "unused since 121 seconds");
    assert_eq!(rig.metrics.fetch_session_evictions.get(), 1);
    rig.pass(10);
    assert_eq!(rig.open(3), NO_SESSION, "the old one is as large as the new one");
    let large = rig.open(4);
    assert!(large > 0 && !rig.is_open(first), "an old one gives way to a larger one");
    assert_eq!(rig.open(1000), NO_SESSION, "young ones to nobody");
    assert_eq!(rig.counts(), (2, 5));
}

#[test]
fn the_smallest_old_one_goes_and_of_the_unused_the_one_unused_longest() {
    let mut rig = Rig::new(3, 1 << 20);
    let ids = [5, 2, 9].map(|partitions| rig.open(partitions));
    rig.pass(121);
    ids.iter().for_each(|&id| drop(rig.begin(id, 1).ok().unwrap()));
    let new = rig.open(10);
    assert_eq!(ids.map(|id| rig.is_open(id)), [true, false, true]);
    rig.pass(50);
    drop(rig.begin(new, 1).ok().unwrap());
    drop(rig.begin(ids[0], 2).ok().unwrap());
    rig.pass(100);
    assert!(rig.open(1) > 0);
    assert_eq!(ids.map(|id| rig.is_open(id)), [true, false, false]);
}

#[test]
fn no_slots_no_sessions() {
    let rig = Rig::new(0, 1 << 20);
    assert_eq!(rig.open(1), NO_SESSION);
    let rig = Rig::new(1, 1 << 20);
    assert_eq!(rig.open(0), NO_SESSION, "nor without partitions");
    assert_eq!(rig.counts(), (0, 0));
}

#[test]
fn memory_is_bounded_whoever_grows() {
    let each = session(10).bytes();
    assert_eq!(named(&"n".repeat(3000), 10).bytes(), each + 10 * 2999, "names count");
    let mut rig = Rig::new(100, 3 * each);
    let ids = [10, 10, 10].map(|partitions| rig.open(partitions));
    assert!(ids.iter().all(|&id| id > 0));
    assert_eq!(rig.open(1), NO_SESSION);
    assert_eq!(rig.open(1000), NO_SESSION, "more than there is room for at all");
    // One that grows beyond closes; its client has to name everything.
    let mut lease = rig.begin(ids[0], 1).ok().unwrap();
    *lease.session() = session(11);
    assert!(!lease.keeps(rig.now));
    drop(lease);
    assert_eq!(rig.counts(), (2, 20));
    assert_eq!(refusal(rig.begin(ids[0], 2)), 70);
    // Or pushes out who is unused, but never itself.
    rig.pass(121);
    let mut lease = rig.begin(ids[1], 1).ok().unwrap();
    *lease.session() = session(25);
    assert!(lease.keeps(rig.now) && !rig.is_open(ids[2]));
    *lease.session() = session(31);
    assert!(!lease.keeps(rig.now));
    drop(lease);
    assert_eq!(rig.counts(), (0, 0));
}

#[test]
fn who_is_unused_goes_before_who_is_small() {
    let mut rig = Rig::new(2, 1 << 20);
    let (large, small) = (rig.open(5), rig.open(1));
    rig.pass(121);
    drop(rig.begin(small, 1).ok().unwrap());
    assert!(rig.open(3) > 0);
    assert!(!rig.is_open(large) && rig.is_open(small));
}

#[test]
fn nobody_goes_for_one_that_has_no_room_anyway() {
    let mut rig = Rig::new(2, 2 * session(10).bytes());
    let old = rig.open(1);
    rig.pass(500);
    assert_eq!(rig.open(1000), NO_SESSION);
    assert!(rig.is_open(old));
    assert_eq!(rig.metrics.fetch_session_evictions.get(), 0);
}

#[test]
fn what_was_lent_does_not_come_back_to_another_session_of_its_id() {
    let rig = Rig::new(10, 1 << 20);
    let id = rig.open(3);
    let lease = rig.begin(id, 1).ok().unwrap();
    assert!(matches!(rig.begin(id, 0), Err(None)));
    let other = rig.open(7);
    {
        let mut cache = rig.sessions.cache.lock();
        let entry = cache.sessions.remove(&other).unwrap();
        cache.sessions.insert(id, entry);
    }
    drop(lease);
    assert_eq!(rig.begin(id, 1).ok().unwrap().session().len(), 7);
}
