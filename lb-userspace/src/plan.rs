//! From a configuration to the tables of the kernel: pure, and the same on every node but for numbers and places, which follow
//! from what was there before.

mod allocation;
mod description;
pub mod diff;
mod fingerprint;
mod rings;
mod syn;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use lb_common::{
    abi::{self, Address, Encapsulation, Match, Service, Settings, Slot},
    hash,
    place::{Placement, place},
    ring::{Member, identity},
};

pub use self::{
    allocation::{Allocation, BackendKey},
    description::{DescribedBackend, DescribedFilter, DescribedService, DescribedVip, Description},
    rings::{BuiltRing, RingCache, RingKey},
    syn::SynTables,
};
use crate::config::{self, BadFlags, Config, Forward, Hash, OnEmpty, Protocol, Vip};

/// A description has at least room for a thousand services or ten thousand backends: 1 MiB.
const MIN_DESCRIPTION_PAGES: u32 = 256;

/// What a description may say of a backend's health, beyond what it says when all work.
const HEALTH_BYTES: usize = 160;

/// Everything that is written into the kernel for one configuration.
pub struct Tables {
    /// What holds for all packets.
    pub settings: Settings,
    /// What goes into the services' table; `ring` is a place in the arena.
    pub services: Vec<PlannedService>,
    /// Where each entry stands in its half, and what says so.
    pub placement: Placement,
    /// Distinct rings: services with equal backends share one.
    pub rings: Vec<PlacedRing>,
    /// By address and method, next hops not yet known.
    pub backends: Vec<PlannedBackend>,
    /// What SYNs are judged by.
    pub syn: SynTables,
    /// VIP entries whose ids stood for nothing before: their counters begin at 0.
    pub fresh_vips: Vec<u16>,
    /// Slots that the arena should have, where the configuration says it; `weir run` makes an arena, a reload does not.
    pub arena: Option<u32>,
    /// All of it in words.
    pub description: Description,
    /// What numbers and places these tables use.
    pub allocation: Allocation,
}

/// A ring and where it goes.
#[derive(Clone, Debug)]
pub struct PlacedRing {
    /// What it is a function of.
    pub key: RingKey,
    /// Where it begins in the arena, in slots.
    pub start: u32,
    /// It is not there yet.
    pub fresh: bool,
    /// What goes there.
    pub ring: Arc<BuiltRing>,
}

impl PlacedRing {
    /// Who owns each slot and who stands behind.
    pub fn slots(&self) -> &[Slot] {
        self.ring.slots()
    }
}

/// A backend's entry.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PlannedBackend {
    /// Its number in the backends' table.
    pub id: u16,
    /// Its address.
    pub address: IpAddr,
    /// What stands there, the next hop not yet known.
    pub entry: abi::Backend,
    /// The id stood for nothing before: the entry is to be written, and its counters begin at 0.
    pub fresh: bool,
}

/// Sources of tunnels where the configuration names none: this node's addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeAddresses {
    /// An IPv4 address of the node.
    pub v4: Option<Ipv4Addr>,
    /// An IPv6 address of the node.
    pub v6: Option<Ipv6Addr>,
}

/// Computes the tables of a configuration where nothing was before.
pub fn plan(config: &Config, node: NodeAddresses) -> Result<Tables> {
    plan_next(config, node, None, &RingCache::default())
}

