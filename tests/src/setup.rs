//! The configurations that rows run under, and the tables made of them: the same for the host and the kernel.

use std::net::IpAddr;

use lb_common::abi::{self, Encapsulation, NextHop, mac_bits};
use lb_userspace::{
    config,
    plan::{NodeAddresses, Tables, plan},
};

use crate::frames::{Mac, OURS, SECOND};

/// A configuration, and what is switched at run time.
pub struct Setup {
    /// Its name, in messages and pins.
    pub name: &'static str,
    /// What stands before the services.
    pub head: &'static str,
    /// VIPs are announced.
    pub announce: bool,
    /// What `[syn]` says besides.
    pub syn: &'static str,
}

/// What most rows run under.
pub static STANDARD: Setup = Setup { name: "standard", head: "icmp_rate = 4294967295\n", announce: true, syn: "" };
/// No ICMP errors are sent.
pub static SILENT: Setup = Setup { name: "silent", head: "icmp_rate = 0\n", announce: true, syn: "" };
/// One in a second is sent.
pub static SPARSE: Setup = Setup { name: "sparse", head: "icmp_rate = 1\n", announce: true, syn: "" };
/// Flags that no stack sends are forwarded.
pub static BAD_FLAGS_PASS: Setup = Setup { name: "bad_flags", head: "bad_flags = \"pass\"\n", announce: true, syn: "" };
/// Sources of tunnels come from prefixes.
pub static PREFIXES: Setup = Setup {
    name: "prefixes",
    head: "tunnel_source = [\"10.255.0.0/16\", \"2001:db8:ffff::/96\"]\n",
    announce: true,
    syn: "",
};
/// Nobody announces the VIPs.
pub static ROUTED: Setup = Setup { name: "routed", head: "announce = \"none\"\n", announce: true, syn: "" };
/// Another node announces them at the moment.
pub static STANDBY: Setup = Setup { name: "standby", head: "announce = \"manual\"\n", announce: false, syn: "" };

/// SYNs of some sources are never dropped.
pub const ALLOWING: Setup = Setup {
    name: "allowing",
    head: "icmp_rate = 4294967295\n",
    announce: true,
    syn: "allow = [\"198.51.100.64/26\", \"2001:db8:a110::/48\"]\n",
};

