//! Installing Debian packages.

use std::{process::Command, sync::OnceLock};

use anyhow::{Result, ensure};

use crate::command::{as_root, find, output, run, workspace};

/// Installs those of the packages that apt knows, and starts no service; an error names the others.
pub fn install(packages: &[&str]) -> Result<()> {
    ensure!(is_here(), "no apt-get here");
    update()?;
    let (known, unknown): (Vec<&str>, Vec<&str>) = packages.iter().partition(|package| knows(package));
    if !known.is_empty() {
        eprintln!("installing {}", known.join(" "));
        run(as_root("sh")?.arg(workspace().join("xtask/install.sh")).args(known))?;
    }
    ensure!(unknown.is_empty(), "apt has no package {}", unknown.join(", "));
    Ok(())
}

/// Whether apt could install this package, by its newest lists.
pub fn offers(package: &str) -> Result<bool> {
    ensure!(is_here(), "no apt-get here");
    update()?;
    Ok(knows(package))
}

/// The package that a file came from.
pub fn owner(path: &str) -> Option<String> {
    let found = output(Command::new("dpkg").args(["--search", path])).ok()?;
    Some(found.split_once(':')?.0.to_owned())
}

/// Fetches apt's lists, once a run.
fn update() -> Result<()> {
    static UPDATED: OnceLock<()> = OnceLock::new();
    if UPDATED.get().is_none() {
        // One source among many may be down: what counts is whether the package is known afterwards.
        if let Err(error) = run(as_root("apt-get")?.args(["update", "--quiet"])) {
            eprintln!("warning: {error:#}");
        }
        UPDATED.get_or_init(|| ());
    }
    Ok(())
}

fn is_here() -> bool {
    find("apt-get").is_some()
}

fn knows(package: &str) -> bool {
    let policy = output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"));
    policy.is_ok_and(|policy| has_candidate(&policy))
}

fn has_candidate(policy: &str) -> bool {
    policy.lines().any(|line| line.trim().strip_prefix("Candidate: ").is_some_and(|version| version != "(none)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_candidate_is_unknown() {
        assert!(has_candidate("curl:\n  Installed: (none)\n  Candidate: 7.88.1-10\n"));
        assert!(!has_candidate("bpftool:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }
}
