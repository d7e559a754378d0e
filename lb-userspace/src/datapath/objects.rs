//! The programs as they were built, inside this binary.

use aya::include_bytes_aligned;

/// The balancer: `weir`, `weir_frags`, `weir_explain`.
pub static BALANCER_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("WEIR_OBJECTS"), "/weir.o"));
/// The second program, on backends: `weir_backend`.
pub static BACKEND_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("WEIR_OBJECTS"), "/backend.o"));
/// For the demo and the tests: `pass` and `flood`.
pub static TRAFFIC_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("WEIR_OBJECTS"), "/traffic.o"));
