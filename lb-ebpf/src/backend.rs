//! The second program, on a backend: strips the outer header of tunnel packets and hands the rest to the stack. The
//! decision is `lb_common::decapsulate`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code))]
#![allow(missing_docs, reason = "what the entry point macro generates has none")]

mod frame;
mod program;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    btf_maps::{HashMap, PerCpuArray},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_common::{
    abi::{Address, SERVED_ENTRIES, Served as Key},
    decapsulate::{Served, decapsulate},
    verdict::{Action, Stripping},
};

use crate::frame::Frame;

/// Which addresses concern this backend, and how.
#[btf_map]
static SERVED: HashMap<Key, u64, { SERVED_ENTRIES as usize }> = HashMap::new();

#[btf_map]
static STRIPPINGS: PerCpuArray<u64, { Stripping::COUNT }> = PerCpuArray::new();

/// For frames in one buffer: kernels before 5.18 know no other.
#[xdp]
fn weir_backend(context: XdpContext) -> u32 {
    run::<false>(&context)
}

/// For frames in several buffers too (jumbo frames).
#[xdp(frags)]
fn weir_backend_frags(context: XdpContext) -> u32 {
    run::<true>(&context)
}

#[inline(always)]
fn run<const FRAGS: bool>(context: &XdpContext) -> u32 {
    let stripping = decapsulate(&mut Frame::<FRAGS>(context), &Addresses);
    if let Some(count) = STRIPPINGS.get_ptr_mut(stripping as u32) {
        // SAFETY: an entry of a per-CPU array: valid, never freed, and this CPU's own.
        unsafe { *count += 1 };
    }
    match stripping.action() {
        Action::Drop => XDP_DROP,
        _ => XDP_PASS,
    }
}

struct Addresses;

impl Addresses {
    #[inline(always)]
    fn has(&self, address: Address, role: u32) -> bool {
        SERVED.get_ptr(Key::new(address, role)).is_some()
    }
}

impl Served for Addresses {
    #[inline(always)]
    fn endpoint4(&self, address: u32) -> bool {
        self.has(Address([0, 0, 0, address]), Key::ENDPOINT4)
    }

    #[inline(always)]
    fn endpoint6(&self, address: [u32; 4]) -> bool {
        self.has(Address(address), Key::ENDPOINT6)
    }

    #[inline(always)]
    fn vip4(&self, address: u32) -> bool {
        self.has(Address([0, 0, 0, address]), Key::VIP4)
    }

    #[inline(always)]
    fn vip6(&self, address: [u32; 4]) -> bool {
        self.has(Address(address), Key::VIP6)
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
