//! The sender's loop: events, commands, timers, the line, the end.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::Link;
use super::{Closing, Command, Event, Sender};
use crate::accumulator::Appended;
use crate::batch::ended;
use crate::error::SendError;
use crate::line::Step;

/// The longest wait for streams to end once everything is answered.
const FAREWELL: Duration = Duration::from_secs(2);

impl Sender {
    /// Runs until the producer is closed, or dropped and empty.
    pub(crate) async fn run(mut self) {
        let _polling = self.cluster.busy_poll().start();
        if self.config().is_idempotent() {
            self.want_producer_id();
        }
        // Armed for the earliest deadline so far and left so: to arm it anew for each request would have
        // the runtime wake itself each time. Where it fires early, nothing is due.
        let mut timer = std::pin::pin!(tokio::time::sleep(self.config().metadata_max_age));
        loop {
            let now = Instant::now();
            let before = self.next_request;
            self.work(now);
            if self.next_request != before && self.has_more() {
                // The links have something to write: let them, before the next look. Where nothing is left
                // to look at they come by themselves, without a turn of the runtime's sockets before.
                tokio::task::yield_now().await;
            }
            let shared = Arc::clone(&self.shared);
            let again = !self.ready.is_empty();
            let deadline = self.next_deadline(now).into();
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            if !again && !self.has_work() {
                shared.accumulator.buffers.rest();
            }
            tokio::select! {
                biased;
                // First: it is rare, and a stream of acknowledgements must not hold it up.
                Ok(()) = self.known.changed() => self.take_up_metadata(),
                Some(event) = self.events.recv() => {
                    if self.on_event(event) {
                        return self.say_farewell().await;
                    }
                    while let Ok(event) = self.events.try_recv() {
                        if self.on_event(event) {
                            return self.say_farewell().await;
                        }
                    }
                }
                () = shared.accumulator.wake.notified() => {}
                command = self.commands.recv(), if self.closing.is_none() => self.on_command(command),
                () = std::future::ready(()), if again => {}
                () = timer.as_mut() => {}
            }
            if self.closing.as_ref().is_some_and(|closing| closing.deadline <= Instant::now()) {
                return self.say_farewell().await;
            }
        }
    }

    /// Does all that can be done now.
    fn work(&mut self, now: Instant) {
        self.sweep(now);
        let mut told = Vec::new();
        self.shared.accumulator.take_ready(&mut told);
        if !self.shared.line.is_empty() {
            self.advance_line();
            self.shared.accumulator.take_ready(&mut told);
        }
        told.into_iter().for_each(|at| self.make_ready(at));
        while let Some(Reverse((when, at))) = self.timers.peek().copied() {
            if when > now {
                break;
            }
            self.timers.pop();
            if let Some(partition) = self.partitions.get_mut(at)
                && partition.timer == Some(when)
            {
                partition.timer = None;
                self.make_ready(at);
            }
        }
        let looks = self.ready.len();
        for _ in 0..looks {
            if let Some(at) = self.ready.pop_front() {
                self.serve(at, now);
            }
        }
        self.ask(now);
    }

