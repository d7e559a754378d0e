//! Telling a client that its packet is too long for the way: the frame becomes the answer, in place.

use crate::{
    balance::{Network, Path},
    checksum::Sum,
    family::Family,
    packet::{Packet, Tables},
    parse,
    rewrite::{self, LinkHeader},
    verdict::Verdict,
    wire::{
        Be16, FRAGMENTATION_NEEDED, IcmpError, Ipv4, Ipv6, LongWords, NEXT_ICMPV6, PROTOCOL_ICMP, TOO_BIG_V6,
        UNREACHABLE,
    },
};

/// Bytes of the packet that the answer quotes: enough for every header that tells a flow.
const QUOTED: usize = 256;

/// Turns a packet into an answer that names `mtu`, if answers are allowed at the moment. What cannot be answered is
/// dropped.
#[inline(always)]
pub(crate) fn answer<P: Packet, T: Tables, F: Family>(
    packet: &mut P,
    path: &Path<T>,
    network: &Network<F>,
    mtu: usize,
) -> Verdict {
    // Whatever led here, the verifier goes on in one way.
    let zero = path.half.settings.zero;
    let (l3, mtu) = (parse::forget(network.l3, zero, 31), parse::forget(mtu, zero, 0xffff));
    let length = parse::forget(network.inner.length, zero, 0x1_ffff);
    let Some(quoted) = quoted(packet, l3, length) else { return Verdict::TooBig };
    let allowed = match path.half.settings.icmp_rate {
        0 => false,
        u32::MAX => true,
        rate => path.tables.may_answer(rate),
    };
    if !allowed {
        return Verdict::TooBig;
    }
    match write(packet, path, network, l3, quoted, mtu) {
        Ok(()) => Verdict::TooBigAnswered,
        Err(verdict) => verdict,
    }
}

/// The sum of what is quoted, if there is as much.
#[inline(always)]
fn quoted<P: Packet>(packet: &P, l3: usize, length: usize) -> Option<Sum> {
    if length < QUOTED {
        return None;
    }
    let mut sum = Sum::default();
    for at in (0..QUOTED).step_by(size_of::<LongWords>()) {
        sum = sum.four(packet.at::<LongWords>(l3 + at)?.words);
    }
    Some(sum)
}

#[inline(always)]
fn write<P: Packet, T: Tables, F: Family>(
    packet: &mut P,
    path: &Path<T>,
    network: &Network<F>,
    l3: usize,
    quoted: Sum,
    mtu: usize,
) -> Result<(), Verdict> {
    let mut link = LinkHeader::read(packet, l3).ok_or(Verdict::TooBig)?;
    if !packet.grow_head(F::HEADERS) {
        return Err(Verdict::NoHeadroom);
    }
    if !packet.set_length(l3 + F::HEADERS + QUOTED) {
        return Err(Verdict::TooBig);
    }
    let client = link.ethernet.source();
    link.ethernet.set_destination(client);
    link.ethernet.set_source(path.interface.mac);
    link.write(packet).ok_or(Verdict::TooBig)?;
    F::write(packet, l3, network.destination, network.source, quoted, mtu).ok_or(Verdict::TooBig)
}

/// What differs between ICMP and ICMPv6.
pub trait TooBig: Sized {
    /// Bytes of the IP and the ICMP header.
    const HEADERS: usize;

    /// Writes both headers of an answer that begins at `l3`.
    fn write<P: Packet>(packet: &mut P, l3: usize, vip: Self, client: Self, quoted: Sum, mtu: usize) -> Option<()>;
}

impl TooBig for u32 {
    const HEADERS: usize = size_of::<Ipv4>() + size_of::<IcmpError>();

    #[inline(always)]
    fn write<P: Packet>(packet: &mut P, l3: usize, vip: u32, client: u32, quoted: Sum, mtu: usize) -> Option<()> {
        let word = (Be16::new(mtu as u16).raw() as u32) << 16;
        let checksum = quoted.word(u16::from_le_bytes([UNREACHABLE, FRAGMENTATION_NEEDED])).pair(word).finish();
        *packet.at_mut(l3)? = rewrite::ipv4_header(Self::HEADERS + QUOTED, 0, PROTOCOL_ICMP, vip, client);
        *packet.at_mut(l3 + size_of::<Ipv4>())? =
            IcmpError { kind: UNREACHABLE, code: FRAGMENTATION_NEEDED, checksum, word };
        Some(())
    }
}

impl TooBig for [u32; 4] {
    const HEADERS: usize = size_of::<Ipv6>() + size_of::<IcmpError>();

    #[inline(always)]
    fn write<P: Packet>(
        packet: &mut P,
        l3: usize,
        vip: [u32; 4],
        client: [u32; 4],
        quoted: Sum,
        mtu: usize,
    ) -> Option<()> {
        const MESSAGE: usize = size_of::<IcmpError>() + QUOTED;
        let word = (mtu as u32).to_be();
        let checksum = quoted
            .address(vip)
            .address(client)
            .pair((MESSAGE as u32).to_be())
            .pair((NEXT_ICMPV6 as u32).to_be())
            .word(TOO_BIG_V6 as u16)
            .pair(word)
            .finish();
        *packet.at_mut(l3)? = rewrite::ipv6_header(MESSAGE, 0, 0, NEXT_ICMPV6, vip, client);
        *packet.at_mut(l3 + size_of::<Ipv6>())? = IcmpError { kind: TOO_BIG_V6, code: 0, checksum, word };
        Some(())
    }
}
