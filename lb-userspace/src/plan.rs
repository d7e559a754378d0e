//! From a configuration to the tables of the kernel: pure, and the same on every node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result, anyhow, ensure};
use lb_common::{
    abi::{self, Address, Encapsulation, Match, Service, Settings, Slot},
    hash,
    place::place,
    ring::{Member, Ring, identity},
};
use serde::{Deserialize, Serialize};

use crate::config::{self, BadFlags, Config, Forward, Hash, Protocol, Syn, Vip};

/// Everything that is written into the kernel for one configuration.
pub struct Tables {
    /// What holds for all packets.
    pub settings: Settings,
    /// Entries of the services' table; `ring` is an index into `rings` until they have a place.
    pub services: Vec<Service>,
    /// Where each entry stands in its half.
    pub positions: Vec<u32>,
    /// Distinct rings: services with equal backends share one.
    pub rings: Vec<Vec<Slot>>,
    /// Entries of the backends' table by id, next hops not yet known.
    pub backends: Vec<abi::Backend>,
    /// The address of each backend, by id.
    pub addresses: Vec<IpAddr>,
    /// All of it in words.
    pub description: Description,
}

/// What tables hold, in words: kept beside them in the kernel, so that reading verbs need no agent and no file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Description {
    /// Version of weir that made the tables.
    pub weir: String,
    /// Hash of the configuration's meaning: equal on siblings that agree.
    pub configuration: String,
    /// How VIPs are announced.
    pub announce: String,
    /// The hash key is the one that everybody knows.
    pub public_hash_key: bool,
    /// The interfaces, by their numbers.
    pub interfaces: Vec<String>,
    /// By name.
    pub services: Vec<DescribedService>,
}

impl Description {
    /// Every address that is a VIP, once.
    pub fn vip_addresses(&self) -> Result<Vec<IpAddr>> {
        let vips = self.services.iter().flat_map(|service| &service.vips);
        let parse = |vip: &DescribedVip| {
            let parsed: Result<Vip, _> = vip.vip.parse();
            parsed.map(|parsed| parsed.address).map_err(|_| anyhow!("vip {:?} in the tables: none", vip.vip))
        };
        Ok(vips.map(parse).collect::<Result<BTreeSet<_>>>()?.into_iter().collect())
    }
}

/// One service.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DescribedService {
    /// Its name in the configuration.
    pub name: String,
    /// How packets reach its backends.
    pub forward: String,
    /// What is hashed.
    pub hash: String,
    /// What happens to SYNs with window 0 and no options.
    pub syn: String,
    /// Size of the ring.
    pub slots: u32,
    /// The largest MSS that a SYN may offer, if it is bounded.
    pub mss: Option<u16>,
    /// Its VIP entries.
    pub vips: Vec<DescribedVip>,
    /// Its backends.
    pub backends: Vec<DescribedBackend>,
}

/// One VIP entry.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DescribedVip {
    /// As written: address, port or `*`, `/udp`.
    pub vip: String,
    /// Which entry of VIP_COUNTS.
    pub id: u16,
}

/// One backend of a service.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DescribedBackend {
    /// Its address.
    pub address: IpAddr,
    /// Its weight; 0 is drained.
    pub weight: u16,
    /// Which entry of the backends' table.
    pub id: u16,
    /// Slots that it owns in the service's ring.
    pub owned: u32,
}

/// Sources of tunnels where the configuration names none: this node's addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeAddresses {
    /// An IPv4 address of the node.
    pub v4: Option<Ipv4Addr>,
    /// An IPv6 address of the node.
    pub v6: Option<Ipv6Addr>,
}

/// A backend's key in the tables: the same address by two methods is two entries.
type BackendKey = (IpAddr, Encapsulation);

