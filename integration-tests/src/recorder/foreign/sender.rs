//! What a producer's process says, as the sends of a history.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::library::Library;
use super::line::Line;
use super::process::ClientProcess;
use crate::checker::{Outcome, Send, Sends};
use crate::recorder::board::Board;
use crate::recorder::client::{Client, Stop};
use crate::recorder::recorder::Subject;

struct Sender {
    sends: Sends,
    board: Arc<Board>,
}

/// Starts a producer that sends so many records a second.
pub(in crate::recorder) fn produce(
    library: Library,
    subject: &Subject,
    board: &Arc<Board>,
    number: u32,
    rate: u32,
) -> Result<Client<Sends>> {
    let name = format!("producer-{number}");
    let arguments = ["--producer", &number.to_string(), "--rate", &rate.to_string()];
    let (process, input) =
        ClientProcess::start(library, subject, board, &name, "producer", &arguments)?;
    let mut sender =
        Sender { sends: Sends { producer: number, sends: Vec::new() }, board: Arc::clone(board) };
    let thread = std::thread::spawn(move || {
        // What it did until then is judged all the same.
        let ended = process.listen(|line| sender.hear(line));
        if let Err(error) = ended {
            sender.board.ended(&error);
        }
        Ok(sender.sends)
    });
    Ok(Client { thread, stop: Stop::Input(Some(input)) })
}

impl Sender {
    fn hear(&mut self, line: Line) -> Result<()> {
        match line {
            Line::Sent { at, first, partitions } => {
                let sends = &mut self.sends.sends;
                ensure!(first == sends.len() as u64, "{} were sent before", sends.len());
                let outcome = Outcome::Unknown;
                let send =
                    |partition| Send { partition: Some(partition), outcome, sent: at, ended: at };
                sends.extend(partitions.into_iter().map(send));
            }
            Line::Acknowledged { at, sends } => {
                for (number, partition, offset) in sends {
                    let send = self.send(number)?;
                    let sent_to = send.partition.unwrap_or(-1);
                    ensure!(partition == sent_to, "send {number} went to {sent_to}");
                    let offset = Some(offset).filter(|offset| *offset >= 0);
                    send.ended = at;
                    send.outcome = offset.map_or(Outcome::Somewhere, Outcome::At);
                    let sent = send.sent;
                    self.board.acknowledged(at, sent, partition, offset);
                }
            }
            Line::Failed { at, number, error } => {
                self.send(number)?.ended = at;
                self.board.failed(at, self.sends.producer, number, &error);
            }
            Line::Note { at, text } => {
                self.board.note(at, &format!("producer {}", self.sends.producer), &text);
            }
            line => bail!("a producer does not say {line:?}"),
        }
        Ok(())
    }

    /// A send that has no outcome yet.
    fn send(&mut self, number: u64) -> Result<&mut Send> {
        let send = self.sends.sends.get_mut(number as usize).context("it was not sent")?;
        ensure!(send.outcome == Outcome::Unknown, "send {number} has ended before: {send:?}");
        Ok(send)
    }
}
