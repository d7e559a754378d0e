//! Which backends work: what a check finds (`probe`, with all its effects), what that means (`judge`, pure), what follows from it
//! for a configuration (`effect`, pure), and when who is checked (`schedule`). `file` keeps what is known over a restart.

mod effect;
pub mod file;
mod judge;
pub mod probe;
mod probes;
mod schedule;
#[cfg(test)]
mod tests;

pub use self::{
    judge::{Change, Failing, Health, What},
    probes::{Key, Probe, probes},
    schedule::{Checked, Checker},
};
