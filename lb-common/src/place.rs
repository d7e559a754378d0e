//! Places the keys of the services' table, each at a position of its own that one probe finds or shows to be empty: hash and
//! displace (Belazzougui, Botelho, Dietzfelbinger 2009). Keys that share a bucket of their hash are moved together, by the
//! smallest displacement that leads all of them to free positions.
//!
//! Any order of the same keys gives the same placement.

use alloc::vec;
use alloc::vec::Vec;
use core::{cmp::Reverse, fmt};

use crate::abi::{Address, DISPLACEMENTS, Match, SERVICE_POSITIONS};
use crate::hash::{STEP, bucket, mix, position, whole_key};

/// Where each key goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// What [`crate::hash::key`] wants to know.
    pub seed: u64,
    /// What [`crate::hash::position`] wants to know, by [`crate::hash::bucket`].
    pub displacements: Vec<u16>,
    /// The position of each key, in the order in which the keys were given.
    pub positions: Vec<u32>,
}

/// Why keys cannot be placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlaceError {
    /// Two keys are the same; their places in what was given.
    Duplicate(usize, usize),
    /// No seed fits this many keys.
    NoSeed(usize),
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(a, b) => write!(f, "service keys {a} and {b} are the same: remove one"),
            Self::NoSeed(keys) => {
                write!(f, "{keys} service keys: no room for all in the table: remove some")
            }
        }
    }
}

impl core::error::Error for PlaceError {}

/// Places all keys under the first seed, of a fixed sequence, under which they fit.
pub fn place(keys: &[(Address, Match)]) -> Result<Placement, PlaceError> {
    if let Some((first, second)) = duplicate(keys) {
        return Err(PlaceError::Duplicate(first, second));
    }
    (0..SEEDS).map(seed).find_map(|seed| place_under(keys, seed)).ok_or(PlaceError::NoSeed(keys.len()))
}

/// Seeds to try. A full configuration fits under every seventh or so, a small one under nearly every one.
const SEEDS: u64 = 1024;

/// The nth seed: odd, and far from the others in its bits.
fn seed(n: u64) -> u64 {
    mix(STEP.wrapping_mul(n + 1)) | 1
}

/// Two of the keys that are the same: their places.
fn duplicate(keys: &[(Address, Match)]) -> Option<(usize, usize)> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&at| (keys[at], at));
    order.windows(2).find(|pair| keys[pair[0]] == keys[pair[1]]).map(|pair| (pair[0], pair[1]))
}

/// The fullest buckets first, while there is room. Within a bucket the order of keys makes no difference: they are moved
/// together.
fn place_under(keys: &[(Address, Match)], seed: u64) -> Option<Placement> {
    let mut buckets = vec![Vec::new(); DISPLACEMENTS as usize];
    for (at, (address, matches)) in keys.iter().enumerate() {
        let hash = whole_key(address, *matches, seed);
        buckets[bucket(hash, *matches) as usize].push((at, hash, *matches));
    }
    let mut order: Vec<usize> = (0..buckets.len()).filter(|&number| !buckets[number].is_empty()).collect();
    order.sort_by_key(|&number| (Reverse(buckets[number].len()), number));
    let mut placement = Placement { seed, displacements: vec![0; buckets.len()], positions: vec![0; keys.len()] };
    let mut taken = vec![false; SERVICE_POSITIONS as usize];
    for number in order {
        let keys = &buckets[number];
        let displacement = (0..SERVICE_POSITIONS as u16 / 2).find(|&displacement| {
            let places = || keys.iter().map(|(_, hash, matches)| position(*hash, displacement, *matches) as usize);
            let held = places().take_while(|&place| !core::mem::replace(&mut taken[place], true)).count();
            if held < keys.len() {
                places().take(held).for_each(|place| taken[place] = false);
            }
            held == keys.len()
        })?;
        placement.displacements[number] = displacement;
        for (at, hash, matches) in keys {
            placement.positions[*at] = position(*hash, displacement, *matches);
        }
    }
    Some(placement)
}

#[cfg(test)]
mod tests;
