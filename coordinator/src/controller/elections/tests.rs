//! The table in the parent, row by row.

use super::*;

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn state(leader: i32, isr: &[i32], electable: &[i32]) -> PartitionState {
    PartitionState {
        leader: (leader > 0).then_some(BrokerId(leader)),
        leader_epoch: LeaderEpoch(5),
        isr: ids(isr),
        electable: ids(electable),
        controller_epoch: 1,
    }
}

fn hosts(live: &[i32], leaving: &[i32]) -> Hosts {
    Hosts { live: ids(live).into_iter().collect(), leaving: ids(leaving).into_iter().collect() }
}

const TWO: Rules = Rules { min_insync: 2, unclean: false };
const ONE: Rules = Rules { min_insync: 1, unclean: false };
const ANY: Rules = Rules { min_insync: 2, unclean: true };

/// Decides for replicas 1, 2, 3; the written leader, epoch, ISR and electable, or the answer.
#[derive(Debug, PartialEq)]
enum Is {
    Led(i32, i32, Vec<BrokerId>, Vec<BrokerId>),
    Left(Answer),
}

fn of(state: &PartitionState, hosts: &Hosts, rules: Rules, wish: Wish) -> Is {
    let decided = decide(state, &ids(&[1, 2, 3]), hosts, rules, wish);
    match decided.write {
        None => Is::Left(decided.answer),
        Some(next) => {
            let leader = next.leader.map_or(-1, |id| id.0);
            // Whatever is decided leaves nothing to repair.
            let again = decide(&next, &ids(&[1, 2, 3]), hosts, rules, Wish::Repair);
            assert_eq!(again.write, None, "not at rest after {decided:?}", decided = next);
            assert!(next.isr.contains(&BrokerId(leader)), "{next:?}");
            assert!(next.isr.iter().all(|id| !next.electable.contains(id)), "{next:?}");
            Is::Led(leader, next.leader_epoch.0, next.isr, next.electable)
        }
    }
}

fn led(leader: i32, epoch: i32, isr: &[i32], electable: &[i32]) -> Is {
    Is::Led(leader, epoch, ids(isr), ids(electable))
}

#[test]
fn who_led_and_is_gone_is_followed_by_the_next_in_sync() {
    let repair = |state, live: &[i32], rules| of(&state, &hosts(live, &[]), rules, Wish::Repair);
    let full = || state(1, &[1, 2, 3], &[]);
    assert_eq!(repair(full(), &[2, 3], TWO), led(2, 6, &[2, 3], &[]));
    assert_eq!(repair(full(), &[3], TWO), led(3, 6, &[3], &[1, 2]));
    assert_eq!(repair(full(), &[3], ONE), led(3, 6, &[3], &[]));
    assert_eq!(repair(state(1, &[1, 3], &[]), &[2, 3], TWO), led(3, 6, &[3], &[1]));
    // Two died together.
    assert_eq!(repair(state(2, &[1, 2, 3], &[]), &[3], ONE), led(3, 6, &[3], &[]));
    // Nobody in sync, but one that is electable; whatever the minimum is held to be here.
    assert_eq!(repair(state(1, &[1], &[3]), &[2, 3], TWO), led(3, 6, &[3], &[1]));
    assert_eq!(repair(state(1, &[1], &[3]), &[2, 3], ONE), led(3, 6, &[3], &[1]));
}

#[test]
fn without_a_candidate_the_state_stays_as_it_was() {
    let none = Is::Left(Answer::NobodyEligible);
    let repair = |state, live: &[i32], rules| of(&state, &hosts(live, &[]), rules, Wish::Repair);
    assert_eq!(repair(state(1, &[1, 2, 3], &[]), &[], TWO), none);
    assert_eq!(repair(state(1, &[1], &[]), &[2, 3], TWO), none);
    assert_eq!(repair(state(-1, &[], &[]), &[1, 2, 3], TWO), none);
    // Unless an unclean election is allowed, by the topic or by a person.
    assert_eq!(repair(state(1, &[1], &[]), &[2, 3], ANY), led(2, 6, &[2], &[]));
    let asked = of(&state(1, &[1], &[]), &hosts(&[3], &[]), TWO, Wish::Unclean);
    assert_eq!(asked, led(3, 6, &[3], &[]));
    let clean_first = of(&state(1, &[1, 3], &[]), &hosts(&[2, 3], &[]), TWO, Wish::Unclean);
    assert_eq!(clean_first, led(3, 6, &[3], &[1]));
    let fine = of(&state(1, &[1], &[]), &hosts(&[1, 2], &[]), TWO, Wish::Unclean);
    assert_eq!(fine, Is::Left(Answer::NotNeeded));
    let decided = decide(&state(1, &[1], &[]), &ids(&[1, 2]), &hosts(&[2], &[]), ANY, Wish::Repair);
    assert!(decided.unclean);
    let decided =
        decide(&state(1, &[1, 2], &[]), &ids(&[1, 2]), &hosts(&[2], &[]), ANY, Wish::Repair);
    assert!(!decided.unclean);
}

