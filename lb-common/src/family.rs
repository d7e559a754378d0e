//! What differs between IPv4 and IPv6 once the header is read, so that the rest of the path is written once.

use crate::{abi::Address, hash, icmp::Messages, too_big::TooBig};

/// An IP version's addresses, as loaded from the packet.
pub trait Family: Copy + PartialEq + Messages + TooBig {
    /// 4 or 6.
    const VERSION: u32;

    /// Whether the services' table keeps this address so; the family is compared elsewhere.
    fn is(self, address: &Address) -> bool;

    /// The address as one word for [`hash::positions`].
    fn fold(self, seed: u64) -> u64;

    /// Whether nothing can be answered to this source.
    fn is_martian(self) -> bool;

    /// The keyed hash of a flow.
    fn flow(key: &[u32; 12], source: Self, destination: Self, ports: u32, protocol: u8) -> u32;

    /// The keyed hash of a datagram by its identification.
    fn datagram(key: &[u32; 12], source: Self, destination: Self, id: u32, protocol: u8) -> u64;

    /// The keyed hash of a source alone.
    fn source(key: &[u32; 12], source: Self) -> u32;
}

impl Family for u32 {
    const VERSION: u32 = 4;

    #[inline(always)]
    fn is(self, address: &Address) -> bool {
        address.0[3] == self
    }

    #[inline(always)]
    fn fold(self, _seed: u64) -> u64 {
        hash::fold4(self)
    }

    /// 0/8, 127/8, multicast and broadcast.
    #[inline(always)]
    fn is_martian(self) -> bool {
        let first = self as u8; // the first byte on the wire
        first == 0 || first == 127 || first >> 4 == 14 || self == u32::MAX
    }

    #[inline(always)]
    fn flow(key: &[u32; 12], source: Self, destination: Self, ports: u32, protocol: u8) -> u32 {
        hash::flow4(key, source, destination, ports, protocol as u32)
    }

    #[inline(always)]
    fn datagram(key: &[u32; 12], source: Self, destination: Self, id: u32, protocol: u8) -> u64 {
        hash::datagram4(key, source, destination, id, protocol as u32)
    }

    #[inline(always)]
    fn source(key: &[u32; 12], source: Self) -> u32 {
        hash::source4(key, source)
    }
}

impl Family for [u32; 4] {
    const VERSION: u32 = 6;

    #[inline(always)]
    fn is(self, address: &Address) -> bool {
        address.0 == self
    }

    #[inline(always)]
    fn fold(self, seed: u64) -> u64 {
        hash::fold6(self, seed)
    }

    /// The unspecified address, loopback, v4-mapped addresses and multicast.
    #[inline(always)]
    fn is_martian(self) -> bool {
        const ONE: u32 = u32::from_ne_bytes([0, 0, 0, 1]);
        const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
        let leading_zeros = self[0] | self[1] == 0;
        self[0] as u8 == 0xff
            || leading_zeros && (self[2] == MAPPED || self[2] == 0 && (self[3] == 0 || self[3] == ONE))
    }

    #[inline(always)]
    fn flow(key: &[u32; 12], source: Self, destination: Self, ports: u32, protocol: u8) -> u32 {
        hash::flow6(key, source, destination, ports, protocol as u32)
    }

    #[inline(always)]
    fn datagram(key: &[u32; 12], source: Self, destination: Self, id: u32, protocol: u8) -> u64 {
        hash::datagram6(key, source, destination, id, protocol as u32)
    }

    #[inline(always)]
    fn source(key: &[u32; 12], source: Self) -> u32 {
        hash::source6(key, source)
    }
}
