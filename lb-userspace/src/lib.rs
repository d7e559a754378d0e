//! The agent and command line of Weir, as a library.

pub mod announce;
pub mod links;
mod netlink;
pub mod next_hops;
