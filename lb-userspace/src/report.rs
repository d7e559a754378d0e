//! What an agent knows of itself beyond the tables: plain data, kept by the agent, read by metrics and `weir status`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::health::{Checked, Checker, Failing};

/// All of it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// When the agent began, by the wall clock: milliseconds since 1970.
    pub started_ms: u64,
    /// Where metrics are served, or should be.
    pub metrics: Vec<Port>,
    /// How the configuration was last read and put into effect.
    pub reload: Reload,
    /// Why checks of VIPs cannot be made, or their answers do not come.
    pub steering: Option<String>,
    /// Who is notified.
    pub receivers: Vec<Receiver>,
    /// Who works and failed the last check.
    pub failing: Vec<Failing>,
    /// What happened, by kind and whether it was done.
    pub events: BTreeMap<String, Outcomes>,
}

/// Where metrics are served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Port {
    /// Address and port.
    pub address: String,
    /// Why not.
    pub error: Option<String>,
}

/// A configuration that was read: at the start, by SIGHUP, by `weir apply`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reload {
    /// When the last one was put into effect, by the wall clock, milliseconds.
    pub done_ms: u64,
    /// Why one since then was not.
    pub error: Option<String>,
}

/// How many went which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// Done.
    pub done: u64,
    /// Not done.
    pub failed: u64,
}

/// Somebody who is notified.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Receiver {
    /// Who.
    pub name: String,
    /// Messages that were taken.
    pub sent: u64,
    /// Messages that were not, after all tries.
    pub failed: u64,
    /// Messages that were not even tried, because too many waited.
    pub dropped: u64,
    /// When the last one was sent or given up, by the wall clock, milliseconds.
    pub last_ms: Option<u64>,
    /// Why the last try was in vain, until one is not.
    pub error: Option<String>,
}

/// A report that several threads write to and read.
#[derive(Clone, Default)]
pub struct Shared {
    report: Arc<Mutex<Report>>,
    checker: Arc<OnceLock<Checker>>,
}

impl Shared {
    /// Names who checks backends; of two the first counts.
    pub fn check_by(&self, checker: Checker) {
        // An agent has one.
        let _ = self.checker.set(checker);
    }

    /// Every check of every backend, as it went last.
    pub fn checks(&self) -> Vec<Checked> {
        self.checker.get().map(Checker::read).unwrap_or_default()
    }

    /// As it is now.
    pub fn read(&self) -> Report {
        self.update(|report| report.clone())
    }

    /// The same, with what is known of checks.
    pub fn whole(&self) -> Report {
        Report { failing: self.checker.get().map(Checker::failing).unwrap_or_default(), ..self.read() }
    }

    /// Changes it.
    pub fn update<T>(&self, change: impl FnOnce(&mut Report) -> T) -> T {
        // Each change is whole, whatever became of another.
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
