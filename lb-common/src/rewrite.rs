//! Sending a packet on: new MACs, or an outer header in front.

use crate::{
    abi::{Backend, Settings},
    checksum::Sum,
    packet::Packet,
    verdict::Verdict,
    wire::{
        Be16, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Header, IPV4_DF, Ipv4, Ipv6, PROTOCOL_IPIP, PROTOCOL_IPV6,
        VlanTag,
    },
};

/// Of the packet that is sent on, what an outer header takes over.
#[derive(Clone, Copy)]
pub struct Inner {
    /// 4 or 6.
    pub version: u32,
    /// Header and payload, bytes.
    pub length: usize,
    /// DSCP and ECN, or the traffic class.
    pub class: u8,
    /// IPv6's flow label, as the first word carries it; 0 for IPv4.
    pub flow_label: u32,
}

impl Inner {
    /// Of an IPv4 packet.
    #[inline(always)]
    pub fn of4(ip: &Ipv4) -> Self {
        Inner { version: 4, length: ip.total_length.get() as usize, class: ip.tos, flow_label: 0 }
    }

    /// Of an IPv6 packet.
    #[inline(always)]
    pub fn of6(ip: &Ipv6) -> Self {
        let class_flow = u32::from_be(ip.version_class_flow);
        Inner {
            version: 6,
            length: ip.payload_length.get() as usize + size_of::<Ipv6>(),
            class: (class_flow >> 20) as u8,
            flow_label: (class_flow & 0x000f_ffff).to_be(),
        }
    }
}

/// TTL and hop limit of what begins here: outer headers and answers.
pub const FRESH_TTL: u8 = 64;

/// Writes both MACs.
#[inline(always)]
pub fn set_macs<P: Packet>(packet: &mut P, destination: u64, source: u64) -> Result<(), Verdict> {
    let ethernet = packet.at_mut::<Ethernet>(0).ok_or(Verdict::Malformed)?;
    ethernet.set_destination(destination);
    ethernet.set_source(source);
    Ok(())
}

/// Puts an outer header in front of the packet.
#[inline(always)]
pub fn encapsulate<P: Packet, H: Outer>(packet: &mut P, l3: usize, outer: H) -> Result<(), Verdict> {
    make_room::<P, H>(packet, l3, H::ETHERTYPE)?;
    *packet.at_mut(l3).ok_or(Verdict::NoHeadroom)? = outer;
    Ok(())
}

/// A header that goes in front of a packet.
pub trait Outer: Header {
    /// What says that it follows.
    const ETHERTYPE: Be16;
}

impl Outer for Ipv4 {
    const ETHERTYPE: Be16 = ETHERTYPE_IPV4;
}

impl Outer for Ipv6 {
    const ETHERTYPE: Be16 = ETHERTYPE_IPV6;
}

/// What goes in front of a packet to a backend in an IPv4 tunnel, whose source is varied by a hash.
#[inline(always)]
pub fn tunnel4(settings: &Settings, backend: &Backend, inner: Inner, hash: u32) -> Ipv4 {
    outer4(inner, settings.tunnel_source4 | hash & settings.tunnel_vary4, backend.address.0[3])
}

/// The same in an IPv6 tunnel.
#[inline(always)]
pub fn tunnel6(settings: &Settings, backend: &Backend, inner: Inner, hash: u32) -> Ipv6 {
    let mut source = settings.tunnel_source6.0;
    source[3] |= hash & settings.tunnel_vary6;
    outer6(inner, hash, source, backend.address.0)
}

/// The IPv4 header in front of a packet (RFC 2003, 4213).
#[inline(always)]
pub fn outer4(inner: Inner, source: u32, destination: u32) -> Ipv4 {
    let protocol = if inner.version == 4 { PROTOCOL_IPIP } else { PROTOCOL_IPV6 };
    ipv4_header(inner.length + size_of::<Ipv4>(), inner.class, protocol, source, destination)
}

