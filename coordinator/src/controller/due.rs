//! The partitions that are to be looked at, and in which order. Pure.
//!
//! A look reads a partition's state, decides ([`super::elections`]) and writes. The owner of the state
//! takes a chunk at a time, and events between chunks: thousands of elections keep nobody waiting for
//! long. Those that may have no leader come first, then what somebody asked for and waits for, then
//! the rest. A partition is due at most once, however many events name it, so all of this is bounded
//! by the size of the cluster and [`JOBS_MAX`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proto::{BrokerId, Partition};

use super::elections::{Answer, Wish};

/// A partition of a topic.
pub(crate) type Place = (String, Partition);

/// So many partitions are looked at in one go: one transaction, some tens of milliseconds.
pub(crate) const CHUNK: usize = 500;
/// So many requests may wait for their elections.
pub(crate) const JOBS_MAX: usize = 32;

/// One partition's look: what became of the wish, and who leads now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Looked {
    /// The partition.
    pub(crate) place: Place,
    /// What became of the wish.
    pub(crate) answer: Answer,
    /// Who leads.
    pub(crate) leader: Option<BrokerId>,
}

/// Elections that belong together; `T` is what follows when all are done.
#[derive(Debug)]
struct Job<T> {
    wish: Wish,
    left: VecDeque<Place>,
    looked: Vec<Looked>,
    then: T,
}

/// What to look at in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The partitions, each once.
    pub(crate) places: Vec<Place>,
    /// What is wanted of them.
    pub(crate) wish: Wish,
    /// Taken from the first job.
    of_job: bool,
}

/// Everything that is due.
#[derive(Debug)]
pub(crate) struct Due<T> {
    leaderless: BTreeSet<Place>,
    others: BTreeSet<Place>,
    jobs: VecDeque<Job<T>>,
    not_before: Option<Instant>,
}

impl<T> Default for Due<T> {
    fn default() -> Self {
        Self {
            leaderless: BTreeSet::new(),
            others: BTreeSet::new(),
            jobs: VecDeque::new(),
            not_before: None,
        }
    }
}

impl<T> Due<T> {
    /// A partition is to be looked at; `leaderless`: before others.
    pub(crate) fn add(&mut self, place: Place, leaderless: bool) {
        if leaderless {
            self.others.remove(&place);
            self.leaderless.insert(place);
        } else if !self.leaderless.contains(&place) {
            self.others.insert(place);
        }
    }

    /// Adds a job, or gives back what was to follow where too many wait.
    pub(crate) fn ask(&mut self, wish: Wish, places: Vec<Place>, then: T) -> Result<(), T> {
        if self.jobs.len() >= JOBS_MAX {
            return Err(then);
        }
        self.jobs.push_back(Job { wish, left: places.into(), looked: Vec::new(), then });
        Ok(())
    }

    /// When the next chunk may be taken; `None`: nothing is due.
    pub(crate) fn ready_at(&self, now: Instant) -> Option<Instant> {
        let idle = self.leaderless.is_empty() && self.others.is_empty() && self.jobs.is_empty();
        (!idle).then(|| self.not_before.unwrap_or(now))
    }

    /// Takes the next chunk.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        self.not_before = None;
        let repair = |places: Vec<Place>| Chunk { places, wish: Wish::Repair, of_job: false };
        if !self.leaderless.is_empty() {
            return Some(repair(take_first(&mut self.leaderless)));
        }
        if let Some(job) = self.jobs.front_mut() {
            let places = job.left.drain(..job.left.len().min(CHUNK)).collect();
            return Some(Chunk { places, wish: job.wish, of_job: true });
        }
        (!self.others.is_empty()).then(|| repair(take_first(&mut self.others)))
    }

    /// A chunk was looked at, except for `again`, which somebody else wrote meanwhile. Returns the
    /// first job when it is done by this.
    pub(crate) fn looked(
        &mut self,
        chunk: &Chunk,
        looked: Vec<Looked>,
        again: Vec<Place>,
    ) -> Option<(T, Vec<Looked>)> {
        if !chunk.of_job {
            again.into_iter().for_each(|place| self.add(place, true));
            return None;
        }
        let job = self.jobs.front_mut()?;
        job.looked.extend(looked);
        job.left.extend(again);
        if !job.left.is_empty() {
            return None;
        }
        self.jobs.pop_front().map(|job| (job.then, job.looked))
    }

    /// A chunk's outcome is not known: it is looked at again, after a pause.
    pub(crate) fn put_back(&mut self, chunk: Chunk, now: Instant, pause: Duration) {
        self.not_before = Some(now + pause);
        match self.jobs.front_mut().filter(|_| chunk.of_job) {
            Some(job) => chunk.places.into_iter().rev().for_each(|p| job.left.push_front(p)),
            None => chunk.places.into_iter().for_each(|place| self.add(place, true)),
        }
    }
}

