//! Building the fuzzer's two programs and running them: one that knows the kernel, and one with libFuzzer inside, whose code
//! says which branches it takes.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    command::{as_root, exec, run as run_command, workspace},
    setup,
    toolchain::{self, cargo},
    userspace,
};

/// What tells libFuzzer of branches and of comparisons. Any rustc takes these, a stable one too.
const COVERAGE: &str = "-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares";

/// Builds both and becomes the first.
pub fn run(minutes: f64, seed: Option<u64>, host_only: bool) -> Result<()> {
    setup::compilers()?;
    let fuzz = userspace::fuzz()?;
    let guided = build_guided()?;
    let mut command = if host_only { Command::new(fuzz) } else { as_root(fuzz)? };
    command.arg("--minutes").arg(minutes.to_string()).arg("--guided").arg(guided);
    command.arg("--corpus").arg(directory()?.join("corpus"));
    if let Some(seed) = seed {
        command.arg("--seed").arg(seed.to_string());
    }
    if host_only {
        command.arg("--host-only");
    }
    exec(&mut command)
}

/// Everything in it is built anew, with coverage, away from the rest.
fn build_guided() -> Result<PathBuf> {
    let (directory, host) = (directory()?, toolchain::running()?.version.host);
    let mut command = Command::new(cargo());
    command
        .current_dir(workspace())
        .args(["build", "--profile", "fuzz", "--package", "guided", "--target", &host, "--target-dir"])
        .arg(&directory)
        .env("RUSTFLAGS", COVERAGE);
    run_command(&mut command)?;
    Ok(directory.join(host).join("fuzz/guided"))
}

fn directory() -> Result<PathBuf> {
    Ok(userspace::target_directory()?.join("fuzz"))
}
