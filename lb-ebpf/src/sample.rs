//! Samples of packets for whoever captures: a packet at its end is handed to a program that copies its beginning and does
//! with it what was decided.

use aya_ebpf::{bindings::xdp_action::XDP_DROP, helpers::bpf_ktime_get_ns, programs::XdpContext};
use lb_common::{
    abi::{SAMPLE_BYTES, SAMPLE_RATE, Sample, Sampler},
    balance::Outcome,
    packet::Packet,
    rate,
    wire::Header,
};

use crate::{
    frame::Frame,
    maps::{CAPTURE, EVENTS, INTERFACE, PATHS, SAMPLER, stop_listening},
};

/// Where the program that samples stands among the PATHS.
const SAMPLING: u32 = 1;

/// A piece of a frame.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Piece([u16; 4]);

// SAFETY: integers aligned to 2, without padding.
unsafe impl Header for Piece {}

/// A smaller one. Not a byte: what a check for one says of a frame, verifiers do not see.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Pair(u16);

// SAFETY: an integer aligned to 2.
unsafe impl Header for Pair {}

/// Hands a packet to the program that samples; comes back only if there is none.
#[inline(always)]
pub fn hand_over(context: &XdpContext, outcome: &Outcome, action: u32) {
    let Some(sampler) = SAMPLER.get_ptr_mut(0) else { return };
    // SAFETY: the element is never freed and belongs to this CPU, on which nothing interrupts an XDP program with another one.
    unsafe {
        (*sampler).verdict = outcome.verdict as u32;
        (*sampler).vip = outcome.vip;
        (*sampler).backend = outcome.backend;
        (*sampler).action = action;
    }
    // SAFETY: the context is the one the kernel passed to this program.
    unsafe { PATHS.tail_call(context, SAMPLING) };
}

/// Takes a sample of a packet, if it is wanted and there is room. Returns what was decided.
#[inline(always)]
pub fn take<const FRAGS: bool>(context: &XdpContext) -> u32 {
    let Some(sampler) = SAMPLER.get_ptr_mut(0) else { return XDP_DROP };
    // SAFETY: as in `hand_over`.
    let sampler = unsafe { &mut *sampler };
    copy(&Frame::<FRAGS>(context), sampler);
    sampler.action
}

#[inline(always)]
fn copy<const FRAGS: bool>(frame: &Frame<FRAGS>, sampler: &mut Sampler) {
    let Some(capture) = CAPTURE.get(0) else { return };
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    if now > capture.until_ns {
        // Whoever did has died.
        return stop_listening();
    }
    if !capture.wants(sampler.verdict, sampler.vip) {
        return;
    }
    let Some(paid) = rate::take(sampler.paid, now, SAMPLE_RATE) else {
        sampler.over_budget += 1;
        return;
    };
    let Some(mut reserved) = EVENTS.reserve(0) else {
        sampler.ring_full += 1;
        return;
    };
    sampler.paid = paid;
    let sample: *mut Sample = reserved.as_mut_ptr();
    // SAFETY: reserved memory is valid to write until it is submitted; every field is written but the bytes that `captured` leaves
    // out.
    unsafe {
        (*sample).time_ns = now;
        (*sample).length = frame.length() as u32;
        (*sample).verdict = sampler.verdict;
        (*sample).vip = sampler.vip;
        (*sample).backend = sampler.backend;
        (*sample).interface = INTERFACE.load();
        (*sample).captured = beginning(frame, &raw mut (*sample).bytes) as u32;
    }
    reserved.submit(0);
}

/// Copies as much of a frame as there is room for and lies in its first buffer; says how much.
///
/// # Safety
/// `out` must be valid to write.
#[inline(always)]
unsafe fn beginning<const FRAGS: bool>(frame: &Frame<FRAGS>, out: *mut [u8; SAMPLE_BYTES]) -> usize {
    const PIECE: usize = size_of::<Piece>();
    const PAIR: usize = size_of::<Pair>();
    let out = out.cast::<u8>();
    for piece in 0..SAMPLE_BYTES / PIECE {
        let offset = piece * PIECE;
        if let Some(read) = frame.at::<Piece>(offset) {
            // SAFETY: within the array, by the loop's bound.
            unsafe { out.add(offset).cast::<Piece>().write_unaligned(*read) };
            continue;
        }
        let mut end = offset;
        for pair in 0..PIECE / PAIR - 1 {
            let Some(read) = frame.at::<Pair>(offset + pair * PAIR) else { break };
            // SAFETY: as above.
            unsafe { out.add(offset + pair * PAIR).cast::<Pair>().write_unaligned(*read) };
            end += PAIR;
        }
        // A last byte, together with the one before it.
        if offset > 0
            && let Some(read) = frame.at::<Pair>(end - 1)
        {
            // SAFETY: as above.
            unsafe { out.add(end - 1).cast::<Pair>().write_unaligned(*read) };
            end += 1;
        }
        return end;
    }
    SAMPLE_BYTES
}
