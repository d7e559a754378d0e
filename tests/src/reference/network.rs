//! IPv4 and IPv6 headers, extension headers and whether a packet is whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::Ipv6HeaderSlice;

use super::{Flow, Frame, Stop, Verdict};

/// A packet's network layer.
pub struct Network {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// What follows, extension headers passed over.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN, or the traffic class.
    pub class: u8,
    /// 0 for IPv4.
    pub flow_label: u32,
    /// IPv4's DF.
    pub dont_fragment: bool,
    /// Of the datagram, where it is a fragment, as a little-endian host loads it; the last fragment header's.
    pub identification: u32,
    /// Where the header begins.
    pub l3: usize,
    /// Where what follows begins.
    pub l4: usize,
    /// Header and payload, bytes.
    pub length: usize,
    /// How the packet relates to its datagram; or that its lengths contradict each other.
    pub shape: Result<Shape, Fault>,
}

/// How a packet relates to its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// It is the datagram.
    Whole,
    /// Its beginning.
    First,
    /// Another part; IPv4's may begin 8 bytes into the datagram.
    Later { at_one: bool },
}

/// Lengths that contradict each other: no ports are read.
#[derive(Clone, Copy, Debug)]
pub struct Fault;

impl From<Fault> for Stop {
    fn from(_: Fault) -> Self {
        Stop::IfVip(Verdict::Malformed)
    }
}

impl Network {
    /// Where the packet ends, whatever the frame holds behind it.
    pub fn end(&self) -> usize {
        self.l3 + self.length
    }

    /// The flow of these ports.
    pub fn flow(&self, client_port: u16, vip_port: u16) -> Flow {
        Flow { client: self.source, client_port, vip: self.destination, vip_port, protocol: self.protocol }
    }
}

/// Rows 11 to 19.
pub fn ipv4(frame: &Frame, l3: usize) -> Result<Network, Verdict> {
    let header = frame.at(l3, 20).ok_or(Verdict::ShortFrame)?;
    if header[0] >> 4 != 4 {
        return Err(Verdict::NotIp);
    }
    let header_length = usize::from(header[0] & 15) * 4;
    let length = usize::from(be16(header, 2));
    let fragment = be16(header, 6);
    let (more, offset) = (fragment & 0x2000 != 0, fragment & 0x1fff);
    let shape = if header_length < 20 || header_length > length || l3 + length > frame.bytes.len() {
        Err(Fault)
    } else if offset != 0 {
        Ok(Shape::Later { at_one: offset == 1 })
    } else if more {
        Ok(Shape::First)
    } else {
        Ok(Shape::Whole)
    };
    Ok(Network {
        source: ipv4_address(header, 12),
        destination: ipv4_address(header, 16),
        protocol: header[9],
        ttl: header[8],
        class: header[1],
        flow_label: 0,
        dont_fragment: fragment & 0x4000 != 0,
        identification: u32::from(u16::from_le_bytes([header[4], header[5]])),
        l3,
        l4: l3 + header_length,
        length,
        shape,
    })
}

/// Rows 30 to 38.
pub fn ipv6(frame: &Frame, l3: usize) -> Result<Network, Verdict> {
    let header = frame.at(l3, 40).ok_or(Verdict::ShortFrame)?;
    let header = Ipv6HeaderSlice::from_slice(header).map_err(|_| Verdict::NotIp)?;
    let payload = usize::from(header.payload_length());
    let mut network = Network {
        source: IpAddr::V6(header.source_addr()),
        destination: IpAddr::V6(header.destination_addr()),
        protocol: header.next_header().0,
        ttl: header.hop_limit(),
        class: header.traffic_class(),
        flow_label: header.flow_label().value(),
        dont_fragment: true,
        identification: 0,
        l3,
        l4: l3 + 40,
        length: 40 + payload,
        shape: Err(Fault),
    };
    if payload == 0 || network.end() > frame.bytes.len() {
        return Ok(network);
    }
    if let Some(chain) = walk(frame, l3, network.protocol, network.end()) {
        (network.protocol, network.l4, network.identification) = (chain.protocol, chain.l4, chain.identification);
        network.shape = Ok(chain.shape);
    }
    Ok(network)
}

/// What extension headers lead to.
pub struct Chain {
    pub protocol: u8,
    pub l4: usize,
    pub shape: Shape,
    pub identification: u32,
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

/// Walks at most 8 extension headers, that end within the packet and 2,048 bytes behind the beginning of its IPv6 header.
/// What follows the fragment header of a later fragment is data.
pub fn walk(frame: &Frame, l3: usize, first: u8, end: usize) -> Option<Chain> {
    let mut chain = Chain { protocol: first, l4: l3 + 40, shape: Shape::Whole, identification: 0 };
    let mut walked = 0;
    while matches!(chain.protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY) {
        let header = frame.at(chain.l4, 8)?;
        let units = usize::from(header[1]);
        let length = match chain.protocol {
            AUTHENTICATION => (units + 2) * 4,
            FRAGMENT => 8,
            _ => (units + 1) * 8,
        };
        walked += 1;
        chain.l4 += length;
        if walked > 8 || chain.l4 > end || chain.l4 - l3 > 2048 || chain.protocol == ROUTING && header[2] == 0 {
            return None;
        }
        if chain.protocol == FRAGMENT {
            let (offset, more) = (be16(header, 2) & 0xfff8, header[3] & 1 == 1);
            chain.identification = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            if offset != 0 {
                chain.shape = Shape::Later { at_one: false };
                chain.protocol = header[0];
                return Some(chain);
            }
            if more {
                chain.shape = Shape::First;
            }
        }
        chain.protocol = header[0];
    }
    Some(chain)
}

/// A number of two bytes.
pub fn be16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}

/// An IPv4 address.
pub fn ipv4_address(bytes: &[u8], offset: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]))
}

/// An IPv6 address.
pub fn ipv6_address(bytes: &[u8], offset: usize) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[offset..offset + 16]).expect("16 bytes")))
}
