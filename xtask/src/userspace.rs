//! Building the binary `weir`, with the programs for the kernel inside, the bench, the faults and the fuzzer.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{
    bpf,
    command::{run, workspace},
    toolchain::cargo,
};

/// Builds `weir` and says where it is.
pub fn build(release: bool) -> Result<PathBuf> {
    binary("weir", release)
}

/// Builds the bench and, beside it, the binary that it runs, and says where the bench is. What it measures runs in the kernel:
/// optimising the bench changes nothing. What checks cost is measured of the agent `as_installed`.
pub fn bench(as_installed: bool) -> Result<PathBuf> {
    binary("weir", as_installed)?;
    binary("bench", false)
}

/// Builds `weir` as it is installed, and beside it what shows its faults, and says where that is.
pub fn faults() -> Result<PathBuf> {
    build(true)?;
    binary("faults", true)
}

/// Builds the fuzzer and says where it is.
pub fn fuzz() -> Result<PathBuf> {
    binary("fuzz", false)
}

fn binary(name: &str, release: bool) -> Result<PathBuf> {
    bpf::build()?;
    // Not `--package`: with all default members selected, as `cargo test` selects them, dependencies get the same
    // features and nothing is built twice.
    let mut command = Command::new(cargo());
    command.current_dir(workspace()).args(["build", "--bin", name]);
    if release {
        command.arg("--release");
    }
    run(&mut command)?;
    Ok(target_directory()?.join(if release { "release" } else { "debug" }).join(name))
}

/// Where cargo puts what it builds; it put us there too, as debug/xtask.
pub fn target_directory() -> Result<PathBuf> {
    let us = env::current_exe().context("cannot find out where this program lies")?;
    us.ancestors().nth(2).map(PathBuf::from).with_context(|| format!("{}: does not lie in a profile", us.display()))
}
