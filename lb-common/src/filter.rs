//! What is judged of a TCP packet once its service is known: flags, and what kind of SYN it is.

use crate::{
    abi::VipEvents,
    packet::Packet,
    wire::{Header, TCP_ACK, TCP_FIN, TCP_KIND, TCP_RST, TCP_SYN, Tcp},
};

/// Whether no stack sends these flags together: SYN with FIN or RST, or none of FIN, SYN, RST and ACK.
#[inline(always)]
pub fn bad_flags(flags: u8) -> bool {
    let kind = flags & TCP_KIND;
    kind == 0 || kind & TCP_SYN != 0 && kind & (TCP_FIN | TCP_RST) != 0
}

/// Whether it opens a connection. ECN's flags say nothing about that.
#[inline(always)]
pub fn is_syn(flags: u8) -> bool {
    flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK) == TCP_SYN
}

/// A SYN by its window (zero or open) and its options.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syn {
    /// Window 0, no options: the flood's signature.
    ZeroBare,
    /// Window 0, only padding.
    ZeroPadding,
    /// Window 0, options.
    ZeroOptions,
    /// A window, no options.
    OpenBare,
    /// A window, only padding.
    OpenPadding,
    /// A window and options, as nearly every client sends.
    OpenOptions,
}

/// What options a SYN has, as bits of which a signature may name several.
#[derive(Clone, Copy)]
pub struct Options;

impl Options {
    /// None.
    pub const NONE: u8 = 1 << 0;
    /// Only padding.
    pub const PADDING: u8 = 1 << 1;
    /// Some.
    pub const SOME: u8 = 1 << 2;
}

impl Syn {
    /// The bit of [`Options`] that the kind of a number has. By arithmetic, so that the verifier walks it once.
    #[inline(always)]
    pub fn options(number: u32) -> u8 {
        (0x42_1421_u32 >> ((number & 7) * 4)) as u8 & 7
    }

    /// Stands for no SYN among the numbers. As a mask it is all of them, see [`VipEvents`].
    pub const NONE: u32 = 7;

    /// The kind of a number, if it is one.
    #[inline(always)]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Syn::ZeroBare,
            1 => Syn::ZeroPadding,
            2 => Syn::ZeroOptions,
            3 => Syn::OpenBare,
            4 => Syn::OpenPadding,
            5 => Syn::OpenOptions,
            _ => return None,
        })
    }

    /// Its counter.
    #[inline(always)]
    pub fn counter(self, counts: &mut VipEvents) -> &mut u64 {
        match self {
            Syn::ZeroBare => &mut counts.syn_zero_bare,
            Syn::ZeroPadding => &mut counts.syn_zero_padding,
            Syn::ZeroOptions => &mut counts.syn_zero_options,
            Syn::OpenBare => &mut counts.syn_open_bare,
            Syn::OpenPadding => &mut counts.syn_open_padding,
            Syn::OpenOptions => &mut counts.syn_open_options,
        }
    }
}

/// Options of a TCP header, 4 bytes at a time.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct OptionWord([u16; 2]);

// SAFETY: two integers, aligned to 2, without padding.
unsafe impl Header for OptionWord {}

/// Sorts a SYN whose header of `header_length` bytes begins at `l4`.
#[inline(always)]
pub fn syn<P: Packet>(packet: &P, l4: usize, window: u16, header_length: usize) -> Syn {
    let bare = header_length == size_of::<Tcp>();
    let padding = !bare && only_padding(packet, l4 + size_of::<Tcp>(), header_length - size_of::<Tcp>());
    match (window == 0, bare, padding) {
        (true, true, _) => Syn::ZeroBare,
        (true, _, true) => Syn::ZeroPadding,
        (true, ..) => Syn::ZeroOptions,
        (false, true, _) => Syn::OpenBare,
        (false, _, true) => Syn::OpenPadding,
        (false, ..) => Syn::OpenOptions,
    }
}

/// Whether options hold nothing but NOPs (1), up to the end or an END (0), behind which nothing is read.
#[inline(always)]
fn only_padding<P: Packet>(packet: &P, offset: usize, length: usize) -> bool {
    const NOPS: u32 = 0x0101_0101;
    for word in 0..10 {
        if word * 4 >= length {
            return true;
        }
        let Some(OptionWord([low, high])) = packet.at::<OptionWord>(offset + word * 4) else {
            return false;
        };
        let differs = (*low as u32 | (*high as u32) << 16) ^ NOPS;
        if differs != 0 {
            // The first byte that is no NOP decides: END became 1 by the xor.
            let shift = differs.trailing_zeros() & 24;
            return differs >> shift & 0xff == 1;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_syn_have_the_numbers_that_name_them() {
        let kinds: Vec<_> = (0..7).map(Syn::from_number).collect();
        assert_eq!(kinds.iter().flatten().count(), 6);
        kinds.iter().flatten().zip(0..).for_each(|(kind, number)| assert_eq!(*kind as u32, number));
    }

    #[test]
    fn kinds_of_syn_have_the_options_that_name_them() {
        for (kind, options) in [
            (Syn::ZeroBare, Options::NONE),
            (Syn::ZeroPadding, Options::PADDING),
            (Syn::ZeroOptions, Options::SOME),
            (Syn::OpenBare, Options::NONE),
            (Syn::OpenPadding, Options::PADDING),
            (Syn::OpenOptions, Options::SOME),
        ] {
            assert_eq!(Syn::options(kind as u32), options, "{kind:?}");
        }
    }

    #[test]
    fn flags_that_no_stack_sends() {
        for (flags, bad) in [
            (TCP_SYN, false),
            (TCP_SYN | TCP_ACK, false),
            (TCP_SYN | 0xc0, false),
            (TCP_FIN, false),
            (TCP_RST, false),
            (TCP_RST | TCP_ACK, false),
            (0, true),
            (0xc0, true),
            (0xff, true),
            (TCP_SYN | TCP_FIN, true),
            (TCP_SYN | TCP_RST, true),
        ] {
            assert_eq!(bad_flags(flags), bad, "{flags:#x}");
        }
    }
}
