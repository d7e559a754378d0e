//! Frames that three judges must agree on: the reference ([`crate::reference`]), the path on the host, and the program in the
//! kernel. Verdict, every byte and every counter are compared.
//!
//! [`generate`] makes frames, [`mutate`] damages them, [`judges`] compares, [`shrink`] makes what they disagree on small
//! enough to read, [`corpus`] keeps what once was a mistake. All of it follows from a seed.

pub mod campaign;
pub mod corpus;
pub mod generate;
pub mod guided;
pub mod input;
pub mod judges;
pub mod mutate;
pub mod report;
pub mod setups;
pub mod shrink;
pub mod tally;
