use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const TCP: u8 = 6;
const UDP: u8 = 17;

fn keys() -> impl Iterator<Item = [u32; 12]> {
    (0..32u64).map(|n| expand_key((mix(n + 1) as u128 | (mix(n + 99) as u128) << 64).to_le_bytes()))
}

fn v4(bits: u32) -> u32 {
    Address::from(Ipv4Addr::from_bits(bits)).0[3]
}

fn v6(bits: u128) -> [u32; 4] {
    Address::from(Ipv6Addr::from_bits(bits)).0
}

fn ports(source: u16, destination: u16) -> u32 {
    source.to_be() as u32 | (destination.to_be() as u32) << 16
}

/// How far a histogram is from even, in standard deviations of chi-square: -4..4 for chance.
fn unevenness(cells: usize, hits: impl Iterator<Item = usize>) -> f64 {
    let mut histogram = vec![0u32; cells];
    let total = hits.map(|cell| histogram[cell] += 1).count();
    let expected = total as f64 / cells as f64;
    let chi: f64 = histogram.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum();
    let freedom = cells as f64 - 1.0;
    (chi - freedom) / (2.0 * freedom).sqrt()
}

/// Asserts that every bit of the input turns every bit of the output in half of all cases.
fn avalanches(what: &str, outputs: u32, inputs: u32, hash: impl Fn(usize, Option<u32>) -> u64) {
    const TRIALS: usize = 4096;
    for input in 0..inputs {
        let mut turned = [0usize; 64];
        for trial in 0..TRIALS {
            let difference = hash(trial, None) ^ hash(trial, Some(input));
            (0..outputs).for_each(|bit| turned[bit as usize] += (difference >> bit & 1) as usize);
        }
        for (bit, &count) in turned[..outputs as usize].iter().enumerate() {
            let share = count as f64 / TRIALS as f64;
            assert!((share - 0.5).abs() < 0.05, "{what}: input bit {input} turns output bit {bit} in {share}");
        }
    }
}

fn words<const N: usize>(trial: usize, turned: Option<u32>) -> [u32; N] {
    let mut words = core::array::from_fn(|i| mix((trial * N + i) as u64 + 7) as u32);
    if let Some(bit) = turned {
        words[bit as usize / 32] ^= 1 << (bit % 32);
    }
    words
}

#[test]
fn flow_hash_fills_slots_evenly() {
    let (source, destination) = (v4(0xc633_6401), v4(0xc000_020a));
    let (source_6, destination_6) = (v6(0x2001_0db8_0001 << 80 | 1), v6(0x2001_0db8 << 96 | 0x53));
    for key in keys() {
        let cases: [(&str, &dyn Fn(u32) -> u32); 12] = [
            ("ports", &|n| flow4(&key, source, destination, ports(1024 + n as u16, 80), 6)),
            ("even ports", &|n| flow4(&key, source, destination, ports(2 * n as u16, 80), 6)),
            ("own ports", &|n| flow4(&key, source, destination, ports(40_000, n as u16), 6)),
            ("sources", &|n| flow4(&key, v4(0x0a00_0000 + n), destination, ports(40_000, 80), 6)),
            ("networks", &|n| flow4(&key, v4(0x0a00_0001 + (n << 8)), destination, ports(40_000, 80), 6)),
            ("both", &|n| flow4(&key, v4(0x0a00_0000 + n % 256), destination, ports(1024 + n as u16 / 256, 80), 6)),
            ("destinations", &|n| flow4(&key, source, v4(0xc000_0000 + n), 0, 17)),
            ("sources alone", &|n| source4(&key, v4(0x0a00_0000 + n))),
            ("ports, v6", &|n| flow6(&key, source_6, destination_6, ports(1024 + n as u16, 80), 6)),
            ("hosts, v6", &|n| flow6(&key, v6(0x2001_0db8 << 96 | n as u128), destination_6, ports(40_000, 80), 6)),
            ("networks, v6", &|n| flow6(&key, v6((0x2001_0db8_0000 + n as u128) << 80 | 1), destination_6, 0, 17)),
            ("networks alone, v6", &|n| source6(&key, v6((0x2001_0db8_0000 + n as u128) << 80 | 1))),
        ];
        for (name, hash) in cases {
            // The low bits take the slot; the high ones tell a tunnel's source.
            for (cells, shift) in [(1024, 0), (4096, 0), (256, 8), (1024, 22)] {
                let hits = (0..16_384).map(|n| (hash(n) >> shift) as usize % cells);
                let z = unevenness(cells, hits);
                assert!(z < 6.0, "{name}: {z:.1} deviations over {cells} cells from bit {shift}");
            }
        }
    }
}

#[test]
fn flow_hash_avalanches() {
    let keys: Vec<_> = keys().collect();
    let key = |trial: usize| &keys[trial % keys.len()];
    avalanches("flow4", 32, 128, |trial, turned| {
        let [source, destination, ports, protocol] = words(trial, turned);
        flow4(key(trial), source, destination, ports, protocol) as u64
    });
    avalanches("flow6", 32, 320, |trial, turned| {
        let [s0, s1, s2, s3, d0, d1, d2, d3, ports, protocol] = words(trial, turned);
        flow6(key(trial), [s0, s1, s2, s3], [d0, d1, d2, d3], ports, protocol) as u64
    });
    avalanches("source6", 32, 128, |trial, turned| source6(key(trial), words(trial, turned)) as u64);
}

#[test]
fn flow_hash_depends_on_the_key() {
    let hashes: HashSet<_> = keys().map(|key| flow4(&key, 1, 2, 3, 6)).collect();
    assert_eq!(hashes.len(), 32);
}

