//! The backend's side: what a host needs so that packets from a balancer reach its servers, and whether it has it.
//!
//! `needs` says what is needed, from the configuration alone; `nftables`, `shell`, `networkd` and `json` write that down;
//! `check` judges what `host` gathered; `run` keeps the second program in place. Only the last two touch the host.

pub mod check;
pub mod host;
pub mod json;
pub mod needs;
pub mod networkd;
pub mod nftables;
pub mod run;
pub mod shell;

pub use needs::{Asked, Decapsulation, Needs};

#[cfg(test)]
mod tests;
