//! Answering for VIPs from the driver: they are no addresses of this host, so its stack would not.

use crate::{
    abi::{Match, Service},
    balance::Path,
    checksum::Sum,
    packet::{Packet, Tables},
    rewrite::{self, LinkHeader},
    verdict::Verdict,
    wire::{
        ARP_REPLY, ARP_REQUEST, Arp, Be16, Icmp, Ipv6, LinkAddress, ND_ADVERTISEMENT, ND_OVERRIDE, ND_SOLICITATION,
        ND_SOLICITED, ND_TARGET_LINK_ADDRESS, NEXT_ICMPV6, Neighbour,
    },
};

/// An ARP packet: answers a request for an announced VIP (RFC 826), a probe (RFC 5227) included; passes the rest.
#[inline(always)]
pub(crate) fn arp<P: Packet, T: Tables>(packet: &mut P, path: &Path<T>, l3: usize) -> Result<Verdict, Verdict> {
    let arp = packet.at_mut::<Arp>(l3).ok_or(Verdict::ShortFrame)?;
    let for_ethernet_ipv4 =
        arp.hardware == Be16::new(1) && arp.protocol == Be16::new(0x0800) && arp.lengths == Be16::new(0x0604);
    // A host that asks for its own address announces it: nothing to answer.
    if !for_ethernet_ipv4 || arp.operation != ARP_REQUEST || arp.sender == arp.target {
        return Err(Verdict::NotIp);
    }
    if !is_announced(path, arp.target) {
        return Err(Verdict::NotIp);
    }
    let mac = path.interface.mac;
    let vip = arp.target;
    arp.operation = ARP_REPLY;
    arp.target = arp.sender;
    arp.target_mac_a = arp.sender_mac_a;
    arp.target_mac_b = arp.sender_mac_b;
    arp.sender = vip;
    arp.sender_mac_a = mac as u32;
    arp.sender_mac_b = (mac >> 32) as u16;
    let asker = arp.target_mac_a as u64 | (arp.target_mac_b as u64) << 32;
    rewrite::set_macs(packet, asker, mac)?;
    Ok(Verdict::ArpAnswered)
}

/// An ICMPv6 packet right behind the fixed header: answers a neighbour solicitation for an announced VIP, passes other
/// neighbour and listener discovery. `None` for any other message.
#[inline(always)]
pub(crate) fn icmpv6<P: Packet, T: Tables>(
    packet: &mut P,
    path: &Path<T>,
    l3: usize,
    payload: usize,
) -> Option<Verdict> {
    const LISTENER_QUERY: u8 = 130;
    const REDIRECT: u8 = 137;
    const LISTENER_REPORT_2: u8 = 143;
    match packet.at::<Icmp>(l3 + size_of::<Ipv6>())?.kind {
        ND_SOLICITATION => Some(solicitation(packet, path, l3, payload).unwrap_or(Verdict::NeighbourPassed)),
        LISTENER_QUERY..=REDIRECT | LISTENER_REPORT_2 => Some(Verdict::NeighbourPassed),
        _ => None,
    }
}

/// Turns a solicitation into the advertisement that answers it (RFC 4861, 7.2.4; with the unspecified source, which is
/// a host that looks for duplicates, 7.2.4 and RFC 4862, 5.4.4). `None` if it is not for us to answer.
#[inline(always)]
fn solicitation<P: Packet, T: Tables>(packet: &mut P, path: &Path<T>, l3: usize, payload: usize) -> Option<Verdict> {
    const MESSAGE: usize = size_of::<Neighbour>() + size_of::<LinkAddress>();
    const ALL_NODES: [u32; 4] = [u32::from_ne_bytes([0xff, 2, 0, 0]), 0, 0, u32::from_ne_bytes([0, 0, 0, 1])];
    const ALL_NODES_MAC: u64 = 0x0100_0000_3333;

    let l4 = l3 + size_of::<Ipv6>();
    let ip = *packet.at::<Ipv6>(l3)?;
    let asked = *packet.at::<Neighbour>(l4)?;
    if ip.hop_limit != 255 || asked.code != 0 || payload < size_of::<Neighbour>() || !is_announced(path, asked.target) {
        return None;
    }
    let mut link = LinkHeader::read(packet, l3)?;
    // The answer carries our MAC; a question without its asker's has no room for that.
    if payload < MESSAGE {
        if !packet.grow_head(size_of::<LinkAddress>()) {
            return Some(Verdict::NoHeadroom);
        }
    } else {
        // It may lie beyond the first buffer. Nothing is written before that is known: what is passed stays as it came.
        packet.at::<LinkAddress>(l4 + size_of::<Neighbour>())?;
    }
    let source = ip.source;
    let looks_for_duplicates = source == [0; 4];
    let (destination, mac, flags) = if looks_for_duplicates {
        (ALL_NODES, ALL_NODES_MAC, ND_OVERRIDE)
    } else {
        (source, link.ethernet.source(), ND_OVERRIDE | ND_SOLICITED)
    };
    link.ethernet.set_destination(mac);
    link.ethernet.set_source(path.interface.mac);
    link.write(packet)?;
    *packet.at_mut(l3)? = Ipv6 {
        version_class_flow: u32::from_ne_bytes([0x60, 0, 0, 0]),
        payload_length: Be16::new(MESSAGE as u16),
        next_header: NEXT_ICMPV6,
        hop_limit: 255,
        source: asked.target,
        destination,
    };
    let our_mac = path.interface.mac;
    let option =
        LinkAddress { kind: ND_TARGET_LINK_ADDRESS, length: 1, mac_a: our_mac as u16, mac_b: (our_mac >> 16) as u32 };
    let checksum = Sum::default()
        .address(asked.target)
        .address(destination)
        .pair((MESSAGE as u32).to_be())
        .pair((NEXT_ICMPV6 as u32).to_be())
        .word(ND_ADVERTISEMENT as u16)
        .pair(flags)
        .address(asked.target)
        .word(u16::from_le_bytes([option.kind, option.length]))
        .word(option.mac_a)
        .pair(option.mac_b)
        .finish();
    *packet.at_mut(l4)? = Neighbour { kind: ND_ADVERTISEMENT, code: 0, checksum, flags, target: asked.target };
    *packet.at_mut(l4 + size_of::<Neighbour>())? = option;
    Some(Verdict::NdAnswered)
}

#[inline(always)]
fn is_announced<T: Tables, F: crate::family::Family>(path: &Path<T>, address: F) -> bool {
    path.interface.announce != 0
        && path.find(address, Match::address(F::VERSION)).is_some_and(|vip| vip.flags & Service::ANNOUNCE != 0)
}