#[test]
fn key_words_depend_on_every_byte() {
    // Each two words come from one 64-bit hash.
    for pair in [0, 3, 5] {
        avalanches("expand_key", 64, 128, |trial, turned| {
            let [a, b, c, d] = words(trial, turned).map(u128::from);
            let key = expand_key((a | b << 32 | c << 64 | d << 96).to_le_bytes());
            join(key[2 * pair], key[2 * pair + 1])
        });
    }
    let all: HashSet<_> = keys().flatten().collect();
    assert_eq!(all.len(), 32 * 12);
}

#[test]
fn mix_avalanches() {
    avalanches("mix", 64, 64, |trial, turned| mix(mix(trial as u64 + 1) ^ turned.map_or(0, |bit| 1 << bit)));
}

/// What configurations hold: runs of addresses, with one port or several, TCP and UDP.
fn vip_keys() -> Vec<(&'static str, Vec<(Address, Match)>)> {
    let four = |n: u32| Address::from(Ipv4Addr::from_bits(0xc000_0200 + n));
    let six = |n: u128| Address::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n));
    let port = |version, protocol, port: u32| Match::port(version, protocol, (port as u16).to_be());
    vec![
        ("v4 run", (0..4096).map(|n| (four(n), port(4, TCP, 80))).collect()),
        ("v4 ports", (0..4096).map(|n| (four(0), port(4, TCP, n))).collect()),
        ("v4 both", (0..4096).map(|n| (four(n / 16), port(4, UDP, 8000 + n % 16))).collect()),
        ("v4 bare", (0..4096).map(|n| (four(n), Match::address(4))).collect()),
        ("v6 run", (0..4096).map(|n| (six(n), port(6, TCP, 80))).collect()),
        ("v6 networks", (0..4096).map(|n| (six((n << 64) + 1), port(6, UDP, 53))).collect()),
        ("v6 ports", (0..4096).map(|n| (six(1), port(6, TCP, n))).collect()),
        ("v6 both", (0..4096).map(|n| (six(n as u128 / 16), port(6, TCP, 8000 + n % 16))).collect()),
    ]
}

#[test]
fn keys_meet_as_seldom_as_by_chance() {
    for (name, keys) in vip_keys() {
        let meet = |seed: u64| {
            let mut buckets = vec![0u64; DISPLACEMENTS as usize];
            keys.iter().for_each(|(address, matches)| {
                buckets[bucket(whole_key(address, *matches, seed), *matches) as usize] += 1
            });
            buckets.iter().map(|keys| keys * keys.saturating_sub(1) / 2).sum::<u64>()
        };
        // 4,096 keys in 2,048 buckets: 4,095 pairs by chance, twice that at most on average.
        let pairs = (1..65).map(|seed| meet(mix(seed) | 1)).sum::<u64>() / 64;
        assert!(pairs < 8_200, "{name}: {pairs} pairs of keys in the same bucket");
    }
}

#[test]
fn distinct_keys_seldom_share_a_hash() {
    let keys: Vec<_> = vip_keys().into_iter().flat_map(|(_, keys)| keys).collect::<HashSet<_>>().into_iter().collect();
    for seed in (1..17).map(|seed| mix(seed) | 1) {
        let hashes: HashSet<_> = keys.iter().map(|(address, matches)| whole_key(address, *matches, seed)).collect();
        assert_eq!(hashes.len(), keys.len());
    }
}

#[test]
fn the_family_is_part_of_the_key() {
    let mapped = Address::from(Ipv6Addr::from_bits(0xc000_020a));
    let plain = Address::from(Ipv4Addr::from_bits(0xc000_020a));
    assert_eq!(mapped, plain);
    assert_ne!(whole_key(&mapped, Match::address(6), 1), whole_key(&plain, Match::address(4), 1));
}

// A change of any value below moves every flow of whoever upgrades: siblings on two versions would disagree.

#[test]
fn flow_hash_keeps_its_values() {
    let key = expand_key(*b"an example's key");
    assert_eq!(
        key,
        [
            6591952, 3847811476, 1340691284, 42911667, 1465503934, 1853957022, 739623319, 1550037076, 1218904718,
            1107276699, 3835681768, 915156184
        ]
    );
    let (source, destination) = (v4(0xc633_6401), v4(0xc000_020a));
    let (source_6, destination_6) = (v6(0x2001_0db8_0001 << 80 | 1), v6(0x2001_0db8 << 96 | 0x53));
    let found = [
        flow4(&key, source, destination, ports(40_000, 80), 6),
        flow6(&key, source_6, destination_6, ports(40_000, 53), 17),
        source4(&key, source),
        source6(&key, source_6),
    ];
    assert_eq!(found, [2229849243, 1341537249, 3995464790, 2029101537]);
}

#[test]
fn mix_keeps_its_values() {
    assert_eq!([0, 1, u64::MAX].map(mix), [0, 10796825641454507280, 14261978693562024358]);
}

#[test]
fn few_other_addresses_fall_where_a_vip_does() {
    let four = |n: u32| key_vip_place(&Ipv4Addr::from_bits(0xc000_0200 + n).into(), Match::address(4));
    let six = |n: u128| key_vip_place(&Ipv6Addr::from_bits((0x2001_0db8 << 96) + n).into(), Match::address(6));
    let vips: HashSet<_> = (0..1024).flat_map(|n| [four(n), six(n as u128)]).collect();
    let others = (1024..9216).flat_map(|n| [four(n), six(n as u128)]);
    // 2,048 places of 32,768 are one in 16 by chance; one multiplication spreads runs of addresses less well than chance.
    let taken = others.filter(|place| vips.contains(place)).count();
    assert!(taken < 16_384 / 4, "{taken} of 16,384");
}
