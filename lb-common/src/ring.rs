//! Rings: which backend a slot belongs to, and which would follow it.
//!
//! The kernel only reads slots. How a ring comes about (weighted rendezvous) is behind the feature `build`.

use crate::abi::{Slot, SlotPair};

#[cfg(any(test, feature = "build"))]
mod build;
#[cfg(any(test, feature = "build"))]
mod score;

#[cfg(any(test, feature = "build"))]
pub use build::{Member, Ring, identity};

/// The slot `index` of a ring (or of the arena of all rings), out of element `index / 2`.
#[inline(always)]
pub fn slot(pair: SlotPair, index: u32) -> Slot {
    pair.0[(index & 1) as usize]
}
