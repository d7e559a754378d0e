//! The way of the packet that nearly all are: untagged, whole, TCP with ACK and without SYN, or UDP, no IP options or
//! extension headers, to one port of a VIP whose backend can be reached; of the flood's SYN where it is dropped; and of the
//! packet that is no VIP's.
//!
//! It decides exactly as [`crate::balance`] does, which tests hold it to, and leaves everything else to it untouched. What is
//! looked at here, every forwarded packet pays for.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::{
    abi::{Backend, Encapsulation, Match, NextHop, Service},
    balance::{Flow, Outcome, Path},
    family::Family,
    filter::{self, Syn},
    packet::{Packet, Tables},
    rewrite::Inner,
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
    /// What stands before a packet in an IPv4 tunnel.
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

/// What both families have in common, once it is known where things stand.
trait Beginning {
    type Address: Family;

    fn source(&self) -> Self::Address;
    fn destination(&self) -> Self::Address;
    fn protocol(&self) -> u8;
    /// Header and payload, bytes.
    fn length(&self) -> usize;
    /// What stands behind the header, bytes; `None` if the header says nonsense.
    fn payload(&self) -> Option<usize>;
    /// Whether the packet is whole and may live another hop.
    fn is_whole_and_alive(&self) -> bool;
    /// What an outer header takes over.
    fn inner(&self) -> Inner;
    fn transport(&self) -> &Transport;
}

impl Beginning for Plain4 {
    type Address = u32;

    #[inline(always)]
    fn source(&self) -> u32 {
        self.ip.source
    }

    #[inline(always)]
    fn destination(&self) -> u32 {
        self.ip.destination
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.ip.protocol
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.ip.total_length.get() as usize
    }

    #[inline(always)]
    fn payload(&self) -> Option<usize> {
        self.length().checked_sub(size_of::<Ipv4>())
    }

    #[inline(always)]
    fn is_whole_and_alive(&self) -> bool {
        self.ip.ttl != 0 && self.ip.fragment.raw() & IPV4_NOT_WHOLE.raw() == 0
    }

    #[inline(always)]
    fn inner(&self) -> Inner {
        Inner::of4(&self.ip)
    }

    #[inline(always)]
    fn transport(&self) -> &Transport {
        &self.transport
    }
}

impl Beginning for Plain6 {
    type Address = [u32; 4];

    #[inline(always)]
    fn source(&self) -> [u32; 4] {
        self.ip.source
    }

    #[inline(always)]
    fn destination(&self) -> [u32; 4] {
        self.ip.destination
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.ip.next_header
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.ip.payload_length.get() as usize + size_of::<Ipv6>()
    }

    #[inline(always)]
    fn payload(&self) -> Option<usize> {
        Some(self.ip.payload_length.get() as usize)
    }

    #[inline(always)]
    fn is_whole_and_alive(&self) -> bool {
        self.ip.hop_limit != 0
    }

    #[inline(always)]
    fn inner(&self) -> Inner {
        Inner::of6(&self.ip)
    }

    #[inline(always)]
    fn transport(&self) -> &Transport {
        &self.transport
    }
}

impl Transport {
    /// What this header says, if nothing is wrong with it; `payload` bytes stand behind the network header.
    #[inline(always)]
    fn kind(&self, protocol: u8, payload: usize) -> Option<Kind> {
        let ports = self.ports;
        if ports as u16 == 0 || ports >> 16 == 0 {
            return None;
        }
        if protocol == PROTOCOL_TCP {
            let header_length = (self.offset >> 4) as usize * 4;
            if header_length < size_of::<Tcp>() || header_length > payload {
                return None;
            }
            // A connection that stands: no other is judged by its flags.
            if self.flags & (TCP_SYN | TCP_ACK) == TCP_ACK {
                return Some(Kind::GoesOn);
            }
            let floods = filter::is_syn(self.flags) && header_length == size_of::<Tcp>() && self.window == 0;
            floods.then_some(Kind::Floods)
        } else {
            let length = self.udp_length.get() as usize;
            (protocol == PROTOCOL_UDP && length >= size_of::<Udp>() && length <= payload).then_some(Kind::GoesOn)
        }
    }
}

/// What a packet with a plain transport header is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of a flow.
    GoesOn,
    /// A SYN with window 0 and no options.
    Floods,
}

/// What is made of an outcome: not simply returned, so that it is compiled for each way a packet can end, with what is known
/// of it there.
pub trait End {
    /// What becomes of the packet.
    type Action;

    /// Once a packet.
    fn end(&self, outcome: &Outcome) -> Self::Action;
    /// Instead, for a SYN with window 0 and no options that is dropped: its match has been counted.
    fn end_bare(&self, outcome: &Outcome) -> Self::Action;
}

/// From here on what was read before is read again. The kernel's machine has ten registers: what is kept across a long way is
/// stored to the stack and loaded from there, and to load it from where it came costs half of that.
#[inline(always)]
fn forget_what_was_read() {
    compiler_fence(Ordering::SeqCst);
}

