//! IPv4 (RFC 791).

use super::{Be16, header};
use crate::checksum;

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

impl Ipv4 {
    /// The ECN field.
    #[inline(always)]
    pub fn ecn(&self) -> u8 {
        self.tos & ECN_CE
    }

    /// Sets the ECN field to [`ECN_CE`] and mends the checksum.
    #[inline(always)]
    pub fn mark_congested(&mut self) {
        let before = u16::from_le_bytes([self.version_ihl, self.tos]);
        self.tos |= ECN_CE;
        let after = u16::from_le_bytes([self.version_ihl, self.tos]);
        self.checksum = checksum::replace(self.checksum, before, after);
    }

    /// Sets the TTL and mends the checksum.
    #[inline(always)]
    pub fn set_ttl(&mut self, ttl: u8) {
        let before = u16::from_le_bytes([self.ttl, self.protocol]);
        self.ttl = ttl;
        let after = u16::from_le_bytes([self.ttl, self.protocol]);
        self.checksum = checksum::replace(self.checksum, before, after);
    }
}

/// ECN (RFC 3168): the transport does not know of it.
pub const ECN_NOT_ECT: u8 = 0;
/// ECN: congestion experienced. The field's mask, too.
pub const ECN_CE: u8 = 3;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Sum;

    #[test]
    fn a_mark_keeps_the_checksum_right() {
        for id in 0..=u16::MAX {
            for class in [1, 2, 3, 0xfd, 0xfe] {
                let mut ip = Ipv4 { version_ihl: 0x45, tos: class, id: Be16::new(id), ..Ipv4::default() };
                ip.checksum = checksum(&ip);
                ip.mark_congested();
                assert_eq!((ip.tos, ip.ecn()), (class | 3, ECN_CE));
                assert_eq!(ip.checksum.raw(), checksum(&ip).raw(), "id {id}, class {class}");
            }
        }
    }

    #[test]
    fn a_new_ttl_keeps_the_checksum_right() {
        for id in 0..=u16::MAX {
            for ttl in [1, 63, 64, 65, 255] {
                let mut ip = Ipv4 { version_ihl: 0x45, ttl, protocol: 1, id: Be16::new(id), ..Ipv4::default() };
                ip.checksum = checksum(&ip);
                ip.set_ttl(64);
                assert_eq!(ip.ttl, 64);
                assert_eq!(ip.checksum.raw(), checksum(&ip).raw(), "id {id}, TTL {ttl}");
            }
        }
    }

    /// Of a header whose other fields are 0.
    fn checksum(ip: &Ipv4) -> Be16 {
        let first = u16::from_le_bytes([ip.version_ihl, ip.tos]);
        Sum::default().word(first).word(ip.id.raw()).word(u16::from_le_bytes([ip.ttl, ip.protocol])).finish()
    }
}
