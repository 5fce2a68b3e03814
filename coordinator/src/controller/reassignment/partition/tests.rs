//! The table row by row, and random lives of a partition with deaths, new targets and taking back.
//!
//! `OTTLA_REASSIGNMENT_SEED` replays one random life.

use std::collections::BTreeSet;

use proto::LeaderEpoch;

use super::*;
use crate::registry::in_sync;
use crate::zk::payload;

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn state(replicas: &[i32], leader: i32, isr: &[i32]) -> PartitionState {
    PartitionState {
        replicas: ids(replicas),
        leader: (leader >= 0).then_some(BrokerId(leader)),
        leader_epoch: LeaderEpoch(5),
        isr: ids(isr),
        electable: Vec::new(),
        version: 7,
    }
}

fn to(target: &[i32], original: &[i32]) -> Reassignment {
    Reassignment { target: ids(target), original: ids(original) }
}

/// Replicas, leader, epoch, ISR.
type Shape = (Vec<i32>, i32, i32, Vec<i32>);

fn shape(state: &PartitionState) -> Shape {
    let plain = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let leader = state.leader.map_or(-1, |id| id.0);
    (plain(&state.replicas), leader, state.leader_epoch.0, plain(&state.isr))
}

#[track_caller]
fn steps(next: Next, replicas: &[i32], leader: i32, epoch: i32, isr: &[i32]) {
    let Next::Step(state) = next else { panic!("{next:?}") };
    assert_eq!(shape(&state), (replicas.to_vec(), leader, epoch, isr.to_vec()));
}

#[track_caller]
fn finishes(next: Next, replicas: &[i32], leader: i32, epoch: i32, isr: &[i32]) {
    let Next::Finish(state) = next else { panic!("{next:?}") };
    assert_eq!(shape(&state), (replicas.to_vec(), leader, epoch, isr.to_vec()));
}

fn all(_: BrokerId) -> bool {
    true
}

#[test]
fn replicas_come_first_and_go_when_their_successors_are_in_sync() {
    let moved = to(&[3, 4], &[1, 2]);
    let now = state(&[1, 2], 1, &[1, 2]);
    steps(next(&now, &moved, 1, all), &[3, 4, 1, 2], 1, 5, &[1, 2]);
    for isr in [&[1, 2][..], &[1, 2, 3], &[1, 2, 4]] {
        assert_eq!(next(&state(&[3, 4, 1, 2], 1, isr), &moved, 1, all), Next::Wait, "{isr:?}");
    }
    let caught_up = state(&[3, 4, 1, 2], 1, &[1, 2, 4, 3]);
    finishes(next(&caught_up, &moved, 1, all), &[3, 4], 3, 6, &[4, 3]);
    // One of them is in the ISR, and has just died or is about to stop.
    let not = |out: &'static [i32]| move |id: BrokerId| !out.contains(&id.0);
    assert_eq!(next(&caught_up, &moved, 1, not(&[3])), Next::Wait);
    finishes(next(&caught_up, &moved, 1, not(&[1, 2])), &[3, 4], 3, 6, &[4, 3]);
}

#[test]
fn a_leader_that_stays_goes_on_in_a_new_epoch_when_somebody_goes() {
    let moved = to(&[1, 3], &[1, 2]);
    finishes(next(&state(&[1, 3, 2], 1, &[1, 2, 3]), &moved, 1, all), &[1, 3], 1, 6, &[1, 3]);
    // Nobody goes: growth, and another order.
    let grown = to(&[1, 2, 3], &[1]);
    steps(next(&state(&[1], 1, &[1]), &grown, 1, all), &[1, 2, 3], 1, 5, &[1]);
    assert_eq!(next(&state(&[1, 2, 3], 1, &[1, 3]), &grown, 1, all), Next::Wait);
    let there = state(&[1, 2, 3], 1, &[1, 2, 3]);
    finishes(next(&there, &grown, 1, all), &[1, 2, 3], 1, 5, &[1, 2, 3]);
    // Nobody goes, and the leader has just died: the next one has an epoch of its own.
    let dead = |id: BrokerId| id.0 != 1;
    let two = state(&[1, 2], 1, &[1, 2]);
    finishes(next(&two, &to(&[1, 2], &[1]), 1, dead), &[1, 2], 2, 6, &[1, 2]);
    let turned = to(&[3, 2, 1], &[1, 2, 3]);
    finishes(next(&there, &turned, 1, all), &[3, 2, 1], 1, 5, &[1, 2, 3]);
}

