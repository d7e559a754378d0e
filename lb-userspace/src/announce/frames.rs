//! The frames by which addresses are claimed, built and read byte by byte: ARP (RFC 826, RFC 5227) and neighbour
//! discovery (RFC 4861, RFC 4862).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const ARP_REQUEST: u16 = 1;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// The advertisement's flag that says: replace what you know.
const OVERRIDE: u8 = 0x20;
const TARGET_MAC: u8 = 2;

const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;
const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An address and the MAC that a frame says it is at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// Who claims it.
    pub mac: [u8; 6],
}

/// Asks whether anybody has `vip`, without claiming it.
pub fn probe(mac: [u8; 6], vip: IpAddr) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => arp_request(mac, Ipv4Addr::UNSPECIFIED, vip),
        IpAddr::V6(vip) => {
            let message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0], &vip.octets()[..]].concat();
            neighbour_discovery(mac, Ipv6Addr::UNSPECIFIED, solicited_node(vip), message)
        }
    }
}

/// Tells everybody that `vip` is at `mac`.
pub fn announcement(mac: [u8; 6], vip: IpAddr) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => arp_request(mac, vip, vip),
        IpAddr::V6(vip) => {
            let header = [ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
            let message = [&header, &vip.octets()[..], &[TARGET_MAC, 1], &mac].concat();
            neighbour_discovery(mac, vip, ALL_NODES, message)
        }
    }
}

/// What a frame claims. A probe counts as a claim as well: whoever sends it is about to use the address.
pub fn claim(frame: &[u8]) -> Option<Claim> {
    match u16::from_be_bytes(bytes(frame, 12)?) {
        ARP => arp_claim(frame.get(ETHERNET_LEN..)?),
        IPV6 => discovery_claim(bytes(frame, 6)?, frame.get(ETHERNET_LEN..)?),
        _ => None,
    }
}

fn arp_request(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let ethernet_and_ipv4 = [0, 1, 8, 0, 6, 4];
    [
        &ethernet(BROADCAST, mac, ARP)[..],
        &ethernet_and_ipv4,
        &ARP_REQUEST.to_be_bytes(),
        &mac,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    ]
    .concat()
}

/// `message` comes with a checksum of zero.
fn neighbour_discovery(mac: [u8; 6], source: Ipv6Addr, group: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(source, group, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let length = (message.len() as u16).to_be_bytes();
    let hop_limit = 255;
    [
        &ethernet(group_mac(group), mac, IPV6)[..],
        &[0x60, 0, 0, 0, length[0], length[1], ICMPV6, hop_limit],
        &source.octets(),
        &group.octets(),
        &message,
    ]
    .concat()
}

fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes()].concat()
}

/// The group that whoever has `address` listens to.
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// ICMPv6's checksum, over the pseudo header and a message of an even number of bytes.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = source.segments().into_iter().chain(destination.segments());
    let message_words = message.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word));
    let mut sum: u32 = words.chain(message_words).map(u32::from).sum();
    sum += message.len() as u32 + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn arp_claim(arp: &[u8]) -> Option<Claim> {
    if bytes(arp, 0)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let (operation, mac) = (u16::from_be_bytes(bytes(arp, 6)?), bytes(arp, 8)?);
    let (sender, target) = (Ipv4Addr::from(bytes::<4>(arp, 14)?), Ipv4Addr::from(bytes::<4>(arp, 24)?));
    let address = match sender.is_unspecified() {
        false => sender,
        true if operation == ARP_REQUEST => target,
        true => return None,
    };
    Some(Claim { address: address.into(), mac })
}

fn discovery_claim(ethernet_source: [u8; 6], packet: &[u8]) -> Option<Claim> {
    let ([next_header, hop_limit], source) = (bytes(packet, 6)?, Ipv6Addr::from(bytes::<16>(packet, 8)?));
    // No router passes such a packet on: what comes with less was sent from elsewhere.
    if next_header != ICMPV6 || hop_limit != 255 {
        return None;
    }
    let message = packet.get(IPV6_LEN..)?;
    let [kind, code] = bytes(message, 0)?;
    let address = Ipv6Addr::from(bytes::<16>(message, 8)?).into();
    match kind {
        ADVERTISEMENT if code == 0 => {
            let mac = target_mac(message.get(24..)?).unwrap_or(ethernet_source);
            Some(Claim { address, mac })
        }
        SOLICITATION if code == 0 && source.is_unspecified() => Some(Claim { address, mac: ethernet_source }),
        _ => None,
    }
}

/// The MAC among an advertisement's options, which are measured in units of 8 bytes.
fn target_mac(mut options: &[u8]) -> Option<[u8; 6]> {
    loop {
        let [kind, units] = bytes(options, 0)?;
        if kind == TARGET_MAC && units == 1 {
            return bytes(options, 2);
        }
        options = options.get(usize::from(units).max(1) * 8..)?;
    }
}

