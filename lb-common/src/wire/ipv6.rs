//! IPv6 and the extension headers that are walked (RFC 8200, 4302).

use super::{Be16, ECN_CE, header};

header! {
    /// The fixed header. Addresses are words as loaded.
    Ipv6, 40 {
        /// Version (4 bits), traffic class (8), flow label (20), as loaded.
        version_class_flow: u32,
        /// What follows the fixed header, bytes.
        payload_length: Be16,
        /// What follows.
        next_header: u8,
        /// Hops left.
        hop_limit: u8,
        /// Who sent it.
        source: [u32; 4],
        /// Who gets it.
        destination: [u32; 4],
    }
}

impl Ipv6 {
    /// The IP version.
    #[inline(always)]
    pub fn version(&self) -> u32 {
        // The first byte on the wire is the lowest when loaded by a little-endian host.
        self.version_class_flow >> 4 & 0xf
    }

    /// The ECN field, the lower end of the traffic class.
    #[inline(always)]
    pub fn ecn(&self) -> u8 {
        (self.version_class_flow >> ECN_SHIFT) as u8 & ECN_CE
    }

    /// Sets the ECN field to [`ECN_CE`]; no checksum covers it.
    #[inline(always)]
    pub fn mark_congested(&mut self) {
        self.version_class_flow |= (ECN_CE as u32) << ECN_SHIFT;
    }
}

/// Where ECN is in the first word as a little-endian host loads it: in the second byte, above the flow label.
const ECN_SHIFT: u32 = 12;

header! {
    /// How every extension header begins; none is shorter.
    Extension, 8 {
        /// What follows.
        next_header: u8,
        /// Length: in 8 bytes and less one; for AH in 4 bytes and less two; none for the fragment header.
        length: u8,
        /// Of a fragment header: offset in 8-byte units (13 bits), two reserved, more fragments (1). Of a routing header:
        /// type and segments left. Data in others.
        detail: Be16,
        /// Of a fragment header: identification. Data in others.
        data: u32,
    }
}

/// Of a fragment header: the packet is not whole.
pub const FRAGMENT_NOT_WHOLE: Be16 = Be16::new(0xfff9);
/// Of a fragment header: the packet is not the first fragment.
pub const FRAGMENT_OFFSET: Be16 = Be16::new(0xfff8);

/// Hop-by-hop options.
pub const NEXT_HOP_BY_HOP: u8 = 0;
/// Routing.
pub const NEXT_ROUTING: u8 = 43;
/// Fragment.
pub const NEXT_FRAGMENT: u8 = 44;
/// Authentication.
pub const NEXT_AUTHENTICATION: u8 = 51;
/// ICMPv6.
pub const NEXT_ICMPV6: u8 = 58;
/// Destination options.
pub const NEXT_DESTINATION: u8 = 60;
/// Mobility.
pub const NEXT_MOBILITY: u8 = 135;
