//! Which backends work: what a check finds (`probe`, with all its effects), and what that means (`judge`, pure).

pub mod probe;
