//! On which data thread a connection is served.
//!
//! It begins on the thread it was accepted for. Who waits for records is woken by the thread that
//! appends them, and to wake a thread that sleeps costs more than a small request does. So a connection
//! that another data thread wakes time and again goes to that thread, as long as both have little to
//! do; where they have much, two threads get more done than one.
//!
//! | what a connection finds | then |
//! |---|---|
//! | [`RINGS`] wake-ups by another data thread within [`WITHIN`], both threads' load at most [`CALM`] together | it goes there |
//! | it came from another thread; its own has a load of [`FULL`], the other one of at most [`SPARE`] | it goes back and stays, for twice as long as the last time |
//! | anything else | it stays where it is |
//!
//! One connection goes at a time ([`Loads::may_move`]): the loads tell what came of it before the next
//! one goes, and two that wake each other do not change places.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;
use parking_lot::Mutex;

/// Wake-ups by another thread that make a connection think.
const RINGS: u32 = 64;
/// In a longer time they are too few to matter.
const WITHIN: Duration = Duration::from_secs(1);
/// Load of two threads together, in thousandths of a processor, up to which one may do.
const CALM: u32 = 750;
/// Load of a thread that others had better leave.
const FULL: u32 = 900;
/// Load of a thread that may take them back.
const SPARE: u32 = 400;
/// How often a connection that came from elsewhere looks at the loads, in turns of its own.
const TURNS: u32 = 64;
/// How long one that went back stays, at first …
const STAY_MIN: Duration = Duration::from_secs(10);
/// … and at most.
const STAY_MAX: Duration = Duration::from_secs(300);
/// Loads are of so long a time, at least; and one connection goes in it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The number of a thread that is no data thread.
const NOWHERE: usize = usize::MAX;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(NOWHERE) };
}

/// The number of this data thread.
pub(super) fn here() -> usize {
    NUMBER.get()
}

/// Says which data thread this is.
pub(super) fn number_this_thread(number: usize) {
    NUMBER.set(number);
}

/// The clock of the processor time that this thread takes, which others may read: the kernel makes its
/// number of the thread's, so many bits further left, and two bits for what it counts.
fn clock_of_this_thread() -> i32 {
    const OF_A_THREAD: i32 = 4;
    const SCHEDULED: i32 = 2;
    (!gettid().as_raw()) << 3 | OF_A_THREAD | SCHEDULED
}

/// What the data threads have to do: the processor's time that they take. (The time until they sleep
/// again would count against them that others use their processor.)
pub(super) struct Loads {
    /// By thread, 0 where it has not begun.
    clocks: Box<[AtomicI32]>,
    seen: Mutex<Seen>,
}

struct Seen {
    at: Instant,
    busy: Vec<Duration>,
    /// In thousandths of the time.
    loads: Vec<u32>,
    /// A connection has gone since.
    moved: bool,
}

impl Loads {
    /// Of so many threads.
    pub(super) fn of(threads: usize) -> Self {
        let (busy, loads) = (vec![Duration::ZERO; threads], vec![u32::MAX; threads]);
        let seen = Seen { at: Instant::now(), busy, loads, moved: true };
        let clocks = (0..threads).map(|_| AtomicI32::new(0)).collect();
        Self { clocks, seen: Mutex::new(seen) }
    }

    /// The thread of this number is this one.
    pub(super) fn is_here(&self, number: usize) {
        if let Some(clock) = self.clocks.get(number) {
            clock.store(clock_of_this_thread(), Ordering::Relaxed);
        }
    }

    /// The loads of two threads.
    fn look(&self, now: Instant, one: usize, other: usize) -> (u32, u32) {
        let mut seen = self.seen.lock();
        let span = now.saturating_duration_since(seen.at);
        if span >= LOOK_EVERY {
            let seen = &mut *seen;
            let each = self.clocks.iter().zip(&mut seen.busy).zip(&mut seen.loads);
            for ((clock, busy), load) in each {
                let clock = Some(clock.load(Ordering::Relaxed)).filter(|&clock| clock != 0);
                let taken = clock.and_then(|clock| clock_gettime(ClockId::from_raw(clock)).ok());
                let taken = taken.map(Duration::from);
                let before = std::mem::replace(busy, taken.unwrap_or_default());
                // To one that has ended, or not begun, nobody goes.
                *load = taken.map_or(u32::MAX, |taken| {
                    let taken = taken.saturating_sub(before);
                    (taken.as_micros() * 1000 / span.as_micros().max(1)) as u32
                });
            }
            (seen.at, seen.moved) = (now, false);
        }
        let load = |thread: usize| seen.loads.get(thread).copied().unwrap_or(u32::MAX);
        (load(one), load(other))
    }

    /// Whether a connection may go now, which it does then.
    fn may_move(&self) -> bool {
        !std::mem::replace(&mut self.seen.lock().moved, true)
    }
}

/// Whether a connection goes to the thread that wakes it.
fn goes_there(own: u32, other: u32) -> bool {
    own.saturating_add(other) <= CALM
}

/// Whether one that came from another thread goes back there.
fn goes_back(own: u32, other: u32) -> bool {
    own >= FULL && other <= SPARE
}

/// A connection and what it knows of its thread. Whoever polls it hands it over where it wants to go.
pub(super) struct Seated {
    connection: Pin<Box<dyn Future<Output = ()> + Send>>,
    rings: Arc<Rings>,
    waker: Waker,
    /// `None`: it stays, whatever happens.
    loads: Option<Arc<Loads>>,
    /// Since when its wake-ups by other threads are counted.
    since: Instant,
    /// The thread it came from.
    left: Option<usize>,
    turns: u32,
    stays_until: Instant,
    stay: Duration,
}

