//! The checks that need no run: format, clippy, licences and origins of dependencies, documentation.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    bpf,
    command::workspace,
    setup::{self, LintTools},
    toolchain::{Rustc, cargo},
};

/// Runs them all, the quick ones first.
pub fn run() -> Result<()> {
    let LintTools { rustc, deny } = setup::lint_tools()?;
    let formatter = tool(&rustc, "rustfmt");
    run_here(Command::new(tool(&rustc, "cargo-fmt")).args(["fmt", "--all", "--check"]).env("RUSTFMT", formatter))?;
    run_here(Command::new(deny).args(["check", "bans", "licenses", "sources"]))?;
    bpf::build()?;
    let clippy = tool(&rustc, "cargo-clippy");
    run_here(Command::new(&clippy).args(["clippy", "--all-targets", "--", "-D", "warnings"]))?;
    // For the host: the compiler in use need not have `core` for BPF.
    run_here(Command::new(&clippy).args(["clippy", "--package", "lb-ebpf", "--", "-D", "warnings"]))?;
    run_here(
        Command::new(cargo()).args(["doc", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// A program of the toolchain that runs us, by its path: by name, another toolchain's might be found.
fn tool(rustc: &Rustc, name: &str) -> PathBuf {
    rustc.tool(name).unwrap_or_else(|| name.into())
}

fn run_here(command: &mut Command) -> Result<()> {
    crate::command::run(command.current_dir(workspace()).env("CARGO", cargo()))
}
