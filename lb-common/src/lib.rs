//! The packet path of Weir: what the kernel and the host both compute, and the structs that cross between them.
//!
//! Pure: no maps, no I/O, no clock. Behind the feature `build`, for the host alone, what fills the tables is
//! computed here too, beside the code that reads them.

#![cfg_attr(not(test), no_std)]

#[cfg(any(test, feature = "build"))]
extern crate alloc;

pub mod abi;
pub mod hash;
#[cfg(any(test, feature = "build"))]
pub mod place;
pub mod ring;