/// Computes the tables of a configuration beside those in use: `previous` is what these use, `cache` has their rings.
pub fn plan_next(
    config: &Config,
    node: NodeAddresses,
    previous: Option<&Allocation>,
    cache: &RingCache,
) -> Result<Tables> {
    let sets = Sets::new(config);
    let nothing = Allocation::empty(0);
    let before = previous.unwrap_or(&nothing);
    let vips = config.services.values().flat_map(|service| service.vips.iter().copied());
    let filters = syn::describe(config);
    let states = config.services.values().zip(&filters).map(|(service, filter)| syn::state_key(&service.name, filter));
    let states: Vec<u64> = states.collect();
    let allocation = before.next_ids(vips, sets.backends.iter().copied(), states.iter().copied())?;
    let ids_of = sets.ids(&allocation)?;
    let (rings, ring_of) = sets.rings(&ids_of);
    let allocation = match previous {
        Some(_) => allocation.next_rings(&rings)?,
        None => allocation.in_arena(allocation::arena_size(config.arena, &rings)?).next_rings(&rings)?,
    };
    let built = cache.rings(&rings);
    let rings = rings.into_iter().zip(built).map(|(key, ring)| placed(key, ring, before, &allocation));
    let rings: Vec<PlacedRing> = rings.collect::<Result<_>>()?;
    let described = sets.sets.iter().zip(&ids_of).zip(&ring_of);
    let described: Vec<_> = described.map(|((set, ids), ring)| describe_set(set, ids, &rings[*ring])).collect();

    let mut services = Vec::new();
    let mut does = Vec::new();
    let mut live = Vec::new();
    let mut descriptions = Vec::new();
    let mut syn = SynTables::new(config);
    let filters = filters.into_iter().zip(states);
    for ((service, set), (mut filter, state)) in config.services.values().zip(&sets.set_of).zip(filters) {
        let ring = &rings[ring_of[*set]];
        let ids = service.vips.iter().map(|vip| allocation.vip(vip)).collect::<Option<Vec<_>>>();
        let ids = ids.context("every VIP was given an id")?;
        filter.state = allocation.state(state).context("every service was given a state")?;
        syn.add(config, service, &ids, filter.state);
        services.extend(service.vips.iter().zip(&ids).map(|(vip, id)| entry(config, service, vip, ring.start, *id)));
        does.extend(service.vips.iter().map(|_| (service.forward, ring.ring.fingerprint)));
        live.extend(service.vips.iter().map(|_| has_owner(ring)));
        descriptions.push(describe(service, filter, ring.start, &ids, Arc::clone(&described[*set])));
    }
    let entries = services.clone();
    services.extend(address_entries(config, &entries, &live));
    let keys: Vec<_> = services.iter().map(|service| (service.address, service.entry.matches)).collect();
    let placement = place(&keys).context("the VIPs do not fit the table of services")?;
    let backends: Vec<_> = allocation.backends().map(|(key, id)| planned(key, id, before)).collect();
    let fresh = config.services.values().flat_map(|service| &service.vips).filter(|vip| before.vip(vip).is_none());
    let settings = settings(config, node, placement.seed, &backends)?;
    let tables = fingerprint::of_tables(&settings, &syn, fingerprints(&services, &does));
    Ok(Tables {
        settings,
        services,
        placement,
        rings,
        backends,
        syn,
        fresh_vips: fresh.filter_map(|vip| allocation.vip(vip)).collect(),
        arena: config.arena,
        description: Description {
            weir: env!("CARGO_PKG_VERSION").into(),
            configuration: format!("{:016x}", config.fingerprint()),
            tables: format!("{tables:016x}"),
            announce: config.announce.to_string(),
            macs: config.macs.iter().map(|mac| mac.map(|octet| format!("{octet:02x}")).join(":")).collect(),
            public_hash_key: config.hash_key.public_default,
            interfaces: config.interfaces.clone(),
            withdrawn: config.withdrawn.iter().copied().collect(),
            allowed: config.allowed.iter().map(ToString::to_string).collect(),
            services: descriptions,
        },
        allocation,
    })
}

impl Tables {
    /// Elements that RINGS needs.
    pub fn arena_elements(&self) -> u32 {
        self.allocation.arena().div_ceil(abi::SLOTS_PER_ELEMENT)
    }

    /// Where VIPs fall, as [`abi::Half::vips`] keeps it.
    pub fn vip_places(&self) -> Vec<u32> {
        let mut words = vec![0; abi::VIP_PLACES as usize / 32];
        for service in &self.services {
            let place = hash::key_vip_place(&service.address, service.entry.matches);
            words[place as usize / 32] |= 1 << (place % 32);
        }
        words
    }

    /// Pages that one description needs, with room for those of later configurations.
    pub fn description_pages(&self) -> Result<u32> {
        let backends: usize = self.description.services.iter().map(|service| service.backends.len()).sum();
        let bytes = 2 * serde_json::to_vec(&self.description)?.len() + HEALTH_BYTES * backends;
        let pages = u32::try_from(bytes.div_ceil(4096) + 1).context("the description of the tables is too long")?;
        Ok(pages.max(MIN_DESCRIPTION_PAGES))
    }

