//! The MSS option of SYNs, lowered where a service says so: for paths whose too bigs never arrive.

use crate::{
    checksum,
    filter::is_syn,
    packet::Packet,
    parse::forget,
    wire::{Tcp, Word, Words},
};

/// The most bytes that options can have.
const MAX_OPTION_BYTES: usize = 40;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
/// Length of that option: kind, length, and 2 bytes of value.
const MSS_LENGTH: usize = 4;

/// Where the value of the first MSS option of a SYN lies, counted from the TCP header at `l4`, if it is larger than `most`;
/// else 0. The header is a good one.
#[inline(always)]
pub(crate) fn find<P: Packet>(packet: &P, l4: usize, most: u16, zero: u64) -> usize {
    // Whatever led here, and however far the option was, the verifier goes on in one way.
    let l4 = forget(l4, zero, 4095);
    let at = forget(walk(packet, l4, zero).unwrap_or(0), zero, 0x3f);
    let value = if at == 0 { None } else { pair(packet, l4, at) };
    let is_larger = value.is_some_and(|value| u16::from_be_bytes(value) > most);
    forget(at * is_larger as usize, zero, 0x3f)
}

/// Where the value of the first MSS option lies.
#[inline(always)]
fn walk<P: Packet>(packet: &P, l4: usize, zero: u64) -> Option<usize> {
    let tcp = packet.at::<Tcp>(l4).filter(|tcp| is_syn(tcp.flags))?;
    let header_length = tcp.header_length();
    let mut at = forget(size_of::<Tcp>(), zero, 0x1ff);
    for _ in 0..MAX_OPTION_BYTES {
        if at + MSS_LENGTH > header_length {
            return None;
        }
        // An option that is even longer has its first four bytes here too.
        let four = packet.at::<Words>(l4 + (at & !1))?.words >> (8 * (at & 1));
        let [kind, length, ..] = four.to_le_bytes();
        if [kind, length] == [MSS, MSS_LENGTH as u8] {
            return Some(at + 2);
        }
        if kind == END || kind != NOP && length < 2 {
            return None;
        }
        at = forget(at + if kind == NOP { 1 } else { length as usize }, zero, 0x1ff);
    }
    None
}

/// Writes the value at `at`, counted from the TCP header at `l4`, and mends the checksum.
#[inline(always)]
pub(crate) fn lower<P: Packet>(packet: &mut P, l4: usize, at: usize, most: u16) -> Option<()> {
    let [high, low] = most.to_be_bytes();
    let even = at & !1;
    if at & 1 == 0 {
        replace(packet, l4, even, |_| [high, low])
    } else {
        // The checksum takes 2 bytes at a time from the beginning, whatever lies across.
        replace(packet, l4, even, |[before, _]| [before, high])?;
        replace(packet, l4, even + 2, |[_, behind]| [low, behind])
    }
}

/// Two bytes of the TCP header, which need not be aligned.
#[inline(always)]
fn pair<P: Packet>(packet: &P, l4: usize, at: usize) -> Option<[u8; 2]> {
    let even = l4 + (at & !1);
    let [first, second] = packet.at::<Word>(even)?.bytes;
    if at & 1 == 0 {
        return Some([first, second]);
    }
    Some([second, packet.at::<Word>(even + 2)?.bytes[0]])
}

/// Changes two aligned bytes of the TCP header.
#[inline(always)]
fn replace<P: Packet>(packet: &mut P, l4: usize, even: usize, change: impl Fn([u8; 2]) -> [u8; 2]) -> Option<()> {
    let word = packet.at_mut::<Word>(l4 + even)?;
    let before = word.bytes;
    word.bytes = change(before);
    let after = word.bytes;
    let tcp = packet.at_mut::<Tcp>(l4)?;
    tcp.checksum = checksum::replace(tcp.checksum, u16::from_le_bytes(before), u16::from_le_bytes(after));
    Some(())
}
