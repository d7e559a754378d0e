//! The balancer among real kernels: clients, backends and routers in network namespaces, and real TCP between them.

#![allow(clippy::unwrap_used, missing_docs, dead_code)]

mod forward;
mod net;
