//! Traffic for the demo, the tests and the bench; never part of a balancer.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code))]
#![allow(missing_docs, reason = "what the entry point macro generates has none")]

mod frame;
mod program;

use aya_ebpf::{
    Global,
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    btf_maps::Array,
    helpers::bpf_ktime_get_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_common::{
    abi::Pace,
    checksum::Sum,
    packet::Packet,
    wire::{Be16, Ethernet, Ipv4, PROTOCOL_TCP, Tcp},
};

use crate::frame::Frame;

/// Where scattered sources begin, as it stands in a packet.
#[unsafe(no_mangle)]
static SOURCE: Global<u32> = Global::new(0);

/// Which bits of a source vary, as they stand in a packet.
#[unsafe(no_mangle)]
static VARY: Global<u32> = Global::new(0);

/// How many packets `flood` has made.
#[btf_map]
static MADE: Array<u64, 1> = Array::new();

/// How fast `paced` makes them, and when the next is due.
#[btf_map]
static PACE: Array<Pace, 1> = Array::new();

/// Passes everything. A veth hands over what XDP transmits to it only if it has a program itself.
#[xdp]
fn pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// The same for frames in several buffers too (jumbo frames).
#[xdp(frags)]
fn pass_frags(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Drops everything: the least that a receiver can do.
#[xdp]
fn discard(_context: XdpContext) -> u32 {
    XDP_DROP
}

/// Sends the frame it is given, an IPv4 TCP segment without options or data, back out from a new source each time. Run
/// by `BPF_PROG_TEST_RUN` with live frames.
#[xdp]
fn flood(context: XdpContext) -> u32 {
    scatter(&mut Frame::<false>(&context)).unwrap_or(XDP_DROP)
}

/// The same, but a frame that is not yet due goes nowhere.
#[xdp]
fn paced(context: XdpContext) -> u32 {
    if is_due() { scatter(&mut Frame::<false>(&context)).unwrap_or(XDP_DROP) } else { XDP_DROP }
}

/// Makes each and sends none: what making them costs.
#[xdp]
fn unsent(context: XdpContext) -> u32 {
    scatter(&mut Frame::<false>(&context));
    XDP_DROP
}

#[inline(always)]
fn is_due() -> bool {
    let Some(pace) = PACE.get_ptr_mut(0) else { return false };
    // SAFETY: the entry is never freed; one thread runs this program at a time.
    let pace = unsafe { &mut *pace };
    if pace.interval == 0 {
        return true;
    }
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() } << Pace::FRACTION;
    if now < pace.next {
        return false;
    }
    // What was missed is not made up for beyond a few: a ring would only lose it.
    let earliest = now - pace.interval * Pace::CATCH_UP;
    pace.next = if pace.next > earliest { pace.next } else { earliest } + pace.interval;
    true
}

#[inline(always)]
fn scatter(frame: &mut Frame<false>) -> Option<u32> {
    const L3: usize = size_of::<Ethernet>();
    const L4: usize = L3 + size_of::<Ipv4>();
    let made = MADE.get_ptr_mut(0)?;
    // SAFETY: the entry is never freed; one thread runs this program at a time.
    let number = unsafe {
        *made += 1;
        *made
    };
    let scattered = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    let source = SOURCE.load() | scattered & VARY.load();
    let ip = frame.at_mut::<Ipv4>(L3)?;
    ip.source = source;
    ip.checksum = Be16::default();
    let destination = ip.destination;
    ip.checksum = Sum::default()
        .word(u16::from_le_bytes([ip.version_ihl, ip.tos]))
        .word(ip.total_length.raw())
        .word(ip.id.raw())
        .word(ip.fragment.raw())
        .word(u16::from_le_bytes([ip.ttl, ip.protocol]))
        .pair(source)
        .pair(destination)
        .finish();
    let tcp = frame.at_mut::<Tcp>(L4)?;
    // Other bits than those that sources take, so that there are many times as many flows.
    tcp.ports = tcp.ports & 0xffff_0000 | (1024 | scattered) & 0xffff;
    tcp.sequence = scattered;
    tcp.checksum = Sum::default()
        .pair(source)
        .pair(destination)
        .word((PROTOCOL_TCP as u16).to_be())
        .word((size_of::<Tcp>() as u16).to_be())
        .pair(tcp.ports)
        .pair(tcp.sequence)
        .pair(tcp.acknowledgement)
        .word(u16::from_le_bytes([tcp.offset, tcp.flags]))
        .word(tcp.window.raw())
        .word(tcp.urgent.raw())
        .finish();
    Some(XDP_TX)
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
