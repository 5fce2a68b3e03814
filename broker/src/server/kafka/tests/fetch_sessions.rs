//! Fetch sessions as clients use them, and what a repeated request costs.

use std::time::{Duration, Instant};

use proto::kafka::messages::*;

use super::rig::{Client, Server, topic_id};
use crate::replication::tests::rig::{ME, alone};
use crate::storage::LogConfig;

/// Partitions of topic "t" from offsets on, in a version that has names.
fn fetch(id: i32, epoch: i32, positions: &[(i32, i64)]) -> FetchRequest {
    let position = |&(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let partitions: Vec<_> = positions.iter().map(position).collect();
    let topic = FetchTopic { topic: "t".into(), partitions, ..FetchTopic::default() };
    FetchRequest {
        session_id: id,
        session_epoch: epoch,
        topics: (!positions.is_empty()).then_some(topic).into_iter().collect(),
        ..FetchRequest::default()
    }
}

/// Partitions in an answer with the number of bytes of each.
fn told(answer: &FetchResponse) -> Vec<(i32, usize)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|data| (data.partition_index, data.records.len())).collect()
}

fn numbers(answer: &FetchResponse) -> Vec<i32> {
    told(answer).into_iter().map(|(number, _)| number).collect()
}

async fn server(partitions: i32) -> (Server, Client) {
    let server = Server::start(&[]).await;
    server.topic("t", partitions, &LogConfig::default());
    let client = Client::connect(&server).await;
    (server, client)
}

#[tokio::test]
async fn a_session_tells_what_is_new_and_nothing_else() {
    let (server, mut client) = server(3).await;
    let metrics = &server.metrics;
    server.append("t", 1, 1, 10);
    let opened = client.call(11, &fetch(0, 0, &[(0, 0), (1, 0), (2, 0)])).await;
    let id = opened.session_id;
    assert!(id > 0 && numbers(&opened) == [0, 1, 2], "{opened:?}");
    assert_eq!((metrics.fetch_sessions.get(), metrics.fetch_session_partitions.get()), (1, 3));

    let answer = client.call(11, &fetch(id, 1, &[(1, 1)])).await;
    assert_eq!((answer.session_id, answer.error_code), (id, 0));
    assert!(answer.responses.is_empty(), "{answer:?}");
    server.append("t", 2, 1, 10);
    let answer = client.call(11, &fetch(id, 2, &[])).await;
    assert_eq!(numbers(&answer), [2]);
    assert!(told(&answer)[0].1 > 0);
    // Who does not move on gets the same again.
    let again = client.call(11, &fetch(id, 3, &[])).await;
    assert_eq!(told(&again), told(&answer));
    let answer = client.call(11, &fetch(id, 4, &[(2, 1)])).await;
    assert!(answer.responses.is_empty());

    // The session is the broker's: another connection goes on.
    let mut client = Client::connect(&server).await;
    let mut request = fetch(id, 5, &[]);
    let forgotten = ForgottenTopic { topic: "t".into(), partitions: vec![0], ..Default::default() };
    request.forgotten_topics_data = vec![forgotten];
    server.append("t", 0, 1, 10);
    let answer = client.call(11, &request).await;
    assert!(answer.responses.is_empty(), "it left the session: {answer:?}");
    let answer = client.call(11, &fetch(id, 6, &[(0, 0)])).await;
    assert_eq!(numbers(&answer), [0], "and is back");

    // All leave: so does the session.
    let mut request = fetch(id, 7, &[]);
    request.forgotten_topics_data =
        vec![ForgottenTopic { topic: "t".into(), partitions: vec![0, 1, 2], ..Default::default() }];
    let answer = client.call(11, &request).await;
    assert_eq!((answer.session_id, answer.error_code), (0, 0));
    assert_eq!((metrics.fetch_sessions.get(), metrics.fetch_session_partitions.get()), (0, 0));
}

#[tokio::test]
async fn requests_that_do_not_fit_a_session_are_refused_with_nothing_else() {
    let (server, mut client) = server(1).await;
    server.append("t", 0, 1, 10);
    let id = client.call(11, &fetch(0, 0, &[(0, 0)])).await.session_id;
    let other = if id == 1 { 2 } else { id - 1 };
    for (id, epoch, expected) in [(id, 2, 71), (id, -2, 71), (other, 1, 70), (0, 1, 70)] {
        let answer = client.call(11, &fetch(id, epoch, &[(0, 0)])).await;
        assert_eq!((answer.error_code, answer.session_id), (expected, 0), "{id} {epoch}");
        assert!(answer.responses.is_empty());
    }
    let mut by_id = fetch(id, 1, &[(0, 0)]);
    by_id.topics[0].topic_id = topic_id("t").0;
    let answer = client.call(13, &by_id).await;
    assert_eq!((answer.error_code, answer.session_id), (106, 0));
    // None of that has cost the session its place.
    assert_eq!(numbers(&client.call(11, &fetch(id, 1, &[])).await), [0]);
    // Closed, and read all the same.
    let answer = client.call(11, &fetch(id, -1, &[(0, 0)])).await;
    assert_eq!((answer.error_code, answer.session_id, numbers(&answer)), (0, 0, vec![0]));
    assert_eq!(client.call(11, &fetch(id, 2, &[])).await.error_code, 70);
    // Before version 7 nobody knows sessions.
    assert_eq!(client.call(6, &fetch(0, 0, &[(0, 0)])).await.session_id, 0);
    assert_eq!(server.metrics.fetch_sessions.get(), 0);
}

