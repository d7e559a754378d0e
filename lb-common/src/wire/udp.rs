//! UDP (RFC 768).

use super::{Be16, header};

header! {
    /// The header.
    Udp, 8 {
        /// Source port in the lower half, destination port in the upper, as loaded.
        ports: u32,
        /// Header and data, bytes.
        length: Be16,
        /// Over header, data and a pseudo header; 0 for none over IPv4.
        checksum: Be16,
    }
}
