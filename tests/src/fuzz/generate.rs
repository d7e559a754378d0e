//! Frames of every kind, mostly right and now and then wrong in one place. Fields are written as they come, so that any
//! of them can lie.

use etherparse::checksum::Sum16BitWords;
use fastrand::Rng;

use super::setups::Names;
use crate::frames::{BROADCAST, Mac, OURS, ROUTER, STRANGER, VIRTUAL};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// One frame.
pub fn frame(rng: &mut Rng, names: &Names) -> Vec<u8> {
    let mut frame = Vec::with_capacity(256);
    link(rng, &mut frame);
    match rng.u8(..100) {
        0..52 => ethertype(rng, &mut frame, 0x0800, |rng, out| ipv4(rng, names, out)),
        52..92 => ethertype(rng, &mut frame, 0x86dd, |rng, out| ipv6(rng, names, out)),
        92..96 => ethertype(rng, &mut frame, 0x0806, |rng, out| arp(rng, names, out)),
        _ => {
            let kind = pick(rng, &[0x88cc, 0x8847, 0x8864, 46, 0x0805]);
            ethertype(rng, &mut frame, kind, |rng, out| noise(rng, out, 60));
        }
    }
    if one_in(rng, 6) {
        frame.resize(frame.len().max(60) + usize::from(rng.u8(..8)), 0);
    }
    frame
}

/// MACs and tags.
fn link(rng: &mut Rng, out: &mut Vec<u8>) {
    let group = [0x33, 0x33, 0xff, 0, 0, 0x10];
    let random: Mac = std::array::from_fn(|_| rng.u8(..));
    let rare = [VIRTUAL, VIRTUAL, STRANGER, BROADCAST, group, [0; 6], random];
    let destination = if one_in(rng, 8) { pick(rng, &rare) } else { OURS };
    out.extend(destination);
    out.extend(if one_in(rng, 20) { random } else { ROUTER });
    let tags = pick(rng, &[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3]);
    for _ in 0..tags {
        out.extend(pick(rng, &[0x8100u16, 0x8100, 0x88a8]).to_be_bytes());
        out.extend(rng.u16(..).to_be_bytes());
    }
}

fn ethertype(rng: &mut Rng, out: &mut Vec<u8>, kind: u16, payload: impl FnOnce(&mut Rng, &mut Vec<u8>)) {
    let kind = if one_in(rng, 100) { rng.u16(..) } else { kind };
    out.extend(kind.to_be_bytes());
    payload(rng, out);
}

fn arp(rng: &mut Rng, names: &Names, out: &mut Vec<u8>) {
    let address = |rng: &mut Rng| if rng.bool() { pick(rng, &names.vips4).0 } else { pick(rng, &names.others4) };
    out.extend([0, 1, 8, 0, 6, 4, 0, pick(rng, &[1, 1, 1, 1, 2, 3])]);
    out.extend(ROUTER);
    out.extend(address(rng));
    out.extend([0; 6]);
    out.extend(address(rng));
    noise(rng, out, 20);
}