#[tokio::test]
async fn errors_are_told_each_time_and_so_is_their_end() {
    let (server, mut client) = server(1).await;
    let id = client.call(11, &fetch(0, 0, &[(0, 0), (5, 0)])).await.session_id;
    let codes = |answer: &FetchResponse| {
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|data| (data.partition_index, data.error_code)).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    for epoch in 1..3 {
        let waiting = FetchRequest { max_wait_ms: 20_000, min_bytes: 1, ..fetch(id, epoch, &[]) };
        assert_eq!(codes(&client.call(11, &waiting).await), [(5, 3)]);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "an error is not waited with");
    server.topic("t", 6, &LogConfig::default());
    assert_eq!(codes(&client.call(11, &fetch(id, 3, &[])).await), [(5, 0)]);
    assert_eq!(codes(&client.call(11, &fetch(id, 4, &[])).await), []);
}

#[tokio::test]
async fn a_session_waits_and_who_leaves_meanwhile_finds_it_again() {
    let (server, mut client) = server(2).await;
    let id = client.call(11, &fetch(0, 0, &[(0, 0), (1, 0)])).await.session_id;
    let waiting =
        |epoch| FetchRequest { max_wait_ms: 20_000, min_bytes: 1, ..fetch(id, epoch, &[]) };
    let sent = client.send(11, &waiting(1)).await;
    server.append("t", 1, 1, 10);
    let answer = client.receive::<FetchRequest>(11, sent).await;
    assert_eq!(numbers(&answer), [1]);
    let forward = fetch(id, 2, &[(1, 1)]);
    client.send(11, &FetchRequest { max_wait_ms: 20_000, min_bytes: 1, ..forward }).await;
    // Until the broker has taken it, the session awaits it.
    let mut other = Client::connect(&server).await;
    let begun = Instant::now();
    while other.call(11, &fetch(id, 3, &[])).await.error_code != 71 {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    drop(client);
    let answer = loop {
        let answer = other.call(11, &fetch(id, 3, &[])).await;
        if answer.error_code != 71 {
            break answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the session is lost");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((answer.error_code, answer.session_id), (0, id));
    assert!(answer.responses.is_empty(), "partition 1 is read on at 1");
}

#[tokio::test]
async fn busy_partitions_take_turns() {
    let (server, mut client) = server(4).await;
    (0..4).for_each(|partition| server.append("t", partition, 10, 1000));
    let small = |request| FetchRequest { max_bytes: 100, ..request };
    let all = [(0, 0), (1, 0), (2, 0), (3, 0)];
    let opened = client.call(11, &small(fetch(0, 0, &all))).await;
    let with_records = |answer: &FetchResponse| {
        let told = told(answer).into_iter().filter(|(_, bytes)| *bytes > 0);
        told.map(|(number, _)| number).collect::<Vec<_>>()
    };
    assert_eq!(with_records(&opened), [0]);
    let mut seen = Vec::new();
    for epoch in 1..=8 {
        let answer = client.call(11, &small(fetch(opened.session_id, epoch, &[]))).await;
        seen.extend(with_records(&answer));
    }
    assert_eq!(seen, [1, 2, 3, 0, 1, 2, 3, 0]);
}

#[tokio::test]
async fn sessions_are_as_many_as_there_are_slots() {
    let server = Server::start(&["max.incremental.fetch.session.cache.slots=2"]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = client.call(11, &fetch(0, 0, &[(0, 0)])).await;
        assert_eq!((answer.error_code, numbers(&answer)), (0, vec![0]));
        ids.push(answer.session_id);
    }
    assert!(ids[0] > 0 && ids[1] > 0 && ids[2] == 0, "{ids:?}");
    // A client that begins anew gives its old one up.
    assert!(client.call(11, &fetch(ids[0], 0, &[(0, 0)])).await.session_id > 0);
    assert_eq!(server.metrics.fetch_sessions.get(), 2);
}

/// Looked up, and read on, since the last call.
fn looked_up(server: &Server, last: &mut (u64, u64)) -> (u64, u64) {
    let metrics = &server.metrics;
    let now = (metrics.fetch_positions_opened.get(), metrics.fetch_positions_kept.get());
    let since = (now.0 - last.0, now.1 - last.1);
    *last = now;
    since
}

#[tokio::test]
async fn a_repeated_request_looks_nothing_up() {
    let (server, mut client) = server(3).await;
    let mut last = (0, 0);
    let positions = [(0, 0), (1, 0), (2, 0)];
    client.call(11, &fetch(0, -1, &positions)).await;
    assert_eq!(looked_up(&server, &mut last), (3, 0));
    // The same again, and in the order that librdkafka turns it to.
    client.call(11, &fetch(0, -1, &positions)).await;
    client.call(11, &fetch(0, -1, &[(1, 0), (2, 0), (0, 0)])).await;
    assert_eq!(looked_up(&server, &mut last), (0, 6));
    // Behind the records that were sent.
    for offset in 0..5 {
        server.append("t", 0, 1, 10);
        let answer = client.call(11, &fetch(0, -1, &[(0, offset), (1, 0)])).await;
        assert_eq!(told(&answer).len(), 2);
    }
    assert_eq!(looked_up(&server, &mut last), (0, 10));
    // Elsewhere: looked up, and right.
    let answer = client.call(11, &fetch(0, -1, &[(0, 2)])).await;
    let mut stranger = Client::connect(&server).await;
    let fresh = stranger.call(11, &fetch(0, -1, &[(0, 2)])).await;
    assert!(answer == fresh && told(&answer)[0].1 > 0);
    assert_eq!(looked_up(&server, &mut last), (2, 0));
    // A session reads on too, and by what another way of asking left.
    let id = client.call(11, &fetch(0, 0, &positions[1..])).await.session_id;
    for epoch in 1..4 {
        client.call(11, &fetch(id, epoch, &[])).await;
    }
    assert_eq!(looked_up(&server, &mut last), (0, 8));
}

#[tokio::test]
async fn who_says_which_record_it_has_last_is_compared_with_the_log() {
    let (server, mut client) = server(1).await;
    server.append("t", 0, 5, 10);
    let with_last = |session_id, session_epoch, last_fetched_epoch| {
        let mut request = fetch(session_id, session_epoch, &[(0, 5)]);
        request.topics[0].partitions[0].last_fetched_epoch = last_fetched_epoch;
        request
    };
    let mut last = (0, 0);
    client.call(12, &fetch(0, -1, &[(0, 5)])).await;
    for (last_fetched_epoch, expected) in [(0, (-1, -1)), (3, (0, 5)), (0, (-1, -1))] {
        let answer = client.call(12, &with_last(0, -1, last_fetched_epoch)).await;
        let data = &answer.responses[0].partitions[0];
        let parts = (data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
        assert_eq!((data.error_code, parts), (0, expected));
        assert_eq!((data.high_watermark, data.records.len()), (5, 0));
    }
    // Told over and over, and never waited with.
    let id = client.call(12, &with_last(0, 0, 3)).await.session_id;
    let begun = Instant::now();
    for epoch in 1..4 {
        let waiting = FetchRequest { max_wait_ms: 20_000, min_bytes: 1, ..fetch(id, epoch, &[]) };
        assert_eq!(numbers(&client.call(12, &waiting).await), [0]);
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(looked_up(&server, &mut last).0, 1, "only the first one is looked up");
}

#[tokio::test]
async fn what_a_connection_remembers_ends_with_the_leader_epoch() {
    let (server, mut client) = server(1).await;
    server.append("t", 0, 2, 10);
    let mut last = (0, 0);
    client.call(11, &fetch(0, -1, &[(0, 2)])).await;
    let with_epoch = |epoch| {
        let mut request = fetch(0, -1, &[(0, 2)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        request
    };
    let code = |answer: FetchResponse| answer.responses[0].partitions[0].error_code;
    assert_eq!(code(client.call(11, &with_epoch(0)).await), 0);
    assert_eq!(looked_up(&server, &mut last), (1, 1));
    assert_eq!(code(client.call(11, &with_epoch(1)).await), 75, "an epoch to come");
    let partition = server.rig.partitions.find("t", topic_id("t"), 0).unwrap();
    partition.lead(ME, &alone(3)).unwrap();
    looked_up(&server, &mut last);
    assert_eq!(code(client.call(11, &with_epoch(-1)).await), 0, "led on in epoch 3");
    assert_eq!(looked_up(&server, &mut last), (1, 0));
    assert_eq!(code(client.call(11, &with_epoch(0)).await), 74);
    assert_eq!(code(client.call(11, &with_epoch(3)).await), 0);
}
