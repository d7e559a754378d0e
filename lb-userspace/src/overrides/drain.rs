//! A drain over time: how much is left when.

use std::time::Duration;

use lb_common::ring::WHOLE;
use serde::{Deserialize, Serialize};

/// A step every so often, unless the operator says how many.
const STEP_MS: u64 = 10_000;
/// Steps at most: each is a change of the tables.
const MOST_STEPS: u32 = 1_000;

/// Equal steps over a time, by the wall clock, so that they go on after a restart where they would be by then. The first is
/// taken at once, with the last nothing is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// When it began, milliseconds since 1970.
    start_ms: u64,
    /// How long it takes, milliseconds.
    over_ms: u64,
    /// In how many steps.
    steps: u32,
    /// What there was in the beginning, of `WHOLE`.
    from: u32,
}

impl Drain {
    /// One that begins now.
    pub fn new(now_ms: u64, over: Duration, steps: Option<u32>, from: u32) -> Self {
        let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
        let usual = u32::try_from(over_ms / STEP_MS + 1).unwrap_or(MOST_STEPS).max(2);
        let steps = if over_ms == 0 { 1 } else { steps.unwrap_or(usual).clamp(1, MOST_STEPS) };
        Drain { start_ms: now_ms, over_ms, steps, from }
    }

    /// What is left now, of `WHOLE`.
    pub fn part(&self, now_ms: u64) -> u32 {
        let left = u64::from(self.steps.saturating_sub(self.taken(now_ms)));
        (u64::from(self.from) * left / u64::from(self.steps.max(1))) as u32
    }

    /// When the next step is to be taken, unless the last one has been.
    pub fn next_step_ms(&self, now_ms: u64) -> Option<u64> {
        let taken = self.taken(now_ms);
        (taken < self.steps).then(|| self.step_ms(taken))
    }

    /// How many steps have been taken: one at least, however the clock was set since.
    fn taken(&self, now_ms: u64) -> u32 {
        let elapsed = u128::from(now_ms.saturating_sub(self.start_ms));
        match self.over_ms {
            0 => self.steps,
            over => {
                let between = u128::from(self.steps.saturating_sub(1));
                u32::try_from(elapsed * between / u128::from(over) + 1).unwrap_or(u32::MAX).min(self.steps)
            }
        }
    }

    /// When a step is taken, the first being 0: the first millisecond by which it counts as taken.
    fn step_ms(&self, step: u32) -> u64 {
        let between = u128::from(self.steps.saturating_sub(1)).max(1);
        let after = (u128::from(self.over_ms) * u128::from(step)).div_ceil(between);
        self.start_ms.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// Whether it could have been made by [`Drain::new`].
    pub fn is_valid(&self) -> bool {
        (1..=MOST_STEPS).contains(&self.steps) && self.from <= WHOLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(seconds: u64, steps: Option<u32>) -> Drain {
        Drain::new(1_000_000, Duration::from_secs(seconds), steps, WHOLE)
    }

    /// What is left after so many seconds.
    fn left(drain: &Drain, seconds: u64) -> u32 {
        drain.part(1_000_000 + 1000 * seconds) * 100 / WHOLE
    }

    #[test]
    fn five_steps_over_eight_seconds() {
        let drain = drain(8, Some(5));
        let seconds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(seconds.map(|second| left(&drain, second)), [79, 79, 59, 59, 39, 39, 19, 19, 0, 0]);
        assert_eq!(drain.next_step_ms(1_000_000), Some(1_002_000));
        assert_eq!(drain.next_step_ms(1_007_999), Some(1_008_000));
        assert_eq!(drain.next_step_ms(1_008_000), None);
    }

    #[test]
    fn without_time_all_is_given_up_at_once() {
        for steps in [None, Some(7)] {
            assert_eq!((drain(0, steps).part(1_000_000), drain(0, steps).next_step_ms(1_000_000)), (0, None));
        }
    }

    #[test]
    fn a_clock_that_was_set_back_gives_nothing_back_that_the_first_step_took() {
        assert_eq!(drain(8, Some(5)).part(0), drain(8, Some(5)).part(1_000_000));
    }

    #[test]
    fn steps_follow_from_the_time() {
        let steps = |seconds| drain(seconds, None).steps;
        assert_eq!([1, 10, 300, 86_400 * 365].map(steps), [2, 2, 31, MOST_STEPS]);
    }

    proptest! {
        #[test]
        fn steps_are_equal_and_come_when_they_are_said_to(
            start in 0..1u64 << 50, over in 1..1u64 << 45, steps in 1..=MOST_STEPS, from in 0..=WHOLE
        ) {
            let drain = Drain::new(start, Duration::from_millis(over), Some(steps), from);
            let mut now = start;
            for step in 1..=steps {
                prop_assert_eq!(drain.taken(now), if over == 1 && step > 1 { steps } else { drain.taken(now).max(step) });
                let expected = u64::from(from) * u64::from(steps - drain.taken(now)) / u64::from(steps);
                prop_assert_eq!(u64::from(drain.part(now)), expected);
                let Some(next) = drain.next_step_ms(now) else { break };
                prop_assert!(next > now && next <= start + over);
                prop_assert!(drain.taken(next - 1) == drain.taken(now) && drain.taken(next) > drain.taken(now));
                now = next;
            }
            prop_assert_eq!(drain.part(start + over), if steps == 1 { drain.part(start) } else { 0 });
            prop_assert_eq!(drain.part(start + over), 0);
        }

        #[test]
        fn no_numbers_upset_it(start_ms: u64, over_ms: u64, steps: u32, from: u32, now: u64) {
            let drain = Drain { start_ms, over_ms, steps, from };
            let _ = (drain.part(now), drain.next_step_ms(now));
        }
    }
}
