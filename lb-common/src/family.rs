//! What differs between IPv4 and IPv6 once the header is read, so that the rest of the path is written once.

use crate::{hash, icmp::Messages, reset::Resets, too_big::TooBig};

/// An IP version's addresses, as loaded from the packet.
pub trait Family: Copy + PartialEq + Messages + Resets + TooBig {
    /// 4 or 6.
    const VERSION: u32;

    /// The last word of the address as the services' table keeps it.
    fn last(self) -> u32;

    /// Whether the table keeps the words before it so; the last word and the family are compared elsewhere.
    fn begins(self, prefix: &[u32; 3]) -> bool;

    /// The address in 32 bits, as [`hash::vip_place`] takes it.
    fn narrow(self) -> u32;

    /// The address as one word for [`hash::key`].
    fn fold(self) -> u64;

    /// The address in 128 bits, IPv4 behind `::ffff:`.
    fn mapped(self) -> [u32; 4];

    /// Whether nothing can be answered to this source.
    fn is_martian(self) -> bool;

    /// Whether this source is certainly none of those: seldom no of another, and cheap.
    fn is_ordinary(self) -> bool;

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
    fn last(self) -> u32 {
        self
    }

    #[inline(always)]
    fn begins(self, _prefix: &[u32; 3]) -> bool {
        true
    }

    #[inline(always)]
    fn narrow(self) -> u32 {
        self
    }

    #[inline(always)]
    fn mapped(self) -> [u32; 4] {
        [0, 0, 0xffff_u32.to_be(), self]
    }

    #[inline(always)]
    fn fold(self) -> u64 {
        hash::fold4(self)
    }

    /// 0/8, 127/8, multicast and broadcast.
    #[inline(always)]
    fn is_martian(self) -> bool {
        let first = self as u8; // the first byte on the wire
        first == 0 || first == 127 || first >> 4 == 14 || self == u32::MAX
    }

    /// From 1 to 223 but 127.
    #[inline(always)]
    fn is_ordinary(self) -> bool {
        let first = self as u8;
        first.wrapping_sub(1) < 223 && first != 127
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
    fn last(self) -> u32 {
        self[3]
    }

    #[inline(always)]
    fn begins(self, prefix: &[u32; 3]) -> bool {
        // Compared as slices, they would be compared by a function.
        let [first, second, third] = *prefix;
        (first ^ self[0]) | (second ^ self[1]) | (third ^ self[2]) == 0
    }

    #[inline(always)]
    fn narrow(self) -> u32 {
        hash::narrow6(self)
    }

    #[inline(always)]
    fn mapped(self) -> [u32; 4] {
        self
    }

    #[inline(always)]
    fn fold(self) -> u64 {
        hash::fold6(self)
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

    /// Neither multicast nor with 32 zeros in front.
    #[inline(always)]
    fn is_ordinary(self) -> bool {
        self[0] != 0 && self[0] as u8 != 0xff
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
