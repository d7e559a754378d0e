use std::{boxed::Box, net::Ipv4Addr};

use super::*;
use crate::abi::{Address, mac_bits};

const NEXT: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn live() -> Box<Live> {
    // SAFETY: integers alone, for which zeros are valid; allocated, since it is too large for a stack.
    let mut live = unsafe { Box::<Live>::new_zeroed().assume_init() };
    live.interfaces[1].mac = mac_bits(OWN);
    live.interfaces[1].index = 7;
    live.active.half = 1;
    live.halves[1].settings.tunnel_source4 = u32::from_ne_bytes([10, 0, 0, 1]);
    live.backends[5] = Backend {
        next_hop: NextHop::resolved(NEXT),
        address: Address::from(Ipv4Addr::new(10, 0, 0, 11)),
        interface: 1,
        vlan: 10,
        encapsulation: Encapsulation::L2 as u8,
        ..Backend::default()
    };
    live
}

fn inner() -> Inner {
    Inner { version: 4, length: 60, class: 0, flow_label: 0 }
}

/// A header as it lies in memory.
fn bytes<H: crate::wire::Header, const N: usize>(header: H) -> [u32; N] {
    assert_eq!(size_of::<H>(), 4 * N);
    // SAFETY: a header is plain bytes, as many as are read.
    unsafe { (&raw const header).cast::<[u32; N]>().read_unaligned() }
}

#[test]
fn a_mark_names_a_backend() {
    assert!(is_steered(mark(0)) && is_steered(mark(u16::MAX)));
    assert!(!is_steered(0) && !is_steered(5) && !is_steered(MARK ^ 1 << 16));
    let live = live();
    let steered = steer(&live, mark(5)).unwrap();
    assert_eq!((steered.interface, steered.vlan), (7, 10));
    let bytes: [u8; 12] = core::array::from_fn(|at| steered.macs.0[at / 4].to_ne_bytes()[at % 4]);
    assert_eq!((&bytes[..6], &bytes[6..]), (&NEXT[..], &OWN[..]));
    assert!(steered.outer(inner(), mark(5)).is_none());
}

#[test]
fn tunnels_begin_at_the_live_source_and_end_at_the_backend() {
    let mut live = live();
    live.backends[5].encapsulation = Encapsulation::Ip4 as u8;
    let steered = steer(&live, mark(5)).unwrap();
    let outer4 = rewrite::outer4(inner(), u32::from_ne_bytes([10, 0, 0, 1]), u32::from_ne_bytes([10, 0, 0, 11]));
    assert_eq!(steered.outer(inner(), mark(5)), Some(Outer::Ip4(Aligned(bytes(outer4)))));
    live.backends[5].encapsulation = Encapsulation::Ip6 as u8;
    let outer = steer(&live, mark(5)).unwrap().outer(inner(), mark(5));
    let Some(Outer::Ip6(Aligned(words))) = outer else { panic!("{outer:?}") };
    let address = Address::from(Ipv4Addr::new(10, 0, 0, 11)).0;
    let outer6 = rewrite::outer6(inner(), mark(5).wrapping_mul(0x9e37_79b9), [0; 4], address);
    assert_eq!(words, bytes(outer6));
}

#[test]
fn without_a_next_hop_there_is_no_way() {
    let mut live = live();
    live.backends[6] = Backend { next_hop: NextHop(NextHop::LOCAL), ..live.backends[5] };
    live.backends[7] = Backend { next_hop: NextHop::default(), ..live.backends[5] };
    for number in [6, 7, u16::MAX] {
        assert!(steer(&live, mark(number)).is_none(), "{number}");
    }
}