fn bytes<const N: usize>(from: &[u8], offset: usize) -> Option<[u8; N]> {
    from.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv6Slice, LinkSlice, NetSlice, SlicedPacket, TransportSlice};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn v4() -> IpAddr {
        "192.0.2.10".parse().unwrap()
    }

    fn v6() -> IpAddr {
        "2001:db8::12:3456".parse().unwrap()
    }

    #[test]
    fn an_arp_probe_has_no_sender_address() {
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6,
            0, 1, 8, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 7, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 192, 0, 2, 10,
        ];
        assert_eq!(probe(MAC, v4()), expected);
    }

    #[test]
    fn an_arp_announcement_has_the_vip_twice() {
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6,
            0, 1, 8, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 7, 192, 0, 2, 10,
            0, 0, 0, 0, 0, 0, 192, 0, 2, 10,
        ];
        assert_eq!(announcement(MAC, v4()), expected);
    }

    /// Taken apart by other code than ours: destination MAC, source, destination, hop limit, message.
    fn dissect(frame: &[u8]) -> ([u8; 6], Ipv6Addr, Ipv6Addr, u8, Icmpv6Slice<'_>) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { panic!("no Ethernet") };
        assert_eq!(ethernet.source(), MAC);
        let Some(NetSlice::Ipv6(ip)) = packet.net else { panic!("no IPv6") };
        let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("no ICMPv6") };
        let header = ip.header();
        assert_eq!(usize::from(header.payload_length()), frame.len() - ETHERNET_LEN - IPV6_LEN);
        assert!(icmp.is_checksum_valid(header.source(), header.destination()), "checksum");
        (ethernet.destination(), header.source_addr(), header.destination_addr(), header.hop_limit(), icmp)
    }

    #[test]
    fn a_solicitation_goes_to_the_solicited_nodes_group_from_nowhere() {
        let frame = probe(MAC, v6());
        let (to, source, group, hop_limit, icmp) = dissect(&frame);
        assert_eq!(to, [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!((source, hop_limit), (Ipv6Addr::UNSPECIFIED, 255));
        assert_eq!(group, "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        assert_eq!((icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8()), (135, 0, [0; 4]));
        assert_eq!(&icmp.slice()[8..], "2001:db8::12:3456".parse::<Ipv6Addr>().unwrap().octets(), "and no option");
    }

    #[test]
    fn an_advertisement_overrides_what_all_nodes_know() {
        let frame = announcement(MAC, v6());
        let (to, source, group, hop_limit, icmp) = dissect(&frame);
        assert_eq!(to, [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!((IpAddr::V6(source), group, hop_limit), (v6(), ALL_NODES, 255));
        assert_eq!((icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8()), (136, 0, [0x20, 0, 0, 0]));
        assert_eq!(icmp.slice()[8..24], source.octets());
        assert_eq!(icmp.slice()[24..], [2, 1, 2, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn checksums_hold_for_any_address() {
        for n in 0..0x1_0000u32 {
            let vip = Ipv6Addr::from(((0x2001_0db8 << 96) | (u128::from(n) * 0x9e37_79b9_7f4a_7c15)).to_be_bytes());
            dissect(&announcement(MAC, vip.into()));
        }
    }

    #[test]
    fn what_we_send_is_a_claim_of_ours() {
        for vip in [v4(), v6()] {
            let ours = Some(Claim { address: vip, mac: MAC });
            assert_eq!(claim(&probe(MAC, vip)), ours);
            assert_eq!(claim(&announcement(MAC, vip)), ours);
        }
    }

    #[test]
    fn an_arp_reply_claims_its_senders_address() {
        let mut reply = announcement(MAC, v4());
        reply[21] = 2;
        reply[38..42].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(claim(&reply), Some(Claim { address: v4(), mac: MAC }));
        reply[28..32].fill(0);
        assert_eq!(claim(&reply), None, "a reply that names nobody");
    }

    #[test]
    fn a_question_about_an_address_claims_only_the_senders_own() {
        let mut request = probe(MAC, v4());
        request[28..32].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(claim(&request).unwrap().address, IpAddr::from([192, 0, 2, 1]));
        let mut solicitation = probe(MAC, v6());
        solicitation[22..38].copy_from_slice(&"fe80::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(claim(&solicitation), None);
    }

    #[test]
    fn an_advertisement_without_the_option_claims_for_its_frame() {
        let frame = announcement(MAC, v6());
        assert_eq!(claim(&frame[..78]).unwrap().mac, MAC);
        let mut other = frame.clone();
        other[80..86].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        assert_eq!(claim(&other).unwrap().mac, [2, 0, 0, 0, 0, 9]);
        other[79] = 0;
        assert_eq!(claim(&other).unwrap().mac, MAC, "an option without length ends the search");
    }

    #[test]
    fn what_is_forged_cut_or_foreign_claims_nothing() {
        for frame in [probe(MAC, v4()), announcement(MAC, v4()), probe(MAC, v6())] {
            for length in 0..frame.len() {
                assert_eq!(claim(&frame[..length]), None, "{length} bytes");
            }
        }
        let changed = |offset: usize, value: u8| {
            let mut frame = announcement(MAC, v6());
            frame[offset] = value;
            claim(&frame)
        };
        assert_eq!(changed(21, 64), None, "hop limit");
        assert_eq!(changed(20, 17), None, "not ICMPv6");
        assert_eq!(changed(54, 134), None, "a router's advertisement");
        assert_eq!(changed(55, 1), None, "code");
        assert_eq!(changed(13, 0), None, "EtherType");
    }
}
