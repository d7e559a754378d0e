//! Which numbers stand for what: ids of VIP entries and backends, places of rings. Whoever lives through a change keeps its
//! number, so that its counters stay its own and its ring need not be written again. Where packets go does not depend on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lb_common::abi::{
    BACKEND_ENTRIES, Encapsulation, MAX_ARENA_SLOTS, MAX_BACKENDS, MAX_VIPS, SLOTS_PER_ELEMENT, VIP_ENTRIES,
};

use super::{Description, RingKey, syn::state_key};
use crate::config::{MIN_ARENA, Vip};

/// A backend's key in the tables: the same address by two methods is two entries.
pub type BackendKey = (IpAddr, Encapsulation);

/// The numbers that one generation of tables uses, and those that packets under way may still meet.
#[derive(Clone, PartialEq, Debug)]
pub struct Allocation {
    vips: Ids<Vip>,
    backends: Ids<BackendKey>,
    /// What the SYN filter remembers: of a service, as long as it looks for the same.
    states: Ids<u64>,
    arena: Arena,
}

impl Allocation {
    /// Nothing in use.
    pub fn empty(arena: u32) -> Self {
        Allocation {
            vips: Ids::empty("VIP entries", MAX_VIPS, VIP_ENTRIES),
            backends: Ids::empty("backends", MAX_BACKENDS, BACKEND_ENTRIES),
            states: Ids::empty("services", MAX_VIPS, VIP_ENTRIES),
            arena: Arena { slots: arena, used: BTreeMap::new(), retired: Vec::new() },
        }
    }

    /// What tables in the kernel use: `description` is theirs, `arena` the number of slots in RINGS.
    pub fn of(description: &Description, arena: u32) -> Result<Self> {
        let mut allocation = Self::empty(arena);
        for service in &description.services {
            for vip in &service.vips {
                let key = vip.vip.parse().map_err(|_| anyhow!("vip {:?} in the tables: none", vip.vip))?;
                allocation.vips.used.insert(key, vip.id);
            }
            for backend in service.backends.iter() {
                let encapsulation = service.encapsulation(backend.address)?;
                allocation.backends.used.insert((backend.address, encapsulation), backend.id);
            }
            allocation.states.used.insert(state_key(&service.name, &service.syn_filter), service.syn_filter.state);
            let end = service.ring.checked_add(service.slots).filter(|end| *end <= arena);
            end.with_context(|| format!("service {:?} in the tables: its ring lies outside", service.name))?;
            allocation.arena.used.insert(RingKey::of(service), service.ring);
        }
        Ok(allocation)
    }

    /// The numbers for the next generation: what lives on keeps its own, what is new gets one that neither the generation in
    /// use nor one before it has, as far as no grace period has passed since ([`Allocation::settled`]).
    pub fn next_ids(
        &self,
        vips: impl Iterator<Item = Vip>,
        backends: impl Iterator<Item = BackendKey>,
        states: impl Iterator<Item = u64>,
    ) -> Result<Allocation> {
        Ok(Allocation {
            vips: self.vips.next(vips)?,
            backends: self.backends.next(backends)?,
            states: self.states.next(states)?,
            arena: self.arena.clone(),
        })
    }

    /// The same with an arena of this size, in which nothing is.
    pub fn in_arena(self, slots: u32) -> Allocation {
        Allocation { arena: Arena { slots, used: BTreeMap::new(), retired: Vec::new() }, ..self }
    }

    /// Gives places to the rings of the next generation, in the same way.
    pub fn next_rings(mut self, rings: &[RingKey]) -> Result<Allocation> {
        self.arena = self.arena.next(rings)?;
        Ok(self)
    }

    /// The same once a grace period has passed since it went live: no packet meets what was given up, so it may be given away.
    pub fn settled(&self) -> Allocation {
        let mut settled = self.clone();
        settled.vips.retired.clear();
        settled.backends.retired.clear();
        settled.states.retired.clear();
        settled.arena.retired.clear();
        settled
    }

