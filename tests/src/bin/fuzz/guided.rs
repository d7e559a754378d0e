//! The process with libFuzzer inside: started beside us, read to its end.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use tests::fuzz::corpus;

/// It runs.
pub struct Guided {
    child: Child,
    reader: JoinHandle<Report>,
}

/// It ran.
#[derive(Default)]
pub struct Report {
    /// Inputs that it ran.
    inputs: u64,
    /// Its last line about coverage: branches, features, size of the corpus.
    coverage: String,
    /// What it said that was no progress.
    said: Vec<String>,
    /// It found something.
    pub failed: bool,
}

impl Guided {
    /// Starts it, with the cases as what it begins from.
    pub fn start(program: &Path, directory: &Path, time: Duration, seed: u64) -> Result<Self> {
        let cannot = || format!("{}: cannot be filled", directory.display());
        fs::create_dir_all(directory).with_context(cannot)?;
        for (number, input) in [corpus::of_cases(), corpus::checked_in()].concat().iter().enumerate() {
            fs::write(directory.join(format!("case-{number}")), input.to_bytes()).with_context(cannot)?;
        }
        let mut command = Command::new(program);
        command
            .arg(directory)
            .arg(format!("-artifact_prefix={}/failed-", directory.parent().unwrap_or(directory).display()))
            .arg(format!("-max_total_time={}", time.as_secs().max(1)))
            // libFuzzer takes 0 for "any", and 32 bits.
            .arg(format!("-seed={}", (seed as u32).max(1)))
            .args(["-max_len=2200", "-print_final_stats=1"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{}: did not start", program.display()))?;
        let output = child.stderr.take().context("its errors are piped")?;
        let reader = thread::spawn(move || {
            let mut report = Report::default();
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| report.read(line));
            report
        });
        Ok(Guided { child, reader })
    }

    /// Waits for its end, which its time brings.
    pub fn end(mut self) -> Result<Report> {
        let status = self.child.wait()?;
        let mut report = self.reader.join().map_err(|_| anyhow!("reading libFuzzer's output panicked"))?;
        report.failed = !status.success();
        Ok(report)
    }
}

impl Report {
    fn read(&mut self, line: String) {
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.inputs = count.trim().parse().unwrap_or_default();
        } else if let Some((_, coverage)) = line.split_once("cov: ") {
            self.coverage = coverage.split(" exec/s").next().unwrap_or(coverage).to_owned();
        } else if !line.starts_with('#') && !line.starts_with("stat::") {
            self.said.push(line);
        }
    }

    /// One line, or all that it said if it found something.
    pub fn text(&self, elapsed: Duration) -> String {
        if self.failed {
            return format!("libFuzzer:\n{}", self.said.join("\n"));
        }
        let rate = self.inputs as f64 / elapsed.as_secs_f64().max(0.001);
        format!("{} inputs by the host, guided by coverage ({rate:.0}/s); cov: {}", self.inputs, self.coverage)
    }
}