#[test]
fn a_leader_that_is_back_or_gave_up_is_elected_again() {
    // It lost its disk and took itself out.
    let lost = of(&state(-1, &[2, 3], &[]), &hosts(&[1, 2, 3], &[]), TWO, Wish::Repair);
    assert_eq!(lost, led(2, 6, &[2, 3], &[]));
    // The only member in sync is back.
    let back = of(&state(-1, &[3], &[]), &hosts(&[2, 3], &[]), TWO, Wish::Repair);
    assert_eq!(back, led(3, 6, &[3], &[]));
    // A leader that is no replica any more does not lead.
    let moved = of(&state(4, &[4, 2], &[]), &hosts(&[1, 2, 4], &[]), ONE, Wish::Repair);
    assert!(matches!(moved, Is::Led(2, 6, ..)), "{moved:?}");
}

#[test]
fn a_change_of_the_isr_alone_keeps_the_epoch() {
    let repair = |state, live: &[i32], rules| of(&state, &hosts(live, &[]), rules, Wish::Repair);
    assert_eq!(repair(state(1, &[1, 2, 3], &[]), &[1, 2], TWO), led(1, 5, &[1, 2], &[]));
    assert_eq!(repair(state(1, &[1, 2], &[]), &[1, 3], TWO), led(1, 5, &[1], &[2]));
    // Who was electable is for the leader to clear away.
    assert_eq!(repair(state(1, &[1, 2], &[3]), &[1, 2, 3], TWO), Is::Left(Answer::NotNeeded));
    assert_eq!(repair(state(1, &[1, 2], &[]), &[1, 2], TWO), Is::Left(Answer::NotNeeded));
    // The minimum is at most the number of replicas.
    let far = Rules { min_insync: 9, unclean: false };
    assert_eq!(repair(state(1, &[1, 2, 3], &[]), &[1, 2, 3], far), Is::Left(Answer::NotNeeded));
    assert_eq!(repair(state(1, &[1, 2], &[3]), &[1, 2, 3], far), Is::Left(Answer::NotNeeded));
}

#[test]
fn the_preferred_leader_leads_when_it_is_in_sync() {
    let prefer = |state, live: &[i32], leaving: &[i32]| {
        of(&state, &hosts(live, leaving), TWO, Wish::Preferred)
    };
    let all = &[1, 2, 3];
    assert_eq!(prefer(state(3, all, &[]), all, &[]), led(1, 6, all, &[]));
    assert_eq!(prefer(state(1, all, &[]), all, &[]), Is::Left(Answer::NotNeeded));
    let not = Is::Left(Answer::PreferredNotAvailable);
    assert_eq!(prefer(state(3, &[2, 3], &[]), all, &[]), not);
    assert_eq!(prefer(state(3, all, &[]), all, &[1]), not);
    assert_eq!(prefer(state(1, &[1], &[]), &[2, 3], &[]), not);
    // Not available, but there is something to repair.
    assert_eq!(prefer(state(3, all, &[]), &[2, 3], &[]), led(3, 5, &[2, 3], &[]));
}

