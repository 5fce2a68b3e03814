//! The protocol of rounds, without a stream.

use proto::{ErrorCode, v1};

use super::super::rounds::{Limits, Outcome, Rounds};

const LIMITS: Limits = Limits { max_wait_ms: 500, round_bytes: 1_000 };

fn added(rounds: &mut Rounds, replica: u64) -> (u32, v1::FetchRequest) {
    let handle = rounds.handle(replica);
    let add = vec![v1::FetchPartition { handle, ..Default::default() }];
    (handle, rounds.request(add, Vec::new(), LIMITS))
}

fn answer(request_id: u64, handle: u32) -> v1::FetchResponse {
    v1::FetchResponse { request_id, handle, ..Default::default() }
}

fn end(request_id: u64) -> v1::FetchResponse {
    v1::FetchResponse { request_id, end: true, ..Default::default() }
}

fn is_violation(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Violation(_))
}

#[test]
fn a_second_round_is_sent_for_data_or_news_and_no_third() {
    let mut rounds = Rounds::default();
    assert!(rounds.may_send(false));
    let (handle, first) = added(&mut rounds, 7);
    assert!(!rounds.may_send(false) && rounds.may_send(true));
    let outcome = rounds.message(answer(first.request_id, handle), 10);
    assert!(matches!(outcome, Outcome::Answer { replica: 7, .. }));
    assert!(rounds.may_send(false));
    let second = rounds.request(Vec::new(), Vec::new(), LIMITS);
    assert!(!rounds.may_send(true));
    assert_eq!(rounds.message(end(first.request_id), 0), Outcome::Ended { quiet: vec![] });
    assert!(!rounds.may_send(false) && rounds.may_send(true), "the second has brought nothing");
    assert!(is_violation(&rounds.message(end(first.request_id), 0)), "it has ended");
    assert!(matches!(rounds.message(end(second.request_id), 0), Outcome::Ended { .. }));
    assert!(is_violation(&rounds.message(end(3), 0)), "nothing was asked");
}

#[test]
fn who_was_added_and_got_nothing_is_told_at_the_end_of_a_round_with_room() {
    let mut rounds = Rounds::default();
    let handles = [rounds.handle(1), rounds.handle(2)];
    let add = handles.map(|handle| v1::FetchPartition { handle, ..Default::default() });
    let first = rounds.request(add.to_vec(), Vec::new(), LIMITS);
    rounds.message(answer(first.request_id, handles[0]), 10);
    assert_eq!(rounds.message(end(first.request_id), 0), Outcome::Ended { quiet: vec![2] });

    let (_, full) = added(&mut rounds, 3);
    rounds.message(answer(full.request_id, handles[0]), 1_000);
    let quiet = vec![];
    assert_eq!(rounds.message(end(full.request_id), 0), Outcome::Ended { quiet }, "it was full");
}

#[test]
fn answers_of_forgotten_handles_are_passed_over_until_they_cannot_come() {
    let mut rounds = Rounds::default();
    let (handle, first) = added(&mut rounds, 7);
    rounds.forget(handle);
    assert!(rounds.has_forgotten() && !rounds.holds_any());
    assert_eq!(rounds.message(answer(first.request_id, handle), 10), Outcome::Passed);
    let second = rounds.request(Vec::new(), Vec::new(), LIMITS);
    assert_eq!(second.forget, [handle]);
    rounds.message(end(first.request_id), 0);
    assert_eq!(rounds.message(answer(second.request_id, handle), 10), Outcome::Passed);
    rounds.message(end(second.request_id), 0);
    let third = rounds.request(Vec::new(), Vec::new(), LIMITS);
    assert!(third.forget.is_empty());
    assert!(is_violation(&rounds.message(answer(third.request_id, handle), 10)));
}

#[test]
fn an_error_or_a_divergence_ends_the_handle() {
    let refused = ErrorCode::NotLeaderOrFollower.to_message("no", "");
    let error = v1::FetchResponse { error: Some(refused), ..Default::default() };
    let diverging = Some(v1::EpochEnd { leader_epoch: 1, end_offset: 5 });
    let diverging = v1::FetchResponse { diverging, ..Default::default() };
    for response in [error, diverging] {
        let mut rounds = Rounds::default();
        let (handle, request) = added(&mut rounds, 7);
        let request_id = request.request_id;
        let response = v1::FetchResponse { request_id, handle, ..response };
        assert!(matches!(rounds.message(response, 0), Outcome::Answer { replica: 7, .. }));
        assert!(!rounds.holds_any());
        assert!(is_violation(&rounds.message(answer(request_id, handle), 0)));
        rounds.forget(handle);
        assert!(!rounds.has_forgotten(), "the leader does not have it any more");
    }
}

#[test]
fn strange_handles_and_rounds_break_the_protocol() {
    let mut rounds = Rounds::default();
    let (handle, request) = added(&mut rounds, 7);
    assert!(is_violation(&rounds.message(answer(request.request_id, handle + 1), 0)));
    assert!(is_violation(&rounds.message(answer(request.request_id + 1, handle), 0)));
}
