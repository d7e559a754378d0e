//! The programs as they were built, inside this binary.

use aya::include_bytes_aligned;
use lb_common::hash::mix;

/// The balancer: `weir`, `weir_frags`, `weir_explain`.
pub static BALANCER_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("WEIR_OBJECTS"), "/weir.o"));
/// The second program, on backends: `weir_backend`.
pub static BACKEND_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("WEIR_OBJECTS"), "/backend.o"));
/// For checks, on their way out: `weir_steer`.
pub static STEERING_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("WEIR_OBJECTS"), "/steer.o"));
/// For the demo and the tests: `pass` and `flood`.
pub static TRAFFIC_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("WEIR_OBJECTS"), "/traffic.o"));

/// A hash of the balancer's object: programs that run stay while it is the same.
pub fn programs() -> u64 {
    BALANCER_OBJECT.iter().fold(BALANCER_OBJECT.len() as u64, |hash, byte| mix(hash ^ u64::from(*byte)))
}
