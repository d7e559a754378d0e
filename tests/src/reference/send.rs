//! The way to a backend: next hop, size, MSS, outer header, MACs.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header};

use super::{
    Frame, Judgement, Link, Reference, Service, Verdict, Way,
    answer::{QUOTED, replace_word},
    network::{Network, Shape, be16},
    transport::Segment,
};

impl Reference {
    /// Rows 66 to 75.
    #[allow(clippy::too_many_arguments, reason = "all that is known of a packet, handed on once")]
    pub(super) fn send(
        &self,
        frame: &Frame,
        link: &Link,
        network: &Network,
        service: &Service,
        segment: Option<&Segment>,
        judgement: &mut Judgement,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Verdict> {
        let backend = &self.setup.backends[judgement.backend.expect("it was chosen")];
        let (mac, interface, mtu) = match backend.way {
            Way::Local => return Err(Verdict::LocalBackend),
            Way::Unknown => return Err(Verdict::NoNeighbour),
            Way::Via { mac, interface, mtu } => (mac, interface, mtu),
        };
        let outer = match backend.tunnel {
            None => 0,
            Some(IpAddr::V4(_)) => 20,
            Some(IpAddr::V6(_)) => 40,
        };
        if network.length + outer > mtu {
            return self.too_big(frame, link, network, mtu.saturating_sub(outer), out);
        }
        if frame.headroom < outer {
            return Err(Verdict::NoHeadroom);
        }
        if let (Some(limit), Some(segment)) = (service.mss, segment) {
            judgement.mss_lowered = lower_mss(segment, network, limit, out);
            if judgement.mss_lowered {}
        }
        if let Some(end) = backend.tunnel {
            self.encapsulate(network, end, judgement.hash, out);
        }
        out[..6].copy_from_slice(&mac);
        out[6..12].copy_from_slice(&self.setup.interfaces[interface]);
        judgement.interface = Some(interface);
        Ok(if interface == self.setup.interface { Verdict::Forwarded } else { Verdict::Redirected })
    }

    /// Rows 66 and 67. No error answers an error, and no answer a fragment whose ports nobody sees.
    fn too_big(
        &self,
        frame: &Frame,
        link: &Link,
        network: &Network,
        mtu: usize,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Verdict> {
        let is_icmp = !matches!(network.protocol, super::TCP | super::UDP);
        let is_later = matches!(network.shape, Ok(Shape::Later { .. }));
        let has_enough = network.length >= QUOTED;
        if is_icmp || is_later || !network.dont_fragment || !has_enough {
            return Err(Verdict::TooBig);
        }
        if !self.setup.answer_too_big {
            return Err(Verdict::TooBig);
        }
        self.answer_too_big(frame, link, network, mtu, out);
        Ok(Verdict::TooBigAnswered)
    }

    /// Rows 28, 42 and 70: an outer header between the link layer and the packet.
    fn encapsulate(&self, network: &Network, end: IpAddr, hash: u32, out: &mut Vec<u8>) {
        let protocol = IpNumber(if network.source.is_ipv4() { 4 } else { 41 });
        let (ethertype, header): (u16, Vec<u8>) = match end {
            IpAddr::V4(end) => {
                let (source, prefix) = self.setup.tunnel4;
                let source = vary(source.octets(), prefix, hash);
                let length = network.length as u16;
                let mut ip = Ipv4Header::new(length, 64, protocol, source, end.octets()).expect("it fits the MTU");
                ip.dscp = (network.class >> 2).try_into().expect("6 bits");
                ip.ecn = (network.class & 3).try_into().expect("2 bits");
                ip.dont_fragment = true;
                ip.header_checksum = ip.calc_header_checksum();
                (0x0800, ip.to_bytes().to_vec())
            }
            IpAddr::V6(end) => {
                let (source, prefix) = self.setup.tunnel6;
                let mut octets = source.octets();
                let last = <[u8; 4]>::try_from(&octets[12..]).expect("4 bytes");
                octets[12..].copy_from_slice(&vary(last, prefix - 96, hash));
                let label = if network.flow_label == 0 { hash & 0xf_ffff } else { network.flow_label };
                let ip = Ipv6Header {
                    traffic_class: network.class,
                    flow_label: Ipv6FlowLabel::try_new(label).expect("20 bits"),
                    payload_length: network.length as u16,
                    next_header: protocol,
                    hop_limit: 64,
                    source: octets,
                    destination: end.octets(),
                };
                (0x86dd, ip.to_bytes().to_vec())
            }
        };
        out.splice(network.l3..network.l3, header);
        out[network.l3 - 2..network.l3].copy_from_slice(&ethertype.to_be_bytes());
    }
}

/// The last 4 bytes of a source, of which what stands behind the prefix takes the hash's bits, its lowest byte first.
fn vary(source: [u8; 4], prefix: u8, hash: u32) -> [u8; 4] {
    let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0).to_be_bytes();
    let hash = hash.to_le_bytes();
    std::array::from_fn(|byte| source[byte] | hash[byte] & host[byte])
}

/// Row 68b: lowers the MSS that a SYN offers, if it offers one.
fn lower_mss(segment: &Segment, network: &Network, limit: u16, out: &mut [u8]) -> bool {
    let Some(tcp) = segment.tcp.as_ref().filter(|tcp| tcp.is_syn()) else { return false };
    let mut at = 0;
    loop {
        let length = match (tcp.options.get(at), tcp.options.get(at + 1)) {
            (Some(1), _) => 1,
            (None | Some(0), _) | (_, None) => return false,
            (_, Some(length)) if *length < 2 || at + usize::from(*length) > tcp.options.len() => return false,
            (Some(2), Some(4)) => break,
            (_, Some(length)) => usize::from(*length),
        };
        at += length;
    }
    if be16(tcp.options, at + 2) <= limit {
        return false;
    }
    // Byte by byte, each with its word: the option may stand at an odd offset.
    let checksum = network.l4 + 16;
    for (place, new) in (tcp.options_at + at + 2..).zip(limit.to_be_bytes()) {
        let word = place - (place - network.l4) % 2;
        let mut bytes = [out[word], out[word + 1]];
        bytes[place - word] = new;
        replace_word(out, word, u16::from_be_bytes(bytes), checksum);
    }
    true
}
