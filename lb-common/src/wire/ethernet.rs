//! Ethernet II and 802.1Q (IEEE 802.3, 802.1Q).

use super::{Be16, header};

header! {
    /// The header of a frame. A MAC is kept as a 4-byte and a 2-byte part, so that two stores write it.
    Ethernet, 14 {
        /// Bytes 0-3 of the destination.
        destination_a: u32,
        /// Bytes 4 and 5.
        destination_b: u16,
        /// Bytes 0-3 of the source.
        source_a: u32,
        /// Bytes 4 and 5.
        source_b: u16,
        /// What follows.
        ethertype: Be16,
    }
}

header! {
    /// What 802.1Q puts between the source MAC and the ethertype of what follows.
    VlanTag, 4 {
        /// Priority (3 bits), drop eligible (1), VLAN (12).
        control: Be16,
        /// What follows.
        ethertype: Be16,
    }
}

/// IPv4.
pub const ETHERTYPE_IPV4: Be16 = Be16::new(0x0800);
/// ARP.
pub const ETHERTYPE_ARP: Be16 = Be16::new(0x0806);
/// IPv6.
pub const ETHERTYPE_IPV6: Be16 = Be16::new(0x86dd);
/// 802.1Q.
pub const ETHERTYPE_VLAN: Be16 = Be16::new(0x8100);
/// 802.1ad.
pub const ETHERTYPE_SERVICE_VLAN: Be16 = Be16::new(0x88a8);

impl Ethernet {
    /// The destination as [`crate::abi::mac_bits`].
    #[inline(always)]
    pub fn destination(&self) -> u64 {
        self.destination_a as u64 | (self.destination_b as u64) << 32
    }

    /// The source as [`crate::abi::mac_bits`].
    #[inline(always)]
    pub fn source(&self) -> u64 {
        self.source_a as u64 | (self.source_b as u64) << 32
    }

    /// Writes the destination; bits above 47 are ignored.
    #[inline(always)]
    pub fn set_destination(&mut self, mac: u64) {
        self.destination_a = mac as u32;
        self.destination_b = (mac >> 32) as u16;
    }

    /// Writes the source; bits above 47 are ignored.
    #[inline(always)]
    pub fn set_source(&mut self, mac: u64) {
        self.source_a = mac as u32;
        self.source_b = (mac >> 32) as u16;
    }
}

/// Whether a MAC is a group's (multicast or broadcast).
#[inline(always)]
pub const fn is_group(mac: u64) -> bool {
    mac & 1 != 0
}

/// The broadcast MAC.
pub const BROADCAST: u64 = 0xffff_ffff_ffff;
