//! What the SYN filter keeps in the kernel: what it has seen, what it is dropping, and the switch that stops it.

use std::{collections::HashMap, net::IpAddr, time::Duration};

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
            ids.map(|id| {
                (0..self.seen.entries()).map(|cpu| matched_in(&self.seen, cpu, id, place).matched).sum::<u64>()
            })
            .sum()
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

    /// Lets what is remembered of SYNs begin anew where it stands for something else from here on.
    pub(super) fn forget_matches(&self, before: &[DescribedService], after: &[DescribedService]) {
        fn filters(services: &[DescribedService]) -> HashMap<u16, &DescribedFilter> {
            let vips = services.iter().flat_map(|service| service.vips.iter().map(move |vip| (vip.id, service)));
            vips.map(|(id, service)| (id, &service.syn_filter)).collect()
        }
        let (before, after) = (filters(before), filters(after));
        for (id, DescribedFilter { signatures, state, .. }) in after {
            let earlier = before.get(&id);
            for place in 0..SERVICE_SIGNATURES {
                let name = signatures.get(place);
                if earlier.is_some_and(|earlier| earlier.signatures.get(place) == name) {
                    continue;
                }
                for cpu in 0..self.seen.entries() {
                    self.set_matched(cpu, usize::from(id), place, Matches::default());
                }
                if id == *state {
                    let states: *mut SynState = self.states.at_mut((*state).into());
                    // SAFETY: `at_mut` points to the mapped element, and indexing the array inside it checks the index.
                    unsafe { (&raw mut (*states).signatures[place]).write_volatile(Default::default()) }
                }
            }
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
    live: Mapped<Live>,
    states: Mapped<SynState>,
    seen: Mapped<SynSeen>,
}

impl KeptOfSyns {
    pub(super) fn open(map: &impl Fn(&str) -> Result<MapData>) -> Result<Self> {
        Ok(KeptOfSyns {
            live: Mapped::new(&map("LIVE")?, Access::Read)?,
            states: Mapped::new(&map("SYN_STATES")?, Access::Read)?,
            seen: Mapped::new(&map("SYN_SEEN")?, Access::Read)?,
        })
    }
}

impl Datapath {
    /// Goes on where the filter of other tables has stopped, by the names of services, VIPs and signatures.
    pub(super) fn carry_syns(&self, from: &KeptOfSyns, before: &Description) -> Result<()> {
        self.set_syn_off(read!(from.live, syn_off) != 0);
        let carried = self.seen.entries() - 1;
        for service in &self.description()?.services {
            let Some(old) = before.services.iter().find(|old| old.name == service.name) else { continue };
            let kept = from.states.get(old.syn_filter.state.into());
            let mut state = self.syn_state(service);
            (state.budget_paid, state.cap_paid) = (kept.budget_paid, kept.cap_paid);
            for (place, name) in service.syn_filter.signatures.iter().enumerate().take(SERVICE_SIGNATURES) {
                let Some(was) = old.syn_filter.signatures.iter().position(|old| old == name) else { continue };
                state.signatures[place].until = kept.signatures[was].until;
                for vip in &service.vips {
                    let Some(old) = old.vips.iter().find(|old| old.vip == vip.vip) else { continue };
                    let of_cpu = |cpu| matched_in(&from.seen, cpu, usize::from(old.id), was).matched;
                    let matched = (0..from.seen.entries()).map(of_cpu).sum();
                    self.set_matched(carried, usize::from(vip.id), place, Matches { matched, told: 0 });
                }
            }
            self.states.set(service.syn_filter.state.into(), state);
        }
        Ok(())
    }
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
