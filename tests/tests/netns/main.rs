//! The balancer among real kernels: clients, backends and routers in network namespaces, and real TCP between them.

#![allow(clippy::unwrap_used, missing_docs)]

mod agent;
mod forward;
mod icmp;
mod lab;
mod many;
mod net;
mod refusals;