/// Through this a connection is woken.
struct Rings {
    task: Mutex<Option<Waker>>,
    /// The thread it is served by.
    seat: AtomicUsize,
    /// Wake-ups by other data threads, and the last of those.
    count: AtomicU32,
    by: AtomicUsize,
}

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let by = here();
        if by != NOWHERE && by != self.seat.load(Ordering::Relaxed) {
            self.by.store(by, Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}

impl Seated {
    /// Seats a connection on the thread that polls it first.
    pub(super) fn new(
        connection: impl Future<Output = ()> + Send + 'static,
        loads: Option<Arc<Loads>>,
    ) -> Self {
        let rings = Arc::new(Rings {
            task: Mutex::default(),
            seat: AtomicUsize::new(NOWHERE),
            count: AtomicU32::new(0),
            by: AtomicUsize::new(NOWHERE),
        });
        let now = Instant::now();
        Self {
            connection: Box::pin(connection),
            waker: Waker::from(Arc::clone(&rings)),
            rings,
            loads,
            since: now,
            left: None,
            turns: 0,
            stays_until: now,
            stay: STAY_MIN,
        }
    }

    /// Ready with `None` when the connection is over, with a thread's number when it wants to go there.
    /// Who takes it there has it polled there at once; it need not be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.rings.seat.store(here(), Ordering::Relaxed);
        {
            let mut task = self.rings.task.lock();
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        if self.connection.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready() {
            return Poll::Ready(None);
        }
        match self.wants() {
            Some(thread) => Poll::Ready(Some(thread)),
            None => Poll::Pending,
        }
    }

    /// Where it wants to go, as the table says.
    fn wants(&mut self) -> Option<usize> {
        let loads = self.loads.as_ref()?;
        if self.rings.count.load(Ordering::Relaxed) >= RINGS {
            self.rings.count.store(0, Ordering::Relaxed);
            let (now, by) = (Instant::now(), self.rings.by.load(Ordering::Relaxed));
            let since = std::mem::replace(&mut self.since, now);
            let often = now.saturating_duration_since(since) <= WITHIN;
            let (own, other) = loads.look(now, here(), by);
            if often && now >= self.stays_until && goes_there(own, other) && loads.may_move() {
                self.left = Some(here());
                return Some(by);
            }
            return None;
        }
        let left = self.left?;
        self.turns = self.turns.wrapping_add(1);
        if !self.turns.is_multiple_of(TURNS) {
            return None;
        }
        let now = Instant::now();
        let (own, other) = loads.look(now, here(), left);
        if goes_back(own, other) && loads.may_move() {
            self.left = None;
            self.stays_until = now + self.stay;
            self.stay = (self.stay * 2).min(STAY_MAX);
            return Some(left);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_table_holds() {
        assert!(goes_there(0, 0) && goes_there(CALM - 1, 1) && !goes_there(CALM, 1));
        assert!(!goes_there(u32::MAX, u32::MAX), "nothing is known yet");
        assert!(goes_back(FULL, 0) && goes_back(1000, SPARE));
        assert!(!goes_back(FULL - 1, 0) && !goes_back(1000, SPARE + 1));
    }

    #[test]
    fn one_goes_and_then_the_loads_are_looked_at_before_the_next() {
        let loads = Loads::of(1);
        let begun = Instant::now();
        assert!(!loads.may_move(), "nothing is known yet");
        assert_eq!(loads.look(begun, 0, 1), (u32::MAX, u32::MAX));
        loads.is_here(0);
        loads.look(begun + LOOK_EVERY, 0, 1);
        while loads.seen.lock().busy[0] + Duration::from_millis(20)
            > clock_gettime(ClockId::from_raw(clock_of_this_thread())).unwrap().into()
        {}
        let (load, nobody) = loads.look(begun + 2 * LOOK_EVERY, 0, 1);
        assert!((200..1000).contains(&load) && nobody == u32::MAX, "{load} {nobody}");
        assert!(loads.may_move() && !loads.may_move());
        loads.look(begun + 4 * LOOK_EVERY, 0, 1);
        assert!(loads.may_move());
    }

    /// Two idle threads: what one wakes the other for comes to it, and is served there.
    #[test]
    fn who_is_woken_by_another_thread_goes_there() {
        let loads = Arc::new(Loads::of(2));
        // This one stands for both.
        (0..2).for_each(|number| loads.is_here(number));
        let (tell, told) = mpsc::channel::<Waker>();
        let mut seated = Seated::new(
            poll_fn(move |cx| {
                let _ = tell.send(cx.waker().clone());
                Poll::<()>::Pending
            }),
            Some(Arc::clone(&loads)),
        );
        number_this_thread(3);
        assert_eq!(seated.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
        let waker = told.recv().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let wanted = loop {
            // Its own thread's wake-ups are not counted.
            (0..2 * RINGS).for_each(|_| waker.wake_by_ref());
            assert_eq!(seated.rings.count.load(Ordering::Relaxed), 0);
            number_this_thread(1);
            (0..RINGS).for_each(|_| waker.wake_by_ref());
            number_this_thread(0);
            seated.rings.seat.store(0, Ordering::Relaxed);
            // What it takes is little in an hour.
            loads.seen.lock().at = Instant::now() - Duration::from_secs(3600);
            if let Poll::Ready(wanted) = seated.poll(&mut Context::from_waker(Waker::noop())) {
                break wanted;
            }
            assert!(Instant::now() < deadline, "it does not go");
        };
        assert_eq!((wanted, seated.left), (Some(1), Some(0)));
    }
}
