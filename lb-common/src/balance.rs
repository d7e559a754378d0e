//! The way of a packet, top to bottom: parse, service, filter, ring slot, backend, rewrite.
//!
//! Nothing is counted here: the caller counts what the [`Outcome`] says, once. A fault that hides the ports is
//! judged by the destination address, everything else by the service; what is not for a VIP is passed untouched.

use crate::{
    abi::{
        Backend, Encapsulation, Half, Interface, Live, MAX_INTERFACES, Match, NextHop, SERVICE_SIGNATURES,
        SLOTS_PER_ELEMENT, Service, Settings, VERDICT_PLACES, VIP_ENTRIES,
    },
    family::Family,
    filter::{self, Syn},
    fragment::{self, Fragment},
    hash, icmp, mss, neighbour,
    packet::{Packet, Tables},
    parse::{self, Link},
    reset,
    rewrite::{self, Inner},
    syn::{Facts, Ruling},
    too_big,
    verdict::Verdict,
    wire::{
        ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_DF, IPV4_NOT_WHOLE, IPV4_OFFSET, Ipv4, Ipv6, NEXT_ICMPV6,
        PROTOCOL_TCP, PROTOCOL_UDP, Tcp, Udp,
    },
};

/// Stands for "none" in the numbers of an [`Outcome`].
pub const NONE: u32 = u32::MAX;

/// What a packet got, and by which entries of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The one verdict.
    pub verdict: Verdict,
    /// The half of the services' table that was live.
    pub half: u32,
    /// Which entry of the VIPs' counters, or [`NONE`].
    pub vip: u32,
    /// The flow's hash; 0 before one was taken.
    pub hash: u32,
    /// The slot in the service's ring, or [`NONE`].
    pub slot: u32,
    /// Which entry of the backends' table, or [`NONE`].
    pub backend: u32,
    /// What kind of SYN it is, if it is one and the service looks: the number of a [`Syn`], or [`Syn::NONE`].
    pub syn: u32,
    /// Which of the service's signatures it matches, by its place there, or [`NONE`].
    pub signature: u32,
    /// Length of the IP packet as it came.
    pub bytes: u32,
    /// The kernel's index of the interface to redirect to.
    pub redirect: u32,
    /// `Outcome::*` bits: what else is counted of a packet that reaches its backend.
    pub marks: u32,
}

impl Outcome {
    /// An ICMP error.
    pub const ICMP_ERROR: u32 = 1 << 0;
    /// A too big, with an MTU that no link may have.
    pub const SMALL_MTU: u32 = 1 << 1;
    /// A SYN whose MSS was lowered.
    pub const MSS_LOWERED: u32 = 1 << 2;
    /// A SYN that matches a signature and is within the budget.
    pub const SYN_LET: u32 = 1 << 3;
    /// A SYN that matches a signature and comes from a prefix that is never dropped.
    pub const SYN_ALLOWED: u32 = 1 << 4;
}

impl Outcome {
    /// Of a packet that comes before the tables are filled.
    pub const NOT_READY: Outcome = Outcome {
        verdict: Verdict::NotReady,
        half: 0,
        vip: NONE,
        hash: 0,
        slot: NONE,
        backend: NONE,
        syn: Syn::NONE,
        signature: NONE,
        bytes: 0,
        redirect: 0,
        marks: 0,
    };
}

/// Decides on a packet and rewrites it where the decision needs that.
#[inline(always)]
pub fn balance<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Outcome {
    let Some(path) = Path::new(tables) else { return Outcome::NOT_READY };
    let mut outcome = path.outcome();
    let verdict = match path.link(packet, &mut outcome) {
        Ok(verdict) | Err(verdict) => verdict,
    };
    path.forget_how(verdict, outcome)
}

/// What stays the same along a packet's way.
pub(crate) struct Path<'a, T> {
    pub(crate) tables: &'a T,
    pub(crate) live: &'a Live,
    pub(crate) number: u32,
    pub(crate) half: &'a Half,
    pub(crate) interface: &'a Interface,
}

/// What the rest of the path needs of the network header.
pub(crate) struct Network<F> {
    pub(crate) source: F,
    pub(crate) destination: F,
    pub(crate) protocol: u8,
    ttl: u8,
    /// Where the network header begins.
    pub(crate) l3: usize,
    /// Where the transport header begins.
    pub(crate) l4: usize,
    /// Where the packet ends, by its own length and not the frame's.
    pub(crate) end: usize,
    /// No router may cut it: it is IPv6, or has DF.
    dont_fragment: bool,
    pub(crate) inner: Inner,
}

