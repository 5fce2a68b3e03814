//! Microseconds since the run began, also of what others stamp with the wall clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since the run began.
pub type Micros = i64;

/// The one clock of a run.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    /// The wall clock then.
    wall: Micros,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall = wall.map_or(0, |wall| wall.as_micros() as Micros);
        Self { began: Instant::now(), wall }
    }

    /// Now.
    pub fn now(&self) -> Micros {
        self.began.elapsed().as_micros() as Micros
    }

    /// A wall clock's millisecond of this machine.
    pub fn of_wall_ms(&self, ms: i64) -> Micros {
        ms * 1_000 - self.wall
    }
}