fn take_first(places: &mut BTreeSet<Place>) -> Vec<Place> {
    std::iter::from_fn(|| places.pop_first()).take(CHUNK).collect()
}

/// The partitions by topic, for messages.
pub(crate) fn by_topic(
    places: impl IntoIterator<Item = Place>,
) -> BTreeMap<String, Vec<Partition>> {
    let mut topics: BTreeMap<String, Vec<Partition>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic).or_default().push(partition);
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(p: i32) -> Place {
        ("t".to_owned(), p)
    }

    fn looked(chunk: &Chunk) -> Vec<Looked> {
        let of = |place: &Place| Looked {
            place: place.clone(),
            answer: Answer::NotNeeded,
            leader: None,
        };
        chunk.places.iter().map(of).collect()
    }

    #[test]
    fn leaderless_ones_come_first_and_each_once() {
        let mut due = Due::<()>::default();
        (0..5).for_each(|p| due.add(place(p), false));
        due.add(place(3), true);
        due.add(place(3), false);
        due.ask(Wish::Preferred, vec![place(9)], ()).unwrap();
        let order: Vec<(Wish, Vec<Place>)> = std::iter::from_fn(|| {
            let chunk = due.take()?;
            due.looked(&chunk, looked(&chunk), Vec::new());
            Some((chunk.wish, chunk.places))
        })
        .collect();
        let rest = vec![place(0), place(1), place(2), place(4)];
        let expected = [
            (Wish::Repair, vec![place(3)]),
            (Wish::Preferred, vec![place(9)]),
            (Wish::Repair, rest),
        ];
        assert_eq!(order, expected);
        assert_eq!(due.ready_at(Instant::now()), None);
    }

    #[test]
    fn a_job_is_done_when_all_of_it_was_looked_at() {
        let mut due = Due::default();
        let places: Vec<Place> = (0..CHUNK as i32 + 1).map(place).collect();
        due.ask(Wish::Unclean, places.clone(), "then").unwrap();
        let first = due.take().unwrap();
        assert_eq!(first.places.len(), CHUNK);
        let seen = looked(&first)[1..].to_vec();
        assert_eq!(due.looked(&first, seen, vec![place(0)]), None);
        let second = due.take().unwrap();
        assert_eq!(second.places, [place(CHUNK as i32), place(0)]);
        // An unknown outcome: the same again, and not at once.
        let now = Instant::now();
        due.put_back(second.clone(), now, Duration::from_secs(1));
        assert_eq!(due.ready_at(now), Some(now + Duration::from_secs(1)));
        let again = due.take().unwrap();
        assert_eq!(again, second);
        let (then, all) = due.looked(&again, looked(&again), Vec::new()).unwrap();
        assert_eq!((then, all.len()), ("then", places.len()));
    }

    #[test]
    fn a_repair_that_is_not_known_to_have_happened_is_due_again() {
        let mut due = Due::<()>::default();
        (0..4).for_each(|p| due.add(place(p), false));
        let chunk = due.take().unwrap();
        // Somebody else wrote two of them meanwhile.
        assert_eq!(due.looked(&chunk, Vec::new(), vec![place(2), place(3)]), None);
        let again = due.take().unwrap();
        assert_eq!(again.places, [place(2), place(3)]);
        let now = Instant::now();
        due.put_back(again.clone(), now, Duration::from_secs(1));
        assert_eq!(due.ready_at(now), Some(now + Duration::from_secs(1)));
        assert_eq!(due.take(), Some(again));
    }

    #[test]
    fn a_job_without_partitions_is_done_at_once_and_jobs_are_bounded() {
        let mut due = Due::default();
        for n in 0..JOBS_MAX {
            due.ask(Wish::Preferred, Vec::new(), n).unwrap();
        }
        assert_eq!(due.ask(Wish::Preferred, Vec::new(), 99), Err(99));
        let chunk = due.take().unwrap();
        assert_eq!(due.looked(&chunk, Vec::new(), Vec::new()), Some((0, Vec::new())));
    }
}
