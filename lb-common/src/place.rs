//! Places the keys of the services' table: each into one of its two positions, so that two probes find it or show that it is
//! not there.
//!
//! Any order of the same keys gives the same placement, so siblings agree.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::abi::{Address, Match, SERVICE_POSITIONS};
use crate::hash::{STEP, key_positions, mix};

/// Where each key goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// What [`crate::hash::positions`] wants to know.
    pub seed: u64,
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
                write!(f, "{keys} service keys: no room for all in {SERVICE_POSITIONS} positions: remove some")
            }
        }
    }
}

impl core::error::Error for PlaceError {}

/// Places all keys under the first seed, of a fixed sequence, under which they fit.
pub fn place(keys: &[(Address, Match)]) -> Result<Placement, PlaceError> {
    let order = sorted(keys)?;
    if keys.len() > SERVICE_POSITIONS as usize {
        return Err(PlaceError::NoSeed(keys.len()));
    }
    let fit = (0..SEEDS).map(seed).find_map(|seed| {
        let choices: Vec<_> = order.iter().map(|&at| key_positions(&keys[at].0, keys[at].1, seed)).collect();
        Some((seed, orient(&choices)?))
    });
    let (seed, placed) = fit.ok_or(PlaceError::NoSeed(keys.len()))?;
    let mut positions = vec![0; keys.len()];
    for (at, position) in order.into_iter().zip(placed) {
        positions[at] = position;
    }
    Ok(Placement { seed, positions })
}

/// Seeds to try. Nearly every one fits up to 15,000 keys, and none far beyond half the positions.
const SEEDS: u64 = 64;

/// The nth seed: far from the others in its bits.
fn seed(n: u64) -> u64 {
    mix(STEP.wrapping_mul(n + 1))
}

/// The order of the keys by value, as indices: bare addresses last, because packets look for them only after a miss, and who
/// comes first more often stands where it is looked for first.
fn sorted(keys: &[(Address, Match)]) -> Result<Vec<usize>, PlaceError> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&at| (keys[at].1.is_address(), keys[at], at));
    match order.windows(2).find(|pair| keys[pair[0]] == keys[pair[1]]) {
        Some(pair) => Err(PlaceError::Duplicate(pair[0], pair[1])),
        None => Ok(order),
    }
}

/// One of its two positions for each key, no two the same, if that is possible; the first wherever it is free
/// when its turn comes.
fn orient(choices: &[(u32, u32)]) -> Option<Vec<u32>> {
    let mut holders = vec![None; SERVICE_POSITIONS as usize];
    let mut late = Vec::new();
    for (key, &(first, _)) in choices.iter().enumerate() {
        match &mut holders[first as usize] {
            holder @ None => *holder = Some(key),
            Some(_) => late.push(key),
        }
    }
    for key in late {
        displace(key, choices, &mut holders)?;
    }
    let mut positions = vec![0; choices.len()];
    for (position, holder) in (0..).zip(holders) {
        if let Some(key) = holder {
            positions[key] = position;
        }
    }
    Some(positions)
}

/// Puts a key in its second position if that is free, else in its first; who was there moves to its other one, and
/// so on. There is one way to go from each position, and a way that can end does so before it meets a key again
/// that it has met twice.
fn displace(key: usize, choices: &[(u32, u32)], holders: &mut [Option<usize>]) -> Option<()> {
    let (first, second) = choices[key];
    let free = holders[second as usize].is_none();
    let (mut key, mut position) = (key, if free { second } else { first });
    for _ in 0..2 * choices.len() + 2 {
        key = match holders[position as usize].replace(key) {
            None => return Some(()),
            Some(displaced) => displaced,
        };
        let (first, second) = choices[key];
        position = if position == first { second } else { first };
    }
    None
}

#[cfg(test)]
mod tests;
