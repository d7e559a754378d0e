//! The setups that frames are judged under, and how the reference gets to know them: from the configuration and the rule
//! of next hops, as lb-common's tables do, but not through these.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use lb_common::abi::NO_BACKEND;
use lb_userspace::config::{self, Announce, BadFlags, Config, Forward, Hash, OnEmpty, Protocol, Syn};

use crate::{
    reference::{self, Options},
    setup::{ALLOWING, INTERFACES, NODE, Setup, Way, World, way},
};

/// A setup, and what differs in it from the rule.
pub struct Variation {
    /// The configuration.
    pub setup: Setup,
    /// What every way to a backend takes, instead of what the rule says.
    mtu: Option<u16>,
}

/// All of them; inputs of the fuzzer name them by number, so new ones go to the end.
pub static VARIATIONS: [Variation; 9] = [
    variation("standard", "icmp_rate = 4294967295\n", None),
    variation("bad_flags", "icmp_rate = 4294967295\nbad_flags = \"pass\"\n", None),
    variation(
        "prefixes",
        "icmp_rate = 4294967295\ntunnel_source = [\"10.255.0.0/16\", \"2001:db8:ffff::/96\"]\n",
        None,
    ),
    variation("routed", "icmp_rate = 4294967295\nannounce = \"none\"\n", None),
    Variation {
        setup: Setup {
            name: "standby",
            head: "icmp_rate = 4294967295\nannounce = \"manual\"\n",
            announce: false,
            syn: "",
        },
        mtu: None,
    },
    variation(
        "small",
        "icmp_rate = 4294967295\ntunnel_source = [\"10.255.0.0/17\", \"2001:db8:ffff::/109\"]\n",
        Some(576),
    ),
    variation("tiny", "icmp_rate = 4294967295\n", Some(300)),
    variation("silent", "icmp_rate = 0\n", Some(576)),
    Variation { setup: ALLOWING, mtu: None },
];

const fn variation(name: &'static str, head: &'static str, mtu: Option<u16>) -> Variation {
    Variation { setup: Setup { name, head, announce: true, syn: "" }, mtu }
}

impl Variation {
    /// The one of a name.
    pub fn named(name: &str) -> Option<&'static Variation> {
        VARIATIONS.iter().find(|variation| variation.setup.name == name)
    }

    /// The tables, and the same world for the reference.
    pub fn worlds(&self) -> (World, reference::Setup) {
        let mut world = self.setup.world();
        for backend in &mut world.tables.backends {
            if let (Some(mtu), Way::Via(_)) = (self.mtu, way(backend.address)) {
                backend.entry.mtu = mtu;
            }
        }
        let config = config::parse(self.setup.name, &self.setup.text()).unwrap_or_else(|error| panic!("{error}"));
        let plain = self.plain(&config, &world);
        (world, plain)
    }

    /// Of the tables only the rings are taken, as lists: how they are built is judged elsewhere.
    fn plain(&self, config: &Config, world: &World) -> reference::Setup {
        let rings = world.tables.rings.iter().map(|ring| {
            ring.slots().iter().map(|slot| (slot.first != NO_BACKEND).then_some(usize::from(slot.first))).collect()
        });
        let ring_at = |start| {
            let place = world.tables.rings.iter().position(|ring| ring.start == start);
            place.expect("an entry's ring is one of them")
        };
        let mut services = Vec::new();
        for service in config.services.values() {
            for vip in &service.vips {
                services.push(reference::Service {
                    vip: vip.address,
                    protocol: match vip.protocol {
                        Protocol::Tcp => reference::Protocol::Tcp,
                        Protocol::Udp => reference::Protocol::Udp,
                    },
                    port: vip.port,
                    ring: ring_at(world.tables.services[services.len()].entry.ring),
                    hash_source: service.hash == Hash::Source,
                    syn: match service.syn {
                        Syn::Off => reference::SynPolicy::Off,
                        Syn::Count => reference::SynPolicy::Count,
                        Syn::Drop => reference::SynPolicy::Drop,
                        // What depends on time has tests of its own.
                        Syn::Auto => panic!("{}: auto", service.name),
                    },
                    signatures: service
                        .filter
                        .signatures
                        .iter()
                        .map(|number| plain_signature(config, *number))
                        .collect(),
                    reset: service.health.on_empty == OnEmpty::Reset,
                    mss: service.mss,
                });
            }
        }
        let node6 = NODE.v6.expect("the node has one");
        let node4 = NODE.v4.expect("the node has one");
        reference::Setup {
            interface: 0,
            interfaces: INTERFACES.map(|(_, mac)| mac).to_vec(),
            more_macs: config.macs.clone(),
            announce: self.setup.announce && config.announce != Announce::None,
            services,
            rings: rings.collect(),
            backends: self.backends(config),
            hash_key: config.hash_key.bytes,
            tunnel4: config.tunnel_source.v4.map_or((node4, 32), |prefix| (prefix.address, prefix.length)),
            tunnel6: config.tunnel_source.v6.map_or((node6, 128), |prefix| (prefix.address, prefix.length)),
            pass_bad_flags: config.bad_flags == BadFlags::Pass,
            answer_too_big: config.icmp_rate != 0,
            allowed: config.allowed.iter().map(|prefix| (prefix.address, prefix.length)).collect(),
        }
    }

    /// Each address once by each method, in this order.
    fn backends(&self, config: &Config) -> Vec<reference::Backend> {
        let of = |service: &Arc<config::Service>| {
            let tunnelled = service.forward == Forward::Ipip;
            service.backends.iter().map(move |backend| (backend.address, tunnelled)).collect::<Vec<_>>()
        };
        let all: BTreeSet<(IpAddr, bool)> = config.services.values().flat_map(of).collect();
        let backend = |(address, tunnelled): (IpAddr, bool)| reference::Backend {
            way: match way(address) {
                Way::Local => reference::Way::Local,
                Way::Unknown => reference::Way::Unknown,
                Way::Via(hop) => reference::Way::Via {
                    mac: hop.mac,
                    interface: hop.interface as usize,
                    mtu: usize::from(self.mtu.unwrap_or(hop.mtu)),
                },
            },
            tunnel: tunnelled.then_some(address),
        };
        all.into_iter().map(backend).collect()
    }
}

