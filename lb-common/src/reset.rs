//! Answering a segment for a service without a backend as a host without that port does (RFC 9293, 3.10.7.1): the frame
//! becomes the reset, in place.

use crate::{
    balance::{Network, Path},
    checksum::Sum,
    family::Family,
    packet::{Packet, Tables},
    parse, rewrite,
    verdict::Verdict,
    wire::{Be16, Ethernet, Ipv4, Ipv6, PROTOCOL_TCP, TCP_ACK, TCP_RST, Tcp},
};

/// Turns a whole segment into the reset that answers it. What cannot be answered, as another reset, is dropped.
#[inline(always)]
pub(crate) fn answer<P: Packet, T: Tables, F: Family>(packet: &mut P, path: &Path<T>, network: &Network<F>) -> Verdict {
    match write(packet, path, network) {
        Some(()) => Verdict::Reset,
        None => Verdict::NoBackend,
    }
}

#[inline(always)]
fn write<P: Packet, T: Tables, F: Family>(packet: &mut P, path: &Path<T>, network: &Network<F>) -> Option<()> {
    // Whatever led here, the verifier goes on in one way.
    let zero = path.half.settings.zero;
    let (l3, l4) = (parse::forget(network.l3, zero, 31), parse::forget(network.l4, zero, 4095));
    let length = parse::forget(network.end - network.l4, zero, 0xffff);
    let client = packet.at::<Ethernet>(0)?.source();
    let segment = packet.at::<Tcp>(l4).filter(|segment| segment.flags & TCP_RST == 0)?;
    let mut reset = reset(segment, length, zero);
    if !packet.set_length(l3 + F::HEADER + size_of::<Tcp>()) {
        return None;
    }
    rewrite::set_macs(packet, client, path.interface.mac).ok()?;
    let addresses = F::begin(packet, l3, network.destination, network.source)?;
    reset.checksum = addresses
        .pair((size_of::<Tcp>() as u32).to_be())
        .pair((PROTOCOL_TCP as u32).to_be())
        .pair(reset.ports)
        .pair(reset.sequence)
        .pair(reset.acknowledgement)
        .word(u16::from_le_bytes([reset.offset, reset.flags]))
        .finish();
    *packet.at_mut(l3 + F::HEADER)? = reset;
    Some(())
}

/// The reset that answers a segment of `length` bytes, header included; its checksum is left open. It begins where the segment
/// says that its sender expects it to, or else acknowledges all of it. Without branches, that the verifier goes on in one way.
#[inline(always)]
fn reset(segment: &Tcp, length: usize, zero: u64) -> Tcp {
    let flags = segment.flags;
    let acknowledges = (flags >> 4 & 1) as usize;
    let sequence = parse::forget(acknowledges.wrapping_neg(), zero, u32::MAX as usize) as u32;
    // SYN and FIN count as a byte each.
    let counted = (length - segment.header_length()) as u32 + (flags >> 1 & 1) as u32 + (flags & 1) as u32;
    let next = u32::from_be(segment.sequence).wrapping_add(counted).to_be();
    Tcp {
        ports: segment.ports.rotate_left(16),
        sequence: segment.acknowledgement & sequence,
        acknowledgement: next & !sequence,
        offset: (size_of::<Tcp>() as u8 / 4) << 4,
        flags: TCP_RST | TCP_ACK & !sequence as u8,
        window: Be16::new(0),
        checksum: Be16::new(0),
        urgent: Be16::new(0),
    }
}

/// What differs between resets over IPv4 and over IPv6.
pub trait Resets: Sized {
    /// Bytes of the network header.
    const HEADER: usize;

    /// Writes the network header of a reset; returns the sum of its addresses.
    fn begin<P: Packet>(packet: &mut P, l3: usize, vip: Self, client: Self) -> Option<Sum>;
}

impl Resets for u32 {
    const HEADER: usize = size_of::<Ipv4>();

    #[inline(always)]
    fn begin<P: Packet>(packet: &mut P, l3: usize, vip: u32, client: u32) -> Option<Sum> {
        *packet.at_mut(l3)? = rewrite::ipv4_header(size_of::<Ipv4>() + size_of::<Tcp>(), 0, PROTOCOL_TCP, vip, client);
        Some(Sum::default().pair(vip).pair(client))
    }
}

impl Resets for [u32; 4] {
    const HEADER: usize = size_of::<Ipv6>();

    #[inline(always)]
    fn begin<P: Packet>(packet: &mut P, l3: usize, vip: [u32; 4], client: [u32; 4]) -> Option<Sum> {
        *packet.at_mut(l3)? = rewrite::ipv6_header(size_of::<Tcp>(), 0, 0, PROTOCOL_TCP, vip, client);
        Some(Sum::default().address(vip).address(client))
    }
}
