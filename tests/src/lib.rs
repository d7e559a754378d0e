//! What Weir is tested with: the table of packet cases ([`cases`]) and the two places where its rows run, the pure path
//! on the host ([`host`]) and the program in the kernel ([`kernel`]).
#![allow(clippy::unwrap_used, reason = "all of this is tests: what cannot be unwrapped fails one")]

pub mod cases;
pub mod catalogue;
pub mod counted;
pub mod docs;
pub mod expect;
pub mod frames;
pub mod fuzz;
pub mod host;
pub mod kernel;
pub mod machine;
pub mod mutate;
pub mod objects;
pub mod reference;
pub mod setup;
