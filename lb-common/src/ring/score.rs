//! How well a backend suits a slot, in integers alone, so that every machine gets the same answer.

/// A backend's score for a slot, from its hash there and the [`inverse`] of its weight: the smaller the better, and
/// below 2^62.
///
/// Of several backends with independent hashes, the one with the smallest `-log2(hash)` over its weight is each
/// with a probability in proportion to its weight: that is the whole of weighted rendezvous.
#[inline(always)]
pub fn score(hash: u64, inverse: u64) -> u64 {
    cost(hash) * inverse
}

/// Never more than [`score`], at a third of the price: `-log2(x)` is over `23/16 (1 - x)`.
#[inline(always)]
pub fn least_score(hash: u64, inverse: u64) -> u64 {
    (!hash >> 32) * (inverse * 23 / 16)
}

/// A weight's share in [`score`]: a cost times this is the cost over the weight, times 2^24. 0 for weight 0.
pub fn inverse(weight: u16) -> u64 {
    match weight {
        0 => 0,
        weight => ((1 << 24) + weight as u64 / 2) / weight as u64,
    }
}

/// `-log2(hash / 2^64)` in units of 2^-32: over 0, at most 2^38, and never larger for a larger hash.
#[inline(always)]
fn cost(hash: u64) -> u64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    let mantissa = hash << zeros << 1;
    let (base, step) = LOG2[(mantissa >> 56) as usize];
    let fraction = mantissa >> 24 & 0xffff_ffff;
    let log = base as u64 + ((step as u64 * fraction) >> 32);
    ((zeros as u64 + 1) << 32) - log
}

/// log2(1 + i/256) in units of 2^-32, and the way from there to the next.
static LOG2: [(u32, u32); 256] = {
    let mut table = [(0, 0); 256];
    let mut i = 0;
    while i < 256 {
        let base = log2(256 + i);
        table[i as usize] = (base as u32, (log2(257 + i) - base) as u32);
        i += 1;
    }
    table
};

/// log2(n/256) in units of 2^-32, rounded down, for n in 256..=512: squaring doubles the logarithm, so each
/// squaring yields one bit.
const fn log2(n: u64) -> u64 {
    if n == 512 {
        return 1 << 32;
    }
    let mut x = (n as u128) << 55;
    let mut bits = 0;
    let mut i = 0;
    while i < 32 {
        x = (x * x) >> 63;
        let two = x >> 64;
        bits = bits << 1 | two as u64;
        x >>= two;
        i += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(hash: u64) -> f64 {
        64.0 - (hash as f64).log2()
    }

    fn approximate(hash: u64) -> f64 {
        cost(hash) as f64 / (1u64 << 32) as f64
    }

    proptest! {
        #[test]
        fn follows_the_logarithm(hash in 1u64.., shift in 0u32..64) {
            let hash = hash >> shift | 1;
            prop_assert!((approximate(hash) - exact(hash)).abs() < 4e-6, "{hash:#x}");
        }

        #[test]
        fn the_least_score_is_no_more_than_the_score(hash: u64, ones in 0u32..64, weight in 1u16..) {
            for hash in [hash, !(!hash >> ones), hash >> ones] {
                prop_assert!(least_score(hash, inverse(weight)) <= score(hash, inverse(weight)), "{hash:#x}");
            }
        }

        #[test]
        fn never_grows_with_the_hash(a: u64, b: u64, shift in 0u32..64) {
            let (a, b) = (a >> shift, b >> shift);
            prop_assert!(cost(a.min(b)) >= cost(a.max(b)), "{a:#x} {b:#x}");
        }
    }

    #[test]
    fn holds_its_ends() {
        assert_eq!(cost(0), 64 << 32);
        assert_eq!(cost(1), 64 << 32);
        assert_eq!(cost(1 << 63), 1 << 32);
        assert_eq!(cost(u64::MAX), 1);
    }

    #[test]
    fn is_monotone_across_each_seam_of_the_table() {
        for i in 1..256u64 {
            let seam = 1 << 63 | i << 55;
            assert!(cost(seam - 1) >= cost(seam) && cost(seam) >= cost(seam + (1 << 24)), "{i}");
        }
    }

    #[test]
    fn is_proportional_near_the_best() {
        // Here the winners among many backends are found, so here the ratio matters, not the difference.
        for step in 1..1000u64 {
            let hash = u64::MAX - (step << 44);
            let ratio = approximate(hash) / (step as f64 * 2f64.powi(-20));
            assert!((ratio - core::f64::consts::LOG2_E).abs() < 0.01, "{step}: {ratio}");
        }
    }

    #[test]
    fn weights_invert() {
        assert_eq!(inverse(0), 0);
        assert_eq!(inverse(1), 1 << 24);
        assert_eq!(inverse(256), 1 << 16);
        for weight in 1..=256u16 {
            let ratio = inverse(weight) as f64 * weight as f64 / (1 << 24) as f64;
            assert!((ratio - 1.0).abs() < 1e-5, "{weight}: {ratio}");
        }
    }

    #[test]
    fn keeps_its_values() {
        let hashes = [1 << 10, 0x1234_5678_9abc_def0, 0x8000_0000_0000_0001, 0xf0e1_d2c3_b4a5_9687];
        assert_eq!(hashes.map(cost), [231922194671, 16380072700, 4294967296, 377171345]);
    }
}
