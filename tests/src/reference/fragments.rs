//! Fragments: the first tells the ports, the others follow it.

use std::collections::HashMap;

use super::{
    Frame, Judgement, Link, Reference, Stop, TCP, UDP, Verdict, hash, judge_source, network::Network, transport,
};

/// How many datagrams are remembered: each has one place, by its hash, and whoever comes later takes it.
const PLACES: u64 = 65_536;

/// Ports by place, with the tag of the datagram that they belong to.
#[derive(Default)]
pub struct Fragments(HashMap<u32, (u32, u16, u16)>);

impl Fragments {
    /// The places that are taken.
    pub fn places(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }
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
        let segment = transport::read(frame, network).ok_or(Stop::IfVip(Verdict::Malformed))?;
        let service = self.service_of(network, &segment)?;
        judgement.service = Some(service);
        self.judge_packet(network, &segment, service, false, judgement)?;
        let (place, tag) = self.place(network);
        self.fragments.0.insert(place, (tag, segment.source, segment.destination));
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
                let (place, tag) = self.place(network);
                let remembered = self.fragments.0.get(&place).filter(|(whose, ..)| *whose == tag);
                let (_, source, destination) = *remembered.ok_or(Verdict::Fragment)?;
                let service = self.service(network.destination, network.protocol, destination)?;
                (service, hashed_ports(network, source, destination))
            }
        };
        judgement.service = Some(service);
        judge_source(network)?;
        Ok(self.deliver(frame, link, network, service, &network.flow(ports.0, ports.1), None, judgement, out)?)
    }

    /// The place of a datagram and its tag, which is never 0.
    fn place(&self, network: &Network) -> (u32, u32) {
        let hash = hash::datagram(&self.key, network);
        ((hash >> 32 & (PLACES - 1)) as u32, (hash as u32).max(1))
    }
}

/// TCP's fragments go where their connection goes; those of UDP, of which any may come first, without ports.
fn hashed_ports(network: &Network, source: u16, destination: u16) -> (u16, u16) {
    if network.protocol == TCP { (source, destination) } else { (0, 0) }
}
