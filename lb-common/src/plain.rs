//! The way of the packet that nearly all are: untagged, whole, TCP without SYN or a bare one, or UDP, no IP options or
//! extension headers, to one port of a VIP whose backend can be reached; and of the one that is no VIP's.
//!
//! It decides exactly as [`crate::balance`] does, which tests hold it to, and leaves everything else to it untouched. What is
//! looked at here, every forwarded packet pays for.

use crate::{
    abi::{Encapsulation, Match, NextHop, Service},
    balance::{Outcome, Path},
    family::Family,
    filter::{self, Syn},
    packet::{Packet, Tables},
    rewrite::{self, Inner},
    verdict::Verdict,
    wire::{
        Be16, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPV4_NOT_WHOLE, Ipv4, Ipv6, NEXT_ICMPV6, PROTOCOL_TCP,
        PROTOCOL_UDP, TCP_ACK, TCP_SYN, Tcp, Udp, header,
    },
};

header! {
    /// An Ethernet header in words that one load or store takes.
    Macs, 12 {
        /// The destination, and bytes 0 and 1 of the source.
        front: u64,
        /// Bytes 2-5 of the source.
        back: u32,
    }
}

header! {
    /// The first 20 bytes of a transport header: TCP's, and UDP's in the first 8.
    Transport, 20 {
        /// Source and destination.
        ports: u32,
        /// UDP's; TCP's sequence begins here.
        udp_length: Be16,
        /// The rest of the sequence, and the acknowledgement.
        middle: [u16; 3],
        /// TCP's header length in 4-byte words, in the upper half.
        offset: u8,
        /// TCP's flags.
        flags: u8,
        /// TCP's window.
        window: u16,
        /// Checksum and urgent pointer.
        rest: u32,
    }
}

header! {
    /// An IPv4 packet's beginning, without options.
    Plain4, 54 {
        /// Both MACs.
        macs: Macs,
        /// What follows.
        ethertype: Be16,
        /// The header.
        ip: Ipv4,
        /// What follows it.
        transport: Transport,
    }
}

header! {
    /// An IPv6 packet's beginning, without extension headers.
    Plain6, 74 {
        /// Both MACs.
        macs: Macs,
        /// What follows.
        ethertype: Be16,
        /// The header.
        ip: Ipv6,
        /// What follows it.
        transport: Transport,
    }
}

header! {
    /// What stands before an IPv4 packet in an IPv4 tunnel.
    Outer4, 34 {
        /// Both MACs.
        macs: Macs,
        /// What follows.
        ethertype: Be16,
        /// The outer header.
        ip: Ipv4,
    }
}

header! {
    /// What stands before a packet in an IPv6 tunnel.
    Outer6, 54 {
        /// Both MACs.
        macs: Macs,
        /// What follows.
        ethertype: Be16,
        /// The outer header.
        ip: Ipv6,
    }
}

/// What the rest needs of a packet.
struct Parsed<F> {
    source: F,
    destination: F,
    /// The destination as one word.
    fold: u64,
    protocol: u8,
    transport: Checked,
    inner: Inner,
}

/// What the rest needs of a transport header that nothing is wrong with.
struct Checked {
    ports: u32,
    /// A SYN without options.
    syn: bool,
    /// TCP's window.
    window: u16,
}

impl Transport {
    /// `payload` bytes stand behind the network header.
    #[inline(always)]
    fn check(&self, protocol: u8, payload: usize) -> Option<Checked> {
        let (mut syn, mut window) = (false, 0);
        if protocol == PROTOCOL_TCP {
            let header_length = (self.offset >> 4) as usize * 4;
            if header_length < size_of::<Tcp>() || header_length > payload {
                return None;
            }
            if self.flags & (TCP_SYN | TCP_ACK) != TCP_ACK {
                syn = filter::is_syn(self.flags) && header_length == size_of::<Tcp>();
                window = self.window;
                if !syn {
                    return None;
                }
            }
        } else if protocol == PROTOCOL_UDP {
            let length = self.udp_length.get() as usize;
            if length < size_of::<Udp>() || length > payload {
                return None;
            }
        } else {
            return None;
        }
        let ports = self.ports;
        if ports as u16 == 0 || ports >> 16 == 0 {
            return None;
        }
        Some(Checked { ports, syn, window })
    }
}

/// What is made of an outcome: not simply returned, so that it is compiled for each way a packet can end, with what is known
/// of it there.
pub trait End {
    /// What becomes of the packet.
    type Action;

    /// Once a packet.
    fn end(&self, outcome: &Outcome) -> Self::Action;
}

/// Decides on a plain packet and rewrites it. `None`, and nothing has changed, if it is not one.
#[inline(always)]
pub fn plain<P: Packet, T: Tables, E: End>(packet: &mut P, tables: &T, end: &E) -> Option<E::Action> {
    let path = Path::new(tables)?;
    let beginning = packet.at::<Plain4>(0)?;
    if !path.interface.owns(beginning.macs.front & NextHop::MAC) {
        return None;
    }
    if beginning.ethertype == ETHERTYPE_IPV4 {
        path.plain4(packet, end)
    } else if beginning.ethertype == ETHERTYPE_IPV6 {
        path.plain6(packet, end)
    } else {
        None
    }
}

