//! Fragments: the first tells the ports, the others follow it.

use std::collections::HashMap;

use super::{
    Feature, Frame, Judgement, Link, Reference, Stop, TCP, UDP, Verdict, judge_source, network::Network, transport,
};

/// What identifies a datagram in pieces.
type Datagram = (std::net::IpAddr, std::net::IpAddr, u32, u8);

/// Ports by datagram.
#[derive(Default)]
pub struct Fragments(HashMap<Datagram, (u16, u16)>);

fn datagram(network: &Network) -> Datagram {
    (network.source, network.destination, network.identification, network.protocol)
}

impl Reference {
    /// Rows 20, 22, 35 and 36.
    pub(super) fn first_fragment(
        &mut self,
        frame: &Frame,
        link: &Link,
        network: &Network,
        judgement: &mut Judgement,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Stop> {
        judgement.feature = Some(Feature::FragmentPorts);
        let segment = transport::read(frame, network).ok_or(Stop::IfVip(Verdict::Malformed))?;
        let service = self.service_of(network, &segment)?;
        judgement.service = Some(service);
        self.judge_packet(network, &segment, service, false, judgement)?;
        self.fragments.0.insert(datagram(network), (segment.source, segment.destination));
        let ports = hashed_ports(network, segment.source, segment.destination);
        Ok(self.deliver(
            frame,
            link,
            network,
            service,
            &network.flow(ports.0, ports.1),
            Some(&segment),
            judgement,
            out,
        )?)
    }

    /// Rows 21, 22, 23 and 35.
    pub(super) fn later_fragment(
        &mut self,
        frame: &Frame,
        link: &Link,
        network: &Network,
        at_one: bool,
        judgement: &mut Judgement,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Stop> {
        let vip = *self.vips.get(&network.destination).ok_or(Verdict::NotAVip)?;
        if network.protocol == TCP && at_one {
            return Err(Verdict::Malformed.into());
        }
        let (service, ports) = match vip.udp {
            Some(service) if network.protocol == UDP => (service, (0, 0)),
            _ => {
                judgement.feature = Some(Feature::FragmentPorts);
                let ports = *self.fragments.0.get(&datagram(network)).ok_or(Verdict::Fragment)?;
                let service = self.service(network.destination, network.protocol, ports.1)?;
                (service, hashed_ports(network, ports.0, ports.1))
            }
        };
        judgement.service = Some(service);
        judge_source(network)?;
        Ok(self.deliver(frame, link, network, service, &network.flow(ports.0, ports.1), None, judgement, out)?)
    }
}

/// TCP's fragments go where their connection goes; those of UDP, of which any may come first, without ports.
fn hashed_ports(network: &Network, source: u16, destination: u16) -> (u16, u16) {
    if network.protocol == TCP { (source, destination) } else { (0, 0) }
}
