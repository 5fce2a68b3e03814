//! Moves as little as balance allows.
//!
//! First topic by topic: every slot keeps what it had up to its share, what is left over goes to
//! the slots below theirs. The shares differ by one at most; the larger ones go to whom has most
//! already, so nothing moves that need not, then to whom has least of the other topics. Then over
//! all topics: a slot that has the larger share of a topic hands it to one with the smaller while
//! their totals differ by two or more. So each topic stays balanced within one, and slots that are
//! subscribed to the same are balanced within one in total, too.

/// One topic to be assigned.
pub(super) struct Job {
    /// The slots that may own its partitions, ascending, not empty.
    pub(super) slots: Vec<u32>,
    /// Each partition's owner before; `None` when it had none, or one that may not own it now.
    pub(super) before: Vec<Option<u32>>,
}

/// Assigns all topics: the owner of each partition, topic by topic, in the order of the jobs.
pub(super) fn assign(jobs: &[Job], slot_count: usize) -> Vec<Vec<u32>> {
    let mut totals = vec![0u32; slot_count];
    let mut owners: Vec<_> = jobs.iter().map(|job| assign_topic(job, &mut totals)).collect();
    while level(jobs, &mut owners, &mut totals) {}
    owners
}

fn assign_topic(job: &Job, totals: &mut [u32]) -> Vec<u32> {
    let mut have = vec![0u32; totals.len()];
    for slot in job.before.iter().flatten() {
        have[*slot as usize] += 1;
    }
    let mut quota = vec![0u32; totals.len()];
    let mut order = job.slots.clone();
    order.sort_by_key(|&slot| {
        let slot = slot as usize;
        (std::cmp::Reverse(have[slot]), totals[slot], slot)
    });
    let (count, partitions) = (order.len(), job.before.len());
    for (i, &slot) in order.iter().enumerate() {
        quota[slot as usize] = (partitions / count + usize::from(i < partitions % count)) as u32;
    }
    for &slot in &job.slots {
        totals[slot as usize] += quota[slot as usize];
    }
    // Each keeps its first ones, up to its quota.
    let mut left = quota;
    let mut kept: Vec<Option<u32>> = Vec::with_capacity(partitions);
    for &before in &job.before {
        kept.push(before.filter(|&slot| {
            let left = &mut left[slot as usize];
            let keeps = *left > 0;
            *left -= u32::from(keeps);
            keeps
        }));
    }
    let needy = job.slots.iter();
    let mut takers =
        needy.flat_map(|&slot| std::iter::repeat_n(slot, left[slot as usize] as usize));
    // The quotas sum up to the partitions, so there is a taker for every one that is not kept.
    kept.into_iter().filter_map(|owner| owner.or_else(|| takers.next())).collect()
}

/// One pass over the topics; true when something moved.
fn level(jobs: &[Job], owners: &mut [Vec<u32>], totals: &mut [u32]) -> bool {
    let mut moved = false;
    let mut have = vec![0u32; totals.len()];
    for (job, owners) in jobs.iter().zip(owners) {
        let share = (owners.len() / job.slots.len()) as u32;
        if owners.len().is_multiple_of(job.slots.len()) {
            continue;
        }
        job.slots.iter().for_each(|&slot| have[slot as usize] = 0);
        owners.iter().for_each(|&slot| have[slot as usize] += 1);
        loop {
            let total = |slot: &u32| totals[*slot as usize];
            let above = job.slots.iter().copied().filter(|&slot| have[slot as usize] > share);
            let below = job.slots.iter().copied().filter(|&slot| have[slot as usize] == share);
            let giver = above.max_by_key(|slot| (total(slot), std::cmp::Reverse(*slot)));
            let taker = below.min_by_key(|slot| (total(slot), *slot));
            let (Some(giver), Some(taker)) = (giver, taker) else { break };
            if total(&giver) < total(&taker) + 2 {
                break;
            }
            let Some(partition) = cheapest(job, owners, giver, taker) else { break };
            owners[partition] = taker;
            have[giver as usize] -= 1;
            have[taker as usize] += 1;
            totals[giver as usize] -= 1;
            totals[taker as usize] += 1;
            moved = true;
        }
    }
    moved
}

/// The giver's partition that costs least to hand over: one that the taker had, one that the
/// giver did not have, the last one.
fn cheapest(job: &Job, owners: &[u32], giver: u32, taker: u32) -> Option<usize> {
    let given = (0..owners.len()).filter(|&partition| owners[partition] == giver);
    given.max_by_key(|&partition| match job.before[partition] {
        Some(before) if before == taker => (2, partition),
        Some(before) if before == giver => (0, partition),
        _ => (1, partition),
    })
}