/// One backend, L2.
pub const WEB: &str = "192.0.2.10:80";
/// The same, IPv6.
pub const WEB_V6: &str = "[2001:db8::10]:80";
/// The same, UDP.
pub const WEB_UDP: &str = "192.0.2.10:443/udp";
/// The same, IPv6 and UDP.
pub const WEB_UDP_V6: &str = "[2001:db8::10]:443/udp";
/// Four backends, L2.
pub const SPREAD: &str = "192.0.2.11:80";
/// The same, IPv6.
pub const SPREAD_V6: &str = "[2001:db8::11]:80";
/// Four backends, by source alone.
pub const SOURCE: &str = "192.0.2.12:80";
/// The same, another port.
pub const SOURCE_TLS: &str = "192.0.2.12:443";
/// The same, IPv6.
pub const SOURCE_V6: &str = "[2001:db8::12]:80";
/// Suspicious SYNs are dropped.
pub const GUARDED: &str = "192.0.2.13:80";
/// The same, IPv6.
pub const GUARDED_V6: &str = "[2001:db8::13]:80";
/// SYNs that match one of three signatures are dropped.
pub const PICKY: &str = "192.0.2.15:80";
/// The same, IPv6.
pub const PICKY_V6: &str = "[2001:db8::15]:80";
/// SYNs are not looked at.
pub const CARELESS: &str = "192.0.2.14:80";
/// All ports.
pub const ALL_PORTS: &str = "192.0.2.21:*";
/// The same, IPv6.
pub const ALL_PORTS_V6: &str = "[2001:db8::21]:*";
/// All ports, UDP.
pub const ALL_UDP: &str = "192.0.2.22:*/udp";
/// One port of the address whose other ports are [`ALL_PORTS`].
pub const ONE_OF_ALL: &str = "192.0.2.21:8080";
/// Four backends, UDP.
pub const DNS: &str = "192.0.2.53:53/udp";
/// The same backends, another port.
pub const DNS_OTHER: &str = "192.0.2.53:5353/udp";
/// The same, IPv6.
pub const DNS_V6: &str = "[2001:db8::53]:53/udp";
/// One of two UDP services of an address, with different backends.
pub const SPLIT: &str = "192.0.2.54:53/udp";
/// The other.
pub const SPLIT_OTHER: &str = "192.0.2.54:5353/udp";
/// As [`SPLIT`], IPv6.
pub const SPLIT_V6: &str = "[2001:db8::54]:53/udp";
/// As [`SPLIT_OTHER`], IPv6.
pub const SPLIT_OTHER_V6: &str = "[2001:db8::54]:5353/udp";
/// A backend behind an IPv4 tunnel.
pub const TUNNEL4: &str = "192.0.2.40:80";
/// The same, IPv6.
pub const TUNNEL4_V6: &str = "[2001:db8::40]:80";
/// The same, UDP.
pub const TUNNEL4_UDP: &str = "192.0.2.40:53/udp";
/// A backend behind an IPv6 tunnel.
pub const TUNNEL6: &str = "192.0.2.60:80";
/// The same, IPv6.
pub const TUNNEL6_V6: &str = "[2001:db8::60]:80";
/// The same, UDP.
pub const TUNNEL6_UDP: &str = "192.0.2.60:53/udp";
/// Every backend has weight 0.
pub const DRAINED: &str = "192.0.2.70:80";
/// The same, and segments are answered by a reset.
pub const RESET: &str = "192.0.2.76:80";
/// The same, IPv6.
pub const RESET_V6: &str = "[2001:db8::76]:80";
/// The same service over UDP.
pub const RESET_UDP: &str = "192.0.2.76:53/udp";
/// All ports of another address of it.
pub const RESET_ALL: &str = "192.0.2.77:*";
/// The backend is this host.
pub const LOCAL: &str = "192.0.2.71:80";
/// Nobody knows the MAC of the backend.
pub const UNRESOLVED: &str = "192.0.2.72:80";
/// The backend lies on the second interface.
pub const BESIDE: &str = "192.0.2.73:80";
/// The same, behind a tunnel.
pub const BESIDE_TUNNEL: &str = "192.0.2.74:80";
/// The same, behind an IPv6 tunnel.
pub const BESIDE_TUNNEL6: &str = "192.0.2.75:80";
/// Jumbo frames reach the backend.
pub const JUMBO: &str = "192.0.2.90:80";
/// The same, IPv6.
pub const JUMBO_V6: &str = "[2001:db8::90]:80";
/// The same, behind a tunnel.
pub const JUMBO_TUNNEL: &str = "192.0.2.91:80";
/// The same, behind an IPv6 tunnel.
pub const JUMBO_TUNNEL6: &str = "192.0.2.92:80";
/// SYNs may offer an MSS of 1,360 at most.
pub const CLAMPED: &str = "192.0.2.80:80";
/// The same, IPv6.
pub const CLAMPED_V6: &str = "[2001:db8::80]:80";
/// The same, behind a tunnel.
pub const CLAMPED_TUNNEL4: &str = "192.0.2.81:80";
/// The same, IPv6.
pub const CLAMPED_TUNNEL4_V6: &str = "[2001:db8::81]:80";
/// The same, behind an IPv6 tunnel.
pub const CLAMPED_TUNNEL6: &str = "192.0.2.82:80";
/// The same; the backend is this host.
pub const CLAMPED_LOCAL: &str = "192.0.2.83:80";
/// The same; the backend lies on the second interface.
pub const CLAMPED_BESIDE: &str = "192.0.2.84:80";
/// The MSS of all these.
pub const CLAMP: u16 = 1360;
/// The next hop's MAC is one of ours.
pub const LOOPING: &str = "192.0.2.93:80";

/// The services of every setup. Where the name of a VIP above says one backend, it is the one of the same number.
const SERVICES: &str = r#"

[[syn.signature]]
name = "small-window"
window = "1-1023"
options = ["none", "padding"]
ttl = "1-200"

[[syn.signature]]
name = "long-and-low"
length = "60-2000"
source_port = "1-1023"
port = 80
payload = true

[service.web]
vip = ["192.0.2.10:80", "[2001:db8::10]:80", "192.0.2.10:443/udp", "[2001:db8::10]:443/udp"]
backends = ["10.0.0.10"]

[service.spread]
vip = ["192.0.2.11:80", "[2001:db8::11]:80"]
backends = ["10.0.0.50-53"]

