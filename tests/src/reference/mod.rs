//! The specification, written a second time: what each frame gets, for clarity and not for speed.
//!
//! It shares no code with the path that it judges (a test holds that), neither for reading frames nor for hashing nor for
//! finding services: headers are read by etherparse where that reads what is there, and byte by byte where it refuses
//! headers that lie; services lie in hash maps, rings are lists. What it knows of the world is a plain [`Setup`].

mod answer;
mod fragments;
mod hash;
mod network;
mod quote;
mod send;
mod setup;
mod transport;
mod verdict;

use std::{collections::HashMap, net::IpAddr};

use etherparse::{EtherType, Ethernet2HeaderSlice, SingleVlanHeaderSlice};

pub use setup::{Backend, Protocol, Service, Setup, Signature, SynPolicy, Way};
pub use verdict::{Action, Options, SynKind, Verdict};

use fragments::Fragments;
use network::{Network, Shape};
use transport::Segment;

/// All that is said of a frame but its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// The one verdict.
    pub verdict: Verdict,
    /// The service that counts it, by its number in the setup.
    pub service: Option<usize>,
    /// The hash of its flow, if it came to that.
    pub hash: u32,
    /// The slot that the flow falls into.
    pub slot: Option<usize>,
    /// The backend that owns the slot, by its number in the setup.
    pub backend: Option<usize>,
    /// The interface that it leaves by, if it is sent to a backend.
    pub interface: Option<usize>,
    /// What kind of SYN it is, where the service looks.
    pub syn: Option<SynKind>,
    /// Bytes of the IP packet that came.
    pub bytes: u64,
    /// It is an ICMP error that was sent on.
    pub icmp_error: bool,
    /// It is one that tells of an MTU that no link may have.
    pub small_mtu: bool,
    /// It is a fragment, and not the first of its datagram.
    pub later_fragment: bool,
    /// Its MSS option was lowered.
    pub mss_lowered: bool,
    /// It matches a signature, but its source is never dropped.
    pub syn_allowed: bool,
}

/// A frame as a driver hands it over.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// How much of it can be read; the rest lies in further buffers.
    pub readable: usize,
    /// Room in front.
    pub headroom: usize,
}

impl<'a> Frame<'a> {
    /// `length` bytes at `offset`, if they can be read.
    fn at(&self, offset: usize, length: usize) -> Option<&'a [u8]> {
        let readable = &self.bytes[..self.readable.min(self.bytes.len())];
        readable.get(offset..)?.get(..length)
    }
}

/// Judges frames.
pub struct Reference {
    setup: Setup,
    key: [u32; 12],
    exact: HashMap<(IpAddr, u8, u16), usize>,
    all_ports: HashMap<(IpAddr, u8), usize>,
    vips: HashMap<IpAddr, Vip>,
    fragments: Fragments,
}

/// What holds for the address of a VIP.
#[derive(Clone, Copy, Default)]
struct Vip {
    /// The first of the address's UDP services, if all of them share a ring.
    udp: Option<usize>,
    /// Some service here has a backend.
    live: bool,
}

/// Why a frame goes no further.
enum Stop {
    /// With this verdict.
    With(Verdict),
    /// With this one, but only if it is for a VIP: its ports are not known.
    IfVip(Verdict),
}

impl From<Verdict> for Stop {
    fn from(verdict: Verdict) -> Self {
        Stop::With(verdict)
    }
}

/// A frame's link layer.
struct Link<'a> {
    /// Where the network header begins.
    l3: usize,
    ethertype: EtherType,
    /// Addressed to us, not to a group.
    ours: bool,
    /// Who sent it.
    source: [u8; 6],
    /// MACs, tags and EtherType.
    header: &'a [u8],
}

/// A flow: what is hashed, and what decides on the service.
#[derive(Clone, Copy)]
struct Flow {
    client: IpAddr,
    client_port: u16,
    vip: IpAddr,
    vip_port: u16,
    protocol: u8,
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

impl Reference {
    /// Prepares to judge under a setup.
    pub fn new(setup: Setup) -> Self {
        let mut exact = HashMap::new();
        let mut all_ports = HashMap::new();
        let mut vips: HashMap<IpAddr, Vip> = HashMap::new();
        for (number, service) in setup.services.iter().enumerate() {
            let protocol = service.protocol.number();
            match service.port {
                Some(port) => exact.insert((service.vip, protocol, port), number),
                None => all_ports.insert((service.vip, protocol), number),
            };
            let vip = vips.entry(service.vip).or_default();
            vip.live |= setup.rings[service.ring].iter().any(Option::is_some);
        }
        for (address, vip) in &mut vips {
            let here = |service: &&Service| service.vip == *address && service.protocol == Protocol::Udp;
            let mut udp = setup.services.iter().filter(here);
            if let Some(first) = udp.next()
                && udp.all(|other| (other.ring, other.hash_source) == (first.ring, first.hash_source))
            {
                vip.udp = setup.services.iter().position(|service| here(&service));
            }
        }
        let key = hash::expand(&setup.hash_key);
        Reference { setup, key, exact, all_ports, vips, fragments: Fragments::default() }
    }