/// Computes the tables of a configuration.
pub fn plan(config: &Config, node: NodeAddresses) -> Result<Tables> {
    let ids = backend_ids(config);
    let mut rings = Rings::default();
    let mut services = Vec::new();
    let mut described = Vec::new();
    for service in config.services.values() {
        let members: Vec<_> = service
            .backends
            .iter()
            .map(|backend| Member {
                id: ids[&(backend.address, encapsulation(service.forward, backend.address))],
                identity: identity(&backend.address),
                weight: backend.weight,
            })
            .collect();
        let ring = rings.index(service.slots, &members);
        let first_id = services.len() as u16;
        services.extend(service.vips.iter().enumerate().map(|(i, vip)| entry(service, vip, ring, first_id + i as u16)));
        described.push((ring, describe(service, &members, first_id)));
    }
    let built = rings.build();
    let entries = services.clone();
    services.extend(address_entries(config, &entries, &built));
    let keys: Vec<_> = services.iter().map(|service| (service.address, service.matches)).collect();
    let placement = place(&keys).context("the VIPs do not fit the table of services")?;

    for (ring, service) in &mut described {
        for backend in &mut service.backends {
            backend.owned = built[*ring as usize].owned(backend.id) as u32;
        }
    }
    let backends = backend_entries(&ids);
    Ok(Tables {
        settings: settings(config, node, placement.seed, &backends)?,
        services,
        positions: placement.positions,
        rings: built.iter().map(|ring| ring.slots().to_vec()).collect(),
        backends,
        addresses: ids.keys().map(|(address, _)| *address).collect(),
        description: Description {
            weir: env!("CARGO_PKG_VERSION").into(),
            configuration: format!("{:016x}", config.fingerprint()),
            announce: config.announce.to_string(),
            public_hash_key: config.hash_key.public_default,
            interfaces: config.interfaces.clone(),
            services: described.into_iter().map(|(_, service)| service).collect(),
        },
    })
}

impl Tables {
    /// Elements that RINGS needs: both generations.
    pub fn arena_pairs(&self) -> u32 {
        2 * self.rings.iter().map(|ring| ring.len().div_ceil(2) as u32).sum::<u32>().max(1)
    }

    /// Pages that one description needs, with room for a longer one.
    pub fn description_pages(&self) -> Result<u32> {
        let bytes = 2 * serde_json::to_vec(&self.description)?.len();
        u32::try_from(bytes.div_ceil(4096) + 1).context("the description of the tables is too long")
    }
}

fn encapsulation(forward: Forward, backend: IpAddr) -> Encapsulation {
    match (forward, backend) {
        (Forward::L2, _) => Encapsulation::L2,
        (Forward::Ipip, IpAddr::V4(_)) => Encapsulation::Ip4,
        (Forward::Ipip, IpAddr::V6(_)) => Encapsulation::Ip6,
    }
}

/// Numbers for all distinct backends, in order of address and method, whatever the order of the file.
fn backend_ids(config: &Config) -> BTreeMap<BackendKey, u16> {
    let keys = config.services.values().flat_map(|service| {
        service.backends.iter().map(|backend| (backend.address, encapsulation(service.forward, backend.address)))
    });
    let mut ids: BTreeMap<BackendKey, u16> = keys.map(|key| (key, 0)).collect();
    ids.values_mut().zip(0..).for_each(|(id, number)| *id = number);
    ids
}

fn backend_entries(ids: &BTreeMap<BackendKey, u16>) -> Vec<abi::Backend> {
    ids.keys()
        .map(|(address, encapsulation)| abi::Backend {
            address: (*address).into(),
            encapsulation: *encapsulation as u8,
            mtu: u16::MAX,
            ..abi::Backend::default()
        })
        .collect()
}

/// Rings that are wanted, each once.
#[derive(Default)]
struct Rings {
    indices: BTreeMap<(u32, Vec<(u16, u16)>), u32>,
    wanted: Vec<(u32, Vec<Member>)>,
}

impl Rings {
    fn index(&mut self, slots: u32, members: &[Member]) -> u32 {
        let key = (slots, members.iter().map(|member| (member.id, member.weight)).collect());
        *self.indices.entry(key).or_insert_with(|| {
            self.wanted.push((slots, members.to_vec()));
            self.wanted.len() as u32 - 1
        })
    }

    /// Builds all of them, on all CPUs.
    fn build(&self) -> Vec<Ring> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = self.wanted.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let build = |(slots, members): &(u32, Vec<Member>)| Ring::build(*slots, members);
            let workers: Vec<_> = self
                .wanted
                .chunks(share)
                .map(|share| scope.spawn(move || share.iter().map(build).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("building a ring does not panic")).collect()
        })
    }
}

