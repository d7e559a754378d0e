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

impl Icmp {
    /// Kind and code as the checksum sums them.
    #[inline(always)]
    pub fn first_word(&self) -> u16 {
        u16::from_le_bytes([self.kind, self.code])
    }
}

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