[service.source]
vip = ["192.0.2.12:80", "192.0.2.12:443", "[2001:db8::12]:80"]
backends = ["10.0.0.50-53"]
hash = "source"

[service.guarded]
vip = ["192.0.2.13:80", "[2001:db8::13]:80"]
backends = ["10.0.0.13"]
syn = "drop"

[service.picky]
vip = ["192.0.2.15:80", "[2001:db8::15]:80", "192.0.2.15:8080"]
backends = ["10.0.0.15"]
syn = { mode = "drop", signatures = ["window-zero-bare", "small-window", "long-and-low"] }

[service.careless]
vip = "192.0.2.14:80"
backends = ["10.0.0.14"]
syn = "off"

[service.all-ports]
vip = ["192.0.2.21:*", "[2001:db8::21]:*"]
backends = ["10.0.0.21"]

[service.all-udp]
vip = "192.0.2.22:*/udp"
backends = ["10.0.0.22"]

[service.one-of-all]
vip = "192.0.2.21:8080"
backends = ["10.0.0.23"]

[service.dns]
vip = ["192.0.2.53:53/udp", "192.0.2.53:5353/udp", "[2001:db8::53]:53/udp"]
backends = ["10.0.0.50-53"]

[service.split-a]
vip = ["192.0.2.54:53/udp", "[2001:db8::54]:53/udp"]
backends = ["10.0.0.54"]

[service.split-b]
vip = ["192.0.2.54:5353/udp", "[2001:db8::54]:5353/udp"]
backends = ["10.0.0.55"]

[service.tunnel4]
vip = ["192.0.2.40:80", "[2001:db8::40]:80", "192.0.2.40:53/udp"]
backends = ["10.0.0.40"]
forward = "ipip"

[service.tunnel6]
vip = ["192.0.2.60:80", "[2001:db8::60]:80", "192.0.2.60:53/udp"]
backends = ["2001:db8:1::60"]
forward = "ipip"

[service.drained]
vip = "192.0.2.70:80"
backends = ["10.0.0.70*0"]

[service.reset]
vip = ["192.0.2.76:80", "[2001:db8::76]:80", "192.0.2.76:53/udp", "192.0.2.77:*"]
backends = ["10.0.0.70*0"]
on_empty = "reset"
syn = "drop"

[service.local]
vip = "192.0.2.71:80"
backends = ["10.0.0.71"]
syn = "drop"

[service.unresolved]
vip = "192.0.2.72:80"
backends = ["10.0.0.72"]
syn = "drop"

[service.beside]
vip = "192.0.2.73:80"
backends = ["10.0.1.73"]

[service.beside-tunnel]
vip = "192.0.2.74:80"
backends = ["10.0.1.74"]
forward = "ipip"

[service.beside-tunnel6]
vip = "192.0.2.75:80"
backends = ["2001:db8:2::75"]
forward = "ipip"

[service.jumbo]
vip = ["192.0.2.90:80", "[2001:db8::90]:80"]
backends = ["10.0.0.90"]

[service.jumbo-tunnel]
vip = "192.0.2.91:80"
backends = ["10.0.0.91"]
forward = "ipip"

[service.jumbo-tunnel6]
vip = "192.0.2.92:80"
backends = ["2001:db8:1::92"]
forward = "ipip"

[service.clamped]
vip = ["192.0.2.80:80", "[2001:db8::80]:80"]
backends = ["10.0.0.80"]
mss = 1360

[service.clamped-tunnel4]
vip = ["192.0.2.81:80", "[2001:db8::81]:80"]
backends = ["10.0.0.81"]
forward = "ipip"
mss = 1360

[service.clamped-tunnel6]
vip = "192.0.2.82:80"
backends = ["2001:db8:1::82"]
forward = "ipip"
mss = 1360

[service.clamped-local]
vip = "192.0.2.83:80"
backends = ["10.0.0.71"]
mss = 1360

[service.clamped-beside]
vip = "192.0.2.84:80"
backends = ["10.0.1.84"]
mss = 1360

[service.looping]
vip = "192.0.2.93:80"
backends = ["10.0.0.93"]
"#;

