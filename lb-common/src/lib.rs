//! The packet path of Weir: pure, without a kernel, shared by the program in the driver and by the host.
//!
//! [`balance`] is the path and reads top to bottom. It sees a frame through [`packet::Packet`] and the tables through
//! [`packet::Tables`]; `lb-ebpf` implements both over the kernel's, the tests over byte vectors. Nothing here calls
//! the kernel, allocates (but for the feature `build`) or logs.
#![cfg_attr(not(test), no_std)]

#[cfg(any(test, feature = "build"))]
extern crate alloc;

pub mod abi;
pub mod balance;
pub mod checksum;
pub mod decapsulate;
pub mod family;
pub mod filter;
pub mod fragment;
pub mod hash;
pub mod icmp;
pub mod mss;
pub mod neighbour;
pub mod packet;
pub mod parse;
#[cfg(any(test, feature = "build"))]
pub mod place;
pub mod plain;
pub mod rate;
pub mod reset;
pub mod rewrite;
pub mod ring;
pub mod steer;
pub mod syn;
pub mod too_big;
pub mod verdict;
pub mod wire;