/// The header of a packet of `length` bytes that begins here: DF, id 0, right checksum.
#[inline(always)]
pub fn ipv4_header(length: usize, class: u8, protocol: u8, source: u32, destination: u32) -> Ipv4 {
    let total_length = Be16::new(length as u16);
    let checksum = Sum::default()
        .word(u16::from_le_bytes([0x45, class]))
        .word(total_length.raw())
        .word(IPV4_DF.raw())
        .word(u16::from_le_bytes([FRESH_TTL, protocol]))
        .pair(source)
        .pair(destination)
        .finish();
    Ipv4 {
        version_ihl: 0x45,
        tos: class,
        total_length,
        id: Be16::new(0),
        fragment: IPV4_DF,
        ttl: FRESH_TTL,
        protocol,
        checksum,
        source,
        destination,
    }
}

/// The IPv6 header in front of a packet (RFC 2473). The flow label is the inner one's, or of the flow's hash (RFC 6438).
#[inline(always)]
pub fn outer6(inner: Inner, hash: u32, source: [u32; 4], destination: [u32; 4]) -> Ipv6 {
    let flow_label = if inner.flow_label != 0 { inner.flow_label } else { (hash & 0x000f_ffff).to_be() };
    let protocol = if inner.version == 4 { PROTOCOL_IPIP } else { PROTOCOL_IPV6 };
    ipv6_header(inner.length, inner.class, flow_label, protocol, source, destination)
}

/// The header of a packet with `payload` bytes behind it that begins here. The flow label is as the first word carries it.
#[inline(always)]
pub fn ipv6_header(
    payload: usize,
    class: u8,
    flow_label: u32,
    next_header: u8,
    source: [u32; 4],
    destination: [u32; 4],
) -> Ipv6 {
    Ipv6 {
        version_class_flow: (6u32 << 28 | (class as u32) << 20).to_be() | flow_label,
        payload_length: Be16::new(payload as u16),
        next_header,
        hop_limit: FRESH_TTL,
        source,
        destination,
    }
}

/// Makes room for the header `H` before the network header at `l3` and moves what stands before that to the new
/// beginning; the MACs are left to the caller.
#[inline(always)]
fn make_room<P: Packet, H>(packet: &mut P, l3: usize, ethertype: Be16) -> Result<(), Verdict> {
    let mut link = LinkHeader::read(packet, l3).ok_or(Verdict::Malformed)?;
    if !packet.grow_head(size_of::<H>()) {
        return Err(Verdict::NoHeadroom);
    }
    link.set_ethertype(ethertype);
    link.write(packet).ok_or(Verdict::NoHeadroom)
}

/// The Ethernet header and its tags, held while the head of the frame moves.
pub struct LinkHeader {
    /// The MACs, and the ethertype if there are no tags.
    pub ethernet: Ethernet,
    tags: [VlanTag; 2],
    l3: usize,
}

impl LinkHeader {
    const FIRST: usize = size_of::<Ethernet>();
    const SECOND: usize = Self::FIRST + size_of::<VlanTag>();

    /// Reads all that stands before `l3`.
    #[inline(always)]
    pub fn read<P: Packet>(packet: &P, l3: usize) -> Option<Self> {
        let mut link = LinkHeader { ethernet: *packet.at(0)?, tags: [VlanTag::default(); 2], l3 };
        if l3 > Self::FIRST {
            link.tags[0] = *packet.at(Self::FIRST)?;
        }
        if l3 > Self::SECOND {
            link.tags[1] = *packet.at(Self::SECOND)?;
        }
        Some(link)
    }

    /// Says what follows the last tag.
    #[inline(always)]
    pub fn set_ethertype(&mut self, ethertype: Be16) {
        if self.l3 > Self::SECOND {
            self.tags[1].ethertype = ethertype;
        } else if self.l3 > Self::FIRST {
            self.tags[0].ethertype = ethertype;
        } else {
            self.ethernet.ethertype = ethertype;
        }
    }

    /// Writes it to the beginning of the frame.
    #[inline(always)]
    pub fn write<P: Packet>(&self, packet: &mut P) -> Option<()> {
        *packet.at_mut(0)? = self.ethernet;
        if self.l3 > Self::FIRST {
            *packet.at_mut(Self::FIRST)? = self.tags[0];
        }
        if self.l3 > Self::SECOND {
            *packet.at_mut(Self::SECOND)? = self.tags[1];
        }
        Some(())
    }
}
