//! What `cargo xtask bench` measures with: a generator in front of the program under test, and programs to compare it with.
//!
//! `BPF_PROG_TEST_RUN` hands a frame back in as the last run left it. The generator restores its length, writes it anew
//! with another flow, and tail-calls the program under test, so that every run meets a fresh packet. In front of
//! `null` it is the zero that is subtracted.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code))]
#![allow(missing_docs, reason = "what the entry point macro generates has none")]

mod frame;
mod program;

use aya_ebpf::{
    Global,
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_TX},
    btf_maps::{Array, ProgramArray},
    helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_head},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_common::{
    abi::{
        BENCH_FRAME, BENCH_PROGRAMS, BENCH_SEGMENTS, BENCH_WORDS, BenchAddress, BenchTraffic, BenchTurn, bench_place,
    },
    packet::Packet,
    rewrite::{self, Inner},
    wire::{Ethernet, Header},
};

use crate::frame::Frame;

/// The programs under test.
#[btf_map]
static UNDER_TEST: ProgramArray<{ BENCH_PROGRAMS as usize }> = ProgramArray::new();

/// What to generate for each, and how much has been.
#[btf_map]
static TRAFFIC: Array<BenchTraffic, { BENCH_PROGRAMS as usize }> = Array::new();

/// Whose turn it is.
#[btf_map]
static TURN: Array<BenchTurn, 1> = Array::new();

/// How long each segment took, ns.
#[btf_map]
static TIMES: Array<u64, { BENCH_SEGMENTS as usize }> = Array::new();

/// How many packets came back over a wire.
#[btf_map]
static ARRIVED: Array<u64, 1> = Array::new();

/// Whether the head of every frame is put back, also where it has not been moved. If so, null pays for it like everybody. If not,
/// those who moved it do: `bare_ipip` and tunnels pay for two `adjust_head`, their own and that of the generator.
#[unsafe(no_mangle)]
static ALWAYS_RESTORE: Global<u32> = Global::new(0);

/// Whether what the generator wrote has left the store buffer before a program under test begins.
#[unsafe(no_mangle)]
static BARRIER: Global<u32> = Global::new(0);

/// A word of a generated frame.
#[repr(C, packed(2))]
#[derive(Clone, Copy)]
struct Word(u64);

// SAFETY: an integer alone, aligned to 2.
unsafe impl Header for Word {}

#[xdp(frags)]
fn generate(context: XdpContext) -> u32 {
    let Some(turn) = TURN.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the entry is never freed, and one thread runs this program at a time.
    let turn = unsafe { &mut *turn };
    if turn.left == 0 {
        next(turn);
    }
    turn.left = turn.left.wrapping_sub(1);
    let Some(traffic) = TRAFFIC.get_ptr_mut(turn.program) else { return XDP_ABORTED };
    // SAFETY: as above.
    let traffic = unsafe { &mut *traffic };
    let length = (context.data_end() - context.data()) as i32;
    let moved = length - BENCH_FRAME as i32;
    // SAFETY: the context is the one the kernel passed to this program.
    if (moved != 0 || ALWAYS_RESTORE.load() != 0) && unsafe { bpf_xdp_adjust_head(context.ctx, moved) } != 0 {
        return XDP_ABORTED;
    }
    if write(&mut Frame::<false>(&context), traffic).is_none() {
        return XDP_ABORTED;
    }
    // The kernel makes a plain jump of a call with a constant index, and an indirect one, which mitigations slow down, of any
    // other. Different ends keep the compiler from joining the calls.
    match turn.program {
        0 => call::<0>(&context),
        1 => call::<1>(&context),
        _ => call::<2>(&context),
    }
}

#[inline(always)]
fn call<const PROGRAM: u32>(context: &XdpContext) -> u32 {
    // SAFETY: the context is the one the kernel passed to this program.
    unsafe { UNDER_TEST.tail_call(context, PROGRAM) };
    // SAFETY: sets a register that is told of.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{any} = {program}", any = out(reg) _, program = const PROGRAM);
    }
    XDP_ABORTED
}

