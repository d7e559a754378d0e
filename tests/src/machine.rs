//! What the figures were taken on, and how busy it was.

use std::{fs, process::Command, time::Instant};

use anyhow::{Context, Result};

/// One line: processor, cores, kernel, how packets were made, mode, commit.
pub fn describe(how: &str) -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    // Before we chose one of them.
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let jit = match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").as_deref().map(str::trim) {
        Ok("0") => "interpreted",
        // A kernel without the file has no interpreter either.
        _ => "JIT",
    };
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok();
    let commit =
        commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty());
    Ok(format!(
        "{}, {cores} CPUs, kernel {}, {how}, {jit}, commit {}",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        commit.as_deref().unwrap_or("unknown")
    ))
}

/// How much all CPUs had worked, and others had taken from them, at a moment.
pub struct Load {
    when: Instant,
    /// Ticks.
    busy: f64,
    stolen: f64,
    ours: f64,
}

/// From here on it is worth a line: parts of one CPU.
const BUSY: f64 = 0.1;
const STOLEN: f64 = 0.01;

impl Load {
    /// As it is now.
    pub fn now() -> Result<Load> {
        let stat = fs::read_to_string("/proc/stat")?;
        let all = stat.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<f64> = all.split_whitespace().skip(1).filter_map(|number| number.parse().ok()).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or_default();
        // user, nice, system, (idle, iowait,) irq, softirq, steal
        let busy = [0, 1, 2, 5, 6].map(at).iter().sum();
        let this = fs::read_to_string("/proc/self/stat")?;
        // Fields 14 to 17, counted from behind the name: ours and those of children that have ended.
        let (_, fields) = this.rsplit_once(") ").context("/proc/self/stat has no name")?;
        let ours = fields.split_whitespace().skip(11).take(4).filter_map(|number| number.parse::<f64>().ok()).sum();
        Ok(Load { when: Instant::now(), busy, stolen: at(7), ours })
    }

    /// What disturbed us since, in one line, if it was much.
    pub fn warning_since(&self) -> Result<Option<String>> {
        const TICKS_A_SECOND: f64 = 100.0;
        let now = Load::now()?;
        let ticks = (now.when - self.when).as_secs_f64() * TICKS_A_SECOND;
        let others = ((now.busy - self.busy) - (now.ours - self.ours)) / ticks;
        let stolen = (now.stolen - self.stolen) / ticks;
        let busy = (others > BUSY || stolen > STOLEN).then(|| {
            format!("the machine was busy: others took {others:.1} of its CPUs, the hypervisor {stolen:.2}; a quiet one gives lower and steadier figures")
        });
        Ok(busy)
    }
}
