//! What the reference knows of the world: lists and numbers, nothing laid out for a kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::verdict::Options;

/// A configuration and what the host tells.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The interface that frames come in by.
    pub interface: usize,
    /// The MACs of all interfaces.
    pub interfaces: Vec<[u8; 6]>,
    /// Further MACs that are ours.
    pub more_macs: Vec<[u8; 6]>,
    /// VIPs are announced by ARP and neighbour advertisement.
    pub announce: bool,
    /// One entry for each VIP, protocol and port.
    pub services: Vec<Service>,
    /// Who owns each slot.
    pub rings: Vec<Vec<Option<usize>>>,
    /// Who packets are sent to.
    pub backends: Vec<Backend>,
    /// The key of the flow hash.
    pub hash_key: [u8; 16],
    /// Sources of IPv4 tunnels: what stands behind the prefix varies by flow.
    pub tunnel4: (Ipv4Addr, u8),
    /// The same of IPv6 tunnels, whose last 32 bits may vary.
    pub tunnel6: (Ipv6Addr, u8),
    /// TCP flags that no stack sends are let through.
    pub pass_bad_flags: bool,
    /// Packets that are too big are answered.
    pub answer_too_big: bool,
    /// Prefixes whose SYNs are never dropped.
    pub allowed: Vec<(IpAddr, u8)>,
}

/// One VIP entry.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its address.
    pub vip: IpAddr,
    /// Over what.
    pub protocol: Protocol,
    /// One port, or all.
    pub port: Option<u16>,
    /// Its ring: services that share one share its number.
    pub ring: usize,
    /// Only the source is hashed.
    pub hash_source: bool,
    /// What happens to SYNs.
    pub syn: SynPolicy,
    /// What SYNs are looked for.
    pub signatures: Vec<Signature>,
    /// Segments are answered by a reset where its ring has no backend.
    pub reset: bool,
    /// The MSS that SYNs are lowered to.
    pub mss: Option<u16>,
}

/// Over what a service is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// IP's number of it.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

/// What a SYN must be to be one of these; both ends of a range belong to it.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The window.
    pub window: (u16, u16),
    /// What options it may have.
    pub options: Vec<Options>,
    /// Bytes of the IP packet.
    pub length: (usize, usize),
    /// TTL or hop limit.
    pub ttl: (u8, u8),
    /// The client's port.
    pub source_port: (u16, u16),
    /// The VIP's port.
    pub port: (u16, u16),
    /// With payload, or without.
    pub payload: Option<bool>,
}

impl Default for Signature {
    fn default() -> Self {
        Signature {
            window: (0, u16::MAX),
            options: vec![Options::Bare, Options::Padding, Options::Real],
            length: (0, usize::MAX),
            ttl: (0, u8::MAX),
            source_port: (0, u16::MAX),
            port: (0, u16::MAX),
            payload: None,
        }
    }
}

/// What happens to SYNs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SynPolicy {
    /// Nobody looks.
    Off,
    /// They are counted.
    Count,
    /// They are counted, and those that match a signature are dropped.
    Drop,
}

/// Who packets are sent to.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Where.
    pub way: Way,
    /// The end of the tunnel there, if it is one.
    pub tunnel: Option<IpAddr>,
}

/// The way to a backend.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// It is this host.
    Local,
    /// Nobody knows the next hop's MAC.
    Unknown,
    /// Through a next hop.
    Via {
        /// Its MAC.
        mac: [u8; 6],
        /// The interface that it lies on.
        interface: usize,
        /// What the way takes, bytes.
        mtu: usize,
    },
}
