//! A log under random operations and crashes against a simple model in memory.
//!
//! Each seed is one life story: appends (plain, keyed, tombstones, compressed, of several producers,
//! retries included), reads, flushes, rolls, truncations, compaction, retention, deleted records, a
//! full disk, failing syncs, clean restarts, kills, power cuts, and deaths in the middle of any of
//! these. Every step has a seed of its own, so that steps can be left out: of a story that fails,
//! the fewest steps that still fail are printed.
//!
//! | environment | |
//! |---|---|
//! | `OTTLA_MODEL_SEEDS` | how many stories (as many as CI's time allows by default) |
//! | `OTTLA_MODEL_FROM` | the first one's seed (0) |
//! | `OTTLA_MODEL_SEED` | only this one |
//!
//! A seed that found a fault goes into `regressions.txt`. `story` tells what a step does, `truth` is
//! the model.

mod crash;
mod story;
mod truth;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use story::{Step, Story};

const SEEDS: u64 = 2_000;
const STEPS: usize = 60;
/// Seeds that once found a fault, a line each.
const REGRESSIONS: &str = include_str!("regressions.txt");
/// Tries at making a failing story shorter.
const TRIES_MAX: usize = 400;

#[test]
fn the_log_is_what_the_model_says() {
    if let Some(seed) = from_environment("OTTLA_MODEL_SEED") {
        return check(seed, &Mutex::default(), &AtomicBool::new(false));
    }
    let known = REGRESSIONS.lines().filter_map(|line| line.split(' ').next()?.parse().ok());
    let from = from_environment("OTTLA_MODEL_FROM").unwrap_or(0);
    let count = from_environment("OTTLA_MODEL_SEEDS").unwrap_or(SEEDS);
    let seeds: Vec<u64> = known.chain(from..from.saturating_add(count)).collect();
    let (next, failed, shrinking) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&seed) = seeds.get(at as usize) else { return };
                    check(seed, &shrinking, &failed);
                }
            });
        }
    });
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs a story; one that fails is made shorter and printed, and fails the test.
fn check(seed: u64, shrinking: &Mutex<()>, failed: &AtomicBool) {
    let steps = Step::plan(seed, STEPS);
    if tell(seed, &steps).is_ok() {
        return;
    }
    let _alone = shrinking.lock();
    if failed.swap(true, Ordering::Relaxed) {
        return;
    }
    let steps = shorten(seed, steps);
    let trace = tell(seed, &steps).err().unwrap_or_default();
    panic!(
        "seed {seed} failed; of its {STEPS} steps these are enough:\n{trace}\n\
         again: OTTLA_MODEL_SEED={seed} cargo test -p broker --lib the_log_is_what"
    );
}

/// Runs the steps; what they did until it failed, and how it did.
fn tell(seed: u64, steps: &[Step]) -> Result<(), String> {
    let trace = Mutex::new(String::new());
    let run = || Story::new(seed, &trace).run(steps);
    quietly(run).map_err(|panic| trace.into_inner() + &panic)
}

thread_local! {
    /// Panics of this thread are kept here and not printed, while it is `Some`.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs it; a panic is an answer, which nobody needs to see hundreds of times.
fn quietly(run: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if PANIC.with_borrow(Option::is_none) {
                return before(panic);
            }
            let trace = Backtrace::capture();
            let mut text = panic.to_string();
            if trace.status() == BacktraceStatus::Captured {
                let _ = write!(text, "\n{trace}");
            }
            PANIC.set(Some(text));
        }));
    });
    PANIC.set(Some(String::new()));
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let panic = PANIC.take().unwrap_or_default();
    outcome.map_err(|_| panic)
}

/// Leaves out steps, many at a time and then single ones, as long as the story fails.
fn shorten(seed: u64, mut steps: Vec<Step>) -> Vec<Step> {
    let mut tries = 0;
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() && tries < TRIES_MAX {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            tries += 1;
            if tell(seed, &fewer).is_err() {
                steps = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    steps
}