    /// The rings, for a [`RingCache`] to keep once these tables are in use.
    pub fn kept_rings(&self) -> impl Iterator<Item = (RingKey, Arc<BuiltRing>)> {
        self.rings.iter().map(|ring| (ring.key.clone(), Arc::clone(&ring.ring)))
    }
}

/// The distinct sets of backends of a configuration: a thousand services may share one.
struct Sets<'a> {
    sets: Vec<Set<'a>>,
    /// Which of them each service has.
    set_of: Vec<usize>,
    backends: BTreeSet<BackendKey>,
}

type Set<'a> = (Forward, u32, &'a Arc<Vec<config::Backend>>, &'a BTreeMap<IpAddr, config::Seen>);

impl<'a> Sets<'a> {
    fn new(config: &'a Config) -> Self {
        let mut sets: Vec<Set> = Vec::new();
        let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut hashes: HashMap<*const config::Backend, u64> = HashMap::new();
        let mut index = |service: &'a Arc<config::Service>| {
            let set: Set = (service.forward, service.slots, &service.backends, &service.seen);
            let hash = *hashes.entry(service.backends.as_ptr()).or_insert_with(|| rough_hash(&service.backends));
            let alike = known.entry(hash).or_default();
            alike.iter().copied().find(|other| sets[*other] == set).unwrap_or_else(|| {
                sets.push(set);
                alike.push(sets.len() - 1);
                sets.len() - 1
            })
        };
        let set_of = config.services.values().map(&mut index).collect();
        let keys = |(forward, _, backends, _): &Set<'a>| {
            let (forward, backends) = (*forward, *backends);
            backends.iter().map(move |backend| (backend.address, encapsulation(forward, backend.address)))
        };
        let backends = sets.iter().flat_map(keys).collect();
        Sets { sets, set_of, backends }
    }

    /// The ids of each set's backends.
    fn ids(&self, allocation: &Allocation) -> Result<Vec<Vec<u16>>> {
        let of_set = |(forward, _, backends, _): &Set| {
            let id = |backend: &config::Backend| {
                allocation.backend(&(backend.address, encapsulation(*forward, backend.address)))
            };
            backends.iter().map(id).collect::<Option<Vec<_>>>()
        };
        self.sets.iter().map(of_set).collect::<Option<_>>().context("every backend was given an id")
    }

    /// The distinct rings, and which of them each set has.
    fn rings(&self, ids_of: &[Vec<u16>]) -> (Vec<RingKey>, Vec<usize>) {
        let mut rings = Vec::new();
        let mut known: BTreeMap<RingKey, usize> = BTreeMap::new();
        let mut ring_of = Vec::new();
        for ((_, slots, backends, _), ids) in self.sets.iter().zip(ids_of) {
            let members = backends.iter().zip(ids);
            let members = members.map(|(backend, id)| member(*id, &backend.address, backend.weight, backend.part));
            let key = RingKey::new(*slots, members.collect());
            ring_of.push(*known.entry(key).or_insert_with_key(|key| {
                rings.push(key.clone());
                rings.len() - 1
            }));
        }
        (rings, ring_of)
    }
}

/// What each entry does. Those of bare addresses, at the end, have no ring that another entry has not.
fn fingerprints(services: &[PlannedService], does: &[(Forward, u64)]) -> impl Iterator<Item = fingerprint::Entry> {
    let does = does.iter().map(|(forward, ring)| (*forward as u8, *ring)).chain(std::iter::repeat((0, 0)));
    services.iter().zip(does).map(|(service, (forward, ring))| {
        // What is done about SYNs is told apart: the bits only say where to look.
        let PlannedService { address, entry: Service { matches, flags, .. }, mss } = *service;
        let flags = flags & !(Service::SYN_BARE | Service::SYN_LOOK);
        fingerprint::Entry { address, matches, flags, mss, forward, ring }
    })
}

/// A hash to find equal sets by.
fn rough_hash(backends: &[config::Backend]) -> u64 {
    backends.iter().fold(0, |hash, backend| {
        let address = match backend.address {
            IpAddr::V4(address) => address.to_bits().into(),
            IpAddr::V6(address) => address.to_bits() as u64,
        };
        hash::mix(hash ^ address ^ u64::from(backend.weight) << 48)
    })
}

/// A backend as a ring sees it.
fn member(id: u16, address: &IpAddr, weight: u16, part: u32) -> Member {
    Member { id, identity: identity(address), weight, part }
}

