//! ICMP and ICMPv6 to a VIP: echo requests, and errors, which follow the flow that they quote.

use super::{
    Flow, Frame, ICMP, Judgement, Link, Reference, Stop, TCP, UDP, Verdict, judge_source,
    network::{self, Network, Shape, be16, ipv4_address, ipv6_address},
};

impl Reference {
    /// Rows 60 to 65.
    pub(super) fn icmp(
        &mut self,
        frame: &Frame,
        link: &Link,
        network: &Network,
        judgement: &mut Judgement,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Stop> {
        let vip = *self.vips.get(&network.destination).ok_or(Verdict::NotAVip)?;
        let (echo, errors): (u8, &[u8]) =
            if network.protocol == ICMP { (8, &[3, 11, 12]) } else { (128, &[1, 2, 3, 4]) };
        let kind = within(frame, network, network.l4, 4).ok_or(Verdict::Malformed)?;
        let is_echo = kind[..2] == [echo, 0];
        if !is_echo && !errors.contains(&kind[0]) {
            return Err(Verdict::OtherProtocol.into());
        }
        let message = within(frame, network, network.l4, 8).ok_or(Verdict::Malformed)?;
        if is_echo {
            judge_source(network)?;
            if !vip.live {
                return Err(Verdict::OtherProtocol.into());
            }
            self.answer_echo(link, network, out);
            return Ok(Verdict::EchoAnswered);
        }
        let flow = quoted_flow(frame, network).ok_or(Verdict::Malformed)?;
        let service = self.service(flow.vip, flow.protocol, flow.vip_port)?;
        judgement.service = Some(service);
        judge_source(network)?;
        let verdict = self.deliver(frame, link, network, service, &flow, None, judgement, out)?;
        judgement.icmp_error = true;
        judgement.small_mtu = match (network.protocol, message[0], message[1]) {
            (ICMP, 3, 4) => be16(message, 6) < 68,
            (ICMP, ..) => false,
            (_, 2, _) => u32::from_be_bytes([message[4], message[5], message[6], message[7]]) < 1280,
            _ => false,
        };
        Ok(verdict)
    }
}

/// Bytes that lie within the packet.
fn within<'a>(frame: &Frame<'a>, network: &Network, offset: usize, length: usize) -> Option<&'a [u8]> {
    if offset + length > network.end() { None } else { frame.at(offset, length) }
}

/// The flow that a quoted packet belongs to: what the VIP sent to a client, seen from the client.
fn quoted_flow(frame: &Frame, network: &Network) -> Option<Flow> {
    let quote = network.l4 + 8;
    let (vip, client, protocol, l4) = if network.protocol == ICMP {
        let header = within(frame, network, quote, 20)?;
        let header_length = usize::from(header[0] & 15) * 4;
        let is_fragment = be16(header, 6) & 0x3fff != 0;
        if header[0] >> 4 != 4 || header_length < 20 || is_fragment {
            return None;
        }
        within(frame, network, quote, header_length)?;
        (ipv4_address(header, 12), ipv4_address(header, 16), header[9], quote + header_length)
    } else {
        let header = within(frame, network, quote, 40)?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let chain = network::walk(frame, quote, header[6], network.end())?;
        if chain.shape != Shape::Whole {
            return None;
        }
        (ipv6_address(header, 8), ipv6_address(header, 24), chain.protocol, chain.l4)
    };
    if protocol != TCP && protocol != UDP || vip != network.destination {
        return None;
    }
    let ports = within(frame, network, l4, 4)?;
    let (vip_port, client_port) = (be16(ports, 0), be16(ports, 2));
    (vip_port != 0 && client_port != 0).then_some(Flow { client, client_port, vip, vip_port, protocol })
}