/// What finds the service and the slot. Aligned, because on the stack it is copied 8 bytes at a time, and a verifier
/// looks whether those are.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Flow<F> {
    /// Who sends to the VIP.
    pub(crate) client: F,
    /// The client's port and the VIP's, as a packet of the client's carries them; 0 where they must not count.
    pub(crate) ports: u32,
    /// TCP or UDP.
    pub(crate) protocol: u8,
}

/// What is known of a packet before its service is.
struct Named<'a, F> {
    flow: Flow<F>,
    /// Its own transport header, if it has one.
    segment: Option<Segment>,
    /// The address in place of a service, where a fragment needs no ports.
    ring: Option<&'a Service>,
}

/// What a packet is judged by whose transport header is there.
struct Segment {
    /// Lengths or offsets contradict each other, though the ports can be read.
    malformed: bool,
    /// TCP's, 0 for UDP.
    flags: u8,
    /// TCP's, 0 for UDP.
    window: u16,
    /// TCP's, 0 for UDP.
    header_length: usize,
}

/// Whether a packet is whole.
#[derive(Clone, Copy)]
enum Shape {
    Whole,
    Fragment(Fragment),
}

/// Why a packet's way ends early.
pub(crate) enum End {
    /// With this verdict.
    With(Verdict),
    /// With this one if the destination is a VIP: the ports cannot be read.
    Fault(Verdict),
}

impl From<Verdict> for End {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        End::With(verdict)
    }
}

type Step<V> = Result<V, End>;

impl<'a, T: Tables> Path<'a, T> {
    /// `None` if nothing is loaded.
    #[inline(always)]
    pub(crate) fn new(tables: &'a T) -> Option<Self> {
        let live = tables.live()?;
        // SAFETY: a reference is valid to read; the agent's store may come at any time, so the word is read once, whole.
        let number = unsafe { (&raw const live.active.half).read_volatile() } & 1;
        let interface = live.interfaces.get(tables.interface_number() as usize)?;
        Some(Path { tables, live, number, half: &live.halves[number as usize], interface })
    }

    /// The same outcome, of which the verifier knows nothing any more: it goes on once, and not once for each way a packet can end.
    #[inline(always)]
    fn forget_how(&self, verdict: Verdict, mut outcome: Outcome) -> Outcome {
        let forget =
            |number: u32, mask: u32| parse::forget(number as usize, self.half.settings.zero, mask as usize) as u32;
        outcome.verdict =
            Verdict::from_number(forget(verdict as u32, VERDICT_PLACES as u32 - 1)).unwrap_or(Verdict::NotIp);
        outcome.syn = forget(outcome.syn, Syn::NONE);
        let Outcome { vip, hash, slot, backend, signature, bytes, redirect, marks, .. } = &mut outcome;
        for number in [vip, hash, slot, backend, signature, bytes, redirect, marks] {
            *number = forget(*number, u32::MAX);
        }
        outcome
    }