    /// The id of a VIP entry.
    pub fn vip(&self, vip: &Vip) -> Option<u16> {
        self.vips.used.get(vip).copied()
    }

    /// The id of a backend.
    pub fn backend(&self, key: &BackendKey) -> Option<u16> {
        self.backends.used.get(key).copied()
    }

    /// What the filter remembers of a service, by the key of what that looks for.
    pub fn state(&self, key: u64) -> Option<u16> {
        self.states.used.get(&key).copied()
    }

    /// All VIP entries.
    pub fn vips(&self) -> impl Iterator<Item = (Vip, u16)> {
        self.vips.used.iter().map(|(vip, id)| (*vip, *id))
    }

    /// All backends, by key.
    pub fn backends(&self) -> impl Iterator<Item = (BackendKey, u16)> {
        self.backends.used.iter().map(|(key, id)| (*key, *id))
    }

    /// Where a ring begins, in slots.
    pub fn ring(&self, key: &RingKey) -> Option<u32> {
        self.arena.used.get(key).copied()
    }

    /// Slots in the arena of all rings.
    pub fn arena(&self) -> u32 {
        self.arena.slots
    }
}

#[cfg(test)]
impl Allocation {
    /// One that is soon full.
    pub(super) fn with_room(vips: u32, backends: u32, arena: u32) -> Self {
        let mut empty = Self::empty(arena);
        (empty.vips.most, empty.vips.room) = (vips, 2 * vips);
        (empty.backends.most, empty.backends.room) = (backends, 2 * backends);
        empty
    }

    /// Ids of VIP entries and backends: those in use, and those that packets may still meet.
    pub(super) fn ids(&self) -> [(Vec<u16>, &BTreeSet<u16>); 2] {
        let (vips, backends) = (&self.vips, &self.backends);
        [
            (vips.used.values().copied().collect(), &vips.retired),
            (backends.used.values().copied().collect(), &backends.retired),
        ]
    }

    /// Pieces of the arena: those in use, and those that packets may still meet.
    pub(super) fn pieces(&self) -> (Vec<Piece>, &[Piece]) {
        (self.arena.used.iter().map(|(key, start)| (*start, key.slots)).collect(), &self.arena.retired)
    }
}

/// Ids of one kind.
#[derive(Clone, PartialEq, Debug)]
struct Ids<K: Ord> {
    what: &'static str,
    /// How many a configuration may have.
    most: u32,
    /// How many ids there are: more, for those of the generation that goes.
    room: u32,
    used: BTreeMap<K, u16>,
    retired: BTreeSet<u16>,
}

impl<K: Ord + Copy> Ids<K> {
    fn empty(what: &'static str, most: u32, room: u32) -> Self {
        Ids { what, most, room, used: BTreeMap::new(), retired: BTreeSet::new() }
    }

    fn next(&self, wanted: impl Iterator<Item = K>) -> Result<Self> {
        let mut used = BTreeMap::new();
        let mut new = Vec::new();
        for key in wanted {
            match self.used.get(&key) {
                Some(id) => drop(used.insert(key, *id)),
                None => new.push(key),
            }
        }
        let taken: BTreeSet<u16> = self.used.values().copied().chain(self.retired.iter().copied()).collect();
        let mut free = (0..self.room as u16).filter(|id| !taken.contains(id));
        for key in new {
            // Counted on past the end, so that the error tells how many were asked for.
            used.entry(key).or_insert_with(|| free.next().unwrap_or(u16::MAX));
        }
        let (what, asked, most, room) = (self.what, used.len(), self.most, self.room);
        ensure!(
            asked <= most as usize,
            "{what}: {asked} are asked for, at most {most} are possible: spread the services over several instances (--pins)"
        );
        ensure!(
            used.values().all(|id| u32::from(*id) < room),
            "{what}: {asked} are asked for beside {} that packets may still meet, room is for {room}: change less at once, \
             or try again in a moment",
            taken.len()
        );
        let kept: BTreeSet<u16> = used.values().copied().collect();
        Ok(Ids { used, retired: taken.difference(&kept).copied().collect(), ..*self })
    }
}

