//! Building a ring by weighted rendezvous, and changing it without building it anew.
//!
//! Each slot ranks all backends by a score of their own; the best owns the slot, the second best stands behind. A
//! score knows nothing of the other backends, so a change moves the slots it must and no other, and what the ring
//! looks like depends on who is in it, not on how they came.

use alloc::vec;
use alloc::vec::Vec;
use core::iter::zip;
use core::net::IpAddr;

use super::score::{inverse, least_score, score};
use crate::abi::{NO_BACKEND, Slot};
use crate::hash::{STEP, mix};

/// A backend as a ring sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    /// What stands in the slots; not [`NO_BACKEND`]. It has no say in who gets which.
    pub id: u16,
    /// What its scores come from, the same on every sibling ([`identity`]) and different for each member.
    pub identity: u64,
    /// Its share, relative to the others; with 0 it takes no slot.
    pub weight: u16,
    /// Which part of the slots that would be its own it takes, in parts of [`WHOLE`]: less while it drains. A hash of slot
    /// and identity picks them, and those of a smaller part are among those of a larger one, so that what one step of a
    /// drain gives up was its own and goes where it would go if the backend left.
    pub part: u32,
}

/// The [`Member::part`] of a backend that takes all that is its own.
pub const WHOLE: u32 = 1 << 16;

/// What a ring knows a backend by: a hash of its address.
pub fn identity(address: &IpAddr) -> u64 {
    let (version, bits) = match address {
        IpAddr::V4(v4) => (4, v4.to_bits() as u128),
        IpAddr::V6(v6) => (6, v6.to_bits()),
    };
    mix(mix(mix(version) ^ (bits >> 64) as u64) ^ bits as u64)
}

/// A ring, and what it takes to change it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    /// By id, so that equal rings are equal whatever their history.
    racers: Vec<Racer>,
    slots: Vec<Slot>,
    /// Of each slot's first and second.
    scores: Vec<[u64; 2]>,
}

impl Ring {
    /// A ring of `slots` slots; of two members with the same id the later one counts.
    pub fn build(slots: u32, members: &[Member]) -> Ring {
        let mut ring = Ring {
            racers: Vec::with_capacity(members.len()),
            slots: vec![EMPTY_SLOT; slots as usize],
            scores: vec![NO_SCORES; slots as usize],
        };
        for member in members {
            match ring.find(member.id) {
                Ok(at) => ring.racers[at] = Racer::new(member),
                Err(at) => ring.racers.insert(at, Racer::new(member)),
            }
        }
        let blocks = zip(ring.slots.chunks_mut(BLOCK), ring.scores.chunks_mut(BLOCK));
        for (block, (slots, scores)) in blocks.enumerate() {
            for racer in &ring.racers {
                race(racer, &ring.racers, block * BLOCK, slots, scores);
            }
        }
        ring
    }

    /// Who owns each slot and who stands behind.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slots alone, where nothing is to be changed any more.
    pub fn into_slots(self) -> Vec<Slot> {
        self.slots
    }

    /// How many slots each backend owns, by id; those that own none are among them.
    pub fn shares(&self) -> Vec<(u16, u32)> {
        let most = self.racers.last().map_or(0, |racer| racer.id as usize + 1);
        let mut owned = vec![0; most];
        for slot in self.slots.iter().filter(|slot| slot.first != NO_BACKEND) {
            owned[slot.first as usize] += 1;
        }
        self.racers.iter().map(|racer| (racer.id, owned[racer.id as usize])).collect()
    }

    /// How many slots a backend owns.
    pub fn owned(&self, id: u16) -> usize {
        self.slots.iter().filter(|slot| slot.first == id).count()
    }

    /// Adds a backend, in place of the one with its id if there is one.
    pub fn add(&mut self, member: Member) {
        self.remove(member.id);
        let at = self.find(member.id).unwrap_or_else(|at| at);
        self.racers.insert(at, Racer::new(&member));
        race(&self.racers[at], &self.racers, 0, &mut self.slots, &mut self.scores);
    }

    /// Takes a backend out; false if it was not in.
    pub fn remove(&mut self, id: u16) -> bool {
        let Ok(at) = self.find(id) else { return false };
        self.racers.remove(at);
        self.rescore(id);
        true
    }

    /// Gives a backend another weight and part; false if it is not in.
    pub fn reweight(&mut self, id: u16, weight: u16, part: u32) -> bool {
        let Ok(at) = self.find(id) else { return false };
        let before = self.racers[at];
        let after = Racer { inverse: inverse(weight), part, ..before };
        if after == before {
            return true;
        }
        self.racers[at] = after;
        if before.is_no_worse_than(&after) {
            self.rescore(id);
            return true;
        }
        if after.is_no_worse_than(&before) {
            // Its scores only get better: who was among the best two still is.
            self.vacate(id);
        } else {
            self.racers[at].part = 0;
            self.rescore(id);
            self.racers[at].part = part;
        }
        race(&self.racers[at], &self.racers, 0, &mut self.slots, &mut self.scores);
        true
    }

