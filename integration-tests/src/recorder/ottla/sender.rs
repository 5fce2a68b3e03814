//! A producer of ours that records what became of each send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::FutureExt;
use producer_client::{Producer, ProducerConfig, Record, RecordMetadata, SendError, SendFuture};

use crate::checker::{Outcome, Send, Sends};
use crate::recorder::board::Board;
use crate::recorder::client::{Client, Stop};
use crate::recorder::recorder::{BURST, Subject, UNDER_WAY_MAX, VALUE_BYTES};
use crate::workload::{nap, value};

struct Sender {
    topic: String,
    producer: Producer,
    /// By partition, so that one that stands still hides nothing of the others.
    under_way: Vec<VecDeque<(usize, SendFuture)>>,
    sends: Sends,
    board: Arc<Board>,
}

/// Starts a producer that sends so many records a second.
pub(in crate::recorder) fn produce(
    subject: &Subject,
    board: &Arc<Board>,
    number: u32,
    rate: u32,
) -> Result<Client<Sends>> {
    let mut config = ProducerConfig::new(subject.grpc.split(','));
    for (key, value) in [("acks", "all"), ("linger.ms", "20")] {
        config.set(key, value)?;
    }
    let mut sender = Sender {
        topic: subject.topic.clone(),
        producer: Producer::start(config)?,
        under_way: (0..board.partitions()).map(|_| VecDeque::new()).collect(),
        sends: Sends { producer: number, sends: Vec::new() },
        board: Arc::clone(board),
    };
    let stop: Arc<AtomicBool> = Arc::default();
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            sender.run(rate, &stop);
            Ok(sender.sends)
        }
    });
    Ok(Client { thread, stop: Stop::Flag(stop) })
}

impl Sender {
    fn run(&mut self, rate: u32, stop: &AtomicBool) {
        let mut due = 0.0;
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            due += last.elapsed().as_secs_f64() * f64::from(rate);
            last = Instant::now();
            // What could not be sent in time is not made up for in a burst.
            due = due.min(f64::from(rate) / 10.0 + 1.0);
            while due >= 1.0 {
                due -= 1.0;
                if self.under_way.iter().map(VecDeque::len).sum::<usize>() < UNDER_WAY_MAX {
                    self.send();
                }
            }
            self.settle();
            nap(Duration::from_millis(4));
        }
        // Each send ends within delivery.timeout.ms.
        while self.under_way.iter().any(|queue| !queue.is_empty()) {
            self.settle();
            nap(Duration::from_millis(2));
        }
        let _ = self.producer.close(Duration::from_secs(5)).wait();
    }

    fn send(&mut self) {
        let number = self.sends.sends.len();
        let partition = number / BURST % self.under_way.len();
        let value = value(self.sends.producer, number as u64, VALUE_BYTES);
        let record = Record::to(&self.topic).partition(partition as i32).value(&value);
        let sent = self.board.now();
        self.under_way[partition].push_back((number, self.producer.send(record)));
        let partition = Some(partition as i32);
        self.sends.sends.push(Send { partition, outcome: Outcome::Unknown, sent, ended: sent });
    }

    fn settle(&mut self) {
        for partition in 0..self.under_way.len() {
            while let Some((number, future)) = self.under_way[partition].front_mut() {
                let Some(outcome) = future.now_or_never() else { break };
                let number = *number;
                self.under_way[partition].pop_front();
                self.keep(partition as i32, number, outcome);
            }
        }
    }

    fn keep(&mut self, partition: i32, number: usize, outcome: Result<RecordMetadata, SendError>) {
        let now = self.board.now();
        let send = &mut self.sends.sends[number];
        send.ended = now;
        send.outcome = match outcome {
            Ok(RecordMetadata { offset, .. }) => {
                let offset = offset.map(|offset| offset.0);
                self.board.acknowledged(now, send.sent, partition, offset);
                offset.map_or(Outcome::Somewhere, Outcome::At)
            }
            Err(error) => {
                self.board.failed(now, self.sends.producer, number as u64, &error);
                Outcome::Unknown
            }
        };
    }
}