fn placed(key: RingKey, ring: Arc<BuiltRing>, before: &Allocation, now: &Allocation) -> Result<PlacedRing> {
    let start = now.ring(&key).context("every ring was given a place")?;
    Ok(PlacedRing { start, fresh: before.ring(&key).is_none(), key, ring })
}

fn planned(key: BackendKey, id: u16, before: &Allocation) -> PlannedBackend {
    let (address, encapsulation) = key;
    let entry = abi::Backend {
        address: address.into(),
        encapsulation: encapsulation as u8,
        mtu: u16::MAX,
        ..abi::Backend::default()
    };
    PlannedBackend { id, address, entry, fresh: before.backend(&key).is_none() }
}

fn describe_set((_, _, backends, seen): &Set, ids: &[u16], ring: &PlacedRing) -> Arc<[DescribedBackend]> {
    let describe = |(backend, id): (&config::Backend, &u16)| {
        let config::Backend { address, weight, part, overridden, sorry } = *backend;
        let (owned, health) = (ring.ring.owned(*id), seen.get(&address).cloned());
        DescribedBackend { address, weight, part, id: *id, owned, overridden, sorry, health }
    };
    backends.iter().zip(ids).map(describe).collect()
}

fn describe(
    service: &config::Service,
    syn_filter: DescribedFilter,
    ring: u32,
    ids: &[u16],
    backends: Arc<[DescribedBackend]>,
) -> DescribedService {
    let vips = service.vips.iter().zip(ids);
    DescribedService {
        name: service.name.clone(),
        forward: service.forward.to_string(),
        hash: service.hash.to_string(),
        syn: service.syn.to_string(),
        syn_filter,
        slots: service.slots,
        mss: service.mss,
        on_empty: service.health.on_empty.to_string(),
        ring,
        vips: vips.map(|(vip, id)| DescribedVip { vip: vip.to_string(), id: *id }).collect(),
        backends,
        removed: service.removed.clone(),
        below_quorum: service.below_quorum.then_some(service.health.quorum).flatten(),
    }
}

/// How packets reach a backend.
pub fn encapsulation(forward: Forward, backend: IpAddr) -> Encapsulation {
    match (forward, backend) {
        (Forward::L2, _) => Encapsulation::L2,
        (Forward::Ipip, IpAddr::V4(_)) => Encapsulation::Ip4,
        (Forward::Ipip, IpAddr::V6(_)) => Encapsulation::Ip6,
    }
}

fn version(address: IpAddr) -> u32 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// An entry of the services' table, and what is kept apart from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedService {
    /// The VIP's whole address.
    pub address: Address,
    /// The entry, which holds its last word.
    pub entry: Service,
    /// The largest MSS that a SYN may offer; 0 leaves it alone.
    pub mss: u16,
}

impl PlannedService {
    fn new(address: IpAddr, entry: Service, mss: u16) -> Self {
        let address = Address::from(address);
        PlannedService { address, entry: Service { last: address.0[3], ..entry }, mss }
    }

    /// What goes before the entry's word of the address.
    pub fn prefix(&self) -> [u32; 3] {
        let [first, second, third, _] = self.address.0;
        [first, second, third]
    }

    /// Whether it is of a VIP entry, which has a number of its own, and not of a bare address.
    pub fn is_of_vip(&self) -> bool {
        !self.entry.matches.is_address()
    }
}

/// The entry of a VIP.
fn entry(config: &Config, service: &config::Service, vip: &Vip, ring: u32, id: u16) -> PlannedService {
    let version = version(vip.address);
    let matches = match vip.port {
        Some(port) => Match::port(version, vip.protocol.number(), port.to_be()),
        None => Match::all_ports(version, vip.protocol.number()),
    };
    let hash = if service.hash == Hash::Source { Service::HASH_SOURCE } else { 0 };
    let resets = service.health.on_empty == OnEmpty::Reset && vip.protocol == Protocol::Tcp;
    let reset = if resets { Service::RESET } else { 0 };
    let flags = hash | reset | syn::flags(config, service);
    let entry = Service { matches, ring, ring_bits: service.slots.ilog2() as u8, id, flags, ..Service::default() };
    PlannedService::new(vip.address, entry, service.mss.unwrap_or(0))
}

