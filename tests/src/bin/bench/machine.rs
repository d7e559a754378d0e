//! What the figures were taken on.

use std::{fs, process::Command};

use anyhow::Result;

/// One line: processor, cores, kernel, mode, commit.
pub fn describe() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok();
    let commit =
        commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty());
    Ok(format!(
        "{}, {cores} cores, kernel {}, BPF_PROG_TEST_RUN on one CPU, commit {}",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        commit.as_deref().unwrap_or("unknown")
    ))
}