    /// The setup.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Forgets the fragments that it saw; returns the places that were taken in the table.
    pub fn forget(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.fragments).places().collect()
    }

    /// Judges a frame; `out` is what leaves, or what is passed or dropped, unchanged.
    pub fn judge(&mut self, frame: Frame, out: &mut Vec<u8>) -> Judgement {
        out.clear();
        out.extend_from_slice(frame.bytes);
        let mut judgement = Judgement {
            verdict: Verdict::NotIp,
            service: None,
            hash: 0,
            slot: None,
            backend: None,
            interface: None,
            syn: None,
            bytes: 0,
            icmp_error: false,
            small_mtu: false,
            later_fragment: false,
            mss_lowered: false,
            syn_allowed: false,
        };
        judgement.verdict = match self.frame(&frame, &mut judgement, out) {
            Ok(verdict) | Err(verdict) => verdict,
        };
        judgement
    }

    fn frame(&mut self, frame: &Frame, judgement: &mut Judgement, out: &mut Vec<u8>) -> Result<Verdict, Verdict> {
        let link = self.link(frame)?;
        let network = match link.ethertype {
            EtherType::ARP => return self.arp(frame, &link, out),
            EtherType::IPV4 => network::ipv4(frame, link.l3)?,
            EtherType::IPV6 => {
                let network = network::ipv6(frame, link.l3)?;
                judgement.bytes = network.length as u64;
                if let Some(verdict) = self.neighbour(frame, &link, &network, out) {
                    return Ok(verdict);
                }
                network
            }
            _ => return Err(Verdict::NotIp),
        };
        judgement.bytes = network.length as u64;
        if !link.ours {
            return Err(Verdict::NotOurs);
        }
        let stop = match self.packet(frame, &link, &network, judgement, out) {
            Ok(verdict) => return Ok(verdict),
            Err(stop) => stop,
        };
        Err(match stop {
            Stop::IfVip(_) if !self.vips.contains_key(&network.destination) => Verdict::NotAVip,
            Stop::With(verdict) | Stop::IfVip(verdict) => verdict,
        })
    }

