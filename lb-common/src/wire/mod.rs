//! Headers as they lie on the wire, one file a protocol.
//!
//! Every header is `#[repr(C, packed(2))]` with plain fields: 2 bytes is the true alignment behind an Ethernet
//! header. Numbers of two bytes are [`Be16`], so that the byte order is in the type; longer
//! ones are only compared, hashed and copied, and kept as loaded.

mod arp;
mod ethernet;
mod icmp;
mod ipv4;
mod ipv6;
mod tcp;
mod udp;

pub use arp::*;
pub use ethernet::*;
pub use icmp::*;
pub use ipv4::*;
pub use ipv6::*;
pub use tcp::*;
pub use udp::*;

/// A header that may be read from, and written to, any two-byte-aligned place in a frame.
///
/// # Safety
/// Any bit pattern must be a valid value, without padding, and the alignment at most 2.
pub unsafe trait Header: Copy {}

/// A 16-bit number in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Be16(u16);

impl Be16 {
    /// From the host's order.
    #[inline(always)]
    pub const fn new(value: u16) -> Self {
        Be16(value.to_be())
    }

    /// In the host's order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// As it was loaded, unswapped: for comparing, hashing and checksums.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// From an unswapped word.
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Be16(raw)
    }
}

/// Declares a wire header, asserts its size and makes it a [`Header`].
macro_rules! header {
    ($(#[$doc:meta])* $name:ident, $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[repr(C, packed(2))]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $size);

        // SAFETY: integers alone, packed to 2; the size assertion beside it shows that none is missing.
        unsafe impl $crate::wire::Header for $name {}
    };
}
pub(crate) use header;

header! {
    /// Two bytes of any header.
    Word, 2 {
        /// As they stand there.
        bytes: [u8; 2],
    }
}

header! {
    /// Four bytes of any header.
    Words, 4 {
        /// As loaded.
        words: u32,
    }
}

header! {
    /// Eight bytes of any header.
    LongWords, 8 {
        /// As loaded.
        words: u64,
    }
}

header! {
    /// What TCP and UDP begin with, and all of them that an ICMP error must quote.
    Ports, 4 {
        /// Source port in the lower half, destination port in the upper, as loaded.
        ports: u32,
    }
}

// SAFETY: integers alone, packed to 2, size asserted where it is declared.
unsafe impl Header for crate::abi::Explanation {}