impl<T: Tables> Path<'_, T> {
    #[inline(always)]
    fn plain4<P: Packet, E: End>(&self, packet: &mut P, end: &E) -> Option<E::Action> {
        let Plain4 { ip, transport, .. } = packet.at::<Plain4>(0)?;
        if ip.version_ihl != 0x45 {
            return None;
        }
        let length = ip.total_length.get() as usize;
        let fold = ip.destination.fold(self.seed());
        if !self.may_be_vip(fold) {
            return Some(end.end(&Outcome { verdict: Verdict::NotAVip, bytes: length as u32, ..self.outcome() }));
        }
        if ip.ttl == 0 || ip.fragment.raw() & IPV4_NOT_WHOLE.raw() != 0 {
            return None;
        }
        let parsed = Parsed {
            source: ip.source,
            destination: ip.destination,
            fold,
            protocol: ip.protocol,
            transport: transport.check(ip.protocol, length.checked_sub(size_of::<Ipv4>())?)?,
            inner: Inner { version: 4, length, class: ip.tos, flow_label: 0 },
        };
        self.deliver_plain(packet, parsed, end)
    }

    #[inline(always)]
    fn plain6<P: Packet, E: End>(&self, packet: &mut P, end: &E) -> Option<E::Action> {
        let Plain6 { ip, transport, .. } = packet.at::<Plain6>(0)?;
        // Neighbours are answered before anything is judged.
        if ip.version() != 6 || ip.next_header == NEXT_ICMPV6 {
            return None;
        }
        let payload = ip.payload_length.get() as usize;
        let length = payload + size_of::<Ipv6>();
        let fold = ip.destination.fold(self.seed());
        if !self.may_be_vip(fold) {
            return Some(end.end(&Outcome { verdict: Verdict::NotAVip, bytes: length as u32, ..self.outcome() }));
        }
        if ip.hop_limit == 0 {
            return None;
        }
        let class_flow = u32::from_be(ip.version_class_flow);
        let parsed = Parsed {
            source: ip.source,
            destination: ip.destination,
            fold,
            protocol: ip.next_header,
            transport: transport.check(ip.next_header, payload)?,
            inner: Inner {
                version: 6,
                length,
                class: (class_flow >> 20) as u8,
                flow_label: (class_flow & 0x000f_ffff).to_be(),
            },
        };
        self.deliver_plain(packet, parsed, end)
    }

    #[inline(always)]
    fn deliver_plain<P: Packet, F: Family, E: End>(
        &self,
        packet: &mut P,
        parsed: Parsed<F>,
        end: &E,
    ) -> Option<E::Action> {
        let Parsed { source, destination, protocol, inner, .. } = parsed;
        let length = inner.length;
        let Checked { ports, syn, window } = parsed.transport;
        if source.is_martian() || source == destination || !packet.holds(size_of::<Ethernet>() + length) {
            return None;
        }
        let matches = Match::port(F::VERSION, protocol, (ports >> 16) as u16);
        let service = self.find_folded(destination, parsed.fold, matches)?;
        let mut outcome = Outcome { vip: service.id as u32, bytes: length as u32, ..self.outcome() };
        if syn && service.flags & Service::SYN_COUNT != 0 {
            outcome.syn = if window == 0 { Syn::ZeroBare } else { Syn::OpenBare } as u32;
            if window == 0 && service.flags & Service::SYN_DROP != 0 {
                outcome.verdict = Verdict::SynFlood;
                return Some(end.end(&outcome));
            }
        }
        outcome.hash = self.flow_hash(source, destination, protocol, service, ports);
        let backend = self.choose(service, &mut outcome).ok()?;

        // SAFETY: a reference is valid to read; the agent's store may come at any time, so the word is read once, whole.
        let next_hop = unsafe { (&raw const backend.next_hop.0).read_volatile() };
        if next_hop & (NextHop::RESOLVED | NextHop::LOCAL) != NextHop::RESOLVED {
            return None;
        }
        let same = self.is_same(backend);
        let out = if same { self.interface } else { self.other(backend) };
        let macs = Macs { front: next_hop & NextHop::MAC | out.mac << 48, back: (out.mac >> 16) as u32 };
        let mtu = backend.mtu as usize;
        outcome.redirect = out.index;
        outcome.verdict = if same { Verdict::Forwarded } else { Verdict::Redirected };
        if backend.encapsulation == Encapsulation::L2 as u8 {
            if length > mtu {
                return None;
            }
            *packet.at_mut::<Macs>(0)? = macs;
        } else if backend.encapsulation == Encapsulation::Ip4 as u8 {
            if length + size_of::<Ipv4>() > mtu || !packet.grow_head(size_of::<Ipv4>()) {
                return None;
            }
            let settings = &self.half.settings;
            let source = settings.tunnel_source4 | outcome.hash & settings.tunnel_vary4;
            let ip = rewrite::outer4(inner, source, backend.address.0[3]);
            match packet.at_mut::<Outer4>(0) {
                Some(outer) => *outer = Outer4 { macs, ethertype: ETHERTYPE_IPV4, ip },
                None => outcome.verdict = Verdict::NoHeadroom,
            }
        } else {
            if length + size_of::<Ipv6>() > mtu || !packet.grow_head(size_of::<Ipv6>()) {
                return None;
            }
            let settings = &self.half.settings;
            let mut source = settings.tunnel_source6.0;
            source[3] |= outcome.hash & settings.tunnel_vary6;
            let ip = rewrite::outer6(inner, outcome.hash, source, backend.address.0);
            match packet.at_mut::<Outer6>(0) {
                Some(outer) => *outer = Outer6 { macs, ethertype: ETHERTYPE_IPV6, ip },
                None => outcome.verdict = Verdict::NoHeadroom,
            }
        }
        Some(end.end(&outcome))
    }
}
