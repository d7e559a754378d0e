//! What the driver answers itself: ARP, neighbour solicitations, echo requests, packets that are too big, and segments
//! for services without a backend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header,
    Ipv6Header, TcpHeader, icmpv4,
};

use super::{
    Frame, ICMP, ICMPV6, Link, Reference, Verdict,
    network::{Network, be16, ipv6_address},
};

/// What of a packet that is too big comes back with the answer.
pub const QUOTED: usize = 256;

impl Reference {
    fn our_mac(&self) -> [u8; 6] {
        self.setup.interfaces[self.setup.interface]
    }

    fn announces(&self, address: IpAddr) -> bool {
        self.setup.announce && self.vips.contains_key(&address)
    }

    /// Rows 2 and 3.
    pub(super) fn arp(&self, frame: &Frame, link: &Link, out: &mut [u8]) -> Result<Verdict, Verdict> {
        let arp = frame.at(link.l3, 28).ok_or(Verdict::ShortFrame)?;
        let octets = |at: usize| <[u8; 4]>::try_from(&arp[at..at + 4]).expect("4 bytes");
        let (sender, target) = (octets(14), octets(24));
        // Ethernet, IPv4, addresses of 6 and 4 bytes, a request.
        let is_request = arp[..8] == [0, 1, 8, 0, 6, 4, 0, 1];
        if !is_request || sender == target || !self.announces(IpAddr::V4(Ipv4Addr::from(target))) {
            return Err(Verdict::NotIp);
        }
        let asker = <[u8; 6]>::try_from(&arp[8..14]).expect("6 bytes");
        let reply = ArpEthIpv4Packet {
            operation: ArpOperation::REPLY,
            sender_mac: self.our_mac(),
            sender_ipv4: target,
            target_mac: asker,
            target_ipv4: sender,
        };
        out[..6].copy_from_slice(&asker);
        out[6..12].copy_from_slice(&self.our_mac());
        out[link.l3..link.l3 + 28].copy_from_slice(&reply.to_bytes());
        Ok(Verdict::ArpAnswered)
    }

    /// Rows 39 and 40; `None` of what is no neighbour or listener discovery.
    pub(super) fn neighbour(
        &self,
        frame: &Frame,
        link: &Link,
        network: &Network,
        out: &mut Vec<u8>,
    ) -> Option<Verdict> {
        let fixed = frame.at(network.l3, 40)?;
        if fixed[6] != ICMPV6 || network.length == 40 || network.end() > frame.bytes.len() {
            return None;
        }
        match frame.at(network.l3 + 40, 4)?[0] {
            135 => Some(self.solicitation(frame, link, network, out).unwrap_or(Verdict::NeighbourPassed)),
            130..=137 | 143 => Some(Verdict::NeighbourPassed),
            _ => None,
        }
    }

