//! Requests of one produce stream that wait for their answer: each is found in one step by the
//! number it was given, and costs no allocation once as many have waited before.

use std::time::Instant;

/// Numbers end in the place, and begin with how many requests had the place before.
const PLACE_BITS: u32 = 32;

#[derive(Debug, Clone, Copy)]
struct Place {
    /// How many requests had it.
    turn: u32,
    /// The client's id of the one that has it, and when its answer is due.
    request: Option<(u64, Instant)>,
}

/// Requests by number.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    places: Vec<Place>,
    /// Places that nobody has.
    free: Vec<u32>,
}

impl Waiting {
    /// Takes a request in; its number is no other's until its place went round 2^32 times.
    pub(super) fn add(&mut self, request_id: u64, due: Instant) -> u64 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { turn: 0, request: None });
            self.places.len() as u32 - 1
        });
        let at = &mut self.places[place as usize];
        at.turn = at.turn.wrapping_add(1);
        at.request = Some((request_id, due));
        u64::from(at.turn) << PLACE_BITS | u64::from(place)
    }

    /// Takes a request out; gives the client's id, or nothing where it does not wait any more.
    pub(super) fn take(&mut self, number: u64) -> Option<u64> {
        let place = number as u32;
        let at = self.places.get_mut(place as usize)?;
        if u64::from(at.turn) != number >> PLACE_BITS {
            return None;
        }
        let (request_id, _) = at.request.take()?;
        self.free.push(place);
        Some(request_id)
    }

    /// Takes out who is out of time and hands over the client's id; returns when the next will be.
    pub(super) fn expire(&mut self, now: Instant, mut expired: impl FnMut(u64)) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (place, at) in (0_u32..).zip(&mut self.places) {
            match at.request {
                Some((request_id, due)) if due <= now => {
                    at.request = None;
                    self.free.push(place);
                    expired(request_id);
                }
                Some((_, due)) => next = Some(next.map_or(due, |other| other.min(due))),
                None => {}
            }
        }
        next
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether nobody does.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_is_taken_once_and_numbers_do_not_come_again() {
        let (mut waiting, due) = (Waiting::default(), Instant::now());
        let first = waiting.add(7, due);
        let second = waiting.add(8, due);
        assert_eq!((waiting.len(), waiting.is_empty()), (2, false));
        assert_eq!([waiting.take(first), waiting.take(first)], [Some(7), None]);
        let third = waiting.add(9, due);
        assert!(third != first && third != second);
        assert_eq!(waiting.take(first), None, "its place has another");
        assert_eq!([waiting.take(second), waiting.take(third)], [Some(8), Some(9)]);
        assert!(waiting.is_empty() && waiting.places.len() == 2);
    }

    #[test]
    fn who_is_out_of_time_goes_and_the_rest_tell_when() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let at = |s| now + Duration::from_secs(s);
        let numbers = [3, 1, 2, 5].map(|s| waiting.add(s, at(s)));
        let mut expired = Vec::new();
        assert_eq!(waiting.expire(at(2), |id| expired.push(id)), Some(at(3)));
        assert_eq!((expired, waiting.len()), (vec![1, 2], 2));
        assert_eq!(waiting.take(numbers[1]), None);
        assert_eq!(waiting.take(numbers[0]), Some(3));
        assert_eq!(waiting.expire(at(4), |_| unreachable!()), Some(at(5)));
        assert_eq!(waiting.expire(at(5), |_| ()), None);
    }
}
