//! Each row of the tables, and a client that only hears of changes against one that hears everything.

use std::collections::BTreeMap;

use super::*;

fn asked(id: i32, epoch: i32) -> Asked {
    Asked { id, epoch, by_id: false }
}

#[test]
fn which_request_may_go_on() {
    let awaits = |epoch| Standing::Awaits { epoch, by_id: false };
    for standing in [Standing::None, Standing::Busy, awaits(1)] {
        for id in [0, 7] {
            assert_eq!(step(asked(id, -1), standing), Step::Full { opens: false });
            assert_eq!(step(asked(id, 0), standing), Step::Full { opens: true });
        }
    }
    let refused = |standing, epoch| match step(asked(7, epoch), standing) {
        Step::Refused(code) => code as i16,
        other => panic!("{other:?}"),
    };
    for epoch in [1, 2, -2, i32::MAX, i32::MIN] {
        assert_eq!(refused(Standing::None, epoch), 70);
        assert_eq!(refused(Standing::Busy, epoch), 71);
    }
    assert_eq!(refused(awaits(2), 1), 71, "a request that was answered before");
    assert_eq!(refused(awaits(2), 3), 71, "one that comes too early");
    assert_eq!(refused(awaits(2), -2), 71);
    assert_eq!(step(asked(7, 2), awaits(2)), Step::Incremental);
    let by_id = Standing::Awaits { epoch: 2, by_id: true };
    assert_eq!(refused(by_id, 2), 106);
    assert_eq!(refused(by_id, 1), 71, "the epoch is looked at first");
    assert_eq!(step(Asked { by_id: true, ..asked(7, 2) }, by_id), Step::Incremental);
    assert_eq!(
        step(Asked { by_id: true, ..asked(7, 2) }, awaits(2)),
        Step::Refused(ErrorCode::FetchSessionTopicIdError)
    );
}

#[test]
fn epochs_go_from_1_to_the_greatest_and_back_to_1() {
    assert_eq!([0, 1, 2, i32::MAX - 1].map(epoch_after), [1, 2, 3, i32::MAX]);
    assert_eq!(epoch_after(i32::MAX), 1);
}

const AT: Shown = Shown { high_watermark: 5, log_start: 1, has_more: false, is_error: false };
const ERROR: Shown = Shown { high_watermark: -1, log_start: -1, has_more: false, is_error: true };

#[test]
fn what_a_client_has_to_be_told() {
    let mut told = Told::NOTHING;
    assert!(told.take(AT), "a new partition");
    assert!(!told.take(AT), "nothing new");
    assert!(told.take(Shown { high_watermark: 6, ..AT }));
    assert!(told.take(Shown { log_start: 2, ..AT }));
    assert!(told.take(Shown { has_more: true, ..AT }) && told.take(Shown { has_more: true, ..AT }));
    assert!(!told.take(AT), "nothing new behind records");
    assert!(told.take(ERROR) && told.take(ERROR), "an error each time");
    assert!(told.take(AT), "that the error is over");
    assert!(!told.take(AT));
    // A new partition at its very beginning.
    assert!(Told::NOTHING.clone().take(Shown { high_watermark: 0, log_start: 0, ..AT }));
}

fn key(number: i32) -> PartitionKey {
    (TopicKey::Name("t".into()), number)
}

fn slot(number: i32, fetch_offset: i64) -> Slot {
    let (current_leader_epoch, last_fetched_epoch, max_bytes) = (-1, -1, 1);
    let position = Position { fetch_offset, current_leader_epoch, last_fetched_epoch, max_bytes };
    Slot::new(key(number), position)
}

fn read(session: &Session) -> Vec<(i32, i64)> {
    let slots = session.order().iter().map(|&at| &session.slots()[at]);
    slots.map(|slot| (slot.key.1, slot.position.fetch_offset)).collect()
}

#[test]
fn partitions_come_change_and_go() {
    let mut session = Session::of([slot(1, 0), slot(2, 0), slot(1, 9)]);
    assert_eq!(read(&session), [(1, 9), (2, 0)], "each once, as it was named last");
    session.told(1).take(AT);
    session.put(slot(2, 4));
    session.put(slot(3, 0));
    assert_eq!(read(&session), [(1, 9), (2, 4), (3, 0)]);
    assert!(!session.told(1).take(AT), "another offset wanted is nothing new to the client");
    session.forget(&HashSet::from([key(1), key(8)]));
    assert_eq!(read(&session), [(2, 4), (3, 0)]);
    assert!(!session.told(0).take(AT), "what stays is not told anew");
    session.put(slot(1, 0));
    assert_eq!(read(&session), [(2, 4), (3, 0), (1, 0)]);
    assert!(session.told(2).take(AT), "one that comes again is new");
    let by_id = (TopicKey::Id(Uuid::from_u128(1)), 1);
    session.put(Slot { key: by_id.clone(), ..slot(1, 7) });
    assert_eq!(session.len(), 4, "names and ids are apart");
    let bytes = session.bytes();
    session.forget(&[key(1), key(2), key(3), by_id].into());
    assert!(session.is_empty() && session.bytes() == 0 && bytes > 4 * size_of::<Slot>());
}

