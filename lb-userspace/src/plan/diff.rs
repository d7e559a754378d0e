//! What would change: tables in use against tables that are wanted, to the slot. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use lb_common::abi::{Settings, Slot};
use serde::Serialize;

use super::{DescribedBackend, DescribedService, Description, Tables, description::DescribedFilter};

/// What runs: what its tables say and what stands in them.
pub struct Running<'a> {
    /// The tables in words.
    pub description: &'a Description,
    /// The settings that packets meet.
    pub settings: &'a Settings,
    /// Slots in the arena.
    pub arena: u32,
    /// The ring of a service.
    pub ring: &'a dyn Fn(&DescribedService) -> Vec<Slot>,
}

/// Everything that would change.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Changes {
    /// Settings that hold for all services.
    pub settings: Vec<SettingChange>,
    /// Services that would change, by name.
    pub services: Vec<ServiceChange>,
}

impl Changes {
    /// Nothing would change.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.services.is_empty()
    }
}

/// A setting with another value.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SettingChange {
    /// Its key in the configuration.
    pub key: &'static str,
    /// What it is.
    pub from: String,
    /// What it would be.
    pub to: String,
}

/// What happens to a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It goes, and all its connections end.
    Removed,
    /// It stays, with something else about it.
    Changed,
}

/// A service that would change.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ServiceChange {
    /// Its name.
    pub service: String,
    /// What happens to it.
    pub change: Kind,
    /// Settings of its own.
    pub settings: Vec<SettingChange>,
    /// VIPs that come.
    pub vips_added: Vec<AddedVip>,
    /// VIPs that go.
    pub vips_removed: Vec<String>,
    /// Backends that come, go or change; those whose part alone changes are told by the slots.
    pub backends: Vec<BackendChange>,
    /// What moves in its ring.
    pub slots: Moves,
}

/// A VIP that would be a service's.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AddedVip {
    /// The VIP.
    pub vip: String,
    /// Where it is now.
    pub from: Option<Origin>,
}

/// The service whose VIP it is now.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Origin {
    /// Its name.
    pub service: String,
    /// What moves for the VIP.
    pub slots: Moves,
}

/// A backend of a service that would change.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BackendChange {
    /// Its address.
    pub backend: IpAddr,
    /// How it is, unless it is new.
    pub from: Option<BackendState>,
    /// How it would be, unless it goes.
    pub to: Option<BackendState>,
    /// Slots that it gives to others.
    pub gives: u32,
    /// Slots that it takes from others.
    pub takes: u32,
}

/// A backend on one side of a change.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BackendState {
    /// Its weight.
    pub weight: u16,
    /// Slots that it owns.
    pub owned: u32,
    /// What an override says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
    /// Whether it works, if it is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
}

/// Slots that come to another owner. If the ring's size changes, they are counted in the larger of the two.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Moves {
    /// Slots of the ring.
    pub slots: u32,
    /// Those that move.
    pub moved: u32,
    /// Those of them that move between backends about which nothing changes: none, unless flows are spread in another way.
    pub among_unchanged: u32,
    /// Every flow picks its slot anew: no slot keeps its flows, and `moved` is all of them.
    pub rehashed: bool,
    /// The part of connections that would meet another backend, or none.
    pub share: f64,
}

/// Compares.
pub fn diff(running: &Running, wanted: &Tables) -> Changes {
    let (before, after) = (&running.description.services, &wanted.description.services);
    let comparison = Comparison {
        running,
        rehash: running.settings.hash_key != wanted.settings.hash_key,
        home: home_of_vips(before),
        rings: wanted.rings.iter().map(|ring| (ring.start, ring.slots())).collect(),
    };
    let old: BTreeMap<&str, &DescribedService> = by_name(before);
    let new: BTreeMap<&str, &DescribedService> = by_name(after);
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let mut known = HashMap::new();
    let changes = names.into_iter().filter_map(|name| match (old.get(name), new.get(name)) {
        (Some(old), Some(new)) => comparison.changed(old, new, &mut known),
        (None, Some(new)) => Some(comparison.added(new, &mut known)),
        (Some(old), None) => Some(removed(old, after)),
        (None, None) => None,
    });
    Changes { settings: settings(running, wanted), services: changes.collect() }
}

