//! Where the leader's log parts from what was fetched (KIP-320).
//!
//! The fetcher learns of it ahead of the application, which may have been handed some of what the leader's
//! log does not have, or nothing. Only the reader knows, between two records: so the fetcher makes all void
//! that was not handed out, and the reader decides when it comes to it.
//!
//! | handed out up to | then |
//! |---|---|
//! | no further than where the logs part | goes on right there, nobody is told: nothing was lost |
//! | further | [`Event::LogTruncated`]; goes on where the logs part, or waits for a seek (`auto.offset.reset=none`) |

use std::sync::Arc;

use proto::{LeaderEpoch, Offset};

use super::Shared;
use super::state::{FetchFrom, Item, State};
use crate::config::OffsetReset;
use crate::event::Event;
use crate::positions::Positions;

impl Shared {
    /// The leader's log has another history before `wanted`: its newest epoch not after ours ends at
    /// `end`. Nothing is fetched until the reader has come to it.
    pub(crate) fn diverged(
        &self,
        positions: &Arc<Positions>,
        wanted: Offset,
        epoch: LeaderEpoch,
        end: Offset,
    ) {
        let safe_offset = positions.trail(|trail| trail.end_of(epoch, wanted)).min(end);
        let safe_offset = safe_offset.max(Offset(0));
        if safe_offset >= wanted {
            // Nothing of what was read is missing there: the position holds as it is.
            positions.trail(|trail| trail.begin(wanted, None));
            return self.set_problem(positions, "the leader's log differs nowhere it can be told");
        }
        let mut state = self.state.lock();
        let share = self.queue_share(&state);
        let assigned = state.current(positions).filter(|a| a.fetch == FetchFrom::At(wanted));
        let Some(assigned) = assigned else { return };
        assigned.fetch = FetchFrom::Parted(safe_offset);
        let queue = assigned.queue;
        positions.set_parted(true);
        state.drop_items(positions, share);
        state.push_item(queue, Item::Parted(Arc::clone(positions)), share);
        self.wake_readers(&mut state);
        drop(state);
        self.wants_changed();
    }

    /// The reader has come to where the logs part: all that was handed out lies below `next`. What to tell.
    pub(super) fn come_to_parting(
        &self,
        state: &mut State,
        positions: &Arc<Positions>,
    ) -> Option<Event> {
        let assigned = state.current(positions)?;
        let FetchFrom::Parted(safe_offset) = assigned.fetch else { return None };
        let next = positions.next().unwrap_or(safe_offset);
        let lost = next > safe_offset;
        let resume_at = match self.config.auto_offset_reset {
            OffsetReset::None if lost => None,
            _ => Some(next.min(safe_offset)),
        };
        assigned.fetch = resume_at.map_or(FetchFrom::Halted, FetchFrom::At);
        positions.trail(|trail| trail.cut(next.min(safe_offset)));
        positions.set_parted(false);
        self.wants_changed();
        let partition = positions.partition.clone();
        if !lost {
            tracing::info!(%partition, %next, %safe_offset, "what was fetched ahead is in no log any more");
            return None;
        }
        let event = Event::LogTruncated { partition, position: next, safe_offset, resume_at };
        event.log();
        Some(event)
    }
}