/// The signature of a number: written out, not read from what is compiled.
fn plain_signature(config: &Config, number: usize) -> reference::Signature {
    let any = reference::Signature::default();
    match config.signatures[number].name.as_str() {
        "window-zero-bare" => reference::Signature { window: (0, 0), options: vec![Options::Bare], ..any },
        "small-window" => reference::Signature {
            window: (1, 1023),
            options: vec![Options::Bare, Options::Padding],
            ttl: (1, 200),
            ..any
        },
        "long-and-low" => reference::Signature {
            length: (60, 2000),
            source_port: (1, 1023),
            port: (80, 80),
            payload: Some(true),
            ..any
        },
        other => panic!("signature {other}: not known here"),
    }
}

/// What a generator of frames wants to know of a setup: names that mean something in it.
pub struct Names {
    /// VIPs with a protocol and a port (some port, where all are served), IPv4.
    pub vips4: Vec<([u8; 4], u8, u16)>,
    /// The same, IPv6.
    pub vips6: Vec<([u8; 16], u8, u16)>,
    /// Addresses of clients, martians, backends and strangers, IPv4.
    pub others4: Vec<[u8; 4]>,
    /// The same, IPv6.
    pub others6: Vec<[u8; 16]>,
}

impl Names {
    /// The names of a setup.
    pub fn new(setup: &reference::Setup) -> Self {
        let mut names = Names {
            vips4: Vec::new(),
            vips6: Vec::new(),
            others4: vec![
                [198, 51, 100, 7],
                [198, 51, 100, 8],
                [203, 0, 113, 77],
                [127, 0, 0, 1],
                [0, 1, 2, 3],
                [224, 0, 0, 1],
                [255; 4],
                [192, 0, 2, 200],
                [10, 0, 0, 40],
            ],
            others6: [
                "2001:db8:c::7",
                "2001:db8:c::8",
                "fe80::e:ff:fe00:1",
                "::1",
                "::",
                "::ffff:192.0.2.1",
                "ff02::1",
                "ff02::1:ff00:10",
                "2001:db8::c8",
            ]
            .map(|text| text.parse::<Ipv6Addr>().expect("an address").octets())
            .to_vec(),
        };
        for service in &setup.services {
            let (protocol, port) = (service.protocol.number(), service.port.unwrap_or(4711));
            match service.vip {
                IpAddr::V4(vip) => names.vips4.push((vip.octets(), protocol, port)),
                IpAddr::V6(vip) => names.vips6.push((vip.octets(), protocol, port)),
            }
        }
        names
    }
}