/// Compares two plans, neither of which needs to run.
pub fn diff_tables(before: &Tables, after: &Tables) -> Changes {
    let ring = |service: &DescribedService| {
        before.rings.iter().find(|ring| ring.start == service.ring).map_or(Vec::new(), |ring| ring.slots().to_vec())
    };
    let arena = before.allocation.arena();
    diff(&Running { description: &before.description, settings: &before.settings, arena, ring: &ring }, after)
}

fn by_name(services: &[DescribedService]) -> BTreeMap<&str, &DescribedService> {
    services.iter().map(|service| (service.name.as_str(), service)).collect()
}

fn home_of_vips(services: &[DescribedService]) -> HashMap<&str, &DescribedService> {
    services.iter().flat_map(|service| service.vips.iter().map(move |vip| (vip.vip.as_str(), service))).collect()
}

struct Comparison<'a> {
    running: &'a Running<'a>,
    /// The hash key is another: every flow picks its slot anew.
    rehash: bool,
    /// Whose the VIPs are.
    home: HashMap<&'a str, &'a DescribedService>,
    /// Wanted rings by their places.
    rings: HashMap<u32, &'a [Slot]>,
}

/// What moves from a ring to another one, for those compared already: services share rings.
type Known = HashMap<(u32, u32, u32, u32, bool), Compared>;

#[derive(Clone, Default)]
struct Compared {
    moves: Moves,
    gives: HashMap<IpAddr, u32>,
    takes: HashMap<IpAddr, u32>,
}

