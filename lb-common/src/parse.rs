//! From bytes to what the path judges by: the link layer and IPv6's extension headers.

use crate::{
    abi::Interface,
    packet::Packet,
    verdict::Verdict,
    wire::{
        Be16, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, Ethernet, Extension, FRAGMENT_NOT_WHOLE, FRAGMENT_OFFSET, Ipv6,
        NEXT_AUTHENTICATION, NEXT_DESTINATION, NEXT_FRAGMENT, NEXT_HOP_BY_HOP, NEXT_MOBILITY, NEXT_ROUTING, VlanTag,
        is_group,
    },
};

/// Where the network header begins and what it is.
#[derive(Clone, Copy)]
pub struct Link {
    /// Bytes before the network header: 14, 18 or 22.
    pub l3: usize,
    /// Of what follows the tags.
    pub ethertype: Be16,
    /// The frame is addressed to this interface; otherwise to a group.
    pub ours: bool,
}

/// Reads the Ethernet header and up to two VLAN tags.
#[inline(always)]
pub fn link<P: Packet>(packet: &P, interface: &Interface, zero: u64) -> Result<Link, Verdict> {
    let Some(ethernet) = packet.at::<Ethernet>(0) else {
        return Err(Verdict::ShortFrame);
    };
    let destination = ethernet.destination();
    let ours = interface.owns(destination);
    if !ours && !is_group(destination) {
        return Err(Verdict::NotOurs);
    }
    let (l3, ethertype) = tags(packet, ethernet.ethertype)?;
    Ok(Link { l3: forget(l3, zero, 31), ethertype, ours })
}

/// Walks up to two tags: where the network header begins, and what it is.
#[inline(always)]
pub fn tags<P: Packet>(packet: &P, mut ethertype: Be16) -> Result<(usize, Be16), Verdict> {
    let mut l3 = size_of::<Ethernet>();
    for _ in 0..2 {
        if !is_tag(ethertype) {
            break;
        }
        let tag = packet.at::<VlanTag>(l3).ok_or(Verdict::ShortFrame)?;
        ethertype = tag.ethertype;
        l3 += size_of::<VlanTag>();
    }
    if is_tag(ethertype) { Err(Verdict::NotIp) } else { Ok((l3, ethertype)) }
}

#[inline(always)]
fn is_tag(ethertype: Be16) -> bool {
    ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_SERVICE_VLAN
}

/// The same number, of which the verifier no longer knows more than that it is at most `mask`.
#[inline(always)]
pub(crate) fn forget(number: usize, zero: u64, mask: usize) -> usize {
    (number + zero as usize) & mask
}

/// How many extension headers are walked; a longer chain is malformed.
pub const MAX_EXTENSIONS: usize = 8;
/// How many bytes they may take together, the fixed header included; a longer chain is malformed.
pub const MAX_EXTENSION_BYTES: usize = 2048;

/// What follows IPv6's fixed header, extension headers walked.
#[derive(Clone, Copy)]
pub struct Upper {
    /// The first header that is no extension.
    pub protocol: u8,
    /// Where it begins, from the beginning of the IPv6 header.
    pub offset: usize,
    /// The fragment header's word: 0 for a whole packet.
    fragment: u16,
    /// The fragment header's identification, as loaded.
    pub id: u32,
}

impl Upper {
    /// The packet is a fragment of a larger one.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.fragment & FRAGMENT_NOT_WHOLE.raw() != 0
    }

    /// It is one, and not the first: `offset` is where data begin.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment & FRAGMENT_OFFSET.raw() != 0
    }
}

/// Walks extension headers to the upper layer. `l3` is where the IPv6 header begins, `first` its next header and `end`
/// where the packet ends, counted from `l3`.
///
/// `None` if the chain contradicts itself, ends early, is longer than [`MAX_EXTENSIONS`] or [`MAX_EXTENSION_BYTES`], or
/// holds a routing header of type 0 (RFC 5095). What stands behind the header of a later fragment is data and not walked.
#[inline(always)]
pub fn extensions<P: Packet>(packet: &P, l3: usize, first: u8, end: usize, zero: u64) -> Option<Upper> {
    let offset = forget(size_of::<Ipv6>(), zero, 2 * MAX_EXTENSION_BYTES - 1);
    let mut upper = Upper { protocol: first, offset, fragment: 0, id: 0 };
    for walked in 0..=MAX_EXTENSIONS {
        let kind = upper.protocol;
        if !is_extension(kind) {
            return Some(upper);
        }
        if walked == MAX_EXTENSIONS {
            break;
        }
        let header = packet.at::<Extension>(l3 + upper.offset)?;
        upper.protocol = header.next_header;
        upper.offset += match kind {
            NEXT_AUTHENTICATION => header.length as usize * 4 + 8,
            NEXT_FRAGMENT => size_of::<Extension>(),
            _ => header.length as usize * 8 + 8,
        };
        let detail = header.detail.raw();
        if kind == NEXT_FRAGMENT {
            upper.fragment |= detail;
            upper.id = header.data;
        }
        // The type is the first byte on the wire.
        if kind == NEXT_ROUTING && detail as u8 == 0 || upper.offset > end || upper.offset > MAX_EXTENSION_BYTES {
            return None;
        }
        if kind == NEXT_FRAGMENT && detail & FRAGMENT_OFFSET.raw() != 0 {
            return Some(upper);
        }
        // Whichever header it was, the verifier goes on in one way.
        upper.offset = forget(upper.offset, zero, 2 * MAX_EXTENSION_BYTES - 1);
        upper.fragment = forget(upper.fragment as usize, zero, 0xffff) as u16;
        upper.id = forget(upper.id as usize, zero, 0xffff_ffff) as u32;
    }
    None
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        NEXT_HOP_BY_HOP | NEXT_ROUTING | NEXT_FRAGMENT | NEXT_AUTHENTICATION | NEXT_DESTINATION | NEXT_MOBILITY
    )
}
