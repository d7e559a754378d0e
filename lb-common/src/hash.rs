//! Every hash of Weir, all of it arithmetic: where a key of the services' table lies, which slot a flow takes, and the mixer
//! that rings are built with. The kernel and the host run the same lines; tests pin their values, because siblings
//! on different versions must agree.
//!
//! Words of addresses and ports are as loaded from the packet on a little-endian host, as everywhere in [`crate::abi`].

use crate::abi::{Address, DISPLACEMENTS, Match, SERVICE_POSITIONS, VIP_PLACES};

/// Odd multipliers whose bits nobody chose: the fractions of the square roots of 3, 5, 7 and 11.
const ROOT_3: u64 = 0xbb67_ae85_84ca_a73b;
const ROOT_5: u64 = 0x3c6e_f372_fe94_f82b;
const ROOT_7: u64 = 0xa54f_f53a_5f1d_36f1;
const ROOT_11: u64 = 0x510e_527f_ade6_82d1;
/// The fraction of the golden ratio, made odd: its multiples stay far from one another.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of keys of one kind: those of bare addresses have buckets and positions of their own, behind the others'.
const BUCKETS: u32 = DISPLACEMENTS / 2;
const BUCKET_BITS: u32 = BUCKETS.ilog2();
/// Of keys of one kind.
const POSITIONS: u32 = SERVICE_POSITIONS / 2;
const POSITION_BITS: u32 = POSITIONS.ilog2();

/// An IPv4 address (the last word of its [`Address`]) as the part that [`key`] takes.
#[inline(always)]
pub fn fold4(word: u32) -> u64 {
    word as u64
}

/// An IPv6 address as the part that [`key`] takes.
#[inline(always)]
pub fn fold6(words: [u32; 4]) -> u64 {
    let mixed = join(words[0], words[1]).wrapping_mul(ROOT_5);
    // The last product keeps what is joined to it there, the match, from undoing what differs here.
    (mixed ^ mixed >> 32 ^ join(words[3], words[2])).wrapping_mul(ROOT_11)
}

/// Where an address falls in [`crate::abi::Half::vips`]; `narrow` is it in 32 bits ([`narrow6`]).
#[inline(always)]
pub fn vip_place(narrow: u32) -> u32 {
    // A product's best bits are its high ones.
    narrow.wrapping_mul(ROOT_3 as u32) >> (32 - VIP_PLACES.ilog2())
}

/// An IPv6 address in 32 bits.
#[inline(always)]
pub fn narrow6(words: [u32; 4]) -> u32 {
    let both = join(words[0], words[1]) ^ join(words[2], words[3]);
    (both ^ both >> 32) as u32
}

/// A key of the services' table, scattered: [`bucket`] says which displacement it takes, [`position`] where that leads.
///
/// One multiplication by an odd number picked at random, of which the high bits serve, lets two keys meet as seldom as chance
/// does (Dietzfelbinger and others 1997); where too many meet, `place` tries another. The keys come from the configuration, not from
/// the network, so nothing here is secret.
#[inline(always)]
pub fn key(fold: u64, matches: Match, seed: u64) -> u64 {
    (fold ^ (matches.0 as u64) << 32).wrapping_mul(seed)
}

/// Which displacement a key takes; `matches` are its own.
#[inline(always)]
pub fn bucket(key: u64, matches: Match) -> u32 {
    (key >> (64 - BUCKET_BITS)) as u32 | (matches.is_address() as u32 * BUCKETS)
}

/// Where a key lies, by its displacement; `matches` are its own.
#[inline(always)]
pub fn position(key: u64, displacement: u16, matches: Match) -> u32 {
    let undisplaced = (key << BUCKET_BITS >> (64 - POSITION_BITS)) as u32;
    (undisplaced ^ displacement as u32) & (POSITIONS - 1) | (matches.is_address() as u32 * POSITIONS)
}

/// [`key`] of a whole key, for the host: the IP version in the match says how the address folds.
#[inline(always)]
pub fn whole_key(address: &Address, matches: Match, seed: u64) -> u64 {
    let fold = match matches.0 >> 28 {
        6 => fold6(address.0),
        _ => fold4(address.0[3]),
    };
    key(fold, matches, seed)
}