/// Decides on a plain packet and rewrites it. `None`, and nothing has changed, if it is not one.
#[inline(always)]
pub fn plain<P: Packet, T: Tables, E: End>(packet: &mut P, tables: &T, end: &E) -> Option<E::Action> {
    let path = Path::new(tables)?;
    if path.live.is_listened_to() {
        return None;
    }
    let beginning = packet.at::<Plain4>(0)?;
    if !path.interface.owns(beginning.macs.front & NextHop::MAC) {
        return None;
    }
    if beginning.ethertype == ETHERTYPE_IPV4 {
        if beginning.ip.version_ihl != 0x45 {
            return None;
        }
        let to = path.judge_plain(packet, beginning, end)?;
        path.go(packet, to, end)
    } else if beginning.ethertype == ETHERTYPE_IPV6 {
        let beginning = packet.at::<Plain6>(0)?;
        // Neighbours are answered before anything is judged.
        if beginning.ip.version() != 6 || beginning.ip.next_header == NEXT_ICMPV6 {
            return None;
        }
        let to = path.judge_plain(packet, beginning, end)?;
        path.go(packet, to, end)
    } else {
        None
    }
}

/// Where a packet goes, or what has become of it already.
enum To<'a, A> {
    Backend(&'a Backend, Inner, Outcome),
    End(A),
}

impl<'a, T: Tables> Path<'a, T> {
    /// Looks everything up first and judges then: the tables may be far, and what is judged is at hand meanwhile.
    #[inline(always)]
    fn judge_plain<P: Packet, B: Beginning, E: End>(
        &self,
        packet: &P,
        beginning: &B,
        end: &E,
    ) -> Option<To<'a, E::Action>> {
        if !self.may_be_vip(beginning.destination()) {
            let outcome = Outcome { verdict: Verdict::NotAVip, bytes: beginning.length() as u32, ..self.outcome() };
            return Some(To::End(end.end(&outcome)));
        }
        forget_what_was_read();
        let protocol = beginning.protocol();
        let kind = beginning.transport().kind(protocol, beginning.payload()?)?;
        let port = (beginning.transport().ports >> 16) as u16;
        let service = self.find(beginning.destination(), Match::port(B::Address::VERSION, protocol, port))?;
        forget_what_was_read();
        let mut outcome = Outcome { vip: service.id as u32, bytes: beginning.length() as u32, ..self.outcome() };
        if kind == Kind::Floods {
            if service.flags & Service::SYN_BARE == 0
                || !is_sound(packet, beginning)
                || !self.drops_bare(service.id as u32)
            {
                return None;
            }
            (outcome.verdict, outcome.syn, outcome.signature) = (Verdict::SynFlood, Syn::ZeroBare as u32, 0);
            return Some(To::End(end.end_bare(&outcome)));
        }
        let flow =
            Flow { client: beginning.source(), ports: beginning.transport().ports, protocol: beginning.protocol() };
        outcome.hash = self.hash(beginning.destination(), service, &flow);
        let backend = self.choose(service, &mut outcome).ok()?;
        is_sound(packet, beginning).then(|| To::Backend(backend, beginning.inner(), outcome))
    }

    #[inline(always)]
    fn go<P: Packet, E: End>(&self, packet: &mut P, to: To<E::Action>, end: &E) -> Option<E::Action> {
        let (backend, inner, mut outcome) = match to {
            To::Backend(backend, inner, outcome) => (backend, inner, outcome),
            To::End(action) => return Some(action),
        };
        // SAFETY: a reference is valid to read; the agent's store may come at any time, so the word is read once, whole.
        let next_hop = unsafe { (&raw const backend.next_hop.0).read_volatile() };
        // Nothing but a MAC that is known.
        if next_hop & !NextHop::MAC != NextHop::RESOLVED {
            return None;
        }
        let out = self.other(backend);
        let macs = Macs { front: next_hop ^ NextHop::RESOLVED | out.mac << 48, back: (out.mac >> 16) as u32 };
        let mtu = backend.mtu as usize;
        outcome.redirect = out.index;
        let same = self.is_same(backend);
        if backend.encapsulation == Encapsulation::L2 as u8 {
            if inner.length > mtu {
                return None;
            }
            *packet.at_mut::<Macs>(0)? = macs;
        } else if backend.encapsulation == Encapsulation::Ip4 as u8 {
            if inner.length + size_of::<Ipv4>() > mtu || !packet.grow_head(size_of::<Ipv4>()) {
                return None;
            }
            let ip = self.outer4(backend, inner, outcome.hash);
            match packet.at_mut::<Outer4>(0) {
                Some(outer) => *outer = Outer4 { macs, ethertype: ETHERTYPE_IPV4, ip },
                None => return Some(end.end(&Outcome { verdict: Verdict::NoHeadroom, ..outcome })),
            }
        } else {
            if inner.length + size_of::<Ipv6>() > mtu || !packet.grow_head(size_of::<Ipv6>()) {
                return None;
            }
            let ip = self.outer6(backend, inner, outcome.hash);
            match packet.at_mut::<Outer6>(0) {
                Some(outer) => *outer = Outer6 { macs, ethertype: ETHERTYPE_IPV6, ip },
                None => return Some(end.end(&Outcome { verdict: Verdict::NoHeadroom, ..outcome })),
            }
        }
        // Apart, so that each is compiled with what it is.
        Some(if same {
            end.end(&Outcome { verdict: Verdict::Forwarded, ..outcome })
        } else {
            end.end(&Outcome { verdict: Verdict::Redirected, ..outcome })
        })
    }
}

/// What a packet to a service must be, besides its transport header.
#[inline(always)]
fn is_sound<P: Packet, B: Beginning>(packet: &P, beginning: &B) -> bool {
    forget_what_was_read();
    let source = beginning.source();
    beginning.is_whole_and_alive()
        && source.is_ordinary()
        && source != beginning.destination()
        && packet.holds(size_of::<Ethernet>() + beginning.length())
}
