//! The thread that writes the log, syncs it in groups, and replaces the snapshot.
//!
//! The engine queues records and goes on; what has reached the disk it learns from
//! [`Progress`]. All that is queued while one sync runs shares the next. When the disk is full
//! the thread keeps what is queued and tries again; any other failed write, and every failed
//! sync, ends it for good.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::super::state::{Record, Room};
use super::disk::{Disk, is_full};
use super::record::{self, HEADER};
use super::recovery::LogFile;

/// The log is allocated at least so far ahead of its end, or the disk counts as full.
pub(crate) const RESERVE_BYTES: u64 = 2 << 20;
/// How far ahead it is allocated when it is below that.
const AHEAD_BYTES: u64 = RESERVE_BYTES + (1 << 20);
/// With less than this left of the reserve, nothing is taken any more.
const LAST_BYTES: u64 = 256 << 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// How often a full disk is looked at again.
const RETRY: Duration = Duration::from_millis(250);

/// How far the thread has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Every record up to this zxid is on disk.
    pub(crate) durable: i64,
    pub(crate) room: Room,
    /// From its start to its end, without what is allocated ahead.
    pub(crate) log_bytes: u64,
    /// Snapshots asked for that were written or given up.
    pub(crate) snapshots_ended: u64,
    /// The log is lost: nothing will become durable any more.
    pub(crate) failed: Option<Arc<str>>,
}

/// What is queued, in order.
enum Item {
    Records {
        bytes: Vec<u8>,
        last: i64,
    },
    /// A snapshot of everything up to the records queued before it.
    Snapshot(Vec<u8>),
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    stopping: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// The engine's end.
pub(crate) struct LogWriter {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts the thread on a recovered log whose last record is `zxid`.
    pub(crate) fn start(disk: Box<dyn Disk>, log: LogFile, zxid: i64) -> io::Result<Self> {
        let (sender, progress) = watch::channel(Progress {
            durable: zxid,
            room: Room::Enough,
            log_bytes: log.end,
            snapshots_ended: 0,
            failed: None,
        });
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new() });
        let mut thread = Thread { disk, log, shared: shared.clone(), progress: sender };
        // Before anybody is served, so that the first answers already know of a full disk.
        thread.make_room();
        let thread = std::thread::Builder::new()
            .name("registry-log".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self { shared, progress, thread: Some(thread) })
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Queues a record. It is on disk once [`Progress::durable`] has reached its zxid.
    pub(crate) fn append(&self, record: Record<'_>) {
        let synced = self.progress.borrow().durable;
        let mut queue = self.shared.queue.lock();
        let last = record.stamp.zxid;
        match queue.items.back_mut() {
            Some(Item::Records { bytes, last: back }) => {
                record::encode(record, synced, bytes);
                *back = last;
            }
            _ => {
                let mut bytes = Vec::new();
                record::encode(record, synced, &mut bytes);
                queue.items.push_back(Item::Records { bytes, last });
            }
        }
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// Queues a snapshot of the state after all records queued so far; with it on disk the log
    /// starts over. If it cannot be written the log just goes on.
    pub(crate) fn snapshot(&self, bytes: Vec<u8>) {
        self.shared.queue.lock().items.push_back(Item::Snapshot(bytes));
        self.shared.wake.notify_one();
    }

    /// Ends the thread when it has written what is queued. With a full disk it does not wait for
    /// space: nobody was answered for what is lost then.
    pub(crate) fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the registry's log thread panicked");
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.join();
    }
}

struct Thread {
    disk: Box<dyn Disk>,
    log: LogFile,
    shared: Arc<Shared>,
    progress: watch::Sender<Progress>,
}

impl Thread {
    fn run(mut self) {
        while let Some(item) = self.next() {
            let result = match item {
                Some(Item::Records { bytes, last }) => self.append(&bytes, last),
                Some(Item::Snapshot(bytes)) => self.snapshot(&bytes),
                None => Ok(()),
            };
            if let Err(error) = result {
                tracing::error!(%error, "the registry's log failed");
                let reason: Arc<str> = error.to_string().into();
                self.progress.send_modify(|progress| progress.failed = Some(reason));
                return;
            }
            self.make_room();
        }
        // At a clean stop: a sync that fails now cannot be told to anybody.
        let _ = self.log.file.sync();
    }

