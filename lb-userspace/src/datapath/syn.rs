//! What the SYN filter keeps in the kernel: what it has seen, what it is dropping, and the switch that stops it.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, lpm_trie::Key};
use lb_common::abi::{Live, Matches, SERVICE_SIGNATURES, SynSeen, SynState};
use nix::time::{ClockId, clock_getres};

use super::{Access, Datapath, Mapped};
use crate::{
    config::Allowed,
    plan::{DescribedFilter, DescribedService, Description},
};

/// Nanoseconds between two ticks of the kernel, which its coarse clock moves by.
pub(super) fn tick_ns() -> Result<u64> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).context("cannot read how long a tick is")?;
    let tick = Duration::from(tick).as_nanos() as u64;
    ensure!((100_000..=100_000_000).contains(&tick), "a tick of the kernel is said to be {tick} ns long");
    Ok(tick)
}

impl Datapath {
    /// Stops all dropping of SYNs, or lets it go on: one store.
    pub fn set_syn_off(&self, off: bool) {
        write!(self.live, u64::from(off), syn_off);
    }

    /// Whether it is stopped.
    pub fn syn_is_off(&self) -> bool {
        read!(self.live, syn_off) != 0
    }

    /// How often each signature of a service was matched, in their order.
    pub fn matches(&self, service: &DescribedService) -> Vec<u64> {
        let of_place = |place: usize| {
            let ids = service.vips.iter().map(|vip| usize::from(vip.id));
            ids.map(|id| matched_at(&self.seen, id, place)).fold(0, u64::wrapping_add)
        };
        (0..service.syn_filter.signatures.len().min(SERVICE_SIGNATURES)).map(of_place).collect()
    }

    fn set_matched(&self, cpu: u32, id: usize, place: usize, matches: Matches) {
        let seen: *mut SynSeen = self.seen.at_mut(cpu);
        // SAFETY: as above, and `at_mut` points to what may be written.
        unsafe { (&raw mut (*seen).vips[id][place]).write_volatile(matches) }
    }

    /// What is remembered of a service.
    pub fn syn_state(&self, service: &DescribedService) -> SynState {
        self.states.get(service.syn_filter.state.into())
    }

    /// Which signatures of a service are being dropped, in their order. `now` is [`Datapath::path_now`].
    pub fn dropping(&self, service: &DescribedService, now: u64) -> Vec<bool> {
        let state = self.syn_state(service);
        let drops = |place: usize| match service.syn.as_str() {
            "drop" => true,
            "auto" => state.signatures[place].until > now,
            _ => false,
        };
        let places = 0..service.syn_filter.signatures.len().min(SERVICE_SIGNATURES);
        places.map(|place| !self.syn_is_off() && drops(place)).collect()
    }

    /// What time the path takes it to be, ns of its own clock.
    pub fn path_now(&self) -> Result<u64> {
        // What frame is asked about does not matter.
        Ok(self.explain(&[0; 64])?.0.now())
    }

    /// Lets what the filter remembers begin where no packet meets it yet, with what goes on of it.
    pub(super) fn begin_states(&self, before: &[DescribedService], after: &[DescribedService]) {
        let known: HashSet<u16> = before.iter().map(|service| service.syn_filter.state).collect();
        let before: HashMap<&str, &DescribedService> = before.iter().map(|old| (&old.name[..], old)).collect();
        for service in after.iter().filter(|service| !known.contains(&service.syn_filter.state)) {
            let mut state = SynState::default();
            if let Some(old) = before.get(&service.name[..]) {
                go_on(&mut state, &service.syn_filter, &self.syn_state(old), &old.syn_filter);
            }
            self.states.set(service.syn_filter.state.into(), state);
        }
    }

    /// For a VIP entry that nobody counts for.
    pub(super) fn forget_matches(&self, cpu: u32, id: u16) {
        for place in 0..SERVICE_SIGNATURES {
            self.set_matched(cpu, id.into(), place, Matches::default());
        }
    }

    /// Lets these be 0 altogether from here on, by what the element says that no CPU counts in: packets go on counting.
    pub(super) fn count_anew(&self, places: &[(u16, usize)]) {
        let carried = self.seen.entries() - 1;
        for (id, place) in places {
            let id = usize::from(*id);
            let counted = matched_at(&self.seen, id, *place);
            let matches = matched_in(&self.seen, carried, id, *place);
            let matched = matches.matched.wrapping_sub(counted);
            self.set_matched(carried, id, *place, Matches { matched, ..matches });
        }
    }

    /// Writes the prefixes whose SYNs are never dropped, beside those of the other half.
    pub(super) fn write_allowed(&self, half: u32, prefixes: &[Allowed]) -> Result<()> {
        let fault = "cannot write the prefixes that are never dropped";
        let mut trie = self.allowed.borrow_mut();
        let old: Vec<_> = trie.keys().collect::<Result<_, _>>().context(fault)?;
        for key in old.iter().filter(|key| key.data()[0] == half) {
            trie.remove(key).context(fault)?;
        }
        for prefix in prefixes {
            trie.insert(&key(half, prefix), 1, 0).context(fault)?;
        }
        Ok(())
    }
}

