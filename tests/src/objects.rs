//! The programs that only tests and the bench load: built by `cargo xtask build`, found where it leaves them.

use anyhow::{Context, Result};

/// The object of a binary of lb-ebpf.
pub fn read(name: &str) -> Result<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf-objects");
    let directory = std::env::var("WEIR_OBJECTS").unwrap_or_else(|_| path.to_owned());
    let path = format!("{directory}/{name}.o");
    std::fs::read(&path).with_context(|| format!("{path}: run `cargo xtask build`"))
}