/// What a packet is for: a VIP's service, or something near it.
struct Aim<const N: usize> {
    source: [u8; N],
    destination: [u8; N],
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

fn aim<const N: usize>(rng: &mut Rng, vips: &[([u8; N], u8, u16)], others: &[[u8; N]]) -> Aim<N> {
    let (vip, protocol, port) = pick(rng, vips);
    let destination = if one_in(rng, 15) { pick(rng, others) } else { vip };
    let mut source = if one_in(rng, 6) { pick(rng, others) } else { others[0] };
    if one_in(rng, 40) {
        source = destination;
    }
    Aim {
        source,
        destination,
        protocol: if one_in(rng, 25) { TCP + UDP - protocol } else { protocol },
        source_port: if one_in(rng, 25) { pick(rng, &[0, 1, 65_535]) } else { rng.u16(40_000..40_064) },
        destination_port: if one_in(rng, 12) { pick(rng, &[0, 80, 443, 53, 5353, 8080, 81]) } else { port },
    }
}

fn ipv4(rng: &mut Rng, names: &Names, out: &mut Vec<u8>) {
    let aim = aim(rng, &names.vips4, &names.others4);
    ipv4_of(rng, &aim, Some(names), out);
}

/// Without names nothing more is quoted inside.
fn ipv4_of(rng: &mut Rng, aim: &Aim<4>, names: Option<&Names>, out: &mut Vec<u8>) {
    let start = out.len();
    let options = if one_in(rng, 8) { usize::from(rng.u8(1..=10)) } else { 0 };
    let (fragment, offset) = match rng.u8(..20) {
        0 => (0x4000, 0),
        1 => (0x8000, 0),
        2 => (0x2000, 0),
        3 => (0x2000, rng.u16(1..8)),
        4 => (0x0000, rng.u16(1..8)),
        5 => (rng.u16(..) & 0xe000, 0),
        _ => (0, 0),
    };
    let protocol = match rng.u8(..20) {
        0 => pick(rng, &[2, 4, 41, 47, 50, 51, 58, 132, 0, 255]),
        1..4 if names.is_some() => ICMP,
        _ => aim.protocol,
    };
    out.push(0x45 + options as u8);
    out.push(if one_in(rng, 4) { rng.u8(..) } else { 0 });
    out.extend([0, 0]);
    out.extend([0x47, rng.u8(0x10..0x14)]);
    out.extend((fragment | offset).to_be_bytes());
    out.push(if one_in(rng, 15) { rng.u8(..2) } else { 57 });
    out.push(protocol);
    out.extend([0, 0]);
    out.extend(aim.source);
    out.extend(aim.destination);
    for _ in 0..options {
        out.extend(pick(rng, &[[1, 1, 1, 1], [7, 3, 4, 0], [0, 0, 0, 0]]));
    }
    if offset != 0 {
        noise(rng, out, 120);
    } else if let (ICMP, Some(names)) = (protocol, names) {
        icmp4(rng, names, &aim.destination, out);
    } else {
        transport(rng, protocol, aim.source_port, aim.destination_port, out);
    }
    let length = lie(rng, (out.len() - start) as u16);
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    if !one_in(rng, 10) {
        let checksum = checksum(&out[start..start + 20 + 4 * options]);
        out[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn ipv6(rng: &mut Rng, names: &Names, out: &mut Vec<u8>) {
    let aim = aim(rng, &names.vips6, &names.others6);
    ipv6_of(rng, &aim, Some(names), out);
}

fn ipv6_of(rng: &mut Rng, aim: &Aim<16>, names: Option<&Names>, out: &mut Vec<u8>) {
    let start = out.len();
    let protocol = match rng.u8(..20) {
        0 => pick(rng, &[1, 4, 41, 47, 50, 59, 132, 255]),
        1..5 if names.is_some() => ICMPV6,
        _ => aim.protocol,
    };
    let class = if one_in(rng, 4) { rng.u32(..1 << 28) } else { 0 };
    out.extend((6 << 28 | class).to_be_bytes());
    out.extend([0, 0, protocol, if one_in(rng, 15) { rng.u8(..2) } else { pick(rng, &[57, 57, 255]) }]);
    out.extend(aim.source);
    out.extend(aim.destination);
    let first = if one_in(rng, 3) { extensions(rng, out, protocol) } else { Chain { first: protocol, later: false } };
    out[start + 6] = first.first;
    if first.later {
        noise(rng, out, 120);
    } else if let (ICMPV6, Some(names)) = (protocol, names) {
        icmp6(rng, names, &aim.destination, out);
    } else {
        transport(rng, protocol, aim.source_port, aim.destination_port, out);
    }
    let length = lie(rng, (out.len() - start - 40) as u16);
    out[start + 4..start + 6].copy_from_slice(&length.to_be_bytes());
}

struct Chain {
    first: u8,
    /// What follows are data of a later fragment.
    later: bool,
}

/// Extension headers that lead to `protocol`.
fn extensions(rng: &mut Rng, out: &mut Vec<u8>, protocol: u8) -> Chain {
    const KINDS: [u8; 9] = [0, 60, 60, 43, 51, 135, 44, 44, 44];
    let count = if one_in(rng, 8) { rng.usize(1..12) } else { rng.usize(1..4) };
    let kinds: Vec<u8> = (0..count).map(|_| pick(rng, &KINDS)).collect();
    let mut later = false;
    for (at, kind) in kinds.iter().enumerate() {
        let next = kinds.get(at + 1).copied().unwrap_or(protocol);
        let units = if one_in(rng, 30) { rng.u8(..) } else { rng.u8(..3) };
        match kind {
            44 => {
                let (offset, more) = pick(rng, &[(0u16, 0u16), (0, 0), (0, 1), (0, 1), (8, 1), (64, 0), (64, 1)]);
                later |= offset != 0;
                out.extend([next, rng.u8(..2)]);
                out.extend((offset | more).to_be_bytes());
                out.extend([0, 0, 0x47, rng.u8(0x10..0x14)]);
                if later {
                    break;
                }
            }
            51 => {
                out.extend([next, units, 0, 0]);
                out.resize(out.len() + 4 * (usize::from(units) + 2) - 4, 0xaa);
            }
            _ => {
                // A routing header says its type in the third byte.
                out.extend([next, units, pick(rng, &[1, 2, 4, 1, 2, 4, 0]), 0]);
                out.resize(out.len() + 8 * (usize::from(units) + 1) - 4, 0);
            }
        }
    }
    Chain { first: kinds[0], later }
}

fn transport(rng: &mut Rng, protocol: u8, source: u16, destination: u16, out: &mut Vec<u8>) {
    match protocol {
        TCP => tcp(rng, source, destination, out),
        UDP => {
            out.extend(source.to_be_bytes());
            out.extend(destination.to_be_bytes());
            let at = out.len();
            out.extend([0; 4]);
            data(rng, out);
            let length = lie(rng, (out.len() - at + 4) as u16);
            out[at..at + 2].copy_from_slice(&length.to_be_bytes());
        }
        _ => data(rng, out),
    }
}

fn tcp(rng: &mut Rng, source: u16, destination: u16, out: &mut Vec<u8>) {
    const FLAGS: [u8; 12] = [0x10, 0x10, 0x18, 0x02, 0x02, 0x02, 0x12, 0xc2, 0x04, 0x11, 0x03, 0x00];
    out.extend(source.to_be_bytes());
    out.extend(destination.to_be_bytes());
    out.extend(rng.u64(..).to_be_bytes());
    let at = out.len();
    let flags = if one_in(rng, 10) { rng.u8(..) } else { pick(rng, &FLAGS) };
    let window: u16 = if one_in(rng, 3) { 0 } else { 64_240 };
    out.extend([0, flags]);
    out.extend(window.to_be_bytes());
    out.extend(rng.u32(..).to_be_bytes());
    if one_in(rng, 2) {
        tcp_options(rng, out);
    }
    let words = (out.len() - at + 12).div_ceil(4);
    out[at] = (words as u8) << 4 | rng.u8(..2);
    if one_in(rng, 15) {
        out[at] = rng.u8(..);
    }
    data(rng, out);
}

/// Options up to 40 bytes, a multiple of 4.
fn tcp_options(rng: &mut Rng, out: &mut Vec<u8>) {
    const OPTIONS: [&[u8]; 11] = [
        &[1],
        &[1],
        &[1, 1, 1, 1],
        &[0],
        &[2, 4, 5, 0xb4],
        &[2, 4, 0xff, 0xff],
        &[2, 4, 2, 0x18],
        &[4, 2],
        &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
        &[3, 3, 7],
        &[2, 2],
    ];
    let start = out.len();
    for _ in 0..rng.u8(1..7) {
        let option = pick(rng, &OPTIONS);
        if out.len() - start + option.len() <= 40 {
            out.extend(option);
        }
    }
    if one_in(rng, 10) {
        out.push(pick(rng, &[2, 4, 253]));
    }
    while !(out.len() - start).is_multiple_of(4) {
        out.push(pick(rng, &[0, 1, 1]));
    }
    out.truncate(start + 40);
}

fn icmp4(rng: &mut Rng, names: &Names, vip: &[u8; 4], out: &mut Vec<u8>) {
    let start = out.len();
    let kind = pick(rng, &[8, 8, 3, 3, 3, 3, 11, 12, 0, 5, 13]);
    let code = if kind == 3 { pick(rng, &[4, 4, 1, 3]) } else { u8::from(one_in(rng, 10)) };
    out.extend([kind, code, 0, 0, 0, 0]);
    out.extend(pick(rng, &[1400u16, 1280, 68, 67, 0]).to_be_bytes());
    if matches!(kind, 3 | 11 | 12) {
        let asked = aim(rng, &names.vips4, &names.others4);
        let aim = answer(rng, asked, vip, &names.vips4);
        quote(rng, out, |rng, out| ipv4_of(rng, &aim, None, out));
    } else {
        data(rng, out);
    }
    if !one_in(rng, 8) {
        let checksum = checksum(&out[start..]);
        out[start + 2..start + 4].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn icmp6(rng: &mut Rng, names: &Names, vip: &[u8; 16], out: &mut Vec<u8>) {
    let kind = pick(rng, &[128, 128, 1, 2, 2, 2, 3, 4, 135, 135, 135, 136, 133, 130, 143, 129, 144]);
    out.extend([kind, u8::from(one_in(rng, 10)), rng.u8(..), rng.u8(..)]);
    out.extend(pick(rng, &[1400u32, 1280, 1279, 0, 0x0001_0000]).to_be_bytes());
    match kind {
        1..=4 => {
            let asked = aim(rng, &names.vips6, &names.others6);
            let aim = answer(rng, asked, vip, &names.vips6);
            quote(rng, out, |rng, out| ipv6_of(rng, &aim, None, out));
        }
        135 => {
            out.extend(if one_in(rng, 5) { pick(rng, &names.others6) } else { pick(rng, &names.vips6).0 });
            if rng.bool() {
                out.extend([1, 1]);
                out.extend(ROUTER);
            }
            noise(rng, out, 12);
        }
        _ => data(rng, out),
    }
}

/// What a VIP sends to a client: mostly this VIP, by one of its services.
fn answer<const N: usize>(rng: &mut Rng, aim: Aim<N>, vip: &[u8; N], vips: &[([u8; N], u8, u16)]) -> Aim<N> {
    let here: Vec<_> = vips.iter().filter(|(address, ..)| address == vip).collect();
    let (vip, protocol, port) = match &here[..] {
        [] => (*vip, aim.protocol, aim.destination_port),
        _ if one_in(rng, 10) => (aim.destination, aim.protocol, aim.destination_port),
        _ => *pick(rng, &here),
    };
    Aim { source: vip, destination: aim.source, protocol, source_port: port, destination_port: aim.source_port }
}

/// Puts a packet behind an ICMP header, the end cut off now and then.
fn quote(rng: &mut Rng, out: &mut Vec<u8>, packet: impl FnOnce(&mut Rng, &mut Vec<u8>)) {
    let start = out.len();
    packet(rng, out);
    let length = out.len() - start;
    match rng.u8(..4) {
        0 => out.truncate(start + rng.usize(..=length)),
        1 => out.truncate(start + length.min(rng.usize(28..70))),
        _ => {}
    }
}

/// Payload: little, mostly; now and then as much as brings a packet to an edge.
fn data(rng: &mut Rng, out: &mut Vec<u8>) {
    const EDGES: [usize; 12] = [256, 280, 300, 536, 556, 576, 1280, 1440, 1460, 1480, 1500, 3400];
    let length = match rng.u8(..40) {
        0 => rng.usize(..1600),
        1..4 => (pick(rng, &EDGES) + rng.usize(..4)).saturating_sub(pick(rng, &[0, 2, 20, 28, 40, 48, 60, 80])),
        4 if one_in(rng, 8) => rng.usize(3400..8800),
        _ => rng.usize(..24),
    };
    out.resize(out.len() + length, 0x5a);
    // A carry that folds twice needs bytes that nobody would think of.
    for _ in 0..length.min(4) {
        let at = out.len() - 1 - rng.usize(..length);
        out[at] = rng.u8(..);
    }
}

fn noise(rng: &mut Rng, out: &mut Vec<u8>, most: usize) {
    let length = rng.usize(..most);
    out.extend(std::iter::repeat_with(|| rng.u8(..)).take(length));
}

/// A length, which lies now and then.
fn lie(rng: &mut Rng, length: u16) -> u16 {
    match rng.u8(..60) {
        0 => length.wrapping_add(1),
        1 => length.wrapping_sub(1),
        2 => rng.u16(..),
        3 => length.wrapping_sub(rng.u16(..40)),
        4 => 0,
        _ => length,
    }
}

/// RFC 1071, so that the frames are mostly right; what leaves is judged by etherparse's.
fn checksum(bytes: &[u8]) -> u16 {
    Sum16BitWords::new().add_slice(bytes).ones_complement().to_be()
}

fn one_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}
