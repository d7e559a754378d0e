//! Tools from crates.io, built once for all clones of a user.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{command::succeeds, toolchain::cargo};

/// Where they are kept.
pub fn directory() -> Result<PathBuf> {
    if let Some(tools) = env::var_os("WEIR_TOOLS") {
        return Ok(tools.into());
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(env::home_dir()?.join(".cache")));
    Ok(cache.context("no home directory: name a directory for tools in WEIR_TOOLS")?.join("weir"))
}

/// Whether a tool is there and starts.
pub fn works(tool: &Path) -> bool {
    succeeds(Command::new(tool).arg("--version"))
}

/// The command that builds a tool into a directory, unoptimised: it is built more often than it is slow.
pub fn install(name: &str, version: &str, directory: &Path) -> Command {
    let mut command = Command::new(cargo());
    command
        .args(["install", name, "--version", version, "--locked", "--force", "--root"])
        .arg(directory)
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    command
}