    /// Something can be done at once.
    fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.events.is_empty() || self.shared.accumulator.has_ready()
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        let mut deadline = now + self.config().metadata_max_age;
        let mut no_later = |when: Option<Instant>| {
            deadline = when.map_or(deadline, |when| when.min(deadline));
        };
        no_later(self.timers.peek().map(|Reverse((when, _))| *when));
        no_later(self.metadata.due_at());
        no_later(self.producer_id.due_at());
        no_later(self.closing.as_ref().map(|closing| closing.deadline));
        no_later(self.has_work().then(|| now + self.tick()));
        deadline
    }

    /// Something is unacknowledged or waits.
    fn has_work(&self) -> bool {
        self.shared.accumulator.memory.taken() > 0 || !self.shared.line.is_empty()
    }

    /// How often timeouts are looked at.
    fn tick(&self) -> Duration {
        let config = self.config();
        let shortest = config.delivery_timeout.min(config.request_timeout).min(config.max_block);
        (shortest / 20).clamp(Duration::from_millis(5), Duration::from_millis(100))
    }

    /// Looks for what took too long.
    fn sweep(&mut self, now: Instant) {
        if now.duration_since(self.swept) < self.tick() || !self.has_work() {
            return;
        }
        self.swept = now;
        self.drop_silent_links(now);
        for at in 0..self.partitions.len() {
            let idle =
                |p: &super::partition::PartitionState| p.window.is_empty() && p.queue.is_empty();
            if self.partitions.get(at).is_some_and(|partition| !idle(partition)) {
                self.expire(at, now);
            }
        }
        let max_block = self.config().max_block;
        let Some(before) = now.checked_sub(max_block) else { return };
        let memory = self.shared.accumulator.memory.total();
        let trouble = self.trouble.clone();
        self.shared.advance_line(|queue| {
            queue.expire(before, |waiting, is_parked| {
                let waited = now.saturating_duration_since(waiting.since);
                if is_parked {
                    let cause = trouble.clone().unwrap_or_else(|| "no broker answered".into());
                    SendError::TopicNotAvailable {
                        topic: waiting.record.topic().into(),
                        waited,
                        cause,
                    }
                } else {
                    SendError::BufferExhausted { waited, memory, cause: trouble.clone() }
                }
            });
        });
    }

    /// Lets records from the line into batches.
    fn advance_line(&mut self) {
        let shared = Arc::clone(&self.shared);
        let accumulator = &shared.accumulator;
        let mut unknown = false;
        let mut starved = false;
        shared.advance_line(|queue| {
            if !accumulator.memory.is_roomy() {
                starved = true;
                return;
            }
            queue.admit_while(|waiting| match waiting.record.with(|r| accumulator.append(r)) {
                Appended::Done(receipt) => Step::Admitted(Ok(receipt)),
                Appended::Failed(error) => Step::Admitted(Err(error)),
                Appended::UnknownTopic => {
                    unknown = true;
                    Step::Park
                }
                Appended::NoRoom => {
                    starved = true;
                    Step::Stop
                }
            });
        });
        if unknown {
            self.want_metadata();
        }
        if starved {
            // Open batches hold memory that others wait for: see `linger`.
            for at in 0..self.partitions.len() {
                if self.partitions.get(at).is_some_and(|p| p.timer.is_some()) {
                    self.make_ready(at);
                }
            }
        }
    }

    /// True when the producer has to end.
    fn on_event(&mut self, event: Event) -> bool {
        match event {
            Event::LinkOpen(broker, generation, stream) => {
                if let Some(link) = self.links.get_mut(&broker)
                    && link.generation == generation
                {
                    link.opened(stream);
                    let waiting = std::mem::take(&mut link.waiting);
                    waiting.into_iter().for_each(|at| self.make_ready(at));
                }
            }
            Event::LinkRoom(broker, generation) => {
                if let Some(link) = self.links.get_mut(&broker)
                    && link.generation == generation
                {
                    let waiting = std::mem::take(&mut link.waiting);
                    waiting.into_iter().for_each(|at| self.make_ready(at));
                }
            }
            Event::Acks(broker, generation, acks) => self.on_acks(broker, generation, acks),
            Event::LinkClosed(broker, generation, error) => {
                self.on_link_closed(broker, generation, &error);
            }
            Event::Metadata(answer) => self.on_metadata(answer),
            Event::ProducerId(answer) => self.on_producer_id(answer),
            Event::Flushed(reply) => {
                self.flushing -= 1;
                let _ = reply.send(self.shared.take_failures());
            }
            Event::CloseFlushed => return true,
        }
        false
    }

    fn on_command(&mut self, command: Option<Command>) {
        let event = match command {
            Some(Command::Flush(reply)) => {
                self.flushing += 1;
                Event::Flushed(reply)
            }
            Some(Command::Close(deadline, reply)) => {
                self.closing = Some(Closing { deadline, reply: Some(reply) });
                Event::CloseFlushed
            }
            // The last handle was dropped.
            None => {
                let deadline = Instant::now() + self.config().delivery_timeout;
                self.closing = Some(Closing { deadline, reply: None });
                Event::CloseFlushed
            }
        };
        let line = self.shared.advance_line(|queue| queue.admissions());
        let mut batches = Vec::new();
        for partition in &self.partitions {
            batches.extend(partition.queue.completions());
            batches.extend(partition.window.batches().map(|batch| Arc::clone(&batch.completion)));
        }
        (0..self.partitions.len()).for_each(|at| self.make_ready(at));
        let report = self.report.clone();
        tokio::spawn(async move {
            ended(line, batches).await;
            let _ = report.send(event);
        });
    }

    /// Everything is answered or the time is up: fail what is left, end the streams, answer.
    async fn say_farewell(mut self) {
        self.fail_everything();
        // acks=0: what was handed over is still to be written.
        let wait = match &self.closing {
            Some(closing) => closing.deadline.saturating_duration_since(Instant::now()),
            None => FAREWELL,
        };
        self.links.values_mut().for_each(Link::finish);
        let _ = tokio::time::timeout(wait.min(FAREWELL), async {
            while !self.links.is_empty() {
                match self.events.recv().await {
                    Some(Event::LinkClosed(broker, ..)) => drop(self.links.remove(&broker)),
                    Some(_) => {}
                    None => break,
                }
            }
        })
        .await;
        let result = self.shared.take_failures();
        if let Some(reply) = self.closing.take().and_then(|closing| closing.reply) {
            let _ = reply.send(result);
        }
    }

    /// Fails all that is left and refuses what comes later.
    pub(super) fn fail_everything(&mut self) {
        self.shared.refuse_all();
        for at in 0..self.partitions.len() {
            self.fail_partition(at, |in_doubt| SendError::Closed { in_doubt });
        }
        self.shared.advance_line(|queue| queue.close(&SendError::Closed { in_doubt: false }));
    }
}

impl Drop for Sender {
    /// Also when the task is dropped or panics: no future is left hanging.
    fn drop(&mut self) {
        self.fail_everything();
    }
}