/// What the filter of other tables keeps.
pub(super) struct KeptOfSyns {
    off: bool,
    states: Mapped<SynState>,
    seen: Mapped<SynSeen>,
}

impl KeptOfSyns {
    pub(super) fn open(map: &impl Fn(&str) -> Result<MapData>) -> Result<Self> {
        Ok(KeptOfSyns {
            off: Mapped::last_word(&map("LIVE")?)? != 0,
            states: Mapped::new(&map("SYN_STATES")?, Access::Read)?,
            seen: Mapped::new(&map("SYN_SEEN")?, Access::Read)?,
        })
    }
}

impl Datapath {
    /// Goes on where the filter of other tables has stopped, by the names of services, VIPs and signatures.
    pub(super) fn carry_syns(&self, from: &KeptOfSyns, before: &Description, again: bool) -> Result<()> {
        if !again {
            self.set_syn_off(from.off);
        }
        let carried = self.seen.entries() - 1;
        for service in &self.description()?.services {
            let Some(old) = before.services.iter().find(|old| old.name == service.name) else { continue };
            // Once packets meet it, it is theirs.
            if !again {
                let mut state = self.syn_state(service);
                let kept = from.states.get(old.syn_filter.state.into());
                go_on(&mut state, &service.syn_filter, &kept, &old.syn_filter);
                self.states.set(service.syn_filter.state.into(), state);
            }
            for (place, was) in same_signatures(&service.syn_filter, &old.syn_filter) {
                for vip in &service.vips {
                    let Some(old) = old.vips.iter().find(|old| old.vip == vip.vip) else { continue };
                    let matched = matched_at(&from.seen, usize::from(old.id), was);
                    self.set_matched(carried, usize::from(vip.id), place, Matches { matched, told: 0 });
                }
            }
        }
        Ok(())
    }
}

/// Where a filter has what another one has: its place here, and there.
fn same_signatures(filter: &DescribedFilter, other: &DescribedFilter) -> Vec<(usize, usize)> {
    let named = |filter: &DescribedFilter| -> Vec<(String, String)> {
        filter.signatures.iter().cloned().zip(filter.conditions.iter().cloned()).take(SERVICE_SIGNATURES).collect()
    };
    let there = named(other);
    let found = |(place, one): (usize, &(String, String))| Some((place, there.iter().position(|other| other == one)?));
    named(filter).iter().enumerate().filter_map(found).collect()
}

/// Until when what is dropped, and up to when what is paid: that goes on from one state to another.
fn go_on(state: &mut SynState, filter: &DescribedFilter, kept: &SynState, of: &DescribedFilter) {
    (state.budget_paid, state.cap_paid) = (kept.budget_paid, kept.cap_paid);
    for (place, was) in same_signatures(filter, of) {
        state.signatures[place].until = kept.signatures[was].until;
    }
}

/// VIP entries that both have, with the places where they look for something else.
pub(super) fn other_signatures(before: &[DescribedService], after: &[DescribedService]) -> Vec<(u16, usize)> {
    fn filters(services: &[DescribedService]) -> HashMap<u16, &DescribedFilter> {
        let vips = services.iter().flat_map(|service| service.vips.iter().map(move |vip| (vip.id, service)));
        vips.map(|(id, service)| (id, &service.syn_filter)).collect()
    }
    let (before, after) = (filters(before), filters(after));
    let mut others = Vec::new();
    for (id, filter) in after {
        let Some(earlier) = before.get(&id) else { continue };
        let at = |filter: &DescribedFilter, place| {
            (filter.signatures.get(place).cloned(), filter.conditions.get(place).cloned())
        };
        others.extend(
            (0..SERVICE_SIGNATURES).filter(|place| at(filter, *place) != at(earlier, *place)).map(|place| (id, place)),
        );
    }
    others
}

/// How often a signature was matched, all CPUs together. One that began anew has less than nothing in the element that none counts in.
fn matched_at(seen: &Mapped<SynSeen>, id: usize, place: usize) -> u64 {
    (0..seen.entries()).map(|cpu| matched_in(seen, cpu, id, place).matched).fold(0, u64::wrapping_add)
}

fn matched_in(seen: &Mapped<SynSeen>, cpu: u32, id: usize, place: usize) -> Matches {
    let seen: *const SynSeen = seen.at(cpu);
    // SAFETY: `at` points to the mapped element, and indexing arrays inside it checks the indices.
    unsafe { (&raw const (*seen).vips[id][place]).read_volatile() }
}

fn key(half: u32, prefix: &Allowed) -> Key<[u32; 5]> {
    let (address, before) = match prefix.address {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), 96),
        IpAddr::V6(address) => (address, 0),
    };
    let [a, b, c, d] = lb_common::abi::Address::from(address).0;
    Key::new(32 + before + u32::from(prefix.length), [half, a, b, c, d])
}
