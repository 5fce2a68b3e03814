//! The decisions without a stream: state table, records, throttle, lanes, where a log is cut.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{LeaderEpoch, Offset, v1};

use super::super::fetch_state::{Action, Event, FetchState, LocalFault, Moment, Phase};
use super::super::followed::{begins_anew, cut_to};
use super::super::lane::Lane;
use super::super::records::{Fault, Tip, check};
use super::super::refill::Refill;
use super::super::throttle::Throttle;
use super::rig::batch_at;

fn moment(now: Instant) -> Moment {
    Moment { now, wait_max: Duration::from_millis(200), jitter: 0.5 }
}

fn after(events: &[Event]) -> (FetchState, Action) {
    let now = Instant::now();
    let step = |(state, _): (FetchState, Action), event: &Event| state.next(*event, moment(now));
    events.iter().fold((FetchState::new(), Action::None), step)
}

fn due(verify: bool) -> Phase {
    Phase::Due { verify }
}

#[test]
fn each_event_leads_where_the_table_says() {
    let plain = [
        (Event::Appended, Phase::Held, Action::None),
        (Event::Corrupt, due(false), Action::Forget),
        (Event::Diverging, due(false), Action::Truncate),
        (Event::OutOfRange, Phase::Asking, Action::AskStart),
        (Event::Moved, due(false), Action::Forget),
        (Event::Local(LocalFault::Over), Phase::Over, Action::Forget),
        (Event::Disconnected, due(false), Action::None),
        (Event::Elapsed, Phase::Held, Action::None),
    ];
    for (event, phase, action) in plain {
        let (state, told) = after(&[Event::Added, event]);
        assert_eq!((state.phase, told), (phase, action), "{event:?}");
    }
    let (state, _) = after(&[Event::Added, Event::OutOfRange, Event::StartTold]);
    assert_eq!(state.phase, due(false));
    for (event, action) in [
        (Event::Refused, Action::None),
        (Event::Local(LocalFault::Passing), Action::Forget),
        (Event::Local(LocalFault::Full), Action::Forget),
    ] {
        let (state, told) = after(&[Event::Added, event]);
        assert!(matches!(state.phase, Phase::Waiting { .. }) && told == action, "{event:?}");
        let (state, _) = after(&[Event::Added, event, Event::Disconnected]);
        assert!(matches!(state.phase, Phase::Waiting { .. }), "the wait goes on");
    }
    // Nothing leads out of it.
    for event in [Event::Added, Event::Moved, Event::Disconnected, Event::Elapsed, Event::Corrupt] {
        let (state, action) = after(&[Event::Local(LocalFault::Over), event]);
        assert_eq!((state.phase, action), (Phase::Over, Action::None), "{event:?}");
    }
}

#[test]
fn bytes_that_do_not_hold_are_asked_for_again_then_verified_then_waited_for() {
    let twice = [Event::Added, Event::Corrupt, Event::Added, Event::Corrupt];
    assert_eq!(after(&twice).0.phase, due(true));
    let lost = [&twice[..], &[Event::Added, Event::Disconnected]].concat();
    assert_eq!(after(&lost).0.phase, due(true), "a lost connection does not restore trust");
    let thrice = [&twice[..], &[Event::Added, Event::Corrupt]].concat();
    let Phase::Waiting { verify: true, .. } = after(&thrice).0.phase else { panic!("no wait") };
    let well = [&thrice[..], &[Event::Appended, Event::Corrupt]].concat();
    assert_eq!(after(&well).0.phase, due(false), "an append forgets");
}