    /// What nothing is known of yet.
    #[inline(always)]
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome { half: self.number, ..Outcome::NOT_READY }
    }

    #[inline(always)]
    fn link<P: Packet>(&self, packet: &mut P, outcome: &mut Outcome) -> Result<Verdict, Verdict> {
        let link = parse::link(packet, self.interface, self.half.settings.zero)?;
        match link.ethertype {
            ETHERTYPE_IPV4 => self.ipv4(packet, &link, outcome),
            ETHERTYPE_IPV6 => self.ipv6(packet, &link, outcome),
            ETHERTYPE_ARP => neighbour::arp(packet, self, link.l3),
            _ => Err(Verdict::NotIp),
        }
    }

    #[inline(always)]
    fn ipv4<P: Packet>(&self, packet: &mut P, link: &Link, outcome: &mut Outcome) -> Result<Verdict, Verdict> {
        let l3 = link.l3;
        let ip = packet.at::<Ipv4>(l3).ok_or(Verdict::ShortFrame)?;
        if ip.version_ihl >> 4 != 4 {
            return Err(Verdict::NotIp);
        }
        if !link.ours {
            return Err(Verdict::NotOurs);
        }
        let header_length = (ip.version_ihl & 0xf) as usize * 4;
        let length = ip.total_length.get() as usize;
        let fragment = ip.fragment.raw();
        let network = Network {
            source: ip.source,
            destination: ip.destination,
            protocol: ip.protocol,
            ttl: ip.ttl,
            l3,
            l4: l3 + header_length,
            end: l3 + length,
            dont_fragment: fragment & IPV4_DF.raw() != 0,
            inner: Inner::of4(ip),
        };
        outcome.bytes = length as u32;
        let shape = if header_length < size_of::<Ipv4>() || length < header_length || !packet.holds(network.end) {
            Err(End::Fault(Verdict::Malformed))
        } else if fragment & IPV4_NOT_WHOLE.raw() != 0 {
            let offset = fragment & IPV4_OFFSET.raw();
            let (is_first, at_one) = (offset == 0, offset == 1u16.to_be());
            Ok(Shape::Fragment(Fragment { is_first, at_one, id: ip.id.raw() as u32 }))
        } else {
            Ok(Shape::Whole)
        };
        Ok(self.deliver(packet, &network, shape, outcome))
    }

    #[inline(always)]
    fn ipv6<P: Packet>(&self, packet: &mut P, link: &Link, outcome: &mut Outcome) -> Result<Verdict, Verdict> {
        let l3 = link.l3;
        let ip = packet.at::<Ipv6>(l3).ok_or(Verdict::ShortFrame)?;
        if ip.version() != 6 {
            return Err(Verdict::NotIp);
        }
        let payload = ip.payload_length.get() as usize;
        let length = size_of::<Ipv6>() + payload;
        let mut network = Network {
            source: ip.source,
            destination: ip.destination,
            protocol: ip.next_header,
            ttl: ip.hop_limit,
            l3,
            l4: l3 + size_of::<Ipv6>(),
            end: l3 + length,
            dont_fragment: true,
            inner: Inner::of6(ip),
        };
        outcome.bytes = length as u32;
        let fits = payload != 0 && packet.holds(network.end);
        // Solicitations come to groups; nothing else that does is ours.
        if network.protocol == NEXT_ICMPV6
            && fits
            && let Some(verdict) = neighbour::icmpv6(packet, self, l3, payload)
        {
            return Ok(verdict);
        }
        if !link.ours {
            return Err(Verdict::NotOurs);
        }
        let shape = if fits { self.walk(packet, &mut network) } else { Err(End::Fault(Verdict::Malformed)) };
        Ok(self.deliver(packet, &network, shape, outcome))
    }

    /// Steps over extension headers.
    #[inline(always)]
    fn walk<P: Packet>(&self, packet: &P, network: &mut Network<[u32; 4]>) -> Step<Shape> {
        if is_balanced(network.protocol) {
            return Ok(Shape::Whole);
        }
        let (l3, length, zero) = (network.l3, network.inner.length, self.half.settings.zero);
        let upper =
            parse::extensions(packet, l3, network.protocol, length, zero).ok_or(End::Fault(Verdict::Malformed))?;
        network.protocol = upper.protocol;
        network.l4 = l3 + upper.offset;
        Ok(if upper.is_fragment() {
            Shape::Fragment(Fragment { is_first: !upper.is_later_fragment(), at_one: false, id: upper.id })
        } else {
            Shape::Whole
        })
    }

    /// Finds the service, judges the packet, chooses a backend and sends it there.
    #[inline(always)]
    fn deliver<P: Packet, F: Family>(
        &self,
        packet: &mut P,
        network: &Network<F>,
        shape: Step<Shape>,
        outcome: &mut Outcome,
    ) -> Verdict {
        match self.try_to_deliver(packet, network, shape, outcome) {
            Ok(verdict) | Err(End::With(verdict)) => verdict,
            Err(End::Fault(verdict)) => {
                let is_vip = self.find(network.destination, Match::address(F::VERSION)).is_some();
                if is_vip { verdict } else { Verdict::NotAVip }
            }
        }
    }

    #[inline(always)]
    fn try_to_deliver<P: Packet, F: Family>(
        &self,
        packet: &mut P,
        network: &Network<F>,
        shape: Step<Shape>,
        outcome: &mut Outcome,
    ) -> Step<Verdict> {
        let shape = shape?;
        let Named { mut flow, segment, ring } = self.flow(packet, network, shape, outcome)?;
        let service = match ring {
            Some(address) => address,
            None => self.service(network.destination, flow.protocol, (flow.ports >> 16) as u16)?,
        };
        outcome.vip = service.id as u32;
        self.judge_network(network)?;
        let has_header = segment.is_some();
        if let Some(segment) = segment {
            self.judge(packet, network, flow.ports, &segment, service, outcome)?;
        }
        if let Shape::Fragment(fragment) = shape {
            if fragment.is_first {
                fragment::remember(self, network, fragment.id, flow.ports);
            }
            if flow.protocol == PROTOCOL_UDP {
                // Not all fragments have them, so none may use them.
                flow.ports = 0;
            }
        }
        // What is counted in the end makes no difference to the way, nor shall it to the verifier.
        let zero = self.half.settings.zero;
        outcome.syn = parse::forget(outcome.syn as usize, zero, Syn::NONE as usize) as u32;
        outcome.marks = parse::forget(outcome.marks as usize, zero, u32::MAX as usize) as u32;
        outcome.signature = parse::forget(outcome.signature as usize, zero, u32::MAX as usize) as u32;
        outcome.hash = self.hash(network.destination, service, &flow);
        let backend = match self.choose(service, outcome) {
            Ok(backend) => backend,
            Err(verdict) => {
                // Of a fragment nobody knows here how long its segment is.
                let is_segment = network.protocol == PROTOCOL_TCP && has_header && matches!(shape, Shape::Whole);
                let resets = is_segment && service.flags & Service::RESET != 0;
                return Err(if resets { reset::answer(packet, self, network) } else { verdict }.into());
            }
        };
        let mss = self.half.mss[(service.id as u32 & (VIP_ENTRIES - 1)) as usize];
        let may_offer = has_header && network.protocol == PROTOCOL_TCP && mss != 0;
        let mss_at = if may_offer { mss::find(packet, network.l4, mss, zero) } else { 0 };
        // Errors and later fragments are not answered (RFC 1122, 3.2.2; RFC 4443, 2.4).
        let answers = has_header && network.dont_fragment;
        let (verdict, outer) = self.send(packet, network, backend, answers, outcome)?;
        if mss_at != 0 {
            mss::lower(packet, network.l4 + outer, mss_at, mss).ok_or(Verdict::Malformed)?;
            outcome.marks |= Outcome::MSS_LOWERED;
        }
        Ok(verdict)
    }

    /// What the packet is about: by its own ports, by those that it quotes, or by those of the first of its fragments.
    #[inline(always)]
    fn flow<P: Packet, F: Family>(
        &self,
        packet: &mut P,
        network: &Network<F>,
        shape: Shape,
        outcome: &mut Outcome,
    ) -> Step<Named<'a, F>> {
        match shape {
            Shape::Fragment(fragment) if !fragment.is_first => {
                let (flow, ring) = fragment::later(self, network, fragment)?;
                Ok(Named { flow, segment: None, ring })
            }
            Shape::Whole if network.protocol == F::PROTOCOL => {
                Ok(Named { flow: icmp::icmp(packet, self, network, outcome)?, segment: None, ring: None })
            }
            _ if !is_balanced(network.protocol) => Err(End::Fault(Verdict::OtherProtocol)),
            _ => {
                let (flow, segment) = self.segment(packet, network, shape).ok_or(End::Fault(Verdict::Malformed))?;
                Ok(Named { flow, segment: Some(segment), ring: None })
            }
        }
    }

    /// Reads the transport header, if it is there.
    #[inline(always)]
    fn segment<P: Packet, F: Family>(
        &self,
        packet: &P,
        network: &Network<F>,
        shape: Shape,
    ) -> Option<(Flow<F>, Segment)> {
        let (l4, end) = (network.l4, network.end);
        let flow = |ports| Flow { client: network.source, protocol: network.protocol, ports };
        if network.protocol == PROTOCOL_TCP {
            let tcp = packet.at::<Tcp>(l4).filter(|_| l4 + size_of::<Tcp>() <= end)?;
            let header_length = tcp.header_length();
            let malformed = header_length < size_of::<Tcp>() || l4 + header_length > end;
            let segment = Segment { malformed, flags: tcp.flags, window: tcp.window.raw(), header_length };
            Some((flow(tcp.ports), segment))
        } else {
            let udp = packet.at::<Udp>(l4).filter(|_| l4 + size_of::<Udp>() <= end)?;
            let length = udp.length.get() as usize;
            // The length is that of the datagram, of which a fragment is a part.
            let too_long = l4 + length > end && matches!(shape, Shape::Whole);
            let malformed = length < size_of::<Udp>() || too_long;
            Some((flow(udp.ports), Segment { malformed, flags: 0, window: 0, header_length: 0 }))
        }
    }

    /// One port of an address before all its ports.
    #[inline(always)]
    fn service<F: Family>(&self, destination: F, protocol: u8, port: u16) -> Result<&'a Service, Verdict> {
        if let Some(service) = self.find(destination, Match::port(F::VERSION, protocol, port)) {
            return Ok(service);
        }
        let address = self.find(destination, Match::address(F::VERSION)).ok_or(Verdict::NotAVip)?;
        let all_ports = if protocol == PROTOCOL_TCP { Service::ALL_TCP } else { Service::ALL_UDP };
        if address.flags & all_ports == 0 {
            return Err(Verdict::NotAService);
        }
        self.find(destination, Match::all_ports(F::VERSION, protocol)).ok_or(Verdict::NotAService)
    }

    /// The entry of the services' table for a key: there is one position where it may stand.
    #[inline(always)]
    pub(crate) fn find<F: Family>(&self, address: F, matches: Match) -> Option<&'a Service> {
        let hash = hash::key(address.fold(), matches, self.half.settings.service_seed);
        let displacement = self.half.displacements[hash::bucket(hash, matches) as usize];
        let position = hash::position(hash, displacement, matches) as usize;
        let service = self.half.services.get(position)?;
        let key = address.last() as u64 | (matches.0 as u64) << 32;
        (service.key() == key && address.begins(self.half.prefixes.get(position)?)).then_some(service)
    }

    /// Whether an address may be a VIP: seldom wrong, and never of a VIP.
    #[inline(always)]
    pub(crate) fn may_be_vip<F: Family>(&self, address: F) -> bool {
        let place = hash::vip_place(address.narrow());
        self.half.vips[place as usize / 32].wrapping_shr(place) & 1 != 0
    }

    /// What a packet to a service is dropped for on account of its transport header.
    #[inline(always)]
    fn judge<P: Packet, F: Family>(
        &self,
        packet: &P,
        network: &Network<F>,
        ports: u32,
        segment: &Segment,
        service: &Service,
        outcome: &mut Outcome,
    ) -> Result<(), Verdict> {
        if segment.malformed || ports as u16 == 0 || ports >> 16 == 0 {
            return Err(Verdict::Malformed);
        }
        if network.protocol != PROTOCOL_TCP {
            return Ok(());
        }
        if filter::bad_flags(segment.flags) && self.half.settings.flags & Settings::PASS_BAD_FLAGS == 0 {
            return Err(Verdict::BadFlags);
        }
        if filter::is_syn(segment.flags) && service.flags & Service::SYN_LOOK != 0 {
            self.judge_syn(packet, network, ports, segment, service, outcome)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn judge_syn<P: Packet, F: Family>(
        &self,
        packet: &P,
        network: &Network<F>,
        ports: u32,
        segment: &Segment,
        service: &Service,
        outcome: &mut Outcome,
    ) -> Result<(), Verdict> {
        let zero = self.half.settings.zero;
        let syn = filter::syn(packet, network.l4, segment.window, segment.header_length);
        // Whichever it is, here and below, the verifier goes on in one way.
        let syn = parse::forget(syn as usize, zero, Syn::NONE as usize) as u32;
        outcome.syn = syn;
        let (length, payload) = (network.inner.length, network.end - network.l4 - segment.header_length);
        let facts = Facts::new(syn, segment.window, ports, network.ttl, length, payload);
        let place = self.signature(service.id as u32, &facts) as usize;
        let place = parse::forget(place, zero, 15) as u32;
        outcome.signature = if place < SERVICE_SIGNATURES as u32 { place } else { NONE };
        let ruling = self.rule(self.number, service.id as u32, place, network.source);
        let ruling = parse::forget(ruling as usize, zero, 7) as u32;
        let mark = |of: Ruling, mark: u32| (ruling == of as u32) as u32 * mark;
        outcome.marks |= mark(Ruling::Let, Outcome::SYN_LET) | mark(Ruling::Allowed, Outcome::SYN_ALLOWED);
        if ruling == Ruling::Drop as u32 {
            return Err(Verdict::SynFlood);
        }
        if ruling == Ruling::Capped as u32 { Err(Verdict::SynCapped) } else { Ok(()) }
    }

    #[inline(always)]
    pub(crate) fn judge_network<F: Family>(&self, network: &Network<F>) -> Result<(), Verdict> {
        if network.source.is_martian() || network.source == network.destination {
            return Err(Verdict::Martian);
        }
        if network.ttl == 0 {
            return Err(Verdict::TtlExpired);
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn hash<F: Family>(&self, vip: F, service: &Service, flow: &Flow<F>) -> u32 {
        let key = &self.half.settings.hash_key;
        if service.flags & Service::HASH_SOURCE != 0 {
            F::source(key, flow.client)
        } else {
            F::flow(key, flow.client, vip, flow.ports, flow.protocol)
        }
    }

    /// The backend that owns the flow's slot.
    #[inline(always)]
    pub(crate) fn choose(&self, service: &Service, outcome: &mut Outcome) -> Result<&'a Backend, Verdict> {
        let slot = outcome.hash & service.ring_mask();
        outcome.slot = slot;
        let index = service.ring + slot;
        let owner = self.tables.owners(index / SLOTS_PER_ELEMENT).ok_or(Verdict::NoBackend)?.of(index);
        // No entry has the number that stands for "no backend".
        let backend = self.live.backends.get(owner as usize).ok_or(Verdict::NoBackend)?;
        outcome.backend = owner as u32;
        Ok(backend)
    }

    /// Returns the verdict, and the length of the outer header.
    #[inline(always)]
    fn send<P: Packet, F: Family>(
        &self,
        packet: &mut P,
        network: &Network<F>,
        backend: &Backend,
        answers: bool,
        outcome: &mut Outcome,
    ) -> Result<(Verdict, usize), Verdict> {
        // SAFETY: a reference is valid to read; the agent's store may come at any time, so the word is read once, whole.
        let next_hop = unsafe { (&raw const backend.next_hop.0).read_volatile() };
        if next_hop & NextHop::LOCAL != 0 {
            return Err(Verdict::LocalBackend);
        }
        if next_hop & NextHop::RESOLVED == 0 {
            return Err(Verdict::NoNeighbour);
        }
        let same = self.is_same(backend);
        let out = if same { self.interface } else { self.other(backend) };
        let outer = self.encapsulate(packet, network, backend, answers, outcome.hash)?;
        rewrite::set_macs(packet, next_hop, out.mac)?;
        outcome.redirect = out.index;
        Ok((if same { Verdict::Forwarded } else { Verdict::Redirected }, outer))
    }

    /// Whether a backend's next hop lies on the interface that the packet came in by.
    #[inline(always)]
    pub(crate) fn is_same(&self, backend: &Backend) -> bool {
        backend.interface as u32 == self.tables.interface_number()
    }

    /// The interface that a backend's next hop lies on.
    #[inline(always)]
    pub(crate) fn other(&self, backend: &Backend) -> &'a Interface {
        // By mask: of a compared number, verifiers of old kernels forget the bound on the way to its use.
        &self.live.interfaces[(backend.interface as u32 & (MAX_INTERFACES - 1)) as usize]
    }

    #[inline(always)]
    fn encapsulate<P: Packet, F: Family>(
        &self,
        packet: &mut P,
        network: &Network<F>,
        backend: &Backend,
        answers: bool,
        hash: u32,
    ) -> Result<usize, Verdict> {
        let outer = if backend.encapsulation == Encapsulation::L2 as u8 {
            0
        } else if backend.encapsulation == Encapsulation::Ip4 as u8 {
            size_of::<Ipv4>()
        } else {
            size_of::<Ipv6>()
        };
        if network.inner.length + outer > backend.mtu as usize {
            let fits = (backend.mtu as usize).saturating_sub(outer);
            return Err(if answers { too_big::answer(packet, self, network, fits) } else { Verdict::TooBig });
        }
        if backend.encapsulation == Encapsulation::Ip4 as u8 {
            rewrite::encapsulate(packet, network.l3, self.outer4(backend, network.inner, hash))?;
        } else if backend.encapsulation == Encapsulation::Ip6 as u8 {
            rewrite::encapsulate(packet, network.l3, self.outer6(backend, network.inner, hash))?;
        }
        Ok(outer)
    }

    /// What goes in front of a packet of the flow in an IPv4 tunnel.
    #[inline(always)]
    pub(crate) fn outer4(&self, backend: &Backend, inner: Inner, hash: u32) -> Ipv4 {
        rewrite::tunnel4(&self.half.settings, backend, inner, hash)
    }

    /// The same in an IPv6 tunnel.
    #[inline(always)]
    pub(crate) fn outer6(&self, backend: &Backend, inner: Inner, hash: u32) -> Ipv6 {
        rewrite::tunnel6(&self.half.settings, backend, inner, hash)
    }
}

/// Whether services exist on this protocol.
#[inline(always)]
pub(crate) fn is_balanced(protocol: u8) -> bool {
    protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP
}