    /// Rows 1 to 8: the Ethernet header and at most two tags.
    fn link<'a>(&self, frame: &Frame<'a>) -> Result<Link<'a>, Verdict> {
        let short = Verdict::ShortFrame;
        let ethernet = Ethernet2HeaderSlice::from_slice(frame.at(0, 14).ok_or(short)?).map_err(|_| short)?;
        let destination = ethernet.destination();
        let ours = destination == self.setup.interfaces[self.setup.interface]
            || self.setup.more_macs.contains(&destination) && destination != [0; 6];
        let is_group = destination[0] & 1 == 1;
        if !ours && !is_group {
            return Err(Verdict::NotOurs);
        }
        let is_tag = |ethertype: EtherType| matches!(ethertype.0, 0x8100 | 0x88a8);
        let (mut l3, mut ethertype) = (14, ethernet.ether_type());
        while is_tag(ethertype) {
            if l3 == 14 + 2 * 4 {
                return Err(Verdict::NotIp);
            }
            let tag = SingleVlanHeaderSlice::from_slice(frame.at(l3, 4).ok_or(short)?).map_err(|_| short)?;
            ethertype = tag.ether_type();
            l3 += 4;
        }
        Ok(Link { l3, ethertype, ours, source: ethernet.source(), header: &frame.bytes[..l3] })
    }

    /// An IP packet that is addressed to our MAC.
    fn packet(
        &mut self,
        frame: &Frame,
        link: &Link,
        network: &Network,
        judgement: &mut Judgement,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Stop> {
        let shape = network.shape?;
        let icmp = if network.destination.is_ipv4() { ICMP } else { ICMPV6 };
        match (network.protocol, shape) {
            (TCP | UDP, Shape::Whole) => self.whole(frame, link, network, judgement, out),
            (TCP | UDP, Shape::First) => self.first_fragment(frame, link, network, judgement, out),
            (TCP | UDP, Shape::Later { at_one }) => self.later_fragment(frame, link, network, at_one, judgement, out),
            (protocol, Shape::Whole) if protocol == icmp => self.icmp(frame, link, network, judgement, out),
            _ => Err(Stop::IfVip(Verdict::OtherProtocol)),
        }
    }

    fn whole(
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
        self.judge_packet(network, &segment, service, true, judgement)?;
        let flow = network.flow(segment.source, segment.destination);
        Ok(self.deliver(frame, link, network, service, &flow, Some(&segment), judgement, out)?)
    }

    fn service_of(&self, network: &Network, segment: &Segment) -> Result<usize, Verdict> {
        self.service(network.destination, network.protocol, segment.destination)
    }

    /// One port before all ports; that there is none of either says what the address is.
    fn service(&self, vip: IpAddr, protocol: u8, port: u16) -> Result<usize, Verdict> {
        let found = self.exact.get(&(vip, protocol, port)).or_else(|| self.all_ports.get(&(vip, protocol)));
        let none = if self.vips.contains_key(&vip) { Verdict::NotAService } else { Verdict::NotAVip };
        found.copied().ok_or(none)
    }

    /// What a packet to a service is dropped for: its source, its TTL, its ports and lengths, its flags.
    fn judge_packet(
        &self,
        network: &Network,
        segment: &Segment,
        service: usize,
        is_whole: bool,
        judgement: &mut Judgement,
    ) -> Result<(), Verdict> {
        judge_source(network)?;
        let lengths_lie = if is_whole { segment.lies } else { segment.lies_in_a_fragment };
        if lengths_lie || segment.source == 0 || segment.destination == 0 {
            return Err(Verdict::Malformed);
        }
        let Some(tcp) = &segment.tcp else { return Ok(()) };
        if tcp.flags_are_bad() && !self.setup.pass_bad_flags {
            return Err(Verdict::BadFlags);
        }
        let policy = self.setup.services[service].syn;
        if tcp.is_syn() && policy != SynPolicy::Off {
            let kind = tcp.syn_kind();
            judgement.syn = Some(kind);
            let matches = |signature: &Signature| is_one(signature, network, segment, tcp);
            if self.setup.services[service].signatures.iter().any(matches) && policy == SynPolicy::Drop {
                if self.setup.allowed.iter().any(|prefix| is_within(network.source, *prefix)) {
                    judgement.syn_allowed = true;
                } else {
                    return Err(Verdict::SynFlood);
                }
            }
        }
        Ok(())
    }

    /// From the flow to the backend, and there.
    #[allow(clippy::too_many_arguments, reason = "all that is known of a packet, handed on once")]
    fn deliver(
        &self,
        frame: &Frame,
        link: &Link,
        network: &Network,
        service: usize,
        flow: &Flow,
        segment: Option<&Segment>,
        judgement: &mut Judgement,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Verdict> {
        let service = &self.setup.services[service];
        judgement.hash =
            if service.hash_source { hash::source(&self.key, flow.client) } else { hash::flow(&self.key, flow) };
        let ring = &self.setup.rings[service.ring];
        let slot = judgement.hash as usize % ring.len();
        judgement.slot = Some(slot);
        let Some(backend) = ring[slot] else {
            let is_tcp = segment.is_some_and(|segment| segment.tcp.is_some());
            let may_reset = service.reset && is_tcp && matches!(network.shape, Ok(Shape::Whole));
            return if may_reset { self.answer_by_reset(frame, link, network, out) } else { Err(Verdict::NoBackend) };
        };
        judgement.backend = Some(backend);
        self.send(frame, link, network, service, segment, judgement, out)
    }
}

/// Whether a SYN is one of a signature's.
fn is_one(signature: &Signature, network: &Network, segment: &Segment, tcp: &transport::Tcp) -> bool {
    fn within<T: PartialOrd>((low, high): (T, T), value: T) -> bool {
        low <= value && value <= high
    }
    let payload = network.end() - network.l4 > 20 + tcp.options.len();
    within(signature.window, tcp.window())
        && signature.options.contains(&tcp.syn_kind().options)
        && within(signature.length, network.length)
        && within(signature.ttl, network.ttl)
        && within(signature.source_port, segment.source)
        && within(signature.port, segment.destination)
        && signature.payload.is_none_or(|wanted| wanted == payload)
}

fn is_within(address: IpAddr, (first, length): (IpAddr, u8)) -> bool {
    match (address, first) {
        (IpAddr::V4(address), IpAddr::V4(first)) => (address.to_bits() ^ first.to_bits()) >> (32 - length) == 0,
        (IpAddr::V6(address), IpAddr::V6(first)) => (address.to_bits() ^ first.to_bits()) >> (128 - length) == 0,
        _ => false,
    }
}

/// Rows 25, 27 and 41: by the header alone.
fn judge_source(network: &Network) -> Result<(), Verdict> {
    let martian = match network.source {
        IpAddr::V4(source) => {
            source.octets()[0] == 0 || source.is_loopback() || source.is_multicast() || source.is_broadcast()
        }
        IpAddr::V6(source) => {
            source.is_unspecified()
                || source.is_loopback()
                || source.is_multicast()
                || source.to_ipv4_mapped().is_some()
        }
    };
    if martian || network.source == network.destination {
        return Err(Verdict::Martian);
    }
    if network.ttl == 0 { Err(Verdict::TtlExpired) } else { Ok(()) }
}
