//! ICMP and ICMPv6 to a VIP: echo requests are answered from the driver, errors go where the flow that they quote goes.
//!
//! Until a quotation is read, the address is all that services know of a message: faults are judged by it, and count
//! among the verdicts alone.

use crate::{
    abi::{Match, Service},
    balance::{Flow, Network, Outcome, Path, is_balanced},
    checksum,
    family::Family,
    packet::{Packet, Tables},
    parse,
    rewrite::{self, FRESH_TTL},
    verdict::Verdict,
    wire::{
        Be16, ECHO_REPLY, ECHO_REPLY_V6, ECHO_REQUEST, ECHO_REQUEST_V6, Ethernet, FRAGMENTATION_NEEDED, IPV4_NOT_WHOLE,
        Icmp, IcmpError, Ipv4, Ipv6, NEXT_ICMPV6, PARAMETER_PROBLEM, PARAMETER_PROBLEM_V6, PROTOCOL_ICMP, Ports,
        TIME_EXCEEDED, TOO_BIG_V6, UNREACHABLE, UNREACHABLE_V6,
    },
};

/// Bytes before the data of an echo request, or before the packet that an error quotes.
const HEADER: usize = size_of::<IcmpError>();

/// What differs between ICMP and ICMPv6.
pub trait Messages: Sized {
    /// How the network header calls it.
    const PROTOCOL: u8;
    /// Kind of an echo request.
    const ECHO_REQUEST: u8;
    /// Kind of the answer.
    const ECHO_REPLY: u8;

    /// Whether messages of this kind quote the packet that caused them.
    fn is_error(kind: u8) -> bool;

    /// Whether it is a too big with an MTU that no link may have.
    fn is_small_mtu(error: &IcmpError) -> bool;

    /// Reads a quoted packet that begins at `at` and of which nothing lies beyond `end`. `None` if it is a fragment, or
    /// contradicts itself.
    fn quoted<P: Packet>(packet: &P, at: usize, end: usize, zero: u64) -> Option<Quoted<Self>>;

    /// Turns the network header at `l3` around: back to the source, with a fresh TTL.
    fn turn<P: Packet>(packet: &mut P, l3: usize) -> Option<()>;
}

/// What is read of a quoted packet.
pub struct Quoted<F> {
    source: F,
    destination: F,
    protocol: u8,
    /// Where its transport header begins.
    l4: usize,
}

/// The flow that a whole message is about, if it is an error. All others end here: answered, passed or dropped.
#[inline(always)]
pub(crate) fn icmp<P: Packet, T: Tables, F: Family>(
    packet: &mut P,
    path: &Path<T>,
    network: &Network<F>,
    outcome: &mut Outcome,
) -> Result<Flow<F>, Verdict> {
    let address = path.find(network.destination, Match::address(F::VERSION)).ok_or(Verdict::NotAVip)?;
    let (l4, end) = (network.l4, network.end);
    let message = packet.at::<Icmp>(l4).filter(|_| l4 + size_of::<Icmp>() <= end).ok_or(Verdict::Malformed)?;
    let asks = message.kind == F::ECHO_REQUEST && message.code == 0;
    if !asks && !F::is_error(message.kind) {
        return Err(Verdict::OtherProtocol);
    }
    let error = packet.at::<IcmpError>(l4).filter(|_| l4 + HEADER <= end).ok_or(Verdict::Malformed)?;
    if asks {
        return Err(echo(packet, path, network, address).unwrap_or_else(|verdict| verdict));
    }
    outcome.marks = Outcome::ICMP_ERROR | if F::is_small_mtu(error) { Outcome::SMALL_MTU } else { 0 };
    flow(packet, path, network).ok_or(Verdict::Malformed)
}

/// The flow of the packet that an error quotes, seen from its client: what was sent to it there goes to the VIP here.
#[inline(always)]
fn flow<P: Packet, T: Tables, F: Family>(packet: &P, path: &Path<T>, network: &Network<F>) -> Option<Flow<F>> {
    let quoted = F::quoted(packet, network.l4 + HEADER, network.end, path.settings.zero)?;
    let Ports { ports } = *packet.at::<Ports>(quoted.l4).filter(|_| quoted.l4 + size_of::<Ports>() <= network.end)?;
    let whole = is_balanced(quoted.protocol) && ports as u16 != 0 && ports >> 16 != 0;
    let sent_by_vip = quoted.source == network.destination;
    (whole && sent_by_vip).then_some(Flow {
        client: quoted.destination,
        protocol: quoted.protocol,
        ports: ports.rotate_right(16),
    })
}

