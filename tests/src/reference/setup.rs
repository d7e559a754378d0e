//! What the reference knows of the world: lists and numbers, nothing laid out for a kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// What happens to SYNs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SynPolicy {
    /// Nobody looks.
    Off,
    /// They are counted.
    Count,
    /// They are counted, and the flood's are dropped.
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
