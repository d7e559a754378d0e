//! ICMP, ICMPv6 (RFC 792, 4443) and neighbour discovery (RFC 4861).

use super::{Be16, header};

header! {
    /// How every message begins.
    Icmp, 4 {
        /// What it is.
        kind: u8,
        /// Which of that kind.
        code: u8,
        /// Over the message; for ICMPv6 and a pseudo header.
        checksum: Be16,
    }
}

header! {
    /// The same with the 4 bytes that follow, by which kinds differ.
    IcmpError, 8 {
        /// What it is.
        kind: u8,
        /// Which of that kind.
        code: u8,
        /// Over the message; for ICMPv6 and a pseudo header.
        checksum: Be16,
        /// As loaded. A too big holds the MTU here: ICMP in the last 2 bytes, ICMPv6 in all 4.
        word: u32,
    }
}

impl Icmp {
    /// Kind and code as the checksum sums them.
    #[inline(always)]
    pub fn first_word(&self) -> u16 {
        u16::from_le_bytes([self.kind, self.code])
    }
}

/// IPv4: something on the way could not be reached.
pub const UNREACHABLE: u8 = 3;
/// IPv4: of those, that a packet with DF was too long for a link.
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// IPv4: the TTL ran out, or the time for fragments.
pub const TIME_EXCEEDED: u8 = 11;
/// IPv4: a header that a host did not understand.
pub const PARAMETER_PROBLEM: u8 = 12;
/// IPv6: something on the way could not be reached.
pub const UNREACHABLE_V6: u8 = 1;
/// IPv6: a packet was too long for a link.
pub const TOO_BIG_V6: u8 = 2;
/// IPv6: a header that a host did not understand. Kind 3, between, is the hop limit that ran out.
pub const PARAMETER_PROBLEM_V6: u8 = 4;

/// IPv4: asks for its data back.
pub const ECHO_REQUEST: u8 = 8;
/// IPv4: gives them.
pub const ECHO_REPLY: u8 = 0;
/// IPv6: asks for its data back.
pub const ECHO_REQUEST_V6: u8 = 128;
/// IPv6: gives them.
pub const ECHO_REPLY_V6: u8 = 129;

header! {
    /// A neighbour solicitation or advertisement without its options.
    Neighbour, 24 {
        /// [`ND_SOLICITATION`] or [`ND_ADVERTISEMENT`].
        kind: u8,
        /// 0.
        code: u8,
        /// Over the message and a pseudo header.
        checksum: Be16,
        /// `ND_*` flags of an advertisement, as loaded.
        flags: u32,
        /// The address asked for, or told of.
        target: [u32; 4],
    }
}

header! {
    /// A link-layer address option for Ethernet.
    LinkAddress, 8 {
        /// 1 for the source's, 2 for the target's.
        kind: u8,
        /// In 8 bytes.
        length: u8,
        /// Bytes 0-1 of the MAC.
        mac_a: u16,
        /// Bytes 2-5.
        mac_b: u32,
    }
}

/// Who has `target`?
pub const ND_SOLICITATION: u8 = 135;
/// I have.
pub const ND_ADVERTISEMENT: u8 = 136;
/// The advertisement answers a solicitation (as loaded).
pub const ND_SOLICITED: u32 = u32::from_ne_bytes([0x40, 0, 0, 0]);
/// The advertisement replaces what is cached (as loaded).
pub const ND_OVERRIDE: u32 = u32::from_ne_bytes([0x20, 0, 0, 0]);
/// The option that carries the target's MAC.
pub const ND_TARGET_LINK_ADDRESS: u8 = 2;
