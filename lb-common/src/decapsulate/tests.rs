use super::{Served, Stripping, decapsulate};
use crate::{
    abi::Address,
    packet::Packet,
    wire::{Ethernet, Header},
};

#[path = "cases.rs"]
mod cases;

use cases::{END4, END6, VIP4, VIP6};

#[test]
fn every_case_gets_what_it_should() {
    for case in cases::cases() {
        let mut frame = Frame::new(&case.frame);
        assert_eq!(decapsulate(&mut frame, &Backend), case.gets, "{}", case.name);
        assert_eq!(frame.bytes(), case.out, "{}", case.name);
    }
}

#[test]
fn every_outcome_has_a_case() {
    for stripping in Stripping::ALL {
        assert!(cases::cases().iter().any(|case| case.gets == *stripping), "{}", stripping.label());
    }
}

#[test]
fn a_case_cut_anywhere_is_never_stripped_of_more_than_it_has() {
    for case in cases::cases() {
        for length in 0..case.frame.len() {
            let mut frame = Frame::new(&case.frame[..length]);
            let stripping = decapsulate(&mut frame, &Backend);
            let out = frame.bytes();
            if stripping == Stripping::Stripped {
                assert!(case.out.starts_with(&out) && out.len() < case.frame.len(), "{} at {length}", case.name);
            } else {
                assert_eq!(out, case.frame[..length], "{} at {length}", case.name);
            }
        }
    }
}

/// The backend that the cases are about.
struct Backend;

impl Served for Backend {
    fn endpoint4(&self, address: u32) -> bool {
        address == word(END4)
    }

    fn endpoint6(&self, address: [u32; 4]) -> bool {
        Address(address) == END6.into()
    }

    fn vip4(&self, address: u32) -> bool {
        address == word(VIP4)
    }

    fn vip6(&self, address: [u32; 4]) -> bool {
        Address(address) == VIP6.into()
    }
}

fn word(address: std::net::Ipv4Addr) -> u32 {
    Address::from(address).0[3]
}

/// A frame in a vector of words, so that even offsets are aligned.
struct Frame {
    words: Vec<u16>,
    head: usize,
    end: usize,
}

impl Frame {
    fn new(bytes: &[u8]) -> Self {
        let word = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        Frame { words: bytes.chunks(2).map(word).collect(), head: 0, end: bytes.len() }
    }

    fn bytes(&self) -> Vec<u8> {
        let bytes = self.words.iter().flat_map(|word| word.to_ne_bytes());
        bytes.take(self.end).skip(self.head).collect()
    }

    /// The word at which a header begins, if it lies within the frame.
    fn word<H>(&self, offset: usize) -> Option<usize> {
        let start = self.head + offset;
        assert!(start.is_multiple_of(2), "a header at odd offset {offset}");
        (start + size_of::<H>() <= self.end).then_some(start / 2)
    }
}

impl Packet for Frame {
    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        let word = self.word::<H>(offset)?;
        // SAFETY: `word` found an `H`'s size within the vector; any bytes are an `H`, aligned to words at most.
        Some(unsafe { &*self.words.as_ptr().add(word).cast() })
    }

    fn at_mut<H: Header>(&mut self, offset: usize) -> Option<&mut H> {
        let word = self.word::<H>(offset)?;
        // SAFETY: as in `at`, and `self` is borrowed mutably.
        Some(unsafe { &mut *self.words.as_mut_ptr().add(word).cast() })
    }

    fn holds(&self, bytes: usize) -> bool {
        self.head + bytes <= self.end
    }

    fn grow_head(&mut self, _: usize) -> bool {
        unreachable!("nothing is put in front")
    }

    /// As the kernel does: an Ethernet header must be left.
    fn shrink_head(&mut self, bytes: usize) -> bool {
        let shrinks = self.head + bytes + size_of::<Ethernet>() <= self.end;
        self.head += if shrinks { bytes } else { 0 };
        shrinks
    }

    fn set_length(&mut self, _: usize) -> bool {
        unreachable!("nothing is cut behind")
    }
}
