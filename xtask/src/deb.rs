//! Building the Debian package.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    command::{output, workspace},
    setup,
    toolchain::cargo,
    userspace,
};

/// Where the files go that the binary makes of itself; the manifest of lb-userspace takes them from there.
const MADE: &str = "target/package";

/// Builds the package, with an optimised binary, and says where it is.
pub fn build() -> Result<PathBuf> {
    let cargo_deb = setup::cargo_deb()?;
    let weir = userspace::build(true)?;
    describe(&weir, &workspace().join(MADE))?;
    let mut command = Command::new(cargo_deb);
    command.current_dir(workspace().join("lb-userspace")).env("CARGO", cargo()).args(["--no-build", "--quiet"]);
    Ok(output(&mut command)?.trim_end().into())
}

/// Man pages and completions.
fn describe(weir: &Path, directory: &Path) -> Result<()> {
    // A page of a verb that is no more would be packed too.
    let _ = fs::remove_dir_all(directory);
    output(Command::new(weir).arg("man").arg(directory))?;
    for shell in ["bash", "zsh", "fish"] {
        let file = directory.join(format!("weir.{shell}"));
        let script = output(Command::new(weir).args(["completions", shell]))?;
        fs::write(&file, script).with_context(|| format!("{}: cannot be written", file.display()))?;
    }
    Ok(())
}
