//! What is broken, in which order and for how long: a function of the seed.
//!
//! Who leads a partition when its turn comes is not known before, so a target may be "whoever leads
//! partition 3"; everything else is fixed. A schedule is written as JSON and can be replayed.

use serde::{Deserialize, Serialize};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// kill -9 of a broker, started again.
    KillBroker,
    /// SIGTERM to a broker, started again.
    RestartBroker,
    /// SIGSTOP of a broker for longer than its session.
    PauseBroker,
    /// kill -9 of two of three brokers, both started again.
    KillTwoBrokers,
    /// kill -9 of a broker and of the controller.
    KillBrokerAndController,
    /// kill -9 of the coordinator that is the controller, or of another.
    KillCoordinator,
    /// SIGSTOP of a coordinator for longer than its session.
    PauseCoordinator,
    /// kill -9 of a member of the registry's ensemble.
    KillRegistry,
    /// SIGSTOP of a member of the registry's ensemble.
    PauseRegistry,
    /// A broker is cut off from everybody.
    CutWhole,
    /// Nothing comes from a broker any more; it hears everybody.
    CutOutgoing,
    /// Nothing reaches a broker any more; everybody hears it.
    CutIncoming,
    /// A broker is cut off from the registry and the controller alone.
    CutFromRegistry,
    /// A broker is cut off from the other brokers alone.
    CutFromBrokers,
    /// A broker is cut off from clients alone.
    CutFromClients,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::KillBroker,
        Self::RestartBroker,
        Self::PauseBroker,
        Self::KillTwoBrokers,
        Self::KillBrokerAndController,
        Self::KillCoordinator,
        Self::PauseCoordinator,
        Self::KillRegistry,
        Self::PauseRegistry,
        Self::CutWhole,
        Self::CutOutgoing,
        Self::CutIncoming,
        Self::CutFromRegistry,
        Self::CutFromBrokers,
        Self::CutFromClients,
    ];

    /// How often it stands in a deck.
    fn weight(self) -> usize {
        match self {
            Self::KillBroker => 3,
            Self::PauseBroker | Self::CutWhole => 2,
            _ => 1,
        }
    }

    /// Whether it is done to a broker.
    fn meets_brokers(self) -> bool {
        use FaultKind::{KillCoordinator, KillRegistry, PauseCoordinator, PauseRegistry};
        !matches!(self, KillCoordinator | PauseCoordinator | KillRegistry | PauseRegistry)
    }

    /// As it is spelled in schedules and on the command line.
    pub fn name(self) -> String {
        let name = serde_json::to_value(self).ok();
        name.and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
    }
}

impl std::str::FromStr for FaultKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        serde_json::from_value(name.into()).map_err(|_| {
            let all: Vec<String> = Self::ALL.into_iter().map(Self::name).collect();
            format!("one of {} is expected", all.join(", "))
        })
    }
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The leader of this partition; the controller among coordinators; the ensemble's leader.
    Leader(u32),
    /// The one with this number, modulo how many there are.
    Number(u32),
    /// The broker that coordinates the group, where one does; else one of them.
    GroupCoordinator,
}

impl Target {
    fn leads(self) -> bool {
        matches!(self, Self::Leader(_))
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// To whom.
    pub target: Target,
    /// For how long.
    pub lasts_ms: u64,
}

/// The faults of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// What it was made from.
    pub seed: u64,
    /// In this order.
    pub faults: Vec<Fault>,
}

impl Schedule {
    /// `count` faults of these kinds. They come in shuffled decks, so that a short run has them all.
    pub fn new(seed: u64, count: usize, kinds: &[FaultKind], session_ms: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let deck = kinds.iter().flat_map(|kind| std::iter::repeat_n(*kind, kind.weight()));
        let deck: Vec<FaultKind> = deck.collect();
        let mut faults = Vec::new();
        while faults.len() < count && !deck.is_empty() {
            let mut deck = deck.clone();
            random.shuffle(&mut deck);
            faults.extend(deck.into_iter().map(|kind| Fault {
                kind,
                target: match random.bool() {
                    true => Target::Leader(random.u32(0..1000)),
                    false => Target::Number(random.u32(0..1000)),
                },
                lasts_ms: lasts(kind, session_ms, &mut random),
            }));
        }
        faults.truncate(count);
        Self { seed, faults }
    }

    /// The same with every other fault of a leader turned on the broker that coordinates the group.
    pub fn of_a_group_with_coordinator(mut self) -> Self {
        let leads = |fault: &&mut Fault| fault.kind.meets_brokers() && fault.target.leads();
        let of_leaders = self.faults.iter_mut().filter(leads);
        of_leaders.step_by(2).for_each(|fault| fault.target = Target::GroupCoordinator);
        self
    }
}

fn lasts(kind: FaultKind, session_ms: u64, random: &mut fastrand::Rng) -> u64 {
    use FaultKind::{PauseBroker, PauseCoordinator, PauseRegistry, RestartBroker};
    match kind {
        RestartBroker => random.u64(0..session_ms),
        PauseBroker | PauseCoordinator | PauseRegistry => {
            random.u64(session_ms * 5 / 4..session_ms * 5 / 2)
        }
        // Shorter and longer than the session.
        _ => random.u64(session_ms / 4..session_ms * 5 / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_all_of_it() {
        let one = Schedule::new(7, 40, &FaultKind::ALL, 2_000);
        assert_eq!(one, Schedule::new(7, 40, &FaultKind::ALL, 2_000));
        assert_ne!(one.faults, Schedule::new(8, 40, &FaultKind::ALL, 2_000).faults);
        // A longer run begins as the shorter one.
        assert_eq!(one.faults, Schedule::new(7, 80, &FaultKind::ALL, 2_000).faults[..40]);
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), one);
    }

    #[test]
    fn twenty_faults_have_every_kind_and_half_of_the_targets_lead() {
        for seed in 0..20 {
            let faults = Schedule::new(seed, 20, &FaultKind::ALL, 2_000).faults;
            for kind in FaultKind::ALL {
                assert!(faults.iter().any(|fault| fault.kind == kind), "seed {seed}: no {kind:?}");
            }
            assert!(faults.iter().all(|fault| fault.lasts_ms <= 5_000), "seed {seed}");
        }
        let many = Schedule::new(1, 1_000, &FaultKind::ALL, 2_000).faults;
        let leaders = many.iter().filter(|f| matches!(f.target, Target::Leader(_))).count();
        assert!((400..600).contains(&leaders), "{leaders}");
    }

    #[test]
    fn half_of_the_leaders_give_way_to_the_coordinator_of_the_group() {
        for seed in 0..20 {
            let before = Schedule::new(seed, 20, &FaultKind::ALL, 2_000);
            let after = before.clone().of_a_group_with_coordinator();
            let turned = |(one, other): &(&Fault, &Fault)| one.target != other.target;
            let turned: Vec<_> = before.faults.iter().zip(&after.faults).filter(turned).collect();
            for (one, other) in &turned {
                assert!(one.kind.meets_brokers() && one.target.leads(), "seed {seed}: {one:?}");
                assert_eq!(**other, Fault { target: Target::GroupCoordinator, ..**one });
            }
            let leaders =
                before.faults.iter().filter(|f| f.kind.meets_brokers() && f.target.leads());
            assert_eq!(turned.len(), leaders.count().div_ceil(2), "seed {seed}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("kill".parse::<FaultKind>().unwrap_err().contains("kill_two_brokers"));
    }
}
