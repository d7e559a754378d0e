//! What `cargo xtask faults` sends and counts: numbered flows, a switch that hands each frame to the backend whose MAC it
//! carries, and receivers that count by flow.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code))]
#![allow(missing_docs, reason = "what the entry point macro generates has none")]

mod frame;
mod program;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
    btf_maps::Array,
    helpers::{bpf_ktime_get_ns, bpf_redirect},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_common::{
    abi::{Arrivals, STREAM_FLOWS, STREAM_FRAME, STREAM_NETWORK, STREAM_PLACES, Stream},
    packet::Packet,
    wire::{Be16, ETHERTYPE_IPV4, Ethernet, Header, Ipv4, Tcp},
};

use crate::frame::Frame;

const MMAPABLE: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;

/// What is sent.
#[btf_map]
static STREAM: Array<Stream, 1, MMAPABLE> = Array::new();

/// What has arrived, by place.
#[btf_map]
static ARRIVALS: Array<Arrivals, { STREAM_PLACES as usize }, MMAPABLE> = Array::new();

/// The switch's interface that leads to each place; 0 is none.
#[btf_map]
static PORTS: Array<u32, { STREAM_PLACES as usize }> = Array::new();

/// The place at which each interface of the backends' namespace is.
#[btf_map]
static PLACES: Array<u32, 256> = Array::new();

/// Frames sent before it is looked whether they arrive. A veth's ring holds 256, four times as many.
const BURST: u64 = 64;
const L3: usize = size_of::<Ethernet>();
const L4: usize = L3 + size_of::<Ipv4>();
/// [`STREAM_NETWORK`] as it stands in a source address, as loaded.
const NETWORK: u32 = u16::from_le_bytes(STREAM_NETWORK) as u32;
/// MACs of backends are 02:00:00:00:GENERATION:PLACE.
const BACKEND_MAC: u32 = u32::from_le_bytes([2, 0, 0, 0]);

/// A whole frame.
#[repr(C, packed(2))]
#[derive(Clone, Copy)]
struct Whole([u64; STREAM_FRAME / 8]);

// SAFETY: integers alone, aligned to 2.
unsafe impl Header for Whole {}

/// Sends the next frame by the interface that the context names, unless too many are under way. Run with live frames.
#[xdp]
fn send(context: XdpContext) -> u32 {
    let Some(stream) = STREAM.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the entry is never freed, and one thread runs this program at a time.
    let stream = unsafe { &mut *stream };
    if stream.sent & (BURST - 1) == 0 && !may_go_on(stream) {
        return XDP_DROP;
    }
    if write(&mut Frame::<false>(&context), stream).is_none() {
        return XDP_ABORTED;
    }
    stream.sent += 1;
    XDP_TX
}

/// Whether not more than a burst is under way, or it has been waited for long enough.
#[inline(always)]
fn may_go_on(stream: &mut Stream) -> bool {
    let mut there = stream.given_up;
    for place in 0..STREAM_PLACES {
        if let Some(arrivals) = ARRIVALS.get_ptr(place) {
            // SAFETY: the entry is never freed; a word that grows is read.
            there += unsafe { (&raw const (*arrivals).total).read_volatile() };
        }
    }
    // Some may come after they were given up.
    let under_way = stream.sent.wrapping_sub(there) as i64;
    if under_way <= BURST as i64 {
        stream.waiting_since = 0;
        return true;
    }
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() } as u32 | 1;
    if stream.waiting_since == 0 {
        stream.waiting_since = now;
    }
    let over = now.wrapping_sub(stream.waiting_since) > stream.patience_ns;
    if over {
        stream.given_up += under_way as u64;
        stream.waiting_since = 0;
    }
    over
}

/// What a flow's number changes in a sum is made up for in a field that nobody reads, so that checksums stay right.
#[inline(always)]
fn write(frame: &mut Frame<false>, stream: &Stream) -> Option<()> {
    let whole = frame.at_mut::<Whole>(0)?;
    for word in 0..STREAM_FRAME / 8 {
        // Volatile: a loop that plainly copies becomes a function that copies byte by byte.
        // SAFETY: a borrowed integer.
        whole.0[word] = unsafe { (&raw const stream.frame[word]).read_volatile() };
    }
    let flow = (stream.sent as u32 & (STREAM_FLOWS - 1)) as u16;
    let ip = frame.at_mut::<Ipv4>(L3)?;
    ip.source = NETWORK | (flow.to_be() as u32) << 16;
    ip.id = Be16::new(!flow);
    frame.at_mut::<Tcp>(L4)?.sequence = ((!flow).to_be() as u32) << 16;
    Some(())
}

/// On the way back from the balancer: hands frames of the stream to the backend whose MAC they carry, and all others to the bridge.
#[xdp]
fn switch(context: XdpContext) -> u32 {
    let frame = Frame::<false>(&context);
    let Some(flow) = flow(&frame) else { return XDP_PASS };
    let Some(ethernet) = frame.at::<Ethernet>(0) else { return XDP_PASS };
    let mac = ethernet.destination();
    let place = if mac as u32 == BACKEND_MAC { (mac >> 40) as u32 } else { 0 };
    match PORTS.get(place) {
        // SAFETY: a plain helper call; an index that no longer exists drops the packet.
        Some(port) if *port != 0 => unsafe { bpf_redirect(*port, 0) as u32 },
        _ => {
            arrive(0, flow);
            XDP_DROP
        }
    }
}

/// At a backend: counts frames of the stream.
#[xdp]
fn receive(context: XdpContext) -> u32 {
    let Some(flow) = flow(&Frame::<false>(&context)) else { return XDP_PASS };
    let place = PLACES.get(context.ingress_ifindex() as u32).copied().unwrap_or(0);
    arrive(place, flow);
    XDP_DROP
}

/// The number of a frame's flow, if it is one of the stream.
#[inline(always)]
fn flow(frame: &Frame<false>) -> Option<u32> {
    let ethertype = frame.at::<Ethernet>(0)?.ethertype;
    let source = frame.at::<Ipv4>(L3)?.source;
    (ethertype == ETHERTYPE_IPV4 && source & 0xffff == NETWORK).then(|| u32::from(((source >> 16) as u16).to_be()))
}

#[inline(always)]
fn arrive(place: u32, flow: u32) {
    let Some(arrivals) = ARRIVALS.get_ptr_mut(place) else { return };
    // SAFETY: the entry is never freed, and a place's interface is served by one CPU at a time.
    unsafe {
        (*arrivals).total += 1;
        (*arrivals).flows[(flow & (STREAM_FLOWS - 1)) as usize] += 1;
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
