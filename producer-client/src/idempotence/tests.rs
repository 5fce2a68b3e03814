//! The window's decisions one by one; see `simulation` for all of them together.

mod simulation;

use super::*;

fn window(batches: u32) -> Window<u32> {
    let mut window = Window::idempotent(8);
    window.set_producer(1, 0);
    (0..batches).for_each(|batch| _ = window.push(batch, 10));
    window
}

fn resent(window: &mut Window<u32>) -> Vec<(u32, i32, ProducerEpoch)> {
    let mut resent = Vec::new();
    while let Some(resend) = window.resend() {
        resent.push((*resend.batch, resend.stamp.base_sequence, resend.stamp.epoch));
    }
    resent
}

#[test]
fn after_a_retry_all_are_resent_in_order_under_their_own_sequences() {
    let mut window = window(3);
    assert_eq!(window.answered(1, Answer::OutOfOrder), None);
    assert!(!window.has_room());
    assert_eq!(window.answered(0, Answer::Retry), None);
    assert!(window.settle().is_empty() && window.mode() == Mode::Draining);
    assert_eq!(window.answered(2, Answer::OutOfOrder), None);
    assert!(window.settle().is_empty());
    assert_eq!(resent(&mut window), [(0, 0, 0), (1, 10, 0), (2, 20, 0)]);
    assert!(window.has_room());
}

#[test]
fn a_gap_before_the_head_bumps_the_epoch() {
    let mut window = window(2);
    assert_eq!(window.answered(0, Answer::OutOfOrder), None);
    assert_eq!(window.answered(1, Answer::OutOfOrder), None);
    window.settle();
    assert_eq!(resent(&mut window), [(0, 0, 1), (1, 10, 1)]);
}

#[test]
fn successors_of_a_refused_batch_are_asked_about_before_the_epoch_is_bumped() {
    let mut window = window(3);
    assert_eq!(window.answered(0, Answer::Refused), Some(0));
    window.lost();
    window.settle();
    assert_eq!(resent(&mut window), [(1, 10, 0), (2, 20, 0)]);
    window.answered(1, Answer::OutOfOrder);
    window.answered(2, Answer::OutOfOrder);
    window.settle();
    assert_eq!(resent(&mut window), [(1, 0, 1), (2, 10, 1)]);
}

#[test]
fn a_timed_out_batch_in_doubt_keeps_its_place_while_a_later_one_lives() {
    let mut window = window(3);
    window.lost();
    window.settle();
    let mut doubts = Vec::new();
    let dropped = window.expire(|batch, in_doubt| {
        doubts.push(in_doubt);
        *batch < 2
    });
    assert!(dropped.is_empty() && doubts == [true; 3]);
    assert!(window.settle().is_empty());
    assert_eq!(resent(&mut window), [(0, 0, 0), (1, 10, 0), (2, 20, 0)]);
    // Nobody is left who waits: all go, and the epoch is new.
    window.lost();
    window.expire(|_, _| true);
    assert_eq!(window.settle(), [0, 1, 2]);
    assert!(window.has_room() && window.next_stamp().epoch == 1);
}

#[test]
fn a_batch_that_is_too_large_gives_way_to_smaller_ones_in_its_place() {
    let mut window = window(4);
    window.answered(0, Answer::RetryInDoubt);
    window.split(1, vec![(10, 4), (11, 6)]);
    window.answered(2, Answer::OutOfOrder);
    window.split(3, vec![(30, 5), (31, 5)]);
    assert!(window.settle().is_empty());
    // What is before it may be in the log: it is settled first, under its own sequence.
    assert_eq!(resent(&mut window), [(0, 0, 0)]);
    assert!(!window.has_room() && window.on_wire() == 1);
    assert_eq!(window.answered(0, Answer::Appended), Some(0));
    window.settle();
    let expected = [(10, 0, 1), (11, 4, 1), (2, 10, 1), (30, 20, 1), (31, 25, 1)];
    assert_eq!(resent(&mut window), expected);
    assert!(window.has_room());
}

#[test]
fn after_the_last_epoch_a_new_id_is_asked_for() {
    let mut window: Window<u32> = Window::idempotent(8);
    window.set_producer(1, ProducerEpoch::MAX);
    window.push(0, 10);
    window.push(1, 10);
    window.answered(0, Answer::OutOfOrder);
    window.answered(1, Answer::OutOfOrder);
    window.settle();
    assert_eq!(window.mode(), Mode::NoId);
    window.set_producer(2, 0);
    assert_eq!(resent(&mut window), [(0, 0, 0), (1, 10, 0)]);
    assert_eq!(window.next_stamp(), ProducerStamp { id: 2, epoch: 0, base_sequence: 20 });
}

#[test]
fn without_idempotence_one_is_in_flight_and_retried() {
    let mut window: Window<u32> = Window::plain();
    let ticket = window.push(0, 10);
    assert!(!window.has_room());
    window.answered(ticket, Answer::Retry);
    window.settle();
    assert_eq!(resent(&mut window), [(0, -1, -1)]);
    assert_eq!(window.expire(|_, _| true), [0]);
    window.settle();
    assert!(window.is_empty() && window.has_room());
}

#[test]
fn sequences_wrap_as_kafkas() {
    assert_eq!(advance(i32::MAX, 1), 0);
    assert_eq!(advance(i32::MAX - 1, 1), i32::MAX);
    assert_eq!(advance(i32::MAX - 4, 10), 5);
}