/// Turns an echo request into its answer, for an address that has a live service.
#[inline(always)]
fn echo<P: Packet, T: Tables, F: Family>(
    packet: &mut P,
    path: &Path<T>,
    network: &Network<F>,
    address: &Service,
) -> Result<Verdict, Verdict> {
    path.judge_network(network)?;
    if address.flags & Service::LIVE == 0 {
        return Err(Verdict::OtherProtocol);
    }
    let asker = packet.at::<Ethernet>(0).ok_or(Verdict::Malformed)?.source();
    let message = packet.at_mut::<Icmp>(network.l4).ok_or(Verdict::Malformed)?;
    let before = message.first_word();
    message.kind = F::ECHO_REPLY;
    message.checksum = not_zero(checksum::replace(message.checksum, before, message.first_word()));
    F::turn(packet, network.l3).ok_or(Verdict::Malformed)?;
    rewrite::set_macs(packet, asker, path.interface.mac)?;
    Ok(Verdict::EchoAnswered)
}

/// Zero in its other form: where the sum of all words is zero both are right, unless every word is, as in the answer to an
/// IPv4 request without number and data. Then this one alone is.
#[inline(always)]
fn not_zero(checksum: Be16) -> Be16 {
    if checksum.raw() == 0 { Be16::from_raw(0xffff) } else { checksum }
}

impl Messages for u32 {
    const PROTOCOL: u8 = PROTOCOL_ICMP;
    const ECHO_REQUEST: u8 = ECHO_REQUEST;
    const ECHO_REPLY: u8 = ECHO_REPLY;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    /// Below what RFC 791 demands of every link; 0 is from a router that knows no better (RFC 792).
    #[inline(always)]
    fn is_small_mtu(error: &IcmpError) -> bool {
        let mtu = Be16::from_raw((error.word >> 16) as u16).get();
        error.kind == UNREACHABLE && error.code == FRAGMENTATION_NEEDED && mtu < 68
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, at: usize, _end: usize, _zero: u64) -> Option<Quoted<Self>> {
        let ip = packet.at::<Ipv4>(at)?;
        let header_length = (ip.version_ihl & 0xf) as usize * 4;
        let good = ip.version_ihl >> 4 == 4 && header_length >= size_of::<Ipv4>();
        let whole = ip.fragment.raw() & IPV4_NOT_WHOLE.raw() == 0;
        (good && whole).then_some(Quoted {
            source: ip.source,
            destination: ip.destination,
            protocol: ip.protocol,
            l4: at + header_length,
        })
    }

    #[inline(always)]
    fn turn<P: Packet>(packet: &mut P, l3: usize) -> Option<()> {
        let ip = packet.at_mut::<Ipv4>(l3)?;
        (ip.source, ip.destination) = (ip.destination, ip.source);
        ip.set_ttl(FRESH_TTL);
        Some(())
    }
}

impl Messages for [u32; 4] {
    const PROTOCOL: u8 = NEXT_ICMPV6;
    const ECHO_REQUEST: u8 = ECHO_REQUEST_V6;
    const ECHO_REPLY: u8 = ECHO_REPLY_V6;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, UNREACHABLE_V6..=PARAMETER_PROBLEM_V6)
    }

    /// Below what RFC 8200 demands of every link.
    #[inline(always)]
    fn is_small_mtu(error: &IcmpError) -> bool {
        error.kind == TOO_BIG_V6 && u32::from_be(error.word) < 1280
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, at: usize, end: usize, zero: u64) -> Option<Quoted<Self>> {
        let ip = packet.at::<Ipv6>(at).filter(|ip| ip.version() == 6 && at + size_of::<Ipv6>() <= end)?;
        let upper = parse::extensions(packet, at, ip.next_header, end - at, zero)?;
        (!upper.is_fragment()).then_some(Quoted {
            source: ip.source,
            destination: ip.destination,
            protocol: upper.protocol,
            l4: at + upper.offset,
        })
    }

    #[inline(always)]
    fn turn<P: Packet>(packet: &mut P, l3: usize) -> Option<()> {
        let ip = packet.at_mut::<Ipv6>(l3)?;
        (ip.source, ip.destination) = (ip.destination, ip.source);
        ip.hop_limit = FRESH_TTL;
        Some(())
    }
}
