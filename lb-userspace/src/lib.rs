//! lb-userspace
pub mod config;