impl Comparison<'_> {
    fn changed(&self, old: &DescribedService, new: &DescribedService, known: &mut Known) -> Option<ServiceChange> {
        // Its ring follows from what is said of it.
        if old == new && !self.rehash {
            return None;
        }
        let compared = self.compare(old, new, known);
        let mut settings = Vec::new();
        let mut setting = |key, from: &dyn ToString, to: &dyn ToString| {
            let (from, to) = (from.to_string(), to.to_string());
            if from != to {
                settings.push(SettingChange { key, from, to });
            }
        };
        setting("forward", &old.forward, &new.forward);
        setting("hash", &old.hash, &new.hash);
        setting("syn", &old.syn, &new.syn);
        let (was, is) = (&old.syn_filter, &new.syn_filter);
        // Where the names are the same, it is by what they mean that they differ.
        let meaning = was.signatures == is.signatures;
        let signatures = |filter: &DescribedFilter| {
            let pairs = filter.signatures.iter().zip(&filter.conditions);
            if meaning {
                pairs.map(|(name, conditions)| format!("{name} ({conditions})")).collect::<Vec<_>>().join(", ")
            } else {
                filter.signatures.join(", ")
            }
        };
        setting("syn signatures", &signatures(was), &signatures(is));
        setting("syn threshold", &format!("{}/s", was.threshold), &format!("{}/s", is.threshold));
        setting("syn budget", &format!("{}/s", was.budget), &format!("{}/s", is.budget));
        let rate = |rate: Option<u32>| rate.map_or("unbounded".to_owned(), |rate| format!("{rate}/s"));
        setting("syn_rate", &rate(was.rate), &rate(is.rate));
        let mss = |mss: Option<u16>| mss.map_or("unbounded".to_owned(), |mss| mss.to_string());
        setting("mss", &mss(old.mss), &mss(new.mss));
        setting("on_empty", &old.on_empty, &new.on_empty);
        setting("slots", &old.slots, &new.slots);
        let had: BTreeSet<&str> = old.vips.iter().map(|vip| vip.vip.as_str()).collect();
        let has: BTreeSet<&str> = new.vips.iter().map(|vip| vip.vip.as_str()).collect();
        let change = ServiceChange {
            service: new.name.clone(),
            change: Kind::Changed,
            settings,
            vips_added: has.difference(&had).map(|vip| self.added_vip(vip, new, known)).collect(),
            vips_removed: had.difference(&has).map(|vip| (*vip).to_owned()).collect(),
            backends: backends(&old.backends, &new.backends, &compared),
            slots: compared.moves,
        };
        let nothing = change.settings.is_empty()
            && change.vips_added.is_empty()
            && change.vips_removed.is_empty()
            && change.backends.is_empty()
            && change.slots.moved == 0;
        (!nothing).then_some(change)
    }

    fn added(&self, new: &DescribedService, known: &mut Known) -> ServiceChange {
        ServiceChange {
            service: new.name.clone(),
            change: Kind::Added,
            settings: Vec::new(),
            vips_added: new.vips.iter().map(|vip| self.added_vip(&vip.vip, new, known)).collect(),
            vips_removed: Vec::new(),
            backends: backends(&[], &new.backends, &Compared::default()),
            slots: Moves { slots: new.slots, ..Moves::default() },
        }
    }

    /// A VIP that was another service's brings its connections along.
    fn added_vip(&self, vip: &str, to: &DescribedService, known: &mut Known) -> AddedVip {
        let from = self.home.get(vip).map(|from| {
            let slots = self.compare(from, to, known).moves;
            Origin { service: from.name.clone(), slots }
        });
        AddedVip { vip: vip.to_owned(), from }
    }

    fn compare(&self, old: &DescribedService, new: &DescribedService, known: &mut Known) -> Compared {
        let rehash = self.rehash || old.hash != new.hash;
        let key = (old.ring, old.slots, new.ring, new.slots, rehash);
        known.entry(key).or_insert_with(|| self.compare_rings(old, new, rehash)).clone()
    }

    fn compare_rings(&self, old: &DescribedService, new: &DescribedService, rehash: bool) -> Compared {
        let before = Ring { slots: (self.running.ring)(old), owners: owners(&old.backends) };
        let after = Ring {
            slots: self.rings.get(&new.ring).map_or(Vec::new(), |slots| slots.to_vec()),
            owners: owners(&new.backends),
        };
        let (was, is) = (by_address(&old.backends), by_address(&new.backends));
        let is_unchanged =
            |owner: Option<IpAddr>| owner.is_some_and(|owner| unchanged(was.get(&owner), is.get(&owner)));
        let slots = before.slots.len().max(after.slots.len());
        let moves = Moves { slots: slots as u32, rehashed: rehash, ..Moves::default() };
        let mut compared = Compared { moves, ..Compared::default() };
        for at in 0..slots {
            let (from, to) = (before.owner(at), after.owner(at));
            if from == to {
                continue;
            }
            compared.moves.moved += 1;
            from.into_iter().for_each(|from| *compared.gives.entry(from).or_default() += 1);
            to.into_iter().for_each(|to| *compared.takes.entry(to).or_default() += 1);
            compared.moves.among_unchanged += u32::from(is_unchanged(from) && is_unchanged(to));
        }
        if rehash {
            // Where a flow goes has nothing to do with where it went: it stays by chance alone.
            let part = |backend: &DescribedBackend, of: &Ring| f64::from(backend.owned) / of.slots.len().max(1) as f64;
            let both = was.iter().filter_map(|(address, was)| Some((was, is.get(address)?)));
            let stay: f64 = both.map(|(was, is)| part(was, &before) * part(is, &after)).sum();
            (compared.moves.moved, compared.moves.share) = (slots as u32, 1.0 - stay);
            compared.moves.among_unchanged = slots as u32;
        } else {
            compared.moves.share = f64::from(compared.moves.moved) / slots.max(1) as f64;
        }
        compared
    }
}

/// A ring by whose backends are known.
struct Ring {
    slots: Vec<Slot>,
    /// By id.
    owners: Vec<Option<IpAddr>>,
}

impl Ring {
    /// The owner of a slot; of one beyond the ring's size that which its flows have here, since a slot is taken by mask.
    fn owner(&self, slot: usize) -> Option<IpAddr> {
        let mask = self.slots.len().checked_sub(1)?;
        self.owners.get(usize::from(self.slots[slot & mask].first)).copied().flatten()
    }
}

fn owners(backends: &[DescribedBackend]) -> Vec<Option<IpAddr>> {
    let ids = backends.iter().map(|backend| usize::from(backend.id) + 1).max().unwrap_or(0);
    let mut owners = vec![None; ids];
    backends.iter().for_each(|backend| owners[usize::from(backend.id)] = Some(backend.address));
    owners
}

fn by_address(backends: &[DescribedBackend]) -> BTreeMap<IpAddr, &DescribedBackend> {
    backends.iter().map(|backend| (backend.address, backend)).collect()
}

/// Nothing that its part depends on is different.
fn unchanged(old: Option<&&DescribedBackend>, new: Option<&&DescribedBackend>) -> bool {
    matches!((old, new), (Some(old), Some(new)) if (old.weight, old.part) == (new.weight, new.part))
}