#[test]
fn waits_double_up_to_the_maximum_and_end_when_their_time_has_come() {
    let start = Instant::now();
    let mut state = FetchState::new();
    for expected_ms in [25, 50, 100, 200, 200, 200] {
        state = state.next(Event::Refused, moment(start)).0;
        let Phase::Waiting { until, .. } = state.phase else { panic!("no wait") };
        assert_eq!((until - start).as_millis(), expected_ms);
        let early = state.next(Event::Elapsed, moment(until - Duration::from_millis(1))).0;
        assert_eq!(early.phase, state.phase);
        assert_eq!(state.next(Event::Elapsed, moment(until)).0.phase, due(false));
    }
    let full = state.next(Event::Local(LocalFault::Full), moment(start)).0;
    let Phase::Waiting { until, .. } = full.phase else { panic!("no wait") };
    assert_eq!(until - start, Duration::from_secs(1));
    assert_eq!(state.next(Event::Appended, moment(start)).0.failures, 0);
}

fn tip(log_start: i64, log_end: i64, last_epoch: i32) -> Tip {
    let (log_start, log_end) = (Offset(log_start), Offset(log_end));
    Tip { log_start, log_end, last_epoch: LeaderEpoch(last_epoch), epoch: LeaderEpoch(7) }
}

fn told(batches: &[Bytes], next: i64, tip: Tip) -> Result<(usize, Option<Offset>), Fault> {
    check(batches, Offset(next), tip).map(|checked| (checked.headers.len(), checked.begin_at))
}

#[test]
fn only_what_follows_the_log_end_is_appended() {
    let two = [batch_at(10, 5, 3), batch_at(15, 1, 7)];
    assert_eq!(told(&two, 16, tip(0, 10, 3)), Ok((2, None)));
    let is_lie = |result| matches!(result, Err(Fault::Lie(_)));
    assert!(is_lie(told(&two, 16, tip(0, 9, 3))), "a hole before it");
    assert!(is_lie(told(&two, 16, tip(0, 11, 3))), "it begins before the end");
    assert!(is_lie(told(&two, 17, tip(0, 10, 3))), "not where the leader says it ends");
    assert!(is_lie(told(&two, 16, tip(0, 10, 4))), "an epoch goes back");
    let future = [batch_at(10, 1, 8)];
    assert!(is_lie(told(&future, 11, tip(0, 10, 3))), "an epoch after the leader's own");
    let hole = [batch_at(10, 5, 3), batch_at(16, 1, 3)];
    assert!(is_lie(told(&hole, 17, tip(0, 10, 3))), "a hole inside");
    let back = [batch_at(10, 5, 3), batch_at(12, 3, 3)];
    assert!(is_lie(told(&back, 15, tip(0, 10, 3))), "an overlap inside");
    assert!(is_lie(told(&[], 10, tip(0, 10, 3))));
}

#[test]
fn an_empty_log_begins_with_the_batch_that_its_start_is_in() {
    let batch = [batch_at(10, 5, 3)];
    assert_eq!(told(&batch, 15, tip(12, 12, -1)), Ok((1, Some(Offset(10)))));
    assert!(told(&batch, 15, tip(15, 15, -1)).is_err(), "it is all before the start");
    assert!(told(&batch, 15, tip(11, 12, 3)).is_err(), "the log is not empty");
}

#[test]
fn no_damaged_byte_gets_through() {
    let whole = batch_at(10, 3, 3);
    for at in 16..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x10;
        let result = told(&[damaged.into()], 13, tip(0, 10, 3));
        assert!(matches!(result, Err(Fault::Corrupt(_))), "byte {at}");
    }
    for len in 1..whole.len() {
        let result = told(&[whole.slice(..len)], 13, tip(0, 10, 3));
        assert!(matches!(result, Err(Fault::Corrupt(_))), "cut at {len}");
    }
}

