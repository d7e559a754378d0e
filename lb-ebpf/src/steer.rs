//! Checks on their way out: sends a packet that carries a backend's mark to that backend. The decision is
//! `lb_common::steer`; every other packet goes on untouched.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code))]
#![allow(missing_docs, reason = "what the entry point macro generates has none")]

mod program;

use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    btf_maps::Array,
    helpers::{bpf_redirect, bpf_skb_vlan_push},
    macros::{btf_map, classifier},
    programs::TcContext,
};
use lb_common::{
    abi::Live,
    rewrite::Inner,
    steer::{Aligned, Outer, Steered, is_steered, steer},
    wire::{Be16, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, Ethernet, Ipv4, Ipv6},
};

/// The balancer's, which the loader puts in its place.
#[btf_map]
static LIVE: Array<Live, 1, { aya_ebpf::bindings::BPF_F_MMAPABLE as usize }> = Array::new();

const L3: usize = size_of::<Ethernet>();
const ETHERTYPE: usize = L3 - size_of::<Be16>();

/// On the way out of the interface that all marked packets are routed to. A packet that it cannot send to its backend is dropped:
/// on the way that the route names, it would reach nobody.
#[classifier]
fn weir_steer(context: TcContext) -> i32 {
    // SAFETY: the context is the one the kernel passed to this program.
    let mark = unsafe { (*context.skb.skb).mark };
    if !is_steered(mark) {
        return TC_ACT_UNSPEC;
    }
    // Sent by another interface, it meets that one's programs too, and perhaps this one again.
    context.set_mark(0);
    let Some(steered) = LIVE.get(0).and_then(|live| steer(live, mark)) else { return TC_ACT_SHOT };
    if rewrite(&context, &steered, mark).is_err() || !tag(&context, steered.vlan) {
        return TC_ACT_SHOT;
    }
    // SAFETY: the context is the one the kernel passed to this program.
    if steered.interface == unsafe { (*context.skb.skb).ifindex } {
        return TC_ACT_OK;
    }
    // SAFETY: a plain helper call; an index that no longer exists drops the packet.
    unsafe { bpf_redirect(steered.interface, 0) as i32 }
}

#[inline(always)]
fn rewrite(context: &TcContext, steered: &Steered, mark: u32) -> Result<(), i64> {
    let ethertype = context.skb.protocol() as u16;
    let inner = if ethertype == ETHERTYPE_IPV4.raw() {
        Inner::of4(&context.load::<Aligned<Ipv4>>(L3)?.0)
    } else if ethertype == ETHERTYPE_IPV6.raw() {
        Inner::of6(&context.load::<Aligned<Ipv6>>(L3)?.0)
    } else {
        return Err(0);
    };
    match steered.outer(inner, mark) {
        None => {}
        Some(Outer::Ip4(outer)) => {
            make_room(context, size_of::<Ipv4>(), BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, ETHERTYPE_IPV4)?;
            context.store(L3, &outer.0, 0)?;
        }
        Some(Outer::Ip6(outer)) => {
            make_room(context, size_of::<Ipv6>(), BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, ETHERTYPE_IPV6)?;
            context.store(L3, &outer.0, 0)?;
        }
    }
    context.store(0, &steered.macs.0, 0)
}

/// Tags the packet for a VLAN, if it is to go into one.
#[inline(always)]
fn tag(context: &TcContext, vlan: u16) -> bool {
    // SAFETY: a plain helper call, with the context that the kernel passed to this program.
    vlan == 0 || unsafe { bpf_skb_vlan_push(context.skb.skb, ETHERTYPE_VLAN.raw(), vlan) == 0 }
}

/// Makes room behind the MACs for an outer header, and says of which kind it is.
#[inline(always)]
fn make_room(context: &TcContext, bytes: usize, kind: u32, ethertype: Be16) -> Result<(), i64> {
    context.adjust_room(bytes as i32, BPF_ADJ_ROOM_MAC, kind as u64)?;
    context.store(ETHERTYPE, &ethertype, 0)
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
