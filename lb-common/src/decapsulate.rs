//! The backend's side: takes the outer header off tunnel packets for VIPs served here. Everything else is passed
//! untouched, so that other tunnels of the host go on working.

use crate::{
    packet::Packet,
    parse,
    rewrite::LinkHeader,
    verdict::Stripping,
    wire::{
        Be16, ECN_CE, ECN_NOT_ECT, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPV4_NOT_WHOLE, Ipv4, Ipv6, PROTOCOL_IPIP,
        PROTOCOL_IPV6,
    },
};

/// Which addresses concern this backend.
pub trait Served {
    /// Whether tunnels to this IPv4 address end here.
    fn endpoint4(&self, address: u32) -> bool;
    /// Whether tunnels to this IPv6 address end here.
    fn endpoint6(&self, address: [u32; 4]) -> bool;
    /// Whether this IPv4 address is a VIP served here.
    fn vip4(&self, address: u32) -> bool;
    /// Whether this IPv6 address is a VIP served here.
    fn vip6(&self, address: [u32; 4]) -> bool;
}

/// Decides on a packet and strips it where it is a tunnel's.
#[inline(always)]
pub fn decapsulate<P: Packet, S: Served>(packet: &mut P, served: &S) -> Stripping {
    match strip(packet, served) {
        Ok(()) => Stripping::Stripped,
        Err(stripping) => stripping,
    }
}

#[inline(always)]
fn strip<P: Packet, S: Served>(packet: &mut P, served: &S) -> Result<(), Stripping> {
    let ethernet = packet.at::<Ethernet>(0).ok_or(Stripping::NotATunnel)?;
    let (l3, ethertype) = parse::tags(packet, ethernet.ethertype).map_err(|_| Stripping::NotATunnel)?;
    let (protocol, outer, ecn) = match ethertype {
        ETHERTYPE_IPV4 => outer4(packet, served, l3)?,
        ETHERTYPE_IPV6 => outer6(packet, served, l3)?,
        _ => return Err(Stripping::NotATunnel),
    };
    let inner = l3 + outer;
    let (is_vip, ethertype) = if protocol == PROTOCOL_IPIP {
        let ip = packet.at::<Ipv4>(inner).ok_or(Stripping::Malformed)?;
        (ip.version_ihl >> 4 == 4 && served.vip4(ip.destination), ETHERTYPE_IPV4)
    } else {
        let ip = packet.at::<Ipv6>(inner).ok_or(Stripping::Malformed)?;
        (ip.version() == 6 && served.vip6(ip.destination), ETHERTYPE_IPV6)
    };
    if !is_vip {
        return Err(Stripping::NotAVip);
    }
    if ecn == ECN_CE {
        mark_congested(packet, inner, ethertype)?;
    }
    let mut link = LinkHeader::read(packet, l3).ok_or(Stripping::Malformed)?;
    link.set_ethertype(ethertype);
    if !packet.shrink_head(outer) {
        return Err(Stripping::Malformed);
    }
    link.write(packet).ok_or(Stripping::Malformed)
}

/// Hands the outer header's congestion mark to the inner one (RFC 6040, 4.2). A transport that does not know of ECN
/// learns of congestion by loss alone.
#[inline(always)]
fn mark_congested<P: Packet>(packet: &mut P, inner: usize, ethertype: Be16) -> Result<(), Stripping> {
    if ethertype == ETHERTYPE_IPV4 {
        let ip = packet.at_mut::<Ipv4>(inner).ok_or(Stripping::Malformed)?;
        if ip.ecn() == ECN_NOT_ECT {
            return Err(Stripping::Congested);
        }
        ip.mark_congested();
    } else {
        let ip = packet.at_mut::<Ipv6>(inner).ok_or(Stripping::Malformed)?;
        if ip.ecn() == ECN_NOT_ECT {
            return Err(Stripping::Congested);
        }
        ip.mark_congested();
    }
    Ok(())
}

/// The protocol inside an IPv4 header, the header's length and its ECN field.
#[inline(always)]
fn outer4<P: Packet, S: Served>(packet: &P, served: &S, l3: usize) -> Result<(u8, usize, u8), Stripping> {
    let ip = packet.at::<Ipv4>(l3).ok_or(Stripping::NotATunnel)?;
    let length = (ip.version_ihl & 0xf) as usize * 4;
    if ip.version_ihl >> 4 != 4 || length < size_of::<Ipv4>() || !is_tunnel(ip.protocol) {
        return Err(Stripping::NotATunnel);
    }
    if !served.endpoint4(ip.destination) {
        return Err(Stripping::NotOurs);
    }
    if ip.fragment.raw() & IPV4_NOT_WHOLE.raw() != 0 {
        return Err(Stripping::Fragment);
    }
    Ok((ip.protocol, length, ip.ecn()))
}

/// The protocol inside an IPv6 header, the length of all headers before it and the ECN field: some senders put a limit
/// of encapsulations (RFC 2473, 4.1.1) between.
#[inline(always)]
fn outer6<P: Packet, S: Served>(packet: &P, served: &S, l3: usize) -> Result<(u8, usize, u8), Stripping> {
    let ip = packet.at::<Ipv6>(l3).ok_or(Stripping::NotATunnel)?;
    if ip.version() != 6 {
        return Err(Stripping::NotATunnel);
    }
    let (first, destination, ecn) = (ip.next_header, ip.destination, ip.ecn());
    let end = size_of::<Ipv6>() + ip.payload_length.get() as usize;
    let upper = parse::extensions(packet, l3, first, end, 0).ok_or(Stripping::NotATunnel)?;
    if !is_tunnel(upper.protocol) {
        return Err(Stripping::NotATunnel);
    }
    if !served.endpoint6(destination) {
        return Err(Stripping::NotOurs);
    }
    if upper.is_fragment() {
        return Err(Stripping::Fragment);
    }
    Ok((upper.protocol, upper.offset, ecn))
}

#[inline(always)]
fn is_tunnel(protocol: u8) -> bool {
    protocol == PROTOCOL_IPIP || protocol == PROTOCOL_IPV6
}

#[cfg(test)]
mod tests;