#[test]
fn fewer_replicas_stay_only_if_they_are_in_sync() {
    let fewer = to(&[2], &[1, 2, 3]);
    let now = |isr: &[i32]| state(&[1, 2, 3], 1, isr);
    finishes(next(&now(&[1, 2, 3]), &fewer, 2, all), &[2], 2, 6, &[2]);
    steps(next(&now(&[1, 3]), &fewer, 1, all), &[2, 1, 3], 1, 5, &[1, 3]);
    assert_eq!(next(&state(&[2, 1, 3], 1, &[1, 3]), &fewer, 1, all), Next::Wait);
}

#[test]
fn who_was_dead_before_does_not_hold_up_a_move_but_in_sync_replicas_are_never_fewer() {
    // Broker 2 is down; 1 moves to 4 all the same.
    let moved = to(&[4, 2, 3], &[1, 2, 3]);
    finishes(next(&state(&[4, 2, 3, 1], 1, &[1, 3, 4]), &moved, 2, all), &[4, 2, 3], 4, 6, &[3, 4]);
    // Here 3 would leave one in sync of two: it waits for 2.
    let fewer = to(&[1, 2], &[1, 2, 3]);
    assert_eq!(next(&state(&[1, 2, 3], 1, &[1, 3]), &fewer, 1, all), Next::Wait);
    // Nor may min.insync.replicas be fallen short of, where the target has so many.
    let moved = to(&[3, 4], &[1, 2]);
    let one_left = state(&[3, 4, 1, 2], 1, &[1, 3]);
    assert_eq!(next(&one_left, &moved, 1, all), Next::Wait);
    let swap = to(&[3, 2], &[1, 2]);
    let low = state(&[3, 2, 1], 1, &[1, 3]);
    assert_eq!(next(&low, &swap, 2, all), Next::Wait);
    finishes(next(&low, &swap, 1, all), &[3, 2], 3, 6, &[3]);
}

#[test]
fn a_target_that_is_replaced_leaves_nobody_behind() {
    // 1 was on its way to 2, which is not in sync yet, and is now to go to 3.
    let replaced = to(&[3], &[1]);
    steps(next(&state(&[2, 1], 1, &[1]), &replaced, 1, all), &[3, 1], 1, 6, &[1]);
    // 2 is in sync, and 1 too: 2 goes at once. Without 1 it has to stay until 3 is there.
    steps(next(&state(&[2, 1], 2, &[1, 2]), &replaced, 1, all), &[3, 1], 1, 6, &[1]);
    steps(next(&state(&[2, 1], 2, &[2]), &replaced, 1, all), &[3, 2, 1], 2, 5, &[2]);
    assert_eq!(next(&state(&[3, 2, 1], 2, &[2]), &replaced, 1, all), Next::Wait);
    finishes(next(&state(&[3, 2, 1], 2, &[2, 3]), &replaced, 1, all), &[3], 3, 6, &[3]);
}

#[test]
fn what_is_taken_back_ends_with_the_original_replicas() {
    let back = to(&[1, 2], &[1, 2]);
    finishes(next(&state(&[3, 1, 2], 1, &[1, 2]), &back, 1, all), &[1, 2], 1, 6, &[1, 2]);
    // Broker 2 has died meanwhile and 3 leads.
    finishes(next(&state(&[3, 1, 2], 3, &[3, 1]), &back, 1, all), &[1, 2], 1, 6, &[1]);
    // With a minimum of two, 3 helps out until 2 is back.
    steps(next(&state(&[3, 1, 2], 3, &[3, 1]), &back, 2, all), &[1, 2, 3], 3, 5, &[3, 1]);
    // Nobody of the original is in sync: 3 has the only complete copy.
    steps(next(&state(&[3, 1, 2], 3, &[3]), &back, 1, all), &[1, 2, 3], 3, 5, &[3]);
    assert_eq!(next(&state(&[1, 2, 3], 3, &[3]), &back, 1, all), Next::Wait);
}