fn backends(old: &[DescribedBackend], new: &[DescribedBackend], compared: &Compared) -> Vec<BackendChange> {
    let (was, is) = (by_address(old), by_address(new));
    let addresses: BTreeSet<IpAddr> = was.keys().chain(is.keys()).copied().collect();
    let change = |backend: IpAddr| {
        let (from, to) = (was.get(&backend), is.get(&backend));
        let state = |backend: &&DescribedBackend| BackendState {
            weight: backend.weight,
            owned: backend.owned,
            overridden: backend.overridden_text(),
            health: backend.health_text(None),
        };
        (!unchanged(from, to)).then(|| BackendChange {
            backend,
            from: from.map(state),
            to: to.map(state),
            gives: compared.gives.get(&backend).copied().unwrap_or(0),
            takes: compared.takes.get(&backend).copied().unwrap_or(0),
        })
    };
    addresses.into_iter().filter_map(change).collect()
}

fn removed(old: &DescribedService, after: &[DescribedService]) -> ServiceChange {
    let elsewhere = home_of_vips(after);
    ServiceChange {
        service: old.name.clone(),
        change: Kind::Removed,
        settings: Vec::new(),
        vips_added: Vec::new(),
        vips_removed: old.vips.iter().map(|vip| vip.vip.clone()).collect(),
        backends: backends(&old.backends, &[], &Compared::default()),
        slots: if old.vips.iter().all(|vip| elsewhere.contains_key(vip.vip.as_str())) {
            Moves { slots: old.slots, ..Moves::default() }
        } else {
            Moves { slots: old.slots, moved: old.slots, share: 1.0, ..Moves::default() }
        },
    }
}

/// What holds for all packets.
fn settings(running: &Running, wanted: &Tables) -> Vec<SettingChange> {
    let (old, new) = (running.description, &wanted.description);
    let mut changes = Vec::new();
    let mut setting = |key, from: String, to: String| {
        if from != to {
            changes.push(SettingChange { key, from, to });
        }
    };
    let list = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    setting("interface", list(&old.interfaces), list(&new.interfaces));
    setting("announce", old.announce.clone(), new.announce.clone());
    setting("macs", list(&old.macs), list(&new.macs));
    setting("syn allow", list(&old.allowed), list(&new.allowed));
    let bad_flags = |settings: &Settings| if settings.flags & Settings::PASS_BAD_FLAGS != 0 { "pass" } else { "drop" };
    setting("bad_flags", bad_flags(running.settings).to_owned(), bad_flags(&wanted.settings).to_owned());
    setting("icmp_rate", running.settings.icmp_rate.to_string(), wanted.settings.icmp_rate.to_string());
    setting("tunnel_source", tunnel_source(running.settings), tunnel_source(&wanted.settings));
    if let Some(arena) = wanted.arena {
        setting("arena", running.arena.to_string(), arena.to_string());
    }
    if running.settings.hash_key != wanted.settings.hash_key {
        let (from, to) = match (old.public_hash_key, new.public_hash_key) {
            (false, false) => ("a secret one", "another secret one"),
            (from, _) if from => ("the public one", "a secret one"),
            _ => ("a secret one", "the public one"),
        };
        changes.push(SettingChange { key: "hash_key", from: from.to_owned(), to: to.to_owned() });
    }
    changes
}

fn tunnel_source(settings: &Settings) -> String {
    let Settings { tunnel_source4, tunnel_vary4, tunnel_source6, tunnel_vary6, .. } = settings;
    let mut sources = Vec::new();
    if *tunnel_source4 != 0 {
        let address = std::net::Ipv4Addr::from(tunnel_source4.to_ne_bytes());
        sources.push(format!("{address}/{}", 32 - tunnel_vary4.count_ones()));
    }
    if tunnel_source6.0 != [0; 4] {
        let octets = tunnel_source6.0.map(u32::to_ne_bytes);
        let octets: [u8; 16] = std::array::from_fn(|at| octets[at / 4][at % 4]);
        sources.push(format!("{}/{}", std::net::Ipv6Addr::from(octets), 128 - tunnel_vary6.count_ones()));
    }
    if sources.is_empty() { "none".to_owned() } else { sources.join(", ") }
}

#[cfg(test)]
mod tests;
