//! What turns a host into a backend: exactly what `weir backend setup` prints.

use std::{
    env, fs, iter,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Host, process::run};

/// Makes a host a backend of these services of a configuration, by running what the binary prints for them.
pub fn set_up_backend(host: &Host, weir: &Path, config: &Path, services: &[&str]) -> Result<()> {
    let mut print = Command::new(weir);
    print.arg("--pins").arg(host.pins()).args(["backend", "setup", "--format", "shell", "--config"]).arg(config);
    let text = run(print.args(services))?;
    let script = host.directory().join("setup.sh");
    fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))?;
    run(host.command("sh").arg(&script).env("PATH", path_with(weir)?))
        .with_context(|| format!("{}: cannot be set up as a backend", host.name()))?;
    Ok(())
}

/// Where programs are looked for, with this one before all others: the script calls it by its name.
fn path_with(weir: &Path) -> Result<std::ffi::OsString> {
    let directory: PathBuf = weir.parent().context("a binary lies in a directory")?.into();
    let others = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(iter::once(directory).chain(env::split_paths(&others)))?)
}
