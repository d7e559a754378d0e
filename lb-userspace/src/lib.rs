//! The agent and command line of Weir, as a library.
//!
//! Use statements point one way along this chain: cli -> config -> overrides -> plan -> datapath -> stats -> agent -> control.

pub mod agent;
pub mod announce;
pub mod backend;
pub mod capture;
pub mod cli;
mod clock;
pub mod config;
pub mod control;
pub mod datapath;
pub mod demo;
pub mod explain;
pub mod health;
pub mod lab;
pub mod links;
pub mod log;
pub mod manual;
pub mod metrics;
mod netlink;
pub mod next_hops;
pub mod notify;
pub mod offloads;
pub mod out;
pub mod overrides;
pub mod pcapng;
pub mod plan;
pub mod readings;
pub mod report;
mod service;
pub mod show;
pub mod stats;
pub mod steering;
mod stop;
pub mod verbs;
