//! lb-common
pub mod abi;