/// [`vip_place`] of a whole key's address, for the host.
#[inline(always)]
pub fn key_vip_place(address: &Address, matches: Match) -> u32 {
    vip_place(match matches.0 >> 28 {
        6 => narrow6(address.0),
        _ => address.0[3],
    })
}

// The flow hash is NH, the inner hash of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway 1999; RFC 4418), with
// neighbours as pairs: a sum modulo 2^64 of products (word + key word) * (next word + next key word), each factor
// modulo 2^32. Two different inputs of one function have the same sum for at most one key in 2^32.
//
// The finaliser loses nothing of the sum but its upper half at the end; that slots fill evenly is tested, not
// proven. It is no cipher: whoever sees enough of which backend answers whom can work the key out.

/// Hash of an IPv4 flow; `ports` as they stand in the packet, source first, or 0 where they must not count.
#[inline(always)]
pub fn flow4(key: &[u32; 12], source: u32, destination: u32, ports: u32, protocol: u32) -> u32 {
    let addresses = product(source, key[0], destination, key[1]);
    finish(addresses.wrapping_add(product(ports, key[2], protocol, key[3])))
}

/// Hash of an IPv6 flow; `ports` as in [`flow4`].
#[inline(always)]
pub fn flow6(key: &[u32; 12], source: [u32; 4], destination: [u32; 4], ports: u32, protocol: u32) -> u32 {
    finish(sum6(key, source, destination, ports, protocol))
}

/// Hash of an IPv4 datagram by its identification, for fragments: all 64 bits are good.
#[inline(always)]
pub fn datagram4(key: &[u32; 12], source: u32, destination: u32, id: u32, protocol: u32) -> u64 {
    mix(product(source, key[0], destination, key[1]).wrapping_add(product(id, key[2], protocol, key[3])))
}

/// The same for IPv6.
#[inline(always)]
pub fn datagram6(key: &[u32; 12], source: [u32; 4], destination: [u32; 4], id: u32, protocol: u32) -> u64 {
    mix(sum6(key, source, destination, id, protocol))
}

/// Hash of an IPv4 source alone.
#[inline(always)]
pub fn source4(key: &[u32; 12], source: u32) -> u32 {
    finish(product(source, key[0], 0, key[1]))
}

/// Hash of an IPv6 source alone.
#[inline(always)]
pub fn source6(key: &[u32; 12], source: [u32; 4]) -> u32 {
    finish(halves(key, source))
}

/// The configured `hash_key` as the words that the flow hash takes, each of them dependent on every byte.
#[inline]
pub fn expand_key(bytes: [u8; 16]) -> [u32; 12] {
    let bits = u128::from_le_bytes(bytes);
    let (low, high) = (bits as u64, (bits >> 64) as u64);
    let mut words = [0; 12];
    let mut state = low;
    for pair in words.as_chunks_mut::<2>().0 {
        state = state.wrapping_add(STEP);
        let hash = mix(mix(state) ^ high);
        *pair = [hash as u32, (hash >> 32) as u32];
    }
    words
}

/// Scatters 64 bits so that each depends on all; one to one.
#[inline(always)]
pub const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 32).wrapping_mul(ROOT_3);
    let bits = (bits ^ bits >> 29).wrapping_mul(ROOT_7);
    bits ^ bits >> 32
}

#[inline(always)]
fn sum6(key: &[u32; 12], source: [u32; 4], destination: [u32; 4], number: u32, protocol: u32) -> u64 {
    halves(key, source)
        .wrapping_add(product(destination[0], key[4], destination[1], key[5]))
        .wrapping_add(product(destination[2], key[6], destination[3], key[7]))
        .wrapping_add(product(number, key[8], protocol, key[9]))
}

#[inline(always)]
fn halves(key: &[u32; 12], address: [u32; 4]) -> u64 {
    product(address[0], key[0], address[1], key[1]).wrapping_add(product(address[2], key[2], address[3], key[3]))
}

#[inline(always)]
fn product(a: u32, key_a: u32, b: u32, key_b: u32) -> u64 {
    a.wrapping_add(key_a) as u64 * b.wrapping_add(key_b) as u64
}

/// One multiplication between two shifts serves here: the products have mixed already.
#[inline(always)]
fn finish(sum: u64) -> u32 {
    let mixed = (sum ^ sum >> 32).wrapping_mul(ROOT_3);
    (mixed ^ mixed >> 32) as u32
}

#[inline(always)]
fn join(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

#[cfg(test)]
mod tests;
