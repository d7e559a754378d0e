//! TCP (RFC 9293).

use super::{Be16, header};

header! {
    /// The header without options.
    Tcp, 20 {
        /// Source port in the lower half, destination port in the upper, as loaded.
        ports: u32,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
        /// Header length in 4-byte words in the upper half; reserved bits and AE in the lower.
        offset: u8,
        /// `TCP_*` bits.
        flags: u8,
        /// Receive window.
        window: Be16,
        /// Over header, data and a pseudo header.
        checksum: Be16,
        /// Urgent pointer.
        urgent: Be16,
    }
}

impl Tcp {
    /// Header length in bytes, as the packet claims it.
    #[inline(always)]
    pub fn header_length(&self) -> usize {
        (self.offset >> 4) as usize * 4
    }
}

/// No more data.
pub const TCP_FIN: u8 = 1 << 0;
/// Open.
pub const TCP_SYN: u8 = 1 << 1;
/// Reset.
pub const TCP_RST: u8 = 1 << 2;
/// Push.
pub const TCP_PSH: u8 = 1 << 3;
/// Acknowledges.
pub const TCP_ACK: u8 = 1 << 4;
/// Urgent.
pub const TCP_URG: u8 = 1 << 5;
/// The flags that tell what a packet is for; ECN's and the others say nothing about that.
pub const TCP_KIND: u8 = TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK;
