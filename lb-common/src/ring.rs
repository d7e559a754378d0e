//! Rings: which backend a slot belongs to, and which would follow it.
//!
//! The kernel only reads slots. How a ring comes about (weighted rendezvous) is behind the feature `build`.

use crate::abi::{Slot, SlotPair};

#[cfg(any(test, feature = "build"))]
mod build;
#[cfg(any(test, feature = "build"))]
mod score;

#[cfg(any(test, feature = "build"))]
pub use build::{Member, Ring, WHOLE, identity};

/// The slot `index` of a ring (or of the arena of all rings), out of element `index / 2`.
#[inline(always)]
pub fn slot(pair: SlotPair, index: u32) -> Slot {
    // A shift, where a branch would be guessed wrong every other time.
    let bits = pair.0 >> ((index & 1) * 32);
    Slot { first: bits as u16, second: (bits >> 16) as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_gives_back_its_slots() {
        let (even, odd) = (Slot { first: 1, second: 2 }, Slot { first: 0xfffe, second: 0xffff });
        let pair = SlotPair::new(even, odd);
        assert_eq!(slot(pair, 6), even);
        assert_eq!(slot(pair, 7), odd);
    }
}