    fn solicitation(&self, frame: &Frame, link: &Link, network: &Network, out: &mut Vec<u8>) -> Option<Verdict> {
        let at = network.l3 + 40;
        let message = frame.at(at, 24)?;
        let target = ipv6_address(message, 8);
        let length = network.length - 40;
        if network.ttl != 255 || message[1] != 0 || length < 24 || !self.announces(target) {
            return None;
        }
        // What follows the target is replaced by our MAC, or makes room for it.
        let replaced = if length < 32 { 24 } else { 32 };
        if replaced == 24 && frame.headroom < 8 {
            return Some(Verdict::NoHeadroom);
        }
        frame.at(at, replaced)?;
        let IpAddr::V6(target) = target else { unreachable!("read as one") };
        let IpAddr::V6(asker) = network.source else { unreachable!("an IPv6 packet") };
        let (to, mac, flags) = if asker.is_unspecified() {
            (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), [0x33, 0x33, 0, 0, 0, 1], 0x20)
        } else {
            (asker, link.source, 0x60)
        };
        let mut told = [0; 24];
        told[..16].copy_from_slice(&target.octets());
        (told[16], told[17]) = (2, 1);
        told[18..].copy_from_slice(&self.our_mac());
        let kind = Icmpv6Type::Unknown { type_u8: 136, code_u8: 0, bytes5to8: [flags, 0, 0, 0] };
        let header = Icmpv6Header::with_checksum(kind, target.octets(), to.octets(), &told).expect("24 bytes fit");
        let ip = Ipv6Header {
            payload_length: 32,
            next_header: IpNumber(ICMPV6),
            hop_limit: 255,
            source: target.octets(),
            destination: to.octets(),
            ..Ipv6Header::default()
        };
        out.clear();
        out.extend(mac);
        out.extend(self.our_mac());
        out.extend(&link.header[12..]);
        out.extend(ip.to_bytes());
        out.extend(header.to_bytes());
        out.extend(told);
        out.extend(&frame.bytes[at + replaced..]);
        Some(Verdict::NdAnswered)
    }

    /// Row 60: in place, everything stays but MACs, addresses, TTL, the type and what sums them up.
    pub(super) fn answer_echo(&self, link: &Link, network: &Network, out: &mut [u8]) {
        let (l3, l4) = (network.l3, network.l4);
        out[..6].copy_from_slice(&link.source);
        out[6..12].copy_from_slice(&self.our_mac());
        let (addresses, length) = if network.protocol == ICMP { (l3 + 12, 4) } else { (l3 + 8, 16) };
        let (source, destination) = out[addresses..addresses + 2 * length].split_at_mut(length);
        source.swap_with_slice(destination);
        if network.protocol == ICMP {
            replace_word(out, l3 + 8, u16::from_be_bytes([64, ICMP]), l3 + 10);
            replace_word(out, l4, 0, l4 + 2);
        } else {
            out[l3 + 7] = 64;
            replace_word(out, l4, u16::from_be_bytes([129, 0]), l4 + 2);
        }
        // Of the two forms of zero the one that is right even where all words are zero.
        if be16(out, l4 + 2) == 0 {
            out[l4 + 2..l4 + 4].copy_from_slice(&[0xff; 2]);
        }
    }

    /// Row 66: an ICMP message in front of the first bytes of the packet, from the VIP to the client.
    pub(super) fn answer_too_big(&self, frame: &Frame, link: &Link, network: &Network, mtu: usize, out: &mut Vec<u8>) {
        let quoted = &frame.bytes[network.l3..network.l3 + QUOTED];
        out.clear();
        out.extend(link.source);
        out.extend(self.our_mac());
        out.extend(&link.header[12..]);
        match (network.destination, network.source) {
            (IpAddr::V4(vip), IpAddr::V4(client)) => {
                let unreachable = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu as u16 };
                let icmp = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(unreachable), quoted);
                let length = (8 + quoted.len()) as u16;
                let mut ip =
                    Ipv4Header::new(length, 64, IpNumber(ICMP), vip.octets(), client.octets()).expect("it fits");
                ip.dont_fragment = true;
                ip.header_checksum = ip.calc_header_checksum();
                out.extend(ip.to_bytes());
                out.extend(icmp.to_bytes());
            }
            (IpAddr::V6(vip), IpAddr::V6(client)) => {
                let kind = Icmpv6Type::PacketTooBig { mtu: mtu as u32 };
                let icmp = Icmpv6Header::with_checksum(kind, vip.octets(), client.octets(), quoted).expect("it fits");
                let ip = Ipv6Header {
                    payload_length: (8 + quoted.len()) as u16,
                    next_header: IpNumber(ICMPV6),
                    hop_limit: 64,
                    source: vip.octets(),
                    destination: client.octets(),
                    ..Ipv6Header::default()
                };
                out.extend(ip.to_bytes());
                out.extend(icmp.to_bytes());
            }
            _ => unreachable!("both ends of a packet are of one family"),
        }
        out.extend(quoted);
    }

    /// Row 72: what a host sends that has no such port (RFC 9293, 3.10.7.1).
    pub(super) fn answer_by_reset(
        &self,
        frame: &Frame,
        link: &Link,
        network: &Network,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Verdict> {
        let segment = frame.at(network.l4, 20).ok_or(Verdict::NoBackend)?;
        let number = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().expect("4 bytes"));
        let has = |flag: u8| segment[13] & flag != 0;
        let (fin, syn, rst, ack) = (1, 2, 4, 16);
        if has(rst) {
            return Err(Verdict::NoBackend);
        }
        let mut reset = TcpHeader::new(be16(segment, 2), be16(segment, 0), 0, 0);
        reset.rst = true;
        if has(ack) {
            reset.sequence_number = number(8);
        } else {
            let data = network.end() - network.l4 - usize::from(segment[12] >> 4) * 4;
            let length = data as u32 + u32::from(has(syn)) + u32::from(has(fin));
            reset.ack = true;
            reset.acknowledgment_number = number(4).wrapping_add(length);
        }
        out.clear();
        out.extend(link.source);
        out.extend(self.our_mac());
        out.extend(&link.header[12..]);
        match (network.destination, network.source) {
            (IpAddr::V4(vip), IpAddr::V4(client)) => {
                let mut ip = Ipv4Header::new(20, 64, IpNumber::TCP, vip.octets(), client.octets()).expect("it fits");
                ip.dont_fragment = true;
                ip.header_checksum = ip.calc_header_checksum();
                reset.checksum = reset.calc_checksum_ipv4(&ip, &[]).expect("it fits");
                out.extend(ip.to_bytes());
            }
            (IpAddr::V6(vip), IpAddr::V6(client)) => {
                let ip = Ipv6Header {
                    payload_length: 20,
                    next_header: IpNumber::TCP,
                    hop_limit: 64,
                    source: vip.octets(),
                    destination: client.octets(),
                    ..Ipv6Header::default()
                };
                reset.checksum = reset.calc_checksum_ipv6(&ip, &[]).expect("it fits");
                out.extend(ip.to_bytes());
            }
            _ => unreachable!("both ends of a packet are of one family"),
        }
        out.extend(reset.to_bytes());
        Ok(Verdict::Reset)
    }
}

/// Replaces the word at `at` and mends the checksum at `checksum` for it (RFC 1624, equation 3).
pub fn replace_word(bytes: &mut [u8], at: usize, new: u16, checksum: usize) {
    let old = be16(bytes, at);
    let mended = mend(be16(bytes, checksum), old, new);
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    bytes[checksum..checksum + 2].copy_from_slice(&mended.to_be_bytes());
}

fn mend(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
