//! Frames that nobody thought of: cases with bytes changed, cut or appended, and bytes at random.

use std::{collections::BTreeSet, net::IpAddr, sync::LazyLock};

use proptest::{collection::vec, prelude::*};

use crate::{
    cases::{self, Case},
    setup::{STANDARD, World},
};

/// The cases of the standard setup.
pub static CASES: LazyLock<Vec<Case>> =
    LazyLock::new(|| cases::all().into_iter().filter(|case| std::ptr::eq(case.setup, &STANDARD)).collect());

/// A case's frame, damaged: some bytes replaced, then cut or lengthened.
pub fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let frame = any::<prop::sample::Index>().prop_map(|index| index.get(&CASES).frame.clone());
    // Most faults that matter lie in the headers.
    let place = prop_oneof![4 => 0..128usize, 1 => 0..10_000usize];
    let byte = prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 4, 5, 6, 0x11, 0x3c, 0x45, 0x60, 0x81, 0xff])];
    let length = prop_oneof![3 => Just(None), 1 => (0..200usize).prop_map(Some)];
    (frame, vec((place, byte), 0..6), length).prop_map(|(mut frame, bytes, length)| {
        for (at, byte) in bytes {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        frame.resize(length.unwrap_or(frame.len()), 0);
        frame
    })
}

/// Any bytes.
pub fn random() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

/// The addresses for which a frame may be a VIP's: the IP destination, and the target of a question for a MAC. Read
/// without the code under test.
pub fn asked_for(frame: &[u8]) -> Vec<IpAddr> {
    let mut l3 = 14;
    while l3 < 22 && matches!(frame.get(l3 - 2..l3), Some([0x81, 0x00] | [0x88, 0xa8])) {
        l3 += 4;
    }
    let v4 = |at: usize| frame.get(at..at + 4).map(|bytes| IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap()));
    let v6 = |at: usize| frame.get(at..at + 16).map(|bytes| IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()));
    let found = match frame.get(l3 - 2..l3) {
        Some([0x08, 0x00]) => vec![v4(l3 + 16)],
        Some([0x08, 0x06]) => vec![v4(l3 + 24)],
        Some([0x86, 0xdd]) => vec![v6(l3 + 24), v6(l3 + 48)],
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

/// Every VIP's address.
pub fn vip_addresses(world: &World) -> BTreeSet<IpAddr> {
    world.tables.description.vip_addresses().unwrap().into_iter().collect()
}