    /// Makes these its members, sorted by id, by as many changes as that takes.
    pub fn become_of(&mut self, members: &[Member]) {
        let known = |racer: &Racer| members.binary_search_by_key(&racer.id, |member| member.id).ok();
        let gone: Vec<u16> = self.racers.iter().filter(|racer| known(racer).is_none()).map(|racer| racer.id).collect();
        for id in gone {
            self.remove(id);
        }
        for member in members {
            match self.find(member.id) {
                Ok(at) if self.racers[at].identity == member.identity => {
                    self.reweight(member.id, member.weight, member.part);
                }
                _ => self.add(*member),
            }
        }
    }

    fn find(&self, id: u16) -> Result<usize, usize> {
        self.racers.binary_search_by_key(&id, |racer| racer.id)
    }

    /// Ranks everybody anew where this backend was among the best two.
    fn rescore(&mut self, id: u16) {
        for (index, (slot, scores)) in zip(&mut self.slots, &mut self.scores).enumerate() {
            if slot.first != id && slot.second != id {
                continue;
            }
            (*slot, *scores) = (EMPTY_SLOT, NO_SCORES);
            for racer in self.racers.iter().filter(|racer| racer.inverse != 0) {
                compete(racer, &self.racers, racer.state(index), slot, scores);
            }
        }
    }

    /// Strikes this backend from all slots.
    fn vacate(&mut self, id: u16) {
        for (slot, scores) in zip(&mut self.slots, &mut self.scores) {
            if slot.first == id {
                (slot.first, scores[0]) = (slot.second, scores[1]);
            } else if slot.second != id {
                continue;
            }
            (slot.second, scores[1]) = (NO_BACKEND, u64::MAX);
        }
    }
}

const EMPTY_SLOT: Slot = Slot { first: NO_BACKEND, second: NO_BACKEND };
const NO_SCORES: [u64; 2] = [u64::MAX; 2];

/// Slots that all members race for before the next ones: 20 KB, so that they stay in the nearest cache.
const BLOCK: usize = 1024;

/// A member, made ready to score.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Racer {
    id: u16,
    identity: u64,
    start: u64,
    inverse: u64,
    part: u32,
}

impl Racer {
    fn new(member: &Member) -> Racer {
        debug_assert_ne!(member.id, NO_BACKEND);
        let Member { id, identity, weight, part } = *member;
        Racer { id, identity, start: mix(identity), inverse: inverse(weight), part }
    }

    /// In no slot does it stand behind the other, which is the same backend.
    fn is_no_worse_than(&self, other: &Racer) -> bool {
        let rank = |racer: &Racer| if racer.inverse == 0 { u64::MAX } else { racer.inverse };
        rank(self) <= rank(other) && self.part >= other.part
    }

    /// Whether it competes for the slot where it has this hash.
    #[inline(always)]
    fn takes(&self, hash: u64) -> bool {
        self.part >= WHOLE || ((mix(hash ^ STEP) >> 48) as u32) < self.part
    }

    #[inline(always)]
    fn state(&self, slot: usize) -> u64 {
        self.start.wrapping_add((slot as u64).wrapping_mul(STEP))
    }
}

/// Lets one racer compete for all of these slots, the first of which is slot `start`.
fn race(racer: &Racer, racers: &[Racer], start: usize, slots: &mut [Slot], scores: &mut [[u64; 2]]) {
    if racer.inverse == 0 || racer.part == 0 {
        return;
    }
    let mut state = racer.state(start);
    for (slot, scores) in zip(slots, scores) {
        compete(racer, racers, state, slot, scores);
        state = state.wrapping_add(STEP);
    }
}

/// Scores a racer for the slot of this state, and puts it in its place among the best two if it has one.
#[inline(always)]
fn compete(racer: &Racer, racers: &[Racer], state: u64, slot: &mut Slot, scores: &mut [u64; 2]) {
    let hash = mix(state);
    // Nearly all fail here, at a third of the price of a score.
    if least_score(hash, racer.inverse) > scores[1] || !racer.takes(hash) {
        return;
    }
    let score = score(hash, racer.inverse);
    let beats = |other: u64, id: u16| score < other || (score == other && wins_tie(racer, id, racers));
    if beats(scores[0], slot.first) {
        *slot = Slot { first: racer.id, second: slot.first };
        *scores = [score, scores[0]];
    } else if beats(scores[1], slot.second) {
        slot.second = racer.id;
        scores[1] = score;
    }
}

/// Decides between equal scores by identity; ids, which siblings may number otherwise, only where identities are equal.
#[cold]
fn wins_tie(racer: &Racer, id: u16, racers: &[Racer]) -> bool {
    let other = racers.binary_search_by_key(&id, |racer| racer.id).map(|at| racers[at].identity);
    other.is_ok_and(|other| (racer.identity, racer.id) < (other, id))
}

#[cfg(test)]
mod tests;
