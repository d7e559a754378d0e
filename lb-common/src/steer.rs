//! The way of a check's packet to the one backend that it tests: the socket's mark names the backend, and the packet gets what
//! [`crate::balance`] would give a client's.
//!
//! A mark is [`MARK`] and the backend's number in `backends` of [`Live`]. It needs no generation: numbers that are given up are
//! given away only by a later change, and what a check of a backend that is gone finds out is told to nobody.

use crate::{
    abi::{Backend, Encapsulation, Live, MAX_INTERFACES, NextHop, Settings},
    rewrite::{self, Inner},
    wire::{Be16, Ipv4, Ipv6},
};

/// The upper half of the marks that steer.
pub const MARK: u32 = 0x7765_0000;
/// Which bits of a mark say that it is one of them.
pub const MARK_MASK: u32 = 0xffff_0000;

/// The mark that leads to a backend.
pub const fn mark(backend: u16) -> u32 {
    MARK | backend as u32
}

/// Whether a packet is to be steered.
#[inline(always)]
pub const fn is_steered(mark: u32) -> bool {
    mark & MARK_MASK == MARK
}

/// Where a packet goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Steered<'a> {
    /// Both MACs, as the first 12 bytes of a frame carry them.
    pub macs: Macs,
    /// The kernel's index of the interface that it leaves by.
    pub interface: u32,
    /// The VLAN that it is tagged with, 0 for none.
    pub vlan: u16,
    backend: &'a Backend,
    settings: &'a Settings,
}

/// The MACs of a frame, destination first; aligned, so that it may be passed by reference in the kernel.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Macs(pub [u32; 3]);

/// A header in front, in words as loaded, aligned for the same reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outer {
    /// In an IPv4 tunnel.
    Ip4(Aligned<[u32; 5]>),
    /// In an IPv6 tunnel.
    Ip6(Aligned<[u32; 10]>),
}

/// At an address by which it may be passed on in the kernel.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aligned<T>(pub T);

/// The way to the backend that a mark names; none while its next hop is not known, and none to this host itself.
#[inline(always)]
pub fn steer(live: &Live, mark: u32) -> Option<Steered<'_>> {
    let backend = live.backends.get((mark & !MARK_MASK) as usize)?;
    // SAFETY: a reference is valid to read; the agent's store may come at any time, so the word is read once, whole.
    let next_hop = unsafe { (&raw const backend.next_hop.0).read_volatile() };
    if next_hop & NextHop::RESOLVED == 0 {
        return None;
    }
    // By mask: of a compared number, verifiers of old kernels forget the bound on the way to its use.
    let out = &live.interfaces[(backend.interface as u32 & (MAX_INTERFACES - 1)) as usize];
    let half = &live.halves[(live.active.half & 1) as usize];
    let macs =
        Macs([next_hop as u32, (next_hop >> 32) as u32 & 0xffff | (out.mac as u32) << 16, (out.mac >> 16) as u32]);
    Some(Steered { macs, interface: out.index, vlan: backend.vlan, backend, settings: &half.settings })
}

impl Steered<'_> {
    /// What goes in front of the packet, if anything does.
    #[inline(always)]
    pub fn outer(&self, inner: Inner, mark: u32) -> Option<Outer> {
        // Any spread will do: a backend's checks need not be spread among themselves.
        let hash = mark.wrapping_mul(0x9e37_79b9);
        if self.backend.encapsulation == Encapsulation::L2 as u8 {
            None
        } else if self.backend.encapsulation == Encapsulation::Ip4 as u8 {
            Some(Outer::Ip4(Aligned(words4(rewrite::tunnel4(self.settings, self.backend, inner, hash)))))
        } else {
            Some(Outer::Ip6(Aligned(words6(rewrite::tunnel6(self.settings, self.backend, inner, hash)))))
        }
    }
}

#[inline(always)]
fn words4(ip: Ipv4) -> [u32; 5] {
    let low = |a: u8, b: u8| a as u32 | (b as u32) << 8;
    let high = |word: Be16| (word.raw() as u32) << 16;
    [
        low(ip.version_ihl, ip.tos) | high(ip.total_length),
        ip.id.raw() as u32 | high(ip.fragment),
        low(ip.ttl, ip.protocol) | high(ip.checksum),
        ip.source,
        ip.destination,
    ]
}

#[inline(always)]
fn words6(ip: Ipv6) -> [u32; 10] {
    let rest = ip.payload_length.raw() as u32 | (ip.next_header as u32) << 16 | (ip.hop_limit as u32) << 24;
    let ([a, b, c, d], [e, f, g, h]) = (ip.source, ip.destination);
    [ip.version_class_flow, rest, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests;