    /// The next item; `Some(None)` when a full disk is to be looked at again, `None` to stop.
    fn next(&self) -> Option<Option<Item>> {
        let full = self.progress.borrow().room != Room::Enough;
        let mut queue = self.shared.queue.lock();
        loop {
            if let Some(item) = queue.items.pop_front() {
                return Some(Some(item));
            }
            if queue.stopping {
                return None;
            }
            if full {
                let timed_out = self.shared.wake.wait_for(&mut queue, RETRY).timed_out();
                if timed_out {
                    return Some(None);
                }
            } else {
                self.shared.wake.wait(&mut queue);
            }
        }
    }

    fn append(&mut self, bytes: &[u8], last: i64) -> io::Result<()> {
        loop {
            match self.log.file.write_at(self.log.end, bytes) {
                Ok(()) => break,
                // Behind what was allocated, or on a disk that cannot keep what it allocated.
                Err(error) if is_full(&error) => {
                    self.set_room(Room::Nothing);
                    if !self.wait_for_space() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.log.file.sync()?;
        self.log.end += bytes.len() as u64;
        self.log.allocated = self.log.allocated.max(self.log.end);
        let log_bytes = self.log.end;
        self.progress.send_modify(|progress| {
            progress.durable = last;
            progress.log_bytes = log_bytes;
        });
        Ok(())
    }

    /// False when the server stops.
    fn wait_for_space(&self) -> bool {
        let mut queue = self.shared.queue.lock();
        if !queue.stopping {
            self.shared.wake.wait_for(&mut queue, RETRY);
        }
        !queue.stopping
    }

    fn snapshot(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.disk.replace("snapshot", bytes) {
            Ok(()) => self.start_over()?,
            Err(error) => tracing::warn!(%error, "cannot write a snapshot, the log goes on"),
        }
        let log_bytes = self.log.end;
        self.progress.send_modify(|progress| {
            progress.snapshots_ended += 1;
            progress.log_bytes = log_bytes;
        });
        Ok(())
    }

    /// Empties the log in place, for the snapshot has it all: no moment is without the reserve. A
    /// crash on the way leaves records that the next start skips.
    fn start_over(&mut self) -> io::Result<()> {
        let start = HEADER.len() as u64;
        if self.log.allocated > start + AHEAD_BYTES {
            self.log.file.set_len(start + AHEAD_BYTES)?;
            self.log.allocated = start + AHEAD_BYTES;
        }
        let end = self.log.end.min(self.log.allocated);
        write_zeros(&mut self.log, start, end)?;
        self.log.file.sync()?;
        self.log.end = start;
        Ok(())
    }

    /// Allocates the log ahead of its end, and says how much room there is.
    fn make_room(&mut self) {
        let mut ahead = self.log.allocated - self.log.end;
        if ahead < RESERVE_BYTES {
            let (from, to) = (self.log.allocated, self.log.end + AHEAD_BYTES);
            match write_zeros(&mut self.log, from, to) {
                Ok(()) => {}
                Err(error) if is_full(&error) => {}
                Err(error) => tracing::warn!(%error, "cannot allocate the log ahead"),
            }
            ahead = self.log.allocated - self.log.end;
        }
        self.set_room(match ahead {
            RESERVE_BYTES.. => Room::Enough,
            LAST_BYTES.. => Room::OnlyReserve,
            _ => Room::Nothing,
        });
    }

    fn set_room(&self, room: Room) {
        let changed = self.progress.send_if_modified(|progress| {
            let changed = progress.room != room;
            progress.room = room;
            changed
        });
        if changed && room == Room::Enough {
            tracing::info!("the registry's disk has space again");
        } else if changed {
            tracing::error!(
                ?room,
                "no space left on the registry's disk: creates and changes are refused, deletes \
                 are still taken; free some space, no restart is needed"
            );
        }
    }
}

/// Writes zeros from one offset to another, in steps: of a failure, the steps before it count.
fn write_zeros(log: &mut LogFile, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let step = usize::try_from(to - at).unwrap_or(usize::MAX).min(ZEROS.len());
        log.file.write_at(at, &ZEROS[..step])?;
        at += step as u64;
        log.allocated = log.allocated.max(at);
    }
    Ok(())
}
