//! IPv4 (RFC 791).

use super::{Be16, header};

header! {
    /// The header without options. Addresses are words as loaded.
    Ipv4, 20 {
        /// Version in the upper half, header length in 4-byte words in the lower.
        version_ihl: u8,
        /// DSCP and ECN.
        tos: u8,
        /// Header and payload, bytes.
        total_length: Be16,
        /// Identification.
        id: Be16,
        /// Reserved, DF, MF, and the offset in 8-byte units (13 bits).
        fragment: Be16,
        /// Hops left.
        ttl: u8,
        /// What follows.
        protocol: u8,
        /// Of the header.
        checksum: Be16,
        /// Who sent it.
        source: u32,
        /// Who gets it.
        destination: u32,
    }
}

/// Do not fragment.
pub const IPV4_DF: Be16 = Be16::new(0x4000);
/// More fragments, or an offset other than 0: the packet is not whole.
pub const IPV4_NOT_WHOLE: Be16 = Be16::new(0x3fff);
/// The offset alone.
pub const IPV4_OFFSET: Be16 = Be16::new(0x1fff);

/// ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IPv4 inside.
pub const PROTOCOL_IPIP: u8 = 4;
/// TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// IPv6 inside.
pub const PROTOCOL_IPV6: u8 = 41;
