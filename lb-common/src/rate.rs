//! A token bucket in one word: the time up to which what was taken is paid for.

/// Nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

/// Takes a token at the time `now` (nanoseconds), if there is one. `rate` come in a second, and as many fit into the bucket.
/// `paid` is what the last call returned, 0 at first.
#[inline(always)]
pub fn take(paid: u64, now: u64, rate: u32) -> Option<u64> {
    let cost = SECOND / (rate.max(1) as u64);
    let paid = paid.max(now);
    (rate != 0 && paid - now + cost <= SECOND).then_some(paid + cost)
}

/// Whether a token that costs so much time (nanoseconds) could be taken now, in the way of [`take`]; takes none.
#[inline(always)]
pub fn has_token(paid: u64, now: u64, cost: u64) -> bool {
    paid.max(now) - now + cost <= SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `attempts` at one moment get a token.
    fn taken(paid: &mut u64, now: u64, rate: u32, attempts: usize) -> usize {
        let take_one = |_: &usize| match take(*paid, now, rate) {
            Some(next) => {
                *paid = next;
                true
            }
            None => false,
        };
        (0..attempts).filter(take_one).count()
    }

    #[test]
    fn a_full_bucket_has_what_a_second_brings() {
        for rate in [1, 2, 10, 1000] {
            let mut paid = 0;
            assert_eq!(taken(&mut paid, 5 * SECOND, rate, 5000), rate as usize);
            assert_eq!(taken(&mut paid, 5 * SECOND + SECOND / 2, rate, 5000), rate as usize / 2);
            // No more gather than fit.
            assert_eq!(taken(&mut paid, 100 * SECOND, rate, 5000), rate as usize);
        }
    }

    #[test]
    fn over_time_no_more_than_the_rate() {
        let mut paid = 0;
        let all: usize = (0..10_000).map(|n| taken(&mut paid, SECOND + n * 1_000_000, 100, 3)).sum();
        assert!((1099..=1100).contains(&all), "{all} in 10 seconds");
    }

    #[test]
    fn nothing_at_rate_0_and_everything_at_the_highest() {
        assert_eq!(taken(&mut 0, SECOND, 0, 10), 0);
        assert_eq!(taken(&mut 0, SECOND, u32::MAX, 100_000), 100_000);
    }
}
