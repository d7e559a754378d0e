//! A hash of what tables do with packets: equal on siblings that would send every packet to the same backend in the same way,
//! whatever they went through before. Ids, places and positions are no part of it, nor what is the node's own: next hops,
//! sources of tunnels, names.

use lb_common::{
    abi::{Address, Match, Settings, Slot},
    hash::mix,
};

use super::{RingKey, SynTables};

/// The hash of a ring, by the identities of its backends.
pub fn of_ring(key: &RingKey, slots: &[Slot]) -> u64 {
    let most = key.members.last().map_or(0, |member| usize::from(member.id) + 1);
    let mut identities = vec![0; most];
    key.members.iter().for_each(|member| identities[usize::from(member.id)] = member.identity);
    let identity = |id: u16| identities.get(usize::from(id)).copied().unwrap_or(0);
    // The second is turned, so that an exchange of the two shows.
    let of_slot = |slot: &Slot| identity(slot.first) ^ identity(slot.second).rotate_left(32).wrapping_mul(3);
    slots.iter().fold(mix(slots.len() as u64), |hash, slot| mix(hash ^ of_slot(slot)))
}

/// What an entry of the services' table does.
pub struct Entry {
    /// Its address.
    pub address: Address,
    /// What else it matches.
    pub matches: Match,
    /// Its flags.
    pub flags: u8,
    /// The largest MSS that a SYN may offer.
    pub mss: u16,
    /// How packets reach its backends: a number for each way.
    pub forward: u8,
    /// The hash of its ring; 0 without one of its own.
    pub ring: u64,
}

/// The hash of all of it.
pub fn of_tables(settings: &Settings, syn: &SynTables, entries: impl Iterator<Item = Entry>) -> u64 {
    let fold = |words: &[u64]| words.iter().fold(0, |hash, word| mix(hash ^ word));
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let mut words: Vec<u64> = entries
        .map(|Entry { address: Address([a, b, c, d]), matches, flags, mss, forward, ring }| {
            fold(&[
                pair(a, b),
                pair(c, d),
                matches.0.into(),
                pair(u32::from(flags) | u32::from(mss) << 16, forward.into()),
                ring,
            ])
        })
        .collect();
    words.sort_unstable();
    words.push(settings.flags.into());
    words.extend(syn.meaning());
    words.extend(settings.hash_key.as_chunks::<2>().0.iter().map(|[low, high]| pair(*low, *high)));
    fold(&words)
}