/// The arena of all rings.
#[derive(Clone, PartialEq, Debug)]
struct Arena {
    slots: u32,
    used: BTreeMap<RingKey, u32>,
    /// Where rings were.
    retired: Vec<Piece>,
}

/// First slot, slots.
pub(super) type Piece = (u32, u32);

impl Arena {
    fn next(&self, wanted: &[RingKey]) -> Result<Self> {
        let mut taken: Vec<Piece> = self.used.iter().map(|(key, start)| (*start, key.slots)).collect();
        taken.extend(&self.retired);
        taken.sort_unstable();
        let mut free = gaps(&taken, self.slots);
        let mut used = BTreeMap::new();
        for key in wanted {
            let start = match self.used.get(key) {
                Some(start) => *start,
                None if used.contains_key(key) => continue,
                None => first_fit(&mut free, key.slots).ok_or_else(|| self.full(wanted, &taken))?,
            };
            used.insert(key.clone(), start);
        }
        let kept: BTreeSet<u32> = used.values().copied().collect();
        let mut retired = taken;
        retired.retain(|(start, _)| !kept.contains(start));
        Ok(Arena { slots: self.slots, used, retired })
    }

    fn full(&self, wanted: &[RingKey], taken: &[Piece]) -> anyhow::Error {
        let sum = |keys: &mut dyn Iterator<Item = u32>| keys.map(u64::from).sum::<u64>();
        let new = sum(&mut wanted.iter().filter(|key| !self.used.contains_key(*key)).map(|key| key.slots));
        let held = sum(&mut taken.iter().map(|(_, slots)| *slots));
        let enough = (2 * sum(&mut wanted.iter().map(|key| key.slots))).next_power_of_two();
        let way_out = if enough > u64::from(MAX_ARENA_SLOTS) {
            "lower `slots`, or give services the same backends: they share a ring".to_owned()
        } else {
            format!("set arena = {enough} in the configuration, and start `weir run` anew: it makes a new arena")
        };
        anyhow!(
            "rings: {new} slots are asked for beside {held} in use, the arena has {} (a ring needs its slots in one piece): \
             {way_out}",
            self.slots
        )
    }
}

/// The free pieces between those taken (sorted), of whole elements.
fn gaps(taken: &[Piece], end: u32) -> Vec<Piece> {
    let mut gaps = Vec::new();
    let mut at = 0;
    for (start, slots) in taken.iter().copied().chain([(end, 0)]) {
        if start > at {
            gaps.push((at, start - at));
        }
        at = at.max((start + slots).next_multiple_of(SLOTS_PER_ELEMENT));
    }
    gaps
}

fn first_fit(free: &mut [Piece], slots: u32) -> Option<u32> {
    let (start, room) = free.iter_mut().find(|(_, room)| *room >= slots)?;
    let at = *start;
    let used = slots.next_multiple_of(SLOTS_PER_ELEMENT).min(*room);
    (*start, *room) = (*start + used, *room - used);
    Some(at)
}

/// How large the arena is made: as the configuration says, else with room for every ring twice, because a change is written
/// beside what it replaces.
pub fn arena_size(configured: Option<u32>, rings: &[RingKey]) -> Result<u32> {
    let needed: u64 = rings.iter().map(|key| u64::from(key.slots)).sum();
    let most = u64::from(MAX_ARENA_SLOTS);
    if needed > most / 2 {
        bail!(
            "rings: {needed} slots are asked for, at most {} are possible: lower `slots`, or give services the same \
             backends: they share a ring",
            most / 2
        );
    }
    Ok(configured.unwrap_or(0).max(2 * needed as u32).max(if configured.is_some() {
        SLOTS_PER_ELEMENT
    } else {
        MIN_ARENA
    }))
}
