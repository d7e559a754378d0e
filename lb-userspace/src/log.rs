//! Where the program logs.

use std::{env, io::IsTerminal, os::fd::AsFd};

use anyhow::{Context, Result};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::Log;

/// Logs what this program and, through aya-log, the datapath have to say; `WEIR_LOG=debug` for more.
pub fn start(log: Option<Log>) -> Result<()> {
    let filter = EnvFilter::builder().with_env_var("WEIR_LOG").with_default_directive(tracing::Level::INFO.into());
    let registry = tracing_subscriber::registry().with(filter.from_env_lossy());
    match log.unwrap_or(if stderr_is_the_journal() { Log::Journald } else { Log::Terminal }) {
        Log::Terminal => {
            let terminal = std::io::stderr().is_terminal();
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
            registry.with(layer.with_ansi(terminal)).init();
        }
        Log::Journald => {
            let layer = tracing_journald::layer().context("cannot reach the journal")?;
            registry.with(layer.with_priority_mappings(PRIORITIES)).init();
        }
    }
    Ok(())
}

/// Prints an error's text to standard error; to the journal, as one.
pub fn print_error(text: &str) {
    // In the journal's notation, line by line.
    let mark = if stderr_is_the_journal() { "<3>" } else { "" };
    for line in text.lines() {
        eprintln!("{mark}{line}");
    }
}

/// The crate's own are one step louder.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};

/// Whether standard error is what `JOURNAL_STREAM` describes, which one may inherit without it.
fn stderr_is_the_journal() -> bool {
    let stream = env::var("JOURNAL_STREAM").ok();
    let stderr = nix::sys::stat::fstat(std::io::stderr().as_fd()).ok();
    stream.zip(stderr).is_some_and(|(stream, stderr)| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}
