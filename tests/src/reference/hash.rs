//! The flow hash: NH of UMAC over little-endian words, and a finaliser. In numbers that cannot overflow, reduced where
//! the definition says so.

use std::net::IpAddr;

use super::{Flow, network::Network};

const TWO_32: u128 = 1 << 32;
const TWO_64: u128 = 1 << 64;
/// Fractions of the square roots of 3 and 7, as the hash of 512 bits begins with them (FIPS 180-4, 5.3.5).
const ROOT_3: u128 = 0xbb67_ae85_84ca_a73b;
const ROOT_7: u128 = 0xa54f_f53a_5f1d_36f1;
/// The fraction of the golden ratio, made odd.
const GOLDEN: u128 = 0x9e37_79b9_7f4a_7c15;

/// The twelve words of a key: for each pair, the next multiple of the golden ratio is added to the lower half of the
/// configured bytes and mixed, then mixed again with the upper half.
pub fn expand(key: &[u8; 16]) -> [u32; 12] {
    let number = u128::from_le_bytes(*key);
    let (low, high) = (number % TWO_64, number / TWO_64);
    let mut words = [0; 12];
    for pair in 0..6 {
        let bits = mix(mix((low + (pair as u128 + 1) * GOLDEN) % TWO_64) ^ high);
        words[2 * pair] = (bits % TWO_32) as u32;
        words[2 * pair + 1] = (bits / TWO_32) as u32;
    }
    words
}

/// Two rounds of: xor with what lies higher, multiply. And a last xor.
fn mix(bits: u128) -> u128 {
    let bits = (bits ^ bits >> 32) * ROOT_3 % TWO_64;
    let bits = (bits ^ bits >> 29) * ROOT_7 % TWO_64;
    bits ^ bits >> 32
}

/// The hash of a flow: addresses, both ports in the order of the packet, protocol.
pub fn flow(key: &[u32; 12], flow: &Flow) -> u32 {
    let [a, b] = flow.client_port.to_be_bytes();
    let [c, d] = flow.vip_port.to_be_bytes();
    finish(both(key, flow.client, flow.vip, u32::from_le_bytes([a, b, c, d]), flow.protocol))
}

/// The hash of a datagram: the same sum with the identification in place of the ports, mixed as a key is.
pub fn datagram(key: &[u32; 12], network: &Network) -> u64 {
    mix(both(key, network.source, network.destination, network.identification, network.protocol)) as u64
}

fn both(key: &[u32; 12], source: IpAddr, destination: IpAddr, number: u32, protocol: u8) -> u128 {
    let protocol = u32::from(protocol);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let addresses = [source, destination].map(|address| u32::from_le_bytes(address.octets()));
            nh(key, &[addresses[0], addresses[1], number, protocol])
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut words = [0; 10];
            words[..4].copy_from_slice(&words6(source));
            words[4..8].copy_from_slice(&words6(destination));
            words[8..].copy_from_slice(&[number, protocol]);
            nh(key, &words)
        }
        _ => unreachable!("both ends of a packet are of one family"),
    }
}

/// The hash of a source alone: an IPv4 address is paired with 0.
pub fn source(key: &[u32; 12], client: IpAddr) -> u32 {
    match client {
        IpAddr::V4(client) => finish(nh(key, &[u32::from_le_bytes(client.octets()), 0])),
        IpAddr::V6(client) => finish(nh(key, &words6(client))),
    }
}

fn words6(address: std::net::Ipv6Addr) -> [u32; 4] {
    let octets = address.octets();
    std::array::from_fn(|word| {
        u32::from_le_bytes([octets[4 * word], octets[4 * word + 1], octets[4 * word + 2], octets[4 * word + 3]])
    })
}

/// The sum modulo 2^64 of (word + key) * (next word + next key), each factor modulo 2^32.
fn nh(key: &[u32; 12], words: &[u32]) -> u128 {
    let factor = |at: usize| (u128::from(words[at]) + u128::from(key[at])) % TWO_32;
    let sum: u128 = (0..words.len()).step_by(2).map(|at| factor(at) * factor(at + 1)).sum();
    sum % TWO_64
}

/// One multiplication between two shifts.
fn finish(sum: u128) -> u32 {
    let mixed = (sum ^ sum >> 32) * ROOT_3 % TWO_64;
    ((mixed ^ mixed >> 32) % TWO_32) as u32
}