/// Notes how long the segment took that ends here, and begins the next program's.
#[cold]
#[inline(always)]
fn next(turn: &mut BenchTurn) {
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(time) = TIMES.get_ptr_mut(turn.timed) {
        // SAFETY: the entry is never freed, and one thread runs this program at a time.
        unsafe { *time = now - turn.since };
        turn.timed += 1;
    }
    turn.program = if turn.program + 1 < BENCH_PROGRAMS { turn.program + 1 } else { 0 };
    turn.left = turn.segment;
    // SAFETY: a plain helper call.
    turn.since = unsafe { bpf_ktime_get_ns() };
}

#[inline(always)]
fn write(frame: &mut Frame<false>, traffic: &mut BenchTraffic) -> Option<()> {
    for word in (0..BENCH_WORDS).rev() {
        // Volatile: a loop that plainly copies becomes a function that copies byte by byte.
        // SAFETY: a borrowed integer.
        let value = unsafe { (&raw const traffic.frame[word]).read_volatile() };
        *frame.at_mut::<Word>(bench_place(word))? = Word(value);
    }
    let visited = traffic.visited;
    traffic.visited = if visited + 1 < traffic.flows { visited + 1 } else { 0 };
    // Odd multiples are all different, in scattered order.
    let flow = visited.wrapping_mul(0x9e37_79b9) & 0x00ff_ffff;
    put(frame, traffic, traffic.source, flow)?;
    let vip = scatter(traffic.generated) & traffic.vip_mask;
    put(frame, traffic, traffic.destination, vip)?;
    if BARRIER.load() != 0 {
        barrier(&mut traffic.generated);
    }
    traffic.generated += 1;
    Some(())
}

/// An atomic addition of nothing: locked, it waits until all that was stored before is in the cache.
#[inline(always)]
fn barrier(word: &mut u64) {
    // SAFETY: the word is borrowed mutably, aligned, and stays what it is.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) += {nothing}", word = in(reg) word, nothing = in(reg) 0u64);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = word;
}

/// As good as picked at random.
#[inline(always)]
fn scatter(number: u64) -> u32 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}

#[inline(always)]
fn put(frame: &mut Frame<false>, traffic: &BenchTraffic, address: BenchAddress, number: u32) -> Option<()> {
    let word = address.word as usize & (BENCH_WORDS - 1);
    let value = traffic.frame[word] | u64::from((address.first + number).to_be()) << (address.shift & 63);
    *frame.at_mut::<Word>(bench_place(word))? = Word(value);
    Some(())
}

/// Sends the first program's traffic back out by the interface it is said to have come by. Run with live frames.
#[xdp]
fn send(context: XdpContext) -> u32 {
    let Some(traffic) = TRAFFIC.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the entry is never freed, and one thread runs this program at a time.
    let traffic = unsafe { &mut *traffic };
    write(&mut Frame::<false>(&context), traffic).map_or(XDP_ABORTED, |()| XDP_TX)
}

/// Counts what came back.
#[xdp]
fn arrive(_context: XdpContext) -> u32 {
    if let Some(arrived) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: the entry is never freed, and one CPU runs this program.
        unsafe { *arrived += 1 };
    }
    XDP_DROP
}

/// The zero.
#[xdp(frags)]
fn null(_context: XdpContext) -> u32 {
    XDP_TX
}

/// The least that a forwarded packet costs.
#[xdp(frags)]
fn swap(context: XdpContext) -> u32 {
    let mut frame = Frame::<true>(&context);
    let Some(ethernet) = frame.at_mut::<Ethernet>(0) else { return XDP_DROP };
    let (source, destination) = (ethernet.source(), ethernet.destination());
    ethernet.set_source(destination);
    ethernet.set_destination(source);
    XDP_TX
}

/// The least that an encapsulated packet costs: an outer IPv4 header, always the same way.
#[xdp(frags)]
fn bare_ipip(context: XdpContext) -> u32 {
    let mut frame = Frame::<true>(&context);
    let inner = Inner { version: 4, length: 40, class: 0, flow_label: 0 };
    let (source, destination) = (u32::from_ne_bytes([10, 0, 0, 1]), u32::from_ne_bytes([10, 0, 0, 2]));
    if rewrite::encapsulate(&mut frame, size_of::<Ethernet>(), rewrite::outer4(inner, source, destination)).is_err() {
        return XDP_DROP;
    }
    if rewrite::set_macs(&mut frame, 0x0b00_0000_0002, 0x0a00_0000_0002).is_err() {
        return XDP_DROP;
    }
    XDP_TX
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