fn version(address: IpAddr) -> u32 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// The entry of a VIP.
fn entry(service: &config::Service, vip: &Vip, ring: u32, id: u16) -> Service {
    let version = version(vip.address);
    let matches = match vip.port {
        Some(port) => Match::port(version, vip.protocol.number(), port.to_be()),
        None => Match::all_ports(version, vip.protocol.number()),
    };
    let hash = if service.hash == Hash::Source { Service::HASH_SOURCE } else { 0 };
    let syn = match service.syn {
        Syn::Off => 0,
        Syn::Count => Service::SYN_COUNT,
        Syn::Drop => Service::SYN_COUNT | Service::SYN_DROP,
    };
    Service {
        address: vip.address.into(),
        matches,
        ring,
        ring_bits: service.slots.ilog2() as u8,
        id,
        flags: hash | syn,
        mss: service.mss.unwrap_or(0),
        ..Service::default()
    }
}

/// One entry for each bare address, by which packets are judged whose ports cannot be read. `entries` are those of the
/// VIPs, in the order of the configuration, and `rings` what their `ring` counts in.
fn address_entries(config: &Config, entries: &[Service], rings: &[Ring]) -> Vec<Service> {
    let vips = config.services.values().flat_map(|service| &service.vips);
    let mut addresses: BTreeMap<IpAddr, Vec<(&Vip, &Service)>> = BTreeMap::new();
    for (vip, entry) in vips.zip(entries) {
        addresses.entry(vip.address).or_default().push((vip, entry));
    }
    addresses.into_iter().map(|(address, vips)| address_entry(config, address, &vips, rings)).collect()
}

fn address_entry(config: &Config, address: IpAddr, vips: &[(&Vip, &Service)], rings: &[Ring]) -> Service {
    let mut flags = if config.announce == config::Announce::None { 0 } else { Service::ANNOUNCE };
    for (vip, _) in vips.iter().filter(|(vip, _)| vip.port.is_none()) {
        flags |= if vip.protocol == Protocol::Tcp { Service::ALL_TCP } else { Service::ALL_UDP };
    }
    if vips.iter().any(|(_, entry)| has_owner(&rings[entry.ring as usize])) {
        flags |= Service::LIVE;
    }
    let mut entry =
        Service { address: address.into(), matches: Match::address(version(address)), ..Service::default() };
    let udp: Vec<_> = vips.iter().filter(|(vip, _)| vip.protocol == Protocol::Udp).map(|(_, entry)| entry).collect();
    let placement = |entry: &Service| (entry.ring, entry.ring_bits, entry.flags & Service::HASH_SOURCE);
    if let Some(first) = udp.first()
        && udp.iter().all(|other| placement(other) == placement(first))
    {
        flags |= Service::UDP_RING | first.flags & Service::HASH_SOURCE;
        (entry.ring, entry.ring_bits, entry.id) = (first.ring, first.ring_bits, first.id);
    }
    Service { flags, ..entry }
}

/// Whether a ring has a backend at all: no slot has one, or all have.
fn has_owner(ring: &Ring) -> bool {
    ring.slots().first().is_some_and(|slot| slot.first != abi::NO_BACKEND)
}

fn settings(config: &Config, node: NodeAddresses, seed: u64, backends: &[abi::Backend]) -> Result<Settings> {
    let mut settings = Settings {
        service_seed: seed,
        hash_key: hash::expand_key(config.hash_key.bytes),
        flags: if config.bad_flags == BadFlags::Pass { Settings::PASS_BAD_FLAGS } else { 0 },
        icmp_rate: config.icmp_rate,
        ..Settings::default()
    };
    let uses =
        |encapsulation: Encapsulation| backends.iter().any(|backend| backend.encapsulation == encapsulation as u8);
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

fn describe(service: &config::Service, members: &[Member], first_id: u16) -> DescribedService {
    let backends = service.backends.iter().zip(members);
    DescribedService {
        name: service.name.clone(),
        forward: service.forward.to_string(),
        hash: service.hash.to_string(),
        syn: service.syn.to_string(),
        slots: service.slots,
        mss: service.mss,
        vips: service.vips.iter().zip(first_id..).map(|(vip, id)| DescribedVip { vip: vip.to_string(), id }).collect(),
        backends: backends
            .map(|(backend, member)| DescribedBackend {
                address: backend.address,
                weight: backend.weight,
                id: member.id,
                owned: 0,
            })
            .collect(),
    }
}
