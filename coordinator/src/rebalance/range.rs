//! The paper's Algorithm 1, with the remainder: contiguous ranges, the first streams one more.

/// Splits `partitions` over `slots` (sorted, not empty): the owner of each partition in order.
///
/// With |PT| partitions and |CT| slots each gets |PT| / |CT| of them, and the first |PT| mod |CT|
/// slots one more. 7 over 3 is 3, 2, 2.
pub fn assign(slots: &[u32], partitions: u32) -> Vec<u32> {
    let Some(count) = u32::try_from(slots.len()).ok().filter(|&count| count > 0) else {
        return Vec::new();
    };
    let (each, remainder) = (partitions / count, partitions % count);
    let shares = slots.iter().zip(0u32..).map(|(&slot, i)| {
        let share = each + u32::from(i < remainder);
        std::iter::repeat_n(slot, share as usize)
    });
    shares.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_take_the_remainder() {
        assert_eq!(assign(&[0, 1, 2], 7), [0, 0, 0, 1, 1, 2, 2]);
        assert_eq!(assign(&[4, 9], 1), [4]);
        assert_eq!(assign(&[0, 1], 4), [0, 0, 1, 1]);
        assert!(assign(&[0], 0).is_empty());
        assert!(assign(&[], 3).is_empty());
    }
}
