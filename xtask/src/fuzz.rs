//! Building the fuzzer's two programs and running them: one that knows the kernel, and one with libFuzzer inside, whose code
//! says which branches it takes.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    command::{as_root, exec, run as run_command, workspace},
    setup,
    toolchain::cargo,
    userspace,
};

/// Builds both and becomes the first.
pub fn run(minutes: f64, seed: Option<u64>, host_only: bool) -> Result<()> {
    setup::compilers()?;
    let fuzz = userspace::fuzz()?;
    let guided = build_guided()?;
    let mut command = if host_only { Command::new(fuzz) } else { as_root(fuzz)? };
    command.arg("--minutes").arg(minutes.to_string()).arg("--guided").arg(guided);
    command.arg("--corpus").arg(userspace::target_directory()?.join("fuzz/corpus"));
    if let Some(seed) = seed {
        command.arg("--seed").arg(seed.to_string());
    }
    if host_only {
        command.arg("--host-only");
    }
    exec(&mut command)
}

/// All but the workspace's own crates is shared with other builds: the same packages are selected, and only the wrapper
/// adds options.
fn build_guided() -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command
        .current_dir(workspace())
        .args(["build", "--bin", "guided", "--package", "guided"])
        .args(["lb-common", "lb-userspace", "xtask", "tests"].map(|package| format!("--package={package}")))
        .args(["--config", "profile.dev.package.tests.opt-level=3"])
        .env("RUSTC_WORKSPACE_WRAPPER", workspace().join("xtask/coverage.sh"));
    run_command(&mut command)?;
    Ok(userspace::target_directory()?.join("debug/guided"))
}