#[test]
fn who_is_about_to_stop_hands_over_and_leaves_down_to_the_minimum() {
    let leave = |state, live: &[i32], rules| {
        of(&state, &hosts(live, &[1]), rules, Wish::Leave(BrokerId(1)))
    };
    let all = &[1, 2, 3];
    assert_eq!(leave(state(1, all, &[]), all, TWO), led(2, 6, &[2, 3], &[]));
    assert_eq!(leave(state(1, &[1, 3], &[]), all, TWO), led(3, 6, &[1, 3], &[]));
    assert_eq!(leave(state(1, &[1, 3], &[]), all, ONE), led(3, 6, &[3], &[]));
    assert_eq!(leave(state(2, all, &[]), all, TWO), led(2, 5, &[2, 3], &[]));
    assert_eq!(leave(state(2, &[1, 2], &[]), all, TWO), Is::Left(Answer::NotNeeded));
    // Nobody else may lead: it goes on to.
    assert_eq!(leave(state(1, &[1], &[]), all, ONE), Is::Left(Answer::NobodyEligible));
    let both = of(&state(1, &[1, 2], &[]), &hosts(all, &[1, 2]), ONE, Wish::Leave(BrokerId(1)));
    assert_eq!(both, Is::Left(Answer::NobodyEligible));
    // Not elected either, when the leader dies meanwhile.
    let dead = of(&state(2, &[1, 2], &[]), &hosts(&[1, 3], &[1]), ONE, Wish::Repair);
    assert_eq!(dead, Is::Left(Answer::NobodyEligible));
}

#[test]
fn overrides_of_the_topic_rule_and_else_the_defaults() {
    let mut cluster = Cluster::default();
    let defaults = Defaults { min_insync_replicas: 2, ..Defaults::default() };
    assert_eq!(Rules::of(&cluster, &defaults, "t"), TWO);
    let values = [("min.insync.replicas", "3"), ("unclean.leader.election.enable", "true")];
    let values = values.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let overrides = crate::controller::state::Overrides { values, version: 0 };
    cluster.configs.insert((Kind::Topic, "t".to_owned()), overrides);
    assert_eq!(Rules::of(&cluster, &defaults, "t"), Rules { min_insync: 3, unclean: true });
}

/// Whatever the state: nobody is elected uncleanly unasked, nobody leads who may not, an epoch has
/// one leader, and the ISR is never empty where somebody leads.
#[test]
fn decisions_keep_the_invariants_whatever_the_state() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut some =
            |of: &[i32]| of.iter().copied().filter(|_| random.bool()).collect::<Vec<i32>>();
        let isr = some(&[1, 2, 3]);
        let out: Vec<i32> = [1, 2, 3].into_iter().filter(|id| !isr.contains(id)).collect();
        let (electable, live) = (some(&out), some(&[1, 2, 3]));
        let leaving = some(&live);
        let leader = isr.first().copied().filter(|_| random.bool()).unwrap_or(-1);
        let state = state(leader, &isr, &electable);
        let hosts = hosts(&live, &leaving);
        let wish = match leaving.first() {
            Some(&id) if random.bool() => Wish::Leave(BrokerId(id)),
            _ => *random.choice(&[Wish::Repair, Wish::Preferred]).unwrap(),
        };
        let rules = Rules { min_insync: random.usize(1..4), unclean: false };
        let decided = decide(&state, &ids(&[1, 2, 3]), &hosts, rules, wish);
        let Some(next) = decided.write else { continue };
        let context = format!("{state:?} {hosts:?} {rules:?} {wish:?} -> {next:?}");
        let leads = next.leader.unwrap();
        assert!(hosts.live.contains(&leads), "{context}");
        assert!(next.isr.contains(&leads), "{context}");
        let moved = next.leader != state.leader;
        assert_eq!(next.leader_epoch.0, state.leader_epoch.0 + i32::from(moved), "{context}");
        if moved {
            assert!(!hosts.leaving.contains(&leads), "{context}");
            assert!(state.isr.contains(&leads) || state.electable.contains(&leads), "{context}");
        }
        // Nobody joins unseen, and who has everything committed stays known below the minimum.
        let had = |id| state.isr.contains(id) || state.electable.contains(id);
        assert!(next.isr.iter().chain(&next.electable).all(had), "{context}");
        if next.isr.len() < rules.min_insync {
            let kept = |id: &BrokerId| next.isr.contains(id) || next.electable.contains(id);
            assert!(state.isr.iter().all(kept), "{context}");
        }
    }
}
