//! The balancer in the driver: entry points, and verdicts turned into what the kernel does. The path itself is
//! `lb_common::balance`.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code))]
#![allow(missing_docs, reason = "what the entry point macro generates has none")]

mod frame;
mod maps;
mod program;
mod sample;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    helpers::bpf_redirect,
    macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::warn;
use lb_common::{
    abi::Explanation,
    balance::{Outcome, balance},
    packet::{Packet, Tables},
    plain::{End, plain},
    verdict::Verdict,
};

use crate::{
    frame::Frame,
    maps::{Maps, PATHS, count, count_bare, is_listened_to},
};

/// For frames in one buffer: kernels before 5.18 know no other.
#[xdp]
fn weir(context: XdpContext) -> u32 {
    run::<false>(&context)
}

/// For frames in several buffers too (jumbo frames).
#[xdp(frags)]
fn weir_frags(context: XdpContext) -> u32 {
    run::<true>(&context)
}

/// What `weir` hands every packet to that is not plain. A program of its own, so that plain packets pay neither for its
/// registers nor for its stack, and verifiers walk each alone.
#[xdp]
fn weir_any(context: XdpContext) -> u32 {
    run_any::<false>(&context)
}

/// The same for `weir_frags`.
#[xdp(frags)]
fn weir_any_frags(context: XdpContext) -> u32 {
    run_any::<true>(&context)
}

/// Decides as the others do, over the same tables, and counts nothing: puts an [`Explanation`] in front of the packet.
/// Never attached; run by `BPF_PROG_TEST_RUN`.
#[xdp]
fn weir_explain(context: XdpContext) -> u32 {
    let mut frame = Frame::<false>(&context);
    let outcome = balance(&mut frame, &Maps::<true>);
    if !frame.grow_head(size_of::<Explanation>()) {
        return XDP_DROP;
    }
    let now = Maps::<true>.now();
    let Some(explanation) = frame.at_mut::<Explanation>(0) else {
        return XDP_DROP;
    };
    *explanation = Explanation {
        verdict: outcome.verdict as u32,
        vip: outcome.vip,
        slot: outcome.slot,
        backend: outcome.backend,
        half: outcome.half,
        hash: outcome.hash,
        now: [now as u32, (now >> 32) as u32],
    };
    XDP_PASS
}

/// What any of these hands a packet to at its end, while somebody captures. A program of its own, as above.
#[xdp]
fn weir_sample(context: XdpContext) -> u32 {
    sample::take::<false>(&context)
}

/// The same for `weir_frags`.
#[xdp(frags)]
fn weir_sample_frags(context: XdpContext) -> u32 {
    sample::take::<true>(&context)
}

#[inline(always)]
fn run<const FRAGS: bool>(context: &XdpContext) -> u32 {
    if let Some(action) = plain(&mut Frame::<FRAGS>(context), &Maps::<false>, &Count) {
        return action;
    }
    // SAFETY: the context is the one the kernel passed to this program. It returns only if there is no such program.
    unsafe { PATHS.tail_call(context, 0) };
    Count.end(&Outcome::NOT_READY)
}

/// Counts a packet and says what the kernel does with it.
struct Count;

impl End for Count {
    type Action = u32;

    #[inline(always)]
    fn end(&self, outcome: &Outcome) -> u32 {
        count(outcome);
        act(outcome)
    }

    #[inline(always)]
    fn end_bare(&self, outcome: &Outcome) -> u32 {
        count_bare(outcome);
        act(outcome)
    }
}

#[inline(always)]
fn run_any<const FRAGS: bool>(context: &XdpContext) -> u32 {
    let outcome = balance(&mut Frame::<FRAGS>(context), &Maps::<false>);
    let seen = count(&outcome);
    log(context, &outcome, seen);
    let action = act(&outcome);
    if is_listened_to() {
        sample::hand_over(context, &outcome, action);
    }
    action
}

#[inline(always)]
fn act(outcome: &Outcome) -> u32 {
    if outcome.verdict as u32 == Verdict::Redirected as u32 {
        // SAFETY: a plain helper call; an index that no longer exists drops the packet.
        unsafe { bpf_redirect(outcome.redirect, 0) as u32 }
    } else if outcome.verdict.passes() {
        XDP_PASS
    } else if outcome.verdict.drops() {
        XDP_DROP
    } else {
        XDP_TX
    }
}

/// Tells of what an operator must see at once, sparsely: the 1st, 2nd, 4th, 8th... time on each CPU.
#[inline(always)]
fn log(context: &XdpContext, outcome: &Outcome, seen: u64) {
    let rare = matches!(outcome.verdict, Verdict::NoHeadroom | Verdict::NoBackend);
    if rare && seen.is_power_of_two() {
        write(context, outcome.verdict as u32, outcome.vip, seen);
    }
}

#[inline(never)]
fn write(context: &XdpContext, verdict: u32, vip: u32, seen: u64) {
    if verdict == Verdict::NoHeadroom as u32 {
        warn!(context, "no_headroom: the driver left no room for the outer header, {} packets", seen);
    } else {
        warn!(
            context,
            "no_backend: VIP number {} (weir -o json ls) has no backend, {} packets dropped so far", vip, seen
        );
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
