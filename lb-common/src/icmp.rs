//! ICMP and ICMPv6 to a VIP: echo requests are answered from the driver.
//!
//! The address is all that services know of such a message, so faults are judged by it, and count among the verdicts alone.

use crate::{
    abi::{Match, Service},
    balance::{End, Network, Path},
    checksum,
    family::Family,
    packet::{Packet, Tables},
    rewrite,
    verdict::Verdict,
    wire::{
        Be16, ECHO_REPLY, ECHO_REPLY_V6, ECHO_REQUEST, ECHO_REQUEST_V6, Ethernet, Icmp, Ipv4, Ipv6, NEXT_ICMPV6,
        PROTOCOL_ICMP,
    },
};

/// Bytes of every message that is looked at: the first 4, and 4 that differ by kind.
const HEADER: usize = 8;
/// TTL and hop limit of answers.
const ANSWER_TTL: u8 = 64;

/// What differs between ICMP and ICMPv6.
pub trait Messages: Sized {
    /// How the network header calls it.
    const PROTOCOL: u8;
    /// Kind of an echo request.
    const ECHO_REQUEST: u8;
    /// Kind of the answer.
    const ECHO_REPLY: u8;

    /// Turns the network header at `l3` around: back to the source, with a fresh TTL.
    fn turn<P: Packet>(packet: &mut P, l3: usize) -> Option<()>;
}

/// Answers or passes a whole message.
#[inline(always)]
pub(crate) fn icmp<P: Packet, T: Tables, F: Family>(packet: &mut P, path: &Path<T>, network: &Network<F>) -> End {
    let Some(address) = path.find(network.destination, Match::address(F::VERSION)) else {
        return End::With(Verdict::NotAVip);
    };
    let message = packet.at::<Icmp>(network.l4).filter(|_| network.l4 + size_of::<Icmp>() <= network.end);
    let Some(Icmp { kind, code, .. }) = message else { return End::With(Verdict::Malformed) };
    if *kind != F::ECHO_REQUEST || *code != 0 {
        return End::With(Verdict::OtherProtocol);
    }
    if network.l4 + HEADER > network.end {
        return End::With(Verdict::Malformed);
    }
    End::With(echo(packet, path, network, address).unwrap_or_else(|verdict| verdict))
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
    fn turn<P: Packet>(packet: &mut P, l3: usize) -> Option<()> {
        let ip = packet.at_mut::<Ipv4>(l3)?;
        (ip.source, ip.destination) = (ip.destination, ip.source);
        ip.set_ttl(ANSWER_TTL);
        Some(())
    }
}

impl Messages for [u32; 4] {
    const PROTOCOL: u8 = NEXT_ICMPV6;
    const ECHO_REQUEST: u8 = ECHO_REQUEST_V6;
    const ECHO_REPLY: u8 = ECHO_REPLY_V6;

    #[inline(always)]
    fn turn<P: Packet>(packet: &mut P, l3: usize) -> Option<()> {
        let ip = packet.at_mut::<Ipv6>(l3)?;
        (ip.source, ip.destination) = (ip.destination, ip.source);
        ip.hop_limit = ANSWER_TTL;
        Some(())
    }
}