/// What the node calls itself: the source of tunnels.
pub const NODE: NodeAddresses = NodeAddresses {
    v4: Some(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    v6: Some(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
};

/// How a backend is reached.
#[derive(Clone, Copy)]
pub enum Way {
    /// Through a next hop.
    Via(Hop),
    /// It is this host.
    Local,
    /// Nobody knows.
    Unknown,
}

/// A next hop.
#[derive(Clone, Copy)]
pub struct Hop {
    /// Its MAC.
    pub mac: Mac,
    /// The number of the interface that it lies on.
    pub interface: u32,
    /// What the way takes, bytes.
    pub mtu: u16,
}

/// The rule by which backends are reached. The network says by which interface, the host how.
pub fn way(backend: IpAddr) -> Way {
    let (interface, host) = match backend {
        IpAddr::V4(address) => (address.octets()[2] as u32, address.octets()[3]),
        // Written in hexadecimal, read as decimal, so that the numbers look the same.
        IpAddr::V6(address) => {
            let [.., low] = address.segments();
            (address.segments()[2] as u32 - 1, format!("{low:x}").parse().unwrap())
        }
    };
    let mac = [0x02, 0xbe, backend.is_ipv6() as u8, 0, interface as u8, host];
    match host {
        71 => Way::Local,
        72 => Way::Unknown,
        93 => Way::Via(Hop { mac: crate::frames::VIRTUAL, interface, mtu: 1500 }),
        _ => Way::Via(Hop { mac, interface, mtu: if host >= 90 { 9000 } else { 1500 } }),
    }
}

/// The MACs of the interfaces, by their numbers.
pub const INTERFACES: [(&str, Mac); 2] = [("eth0", OURS), ("eth1", SECOND)];

/// A setup's tables, next hops known.
pub struct World {
    /// What was planned, next hops filled in.
    pub tables: Tables,
    /// Entries of INTERFACES.
    pub interfaces: Vec<abi::Interface>,
    /// VIPs as the configuration writes them, by their ids.
    pub vips: Vec<String>,
}

impl Setup {
    /// The whole file.
    pub fn text(&self) -> String {
        const HEAD: &str = r#"interface = ["eth0", "eth1"]
hash_key = "6f1d0c5be29a4783b1f4d2905e3ac718"
macs = ["00:00:5e:00:01:0a"]
slots = 2048
"#;
        format!("{HEAD}{}[syn]\nmode = \"count\"\nbudget = \"0/s\"\n{}{SERVICES}", self.head, self.syn)
    }

    /// Plans the tables and fills in what the host would tell.
    pub fn world(&self) -> World {
        let config = config::parse(self.name, &self.text()).unwrap_or_else(|error| panic!("{error}"));
        let mut tables = plan(&config, NODE).unwrap_or_else(|error| panic!("{}: {error:#}", self.name));
        for backend in &mut tables.backends {
            let entry = &mut backend.entry;
            match way(backend.address) {
                Way::Via(hop) => {
                    entry.next_hop = NextHop::resolved(hop.mac);
                    (entry.interface, entry.mtu) = (hop.interface as u16, hop.mtu);
                }
                Way::Local => entry.next_hop = NextHop(NextHop::LOCAL),
                Way::Unknown => {}
            }
        }
        let mut more_macs = [0; 3];
        more_macs.iter_mut().zip(&config.macs).for_each(|(entry, mac)| *entry = mac_bits(*mac));
        let interface = |(index, (_, mac)): (u32, &(&str, Mac))| abi::Interface {
            mac: mac_bits(*mac),
            more_macs,
            index,
            announce: self.announce.into(),
        };
        let mut vips: Vec<_> = tables.description.services.iter().flat_map(|service| service.vips.clone()).collect();
        vips.sort_by_key(|vip| vip.id);
        World {
            // Indices that no interface of a host has: nothing leaves by accident.
            interfaces: (0x7fff_0001..).zip(&INTERFACES).map(interface).collect(),
            vips: vips.into_iter().map(|vip| vip.vip).collect(),
            tables,
        }
    }
}

impl World {
    /// The address and the tunnel of a backend, by its id.
    pub fn backend(&self, id: u32) -> (IpAddr, Option<Family>) {
        let backend = self.tables.backends.iter().find(|backend| u32::from(backend.id) == id).unwrap();
        let tunnel = match backend.entry.encapsulation {
            n if n == Encapsulation::Ip4 as u8 => Some(Family::V4),
            n if n == Encapsulation::Ip6 as u8 => Some(Family::V6),
            _ => None,
        };
        (backend.address, tunnel)
    }
}

/// Of an address or an outer header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}
