//! ARP for IPv4 over Ethernet (RFC 826).

use super::{Be16, header};

header! {
    /// A whole ARP packet.
    Arp, 28 {
        /// 1 for Ethernet.
        hardware: Be16,
        /// 0x0800 for IPv4.
        protocol: Be16,
        /// 6 in the first byte, 4 in the second.
        lengths: Be16,
        /// [`ARP_REQUEST`] or [`ARP_REPLY`].
        operation: Be16,
        /// Bytes 0-3 of the sender's MAC.
        sender_mac_a: u32,
        /// Bytes 4 and 5.
        sender_mac_b: u16,
        /// The sender's address.
        sender: u32,
        /// Bytes 0-3 of the target's MAC.
        target_mac_a: u32,
        /// Bytes 4 and 5.
        target_mac_b: u16,
        /// The address asked for.
        target: u32,
    }
}

/// Who has `target`?
pub const ARP_REQUEST: Be16 = Be16::new(1);
/// I have.
pub const ARP_REPLY: Be16 = Be16::new(2);