#[test]
fn electable_replicas_are_cut_too() {
    let mut now = state(&[3, 1, 2], 1, &[1, 3]);
    now.electable = ids(&[2]);
    let Next::Finish(end) = next(&now, &to(&[3, 1], &[1, 2]), 3, all) else { panic!() };
    assert_eq!((shape(&end).3, end.electable), (vec![1, 3], Vec::new()));
    // Who stays a replica stays electable until the leader says otherwise.
    let Next::Finish(end) = next(&now, &to(&[3, 2], &[1, 2]), 1, all) else { panic!() };
    assert_eq!((shape(&end).3, end.electable), (vec![3], ids(&[2])));
    let Next::Step(on) = next(&now, &to(&[3, 2, 1], &[1, 2]), 3, all) else { panic!() };
    assert_eq!(on.electable, ids(&[2]));
}

/// A partition whose replicas live, die, fall behind and catch up at random.
struct Life {
    rng: fastrand::Rng,
    state: PartitionState,
    under_way: Option<Reassignment>,
    live: BTreeSet<BrokerId>,
    min_insync: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.i32(1..=3);
        let replicas: Vec<i32> = (1..=count).collect();
        let state = state(&replicas, 1, &replicas);
        let live = (1..=7).map(BrokerId).collect();
        let min_insync = rng.usize(1..=2);
        Self { rng, state, under_way: None, live, min_insync }
    }

    fn some_target(&mut self) -> Vec<BrokerId> {
        let mut pool: Vec<BrokerId> = (1..=7).map(BrokerId).collect();
        self.rng.shuffle(&mut pool);
        pool.truncate(self.rng.usize(1..=3));
        pool
    }

    fn happen(&mut self) {
        match self.rng.u32(0..100) {
            0..35 => self.catch_up(),
            35..50 => {
                let dead = BrokerId(self.rng.i32(1..=7));
                self.die(dead);
            }
            50..70 => {
                let back = BrokerId(self.rng.i32(1..=7));
                self.live.insert(back);
                self.elect();
            }
            70..80 => {
                let isr = self.state.isr.clone();
                let slow = self.rng.choice(isr).filter(|id| Some(*id) != self.state.leader);
                self.change(|state, min| in_sync::shrink(state, slow.as_slice(), min));
            }
            80..92 => {
                let target = self.some_target();
                let original = self.state.replicas.clone();
                let begun = Reassignment { target: target.clone(), original };
                self.under_way.get_or_insert(begun).target = target;
            }
            _ => {
                if let Some(r) = &mut self.under_way {
                    r.target.clone_from(&r.original);
                }
            }
        }
    }

    fn catch_up(&mut self) {
        let behind = self.state.replicas.iter().filter(|id| !self.state.isr.contains(id));
        let behind: Vec<BrokerId> = behind.copied().filter(|id| self.live.contains(id)).collect();
        let led = self.state.leader.is_some_and(|id| self.live.contains(&id));
        if let Some(id) = self.rng.choice(behind).filter(|_| led) {
            self.change(|state, min| in_sync::grow(state, &[id], min));
        }
    }

    fn die(&mut self, id: BrokerId) {
        self.live.remove(&id);
        // The steps may come before the election.
        if self.rng.bool() {
            self.advance();
        }
        self.elect();
        self.change(|state, min| in_sync::shrink(state, &[id], min));
    }

    fn elect(&mut self) {
        if self.state.leader.is_some_and(|id| self.live.contains(&id)) {
            return;
        }
        let live = self.live.clone();
        let replicas = self.state.replicas.clone();
        let elected = in_sync::elect(&self.payload(), &replicas, |id| live.contains(&id), false);
        self.state.leader = elected.as_ref().map(|elected| elected.leader);
        if let Some(elected) = elected {
            self.state.leader_epoch.0 += 1;
            self.state.isr = elected.isr;
            self.state.electable = elected.electable;
        }
    }

    fn payload(&self) -> payload::PartitionState {
        self.state.payload(1)
    }

    fn change(
        &mut self,
        change: impl FnOnce(&payload::PartitionState, usize) -> payload::PartitionState,
    ) {
        let min = self.min_insync.min(self.state.replicas.len());
        let changed = change(&self.payload(), min);
        self.state.isr = changed.isr;
        self.state.electable = changed.electable;
    }

    /// Does all that can be done, and judges each step.
    fn advance(&mut self) -> bool {
        for _ in 0..4 {
            let Some(r) = self.under_way.clone() else { return false };
            let live = self.live.clone();
            let next = next(&self.state, &r, self.min_insync, |id| live.contains(&id));
            let after = match next.clone() {
                Next::Wait => return false,
                Next::Step(after) | Next::Finish(after) => after,
            };
            self.judge(&r, &after, matches!(next, Next::Finish(_)));
            self.state = after;
            if matches!(next, Next::Finish(_)) {
                self.under_way = None;
                return true;
            }
        }
        panic!("no end of steps: {:?}, {:?}", self.state, self.under_way);
    }

    fn judge(&self, r: &Reassignment, after: &PartitionState, end: bool) {
        let (before, told) = (&self.state, || format!("{:?} by {r:?} to {after:?}", self.state));
        assert!(!after.replicas.is_empty() && !after.isr.is_empty(), "{}", told());
        assert!(r.target.iter().all(|id| after.replicas.contains(id)), "{}", told());
        let stray = |ids: &[BrokerId]| ids.iter().any(|id| !after.replicas.contains(id));
        assert!(!stray(&after.isr) && !stray(&after.electable), "{}", told());
        // Nobody is counted in who was not before.
        assert!(after.isr.iter().all(|id| before.isr.contains(id)), "{}", told());
        assert!(after.electable.iter().all(|id| before.electable.contains(id)), "{}", told());
        let goes = before.replicas.iter().any(|id| !after.replicas.contains(id));
        if goes || after.leader != before.leader {
            assert_eq!(after.leader_epoch.0, before.leader_epoch.0 + 1, "{}", told());
            let leader = after.leader.filter(|id| after.isr.contains(id));
            assert!(leader.is_some_and(|id| self.live.contains(&id)), "{}", told());
        } else {
            assert_eq!(after.leader_epoch, before.leader_epoch, "{}", told());
        }
        let of = |ids: &[BrokerId]| {
            ids.iter().filter(|id| before.isr.contains(id) && self.live.contains(id)).count()
        };
        let left = of(&after.isr);
        if end {
            assert_eq!(after.replicas, r.target);
            assert!(left >= of(&r.original).min(r.target.len()), "{}", told());
            assert!(left >= self.min_insync.min(r.target.len()), "{}", told());
            assert!(r.adding().all(|id| after.isr.contains(&id)), "{}", told());
        } else if goes {
            assert!(left >= r.original.len().min(of(&before.isr)), "{}", told());
            let stays = r.target.iter().chain(&r.original);
            assert!(
                stays
                    .filter(|id| before.replicas.contains(id))
                    .all(|id| after.replicas.contains(id))
            );
        }
    }

    /// Everybody comes back and catches up.
    fn heal(&mut self) {
        self.live = (1..=7).map(BrokerId).collect();
        for _ in 0..40 {
            self.elect();
            if self.advance() || self.under_way.is_none() {
                return;
            }
            self.catch_up();
        }
        panic!("it does not end: {:?}, {:?}", self.state, self.under_way);
    }
}

#[test]
fn random_lives_never_lose_a_complete_replica_and_end_where_they_should() {
    let seeds = match std::env::var("OTTLA_REASSIGNMENT_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..600).collect(),
    };
    let mut ended = 0;
    for seed in seeds {
        let mut life = Life::new(seed);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..60 {
                life.happen();
                ended += usize::from(life.advance());
            }
            let target = life.under_way.as_ref().map(|r| r.target.clone());
            life.heal();
            if let Some(target) = target {
                assert_eq!(life.state.replicas, target);
            }
        }));
        assert!(told.is_ok(), "seed {seed}: {:?}", life.state);
    }
    assert!(ended > 500 || std::env::var("OTTLA_REASSIGNMENT_SEED").is_ok(), "{ended} ended");
}
