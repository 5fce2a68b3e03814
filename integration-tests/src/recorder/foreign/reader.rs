//! What a reader's process says, as the readings of a history.
//!
//! What is judged here, since it needs the order of the lines: a member delivers only what it owns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use super::library::Library;
use super::line::Line;
use super::process::ClientProcess;
use crate::checker::{Commit, Millis, Position, Resumed, Taken, Value};
use crate::recorder::board::Board;
use crate::recorder::client::{Client, Reading, Stop};
use crate::recorder::recorder::Subject;

struct Reader {
    reading: Reading,
    board: Arc<Board>,
    /// What the group gave to this member.
    owned: BTreeSet<i32>,
    /// Since when partitions are owned of which nothing was delivered yet.
    taken_over: BTreeMap<i32, Millis>,
}

/// Starts a member of a group.
pub(in crate::recorder) fn join(
    library: Library,
    subject: &Subject,
    board: &Arc<Board>,
    name: &str,
    group: &str,
) -> Result<Client<Reading>> {
    let reading = Reading::new(name, Some(group));
    read(library, subject, board, reading, "member", &["--group", group])
}

/// Starts a reader of all partitions from their beginning, without a group.
pub(in crate::recorder) fn tail(
    library: Library,
    subject: &Subject,
    board: &Arc<Board>,
    name: &str,
) -> Result<Client<Reading>> {
    read(library, subject, board, Reading::new(name, None), "tail", &[])
}

fn read(
    library: Library,
    subject: &Subject,
    board: &Arc<Board>,
    reading: Reading,
    role: &str,
    arguments: &[&str],
) -> Result<Client<Reading>> {
    let name = &reading.delivered.reader;
    let (process, input) = ClientProcess::start(library, subject, board, name, role, arguments)?;
    let mut reader = Reader {
        reading,
        board: Arc::clone(board),
        owned: BTreeSet::new(),
        taken_over: BTreeMap::new(),
    };
    let thread = std::thread::spawn(move || {
        // What it did until then is judged all the same.
        let ended = process.listen(|line| reader.hear(line));
        if let Err(error) = ended {
            reader.board.ended(&error);
        }
        Ok(reader.reading)
    });
    Ok(Client { thread, stop: Stop::Input(Some(input)) })
}

impl Reader {
    fn hear(&mut self, line: Line) -> Result<()> {
        match line {
            Line::Delivered { at, partition, first, values } => {
                self.delivered(at, partition, first, &values)?;
            }
            Line::Assigned { at, member, partitions } => {
                self.note(at, &format!("is {member} and is given {partitions:?}"));
                self.owned.extend(&partitions);
                self.taken_over.extend(partitions.into_iter().map(|partition| (partition, at)));
                let partitions = self.owned.clone();
                let group = self.group();
                self.reading.taken.push(Taken { group, member, partitions, at });
            }
            Line::Revoked { at, partitions } | Line::Lost { at, partitions } => {
                self.note(at, &format!("gives up {partitions:?}"));
                for partition in &partitions {
                    self.owned.remove(partition);
                    self.taken_over.remove(partition);
                }
            }
            Line::Committed { begun, at, offsets } => {
                for (partition, offset, error) in offsets {
                    if let Some(error) = &error {
                        self.note(at, &format!("commit of {partition} at {offset}: {error}"));
                    }
                    let (group, member) = (self.group(), self.name().to_owned());
                    let (ended, confirmed) = (at, error.is_none());
                    let commit =
                        Commit { group, member, partition, offset, begun, ended, confirmed };
                    self.reading.commits.push(commit);
                }
            }
            Line::Note { at, text } => self.note(at, &text),
            line => bail!("a reader does not say {line:?}"),
        }
        Ok(())
    }

    fn delivered(
        &mut self,
        at: Millis,
        partition: i32,
        first: i64,
        values: &[(u32, u64)],
    ) -> Result<()> {
        let is_member = self.reading.delivered.group.is_some();
        if is_member {
            let owned = &self.owned;
            ensure!(owned.contains(&partition), "{partition} is not of {owned:?}, which it owns");
            if let Some(since) = self.taken_over.remove(&partition) {
                let (group, member) = (self.group(), self.name().to_owned());
                let offset = first;
                self.reading.resumed.push(Resumed { group, member, partition, offset, since });
            }
        }
        for (offset, &(producer, number)) in (first..).zip(values) {
            let place = Position { partition, offset };
            self.reading.delivered.push(at, place, Value::new(producer, number));
            if is_member {
                self.board.delivered(place);
            }
        }
        Ok(())
    }

    fn note(&self, at: Millis, text: &str) {
        self.board.note(at, self.name(), &text);
    }

    fn name(&self) -> &str {
        &self.reading.delivered.reader
    }

    fn group(&self) -> String {
        self.reading.delivered.group.clone().unwrap_or_default()
    }
}