/// One entry for each bare address, by which packets are judged whose ports cannot be read. `entries` are those of the
/// VIPs, in the order of the configuration, `live` whether their rings have a backend.
fn address_entries(config: &Config, entries: &[PlannedService], live: &[bool]) -> Vec<PlannedService> {
    let vips = config.services.values().flat_map(|service| &service.vips);
    let mut addresses: BTreeMap<IpAddr, Vec<(&Vip, &Service)>> = BTreeMap::new();
    let mut alive = BTreeSet::new();
    for ((vip, entry), live) in vips.zip(entries).zip(live) {
        addresses.entry(vip.address).or_default().push((vip, &entry.entry));
        if *live {
            alive.insert(vip.address);
        }
    }
    let entry = |(address, vips): (IpAddr, Vec<_>)| {
        let mut entry = address_entry(config, address, &vips);
        entry.entry.flags |= if alive.contains(&address) { Service::LIVE } else { 0 };
        entry
    };
    addresses.into_iter().map(entry).collect()
}

fn address_entry(config: &Config, address: IpAddr, vips: &[(&Vip, &Service)]) -> PlannedService {
    let silent = config.announce == config::Announce::None || config.withdrawn.contains(&address);
    let mut flags = if silent { 0 } else { Service::ANNOUNCE };
    for (vip, _) in vips.iter().filter(|(vip, _)| vip.port.is_none()) {
        flags |= if vip.protocol == Protocol::Tcp { Service::ALL_TCP } else { Service::ALL_UDP };
    }
    let mut entry = Service { matches: Match::address(version(address)), ..Service::default() };
    let udp: Vec<_> = vips.iter().filter(|(vip, _)| vip.protocol == Protocol::Udp).map(|(_, entry)| entry).collect();
    let placement = |entry: &Service| (entry.ring, entry.ring_bits, entry.flags & Service::HASH_SOURCE);
    if let Some(first) = udp.first()
        && udp.iter().all(|other| placement(other) == placement(first))
    {
        flags |= Service::UDP_RING | first.flags & Service::HASH_SOURCE;
        (entry.ring, entry.ring_bits, entry.id) = (first.ring, first.ring_bits, first.id);
    }
    PlannedService::new(address, Service { flags, ..entry }, 0)
}

/// Whether a ring has a backend at all: no slot has one, or all have.
fn has_owner(ring: &PlacedRing) -> bool {
    ring.slots().first().is_some_and(|slot| slot.first != abi::NO_BACKEND)
}

fn settings(config: &Config, node: NodeAddresses, seed: u64, backends: &[PlannedBackend]) -> Result<Settings> {
    let mut settings = Settings {
        service_seed: seed,
        hash_key: hash::expand_key(config.hash_key.bytes),
        flags: if config.bad_flags == BadFlags::Pass { Settings::PASS_BAD_FLAGS } else { 0 },
        icmp_rate: config.icmp_rate,
        ..Settings::default()
    };
    let uses = |encapsulation: Encapsulation| {
        backends.iter().any(|backend| backend.entry.encapsulation == encapsulation as u8)
    };
    if let Some(prefix) = config.tunnel_source.v4 {
        settings.tunnel_source4 = Address::from(prefix.address).0[3];
        settings.tunnel_vary4 = host_bits(prefix.length);
    } else if uses(Encapsulation::Ip4) {
        ensure!(
            node.v4.is_some(),
            "tunnels to IPv4 backends need a source: give the interface an IPv4 address, or set tunnel_source"
        );
        settings.tunnel_source4 = node.v4.map_or(0, |address| Address::from(address).0[3]);
    }
    if let Some(prefix) = config.tunnel_source.v6 {
        settings.tunnel_source6 = prefix.address.into();
        settings.tunnel_vary6 = host_bits(prefix.length - 96);
    } else if uses(Encapsulation::Ip6) {
        ensure!(
            node.v6.is_some(),
            "tunnels to IPv6 backends need a source: give the interface an IPv6 address, or set tunnel_source"
        );
        settings.tunnel_source6 = node.v6.map(Address::from).unwrap_or_default();
    }
    Ok(settings)
}

/// The bits of a word, as it stands in a packet, that lie behind a prefix.
fn host_bits(prefix: u8) -> u32 {
    u32::MAX.checked_shr(prefix.into()).unwrap_or(0).to_be()
}
