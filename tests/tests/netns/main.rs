//! The balancer among real kernels: clients, backends and routers in network namespaces, and real TCP between them.

#![allow(clippy::unwrap_used, missing_docs)]

mod adopt;
mod agent;
mod capture;
mod checks;
mod commands;
mod control;
mod forward;
mod fragments;
mod health;
mod icmp;
mod interfaces;
mod lab;
mod many;
mod metrics;
mod net;
mod notify;
mod offloads;
mod path_mtu;
mod prometheus;
mod refusals;
mod reload;
mod service;
mod steering;
mod stream;
mod syn;
