use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use proptest::prelude::*;

type Key = (Address, Match);

fn tcp(version: u32, port: u32) -> Match {
    Match::port(version, 6, (port as u16).to_be())
}

/// Each address with a port, and bare.
fn services(version: u32, addresses: impl Iterator<Item = Address>) -> Vec<Key> {
    addresses.flat_map(|address| [(address, tcp(version, 443)), (address, Match::address(version))]).collect()
}

fn run4(count: u32) -> Vec<Key> {
    services(4, (0..count).map(|n| Ipv4Addr::from_bits(0xc000_0200 + n).into()))
}

fn run6(count: u32) -> Vec<Key> {
    services(6, (0..count).map(|n| Ipv6Addr::from_bits((0x2001_0db8 << 96) + n as u128).into()))
}

fn scattered4(count: u32) -> Vec<Key> {
    services(4, (0..count).map(|n| Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761)).into()))
}

fn scattered6(count: u32) -> Vec<Key> {
    services(6, (0..count as u64).map(|n| Ipv6Addr::from_bits((mix(n) as u128) << 64 | mix(!n) as u128).into()))
}

fn ports(count: u32) -> Vec<Key> {
    let address = Address::from(Ipv4Addr::new(192, 0, 2, 1));
    (0..count).map(|port| (address, tcp(4, port))).collect()
}

/// Puts the keys where they belong and looks each up as the kernel does.
fn look_up(keys: &[Key], placement: &Placement) {
    let mut table = vec![None; SERVICE_POSITIONS as usize];
    for (key, &position) in core::iter::zip(keys, &placement.positions) {
        assert_eq!(table[position as usize].replace(*key), None, "two keys at {position}");
    }
    for key in keys {
        let hash = whole_key(&key.0, key.1, placement.seed);
        let displacement = placement.displacements[bucket(hash, key.1) as usize];
        let found = position(hash, displacement, key.1);
        assert_eq!(table[found as usize], Some(*key));
        assert_eq!(found >= SERVICE_POSITIONS / 2, key.1.is_address(), "bare addresses lie apart");
    }
}

#[test]
fn full_configurations_fit() {
    let cases = [
        ("sequential v4", run4(4096)),
        ("sequential v6", run6(4096)),
        ("scattered v4", scattered4(4096)),
        ("scattered v6", scattered6(4096)),
        ("both families", [run4(2048), run6(2048)].concat()),
    ];
    for (name, keys) in cases {
        assert_eq!(keys.len(), 8192, "{name}");
        let placement = place(&keys).expect(name);
        let tried = 1 + (0..SEEDS).position(|n| seed(n) == placement.seed).expect("one of them");
        assert!(tried <= 32, "{name}: {tried} seeds tried of {SEEDS}");
        look_up(&keys, &placement);
    }
    let address = |n: u32| Address::from(Ipv4Addr::from_bits(0xc000_0200 + n));
    let bare = |step: u32, count: u32| (0..count).map(move |n| (address(n * step), Match::address(4)));
    let mixed = [
        (
            "all ports",
            (0..4096)
                .map(|n| (address(n / 2), Match::all_ports(4, if n % 2 == 0 { 6 } else { 17 })))
                .collect::<Vec<_>>(),
            bare(1, 2048),
        ),
        ("16 ports", (0..4096).map(|n| (address(n / 16), tcp(4, 8000 + n % 16))).collect(), bare(1, 256)),
        ("networks", (0..4096).map(|n| (address(n * 256), tcp(4, 443))).collect(), bare(256, 4096)),
    ];
    for (name, ports, bare) in mixed {
        let keys: Vec<Key> = ports.into_iter().chain(bare).collect();
        look_up(&keys, &place(&keys).expect(name));
    }
    let keys = ports(4096);
    look_up(&keys, &place(&keys).expect("the ports of one address"));
}

#[test]
fn nothing_fits_at_once() {
    let displacements = vec![0; DISPLACEMENTS as usize];
    assert_eq!(place(&[]), Ok(Placement { seed: seed(0), displacements, positions: vec![] }));
}

#[test]
fn a_duplicate_is_named() {
    let mut keys = run4(8);
    keys[11] = keys[3];
    let error = place(&keys).expect_err("a duplicate");
    assert_eq!(error, PlaceError::Duplicate(3, 11));
    assert_eq!(error.to_string(), "service keys 3 and 11 are the same: remove one");
}

#[test]
fn too_many_keys_are_refused() {
    let count = SERVICE_POSITIONS / 2 + 1;
    let error = place(&ports(count)).expect_err("too many");
    assert_eq!(error, PlaceError::NoSeed(count as usize));
    assert_eq!(error.to_string(), "4097 service keys: no room for all in the table: remove some");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_order_of_keys_changes_nothing(
        (keys, shuffled) in prop::collection::btree_set(any::<(u32, u16, bool)>(), 1..2000).prop_flat_map(|keys| {
            let keys: Vec<Key> = keys
                .into_iter()
                .map(|(address, port, six)| match six {
                    true => (Address([0xb80d_0120, 0, 0, address]), tcp(6, port.into())),
                    false => (Address([0, 0, 0, address]), tcp(4, port.into())),
                })
                .collect();
            (Just(keys.clone()), Just(keys).prop_shuffle())
        }),
    ) {
        let (straight, other) = (place(&keys).expect("few keys"), place(&shuffled).expect("few keys"));
        look_up(&keys, &straight);
        prop_assert_eq!(straight.seed, other.seed);
        let pairs = |keys: &[Key], placement: &Placement| {
            let mut pairs: Vec<_> = keys.iter().copied().zip(placement.positions.iter().copied()).collect();
            pairs.sort();
            pairs
        };
        prop_assert_eq!(pairs(&keys, &straight), pairs(&shuffled, &other));
    }
}