#[test]
fn who_was_sent_records_comes_last() {
    let mut session = Session::of((0..5).map(|number| slot(number, 0)));
    let numbers = |session: &Session| read(session).iter().map(|at| at.0).collect::<Vec<_>>();
    session.send_back(|at| at == 0 || at == 2);
    assert_eq!(numbers(&session), [1, 3, 4, 0, 2]);
    session.send_back(|at| at == 1 || at == 0);
    assert_eq!(numbers(&session), [3, 4, 2, 1, 0]);
    session.forget(&[key(4)].into());
    assert_eq!(numbers(&session), [3, 2, 1, 0], "who forgets keeps the order");
    session.send_back(|_| false);
    assert_eq!(numbers(&session), [3, 2, 1, 0]);
}

/// A partition as it is: `None` is an error.
type Truth = Option<(i64, i64)>;

/// What a client was shown of each of its partitions last.
type View = BTreeMap<i32, Truth>;

fn shown_of(truth: Truth, has_more: bool) -> Shown {
    match truth {
        Some((high_watermark, log_start)) => {
            Shown { high_watermark, log_start, has_more, is_error: false }
        }
        None => ERROR,
    }
}

/// One answer: what it has goes into the client's view.
fn answer(session: &mut Session, view: &mut View, truths: &[Truth], has_more: &[bool]) {
    let mut has_sent = vec![false; session.len()];
    for place in 0..session.len() {
        let at = session.order()[place];
        let number = session.slots()[at].key.1;
        let truth = truths[number as usize];
        has_sent[at] = truth.is_some() && has_more[number as usize];
        if session.told(at).take(shown_of(truth, has_sent[at])) {
            view.insert(number, truth);
        } else {
            assert!(!has_sent[at] && truth.is_some(), "records and errors are always told");
        }
    }
    session.send_back(|at| has_sent[at]);
}

/// Random partitions, errors, forgotten and named ones: after each answer, a client that is told changes
/// only knows what one would that is told everything, and of no other partition.
#[test]
fn told_of_changes_a_client_knows_what_a_full_answer_would_show() {
    let seeds = std::env::var("OTTLA_TEST_ROUNDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(150) {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(1..12);
        let mut truths: Vec<Truth> = vec![Some((0, 0)); count];
        let mut wanted: BTreeMap<i32, i64> = BTreeMap::new();
        let mut session = Session::default();
        let mut view = View::new();
        for _ in 0..60 {
            for truth in &mut truths {
                *truth = match (*truth, random.u8(..10)) {
                    (Some((end, start)), 0) => Some((end + 1, start)),
                    (Some((end, start)), 1) => Some((end, (start + 1).min(end))),
                    (Some(_), 2) => None,
                    (None, 0..4) => Some((random.i64(2..4), random.i64(0..2))),
                    (truth, _) => truth,
                };
            }
            for _ in 0..random.usize(..3) {
                let (number, offset) = (random.i32(0..count as i32), random.i64(..5));
                session.put(slot(number, offset));
                wanted.insert(number, offset);
            }
            let gone: HashSet<_> =
                (0..random.i32(..3)).map(|_| random.i32(..count as i32)).collect();
            session.forget(&gone.iter().map(|&number| key(number)).collect());
            for number in gone {
                wanted.remove(&number);
                view.remove(&number);
            }
            let has_more: Vec<bool> = (0..count).map(|_| random.u8(..5) == 0).collect();
            answer(&mut session, &mut view, &truths, &has_more);
            let full: View =
                wanted.keys().map(|&number| (number, truths[number as usize])).collect();
            assert_eq!(view, full, "seed {seed}");
            let mut slots = read(&session);
            slots.sort_unstable();
            assert_eq!(slots, wanted.clone().into_iter().collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

/// With room for one partition in each answer, every one that has records has its turn.
#[test]
fn no_partition_starves_behind_busy_ones() {
    let mut session = Session::of((0..10).map(|number| slot(number, 0)));
    let mut turns = [0; 10];
    for _ in 0..100 {
        let first = session.order()[0];
        turns[first] += 1;
        session.send_back(|at| at == first);
    }
    assert_eq!(turns, [10; 10]);
}