#[test]
fn a_log_is_cut_where_it_may_agree_with_the_leaders() {
    let cut = |own: Option<(i32, i64)>, leader: (i32, i64), end: i64| {
        let own = own.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
        let told = v1::EpochEnd { leader_epoch: leader.0, end_offset: leader.1 };
        cut_to(own, &told, Offset(2), Offset(end)).map(|offset| offset.0)
    };
    assert_eq!(cut(Some((2, 30)), (2, 20), 30), Some(20), "the leader's epoch ends earlier");
    assert_eq!(cut(Some((2, 25)), (2, 28), 30), Some(25), "epochs it does not have come after");
    assert_eq!(cut(Some((1, 10)), (2, 28), 30), Some(10), "its epoch 2 is not known here");
    assert_eq!(cut(Some((1, 10)), (2, 8), 30), Some(8), "above its epoch's end it has a newer one");
    assert_eq!(cut(None, (-1, 5), 30), Some(5), "it has no epoch that old: its log starts there");
    assert_eq!(cut(None, (-1, 0), 30), Some(2));
    assert_eq!(cut(None, (0, 90), 30), Some(2), "what it has is older than all here");
    assert_eq!(cut(Some((2, 30)), (2, -1), 30), Some(2), "the log does not begin earlier");
    assert_eq!(cut(Some((2, 30)), (2, 30), 30), None, "nothing would change");
    assert_eq!(cut(Some((2, 30)), (2, 99), 30), None);
}

#[test]
fn a_log_begins_anew_only_where_the_leader_has_nothing_of_it() {
    assert!(begins_anew(tip(0, 10, 1), Offset(11)));
    assert!(!begins_anew(tip(0, 10, 1), Offset(10)), "it goes on there");
    assert!(!begins_anew(tip(0, 10, 1), Offset(3)));
    assert!(begins_anew(tip(10, 10, -1), Offset(3)), "nothing is lost");
    assert!(!begins_anew(tip(10, 10, -1), Offset(10)), "it is there already");
}

#[test]
fn the_throttle_keeps_to_its_rate_and_lets_one_large_batch_through() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let throttle = Throttle::new(Some(1_000), start);
    assert_eq!(throttle.room(10_000, at(0)), Ok(500), "what comes in half a second");
    throttle.take(2_500, at(0));
    let wait = throttle.room(10_000, at(0)).unwrap_err() - at(0);
    assert!((2_000..2_010).contains(&wait.as_millis()), "{wait:?}");
    assert!(throttle.room(10_000, at(1_990)).is_err());
    assert!(throttle.room(10_000, at(2_010)).is_ok());
    let mut taken = 0;
    for ms in 2_010..12_010 {
        if let Ok(room) = throttle.room(10_000, at(ms)) {
            throttle.take(room, at(ms));
            taken += room;
        }
    }
    assert!((9_000..=11_000).contains(&taken), "{taken} bytes in ten seconds");
    throttle.set_rate(None, at(12_100));
    assert_eq!(throttle.room(10_000, at(12_100)), Ok(10_000));
}

#[test]
fn a_replica_is_behind_while_it_ends_below_the_high_watermark() {
    let now = Instant::now();
    let ago = |ms| now.checked_sub(Duration::from_millis(ms));
    let lane =
        |lane: Lane, end, watermark, since| lane.after(Offset(end), Offset(watermark), since, now);
    assert_eq!(lane(Lane::InSync, 9, 10, None), Lane::Refill);
    assert_eq!(lane(Lane::InSync, 10, 10, None), Lane::InSync);
    assert_eq!(lane(Lane::InSync, 9, 10, ago(10)), Lane::InSync, "it is being let in");
    assert_eq!(lane(Lane::InSync, 9, 10, ago(1_500)), Lane::Refill);
    assert_eq!(lane(Lane::Refill, 9, 10, None), Lane::Refill);
    assert_eq!(lane(Lane::Refill, 10, 10, ago(1)), Lane::InSync);
}

#[test]
fn a_refill_tells_its_speed_and_what_is_left() {
    let start = Instant::now();
    let mut refill = Refill::new(Offset(100), start);
    refill.came(5_000);
    let speed = refill.look(Offset(200), Offset(400), start + Duration::from_secs(5));
    assert_eq!((speed.bytes_per_second, speed.seconds_left), (1_000, Some(10)));
    let stuck = refill.look(Offset(200), Offset(400), start + Duration::from_secs(10));
    assert_eq!((stuck.bytes_per_second, stuck.seconds_left), (0, None));
}
