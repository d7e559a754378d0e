//! What results of checks mean. No clock and no effects: times come in, in milliseconds of the wall clock, so that they mean the
//! same after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    probe::{Outcome, Reason},
    probes::{Key, targets},
};
use crate::config::{Check, Config, Service, Start};

/// A backend that falls again within this time of its last fall is damped.
const FLAP_MS: u64 = 5 * 60_000;
/// How often the successes that it needs are doubled at most.
const MOST_DOUBLINGS: u32 = 5;

/// All that is known of backends that are checked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Health {
    pub(super) services: BTreeMap<String, Of>,
}

/// Of one service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Of {
    pub backends: BTreeMap<IpAddr, Standing>,
    /// The backends that worked when any did, as the tables last had it.
    #[serde(default)]
    pub last: BTreeSet<IpAddr>,
}

/// Of one backend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Standing {
    /// It passes all its checks.
    pub up: bool,
    /// Since when.
    pub since_ms: u64,
    /// It came back, and takes its slots over time.
    #[serde(default)]
    pub came_back: bool,
    /// When it fell last.
    #[serde(default)]
    fell_ms: Option<u64>,
    /// How often the successes that it needs are doubled.
    #[serde(default)]
    doublings: u32,
    /// One for each check and address that it goes to.
    runs: Vec<Run>,
}

/// How one check of a backend went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Run {
    up: bool,
    /// Results in a row that say otherwise.
    row: u32,
    /// Why the last one failed, until one does not.
    #[serde(default)]
    reason: Option<Reason>,
    /// The weight that a command gave it.
    #[serde(default)]
    weight: Option<u16>,
}

/// A backend that works and failed the last check, not often enough in a row yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failing {
    /// The service's name.
    pub service: String,
    /// Its address.
    pub backend: IpAddr,
    /// Why.
    pub reason: String,
}

/// What a result has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The service.
    pub service: String,
    /// The backend.
    pub backend: IpAddr,
    /// What is different.
    pub what: What,
}

/// What is different about a backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// It works again.
    Up,
    /// It does not work any more.
    Down(Reason),
    /// A command gives it another weight.
    Weight(u16),
}

impl Health {
    /// Fits it to a configuration: backends and checks that are new begin, those that are gone are forgotten, all others stay.
    pub fn fit(&mut self, config: &Config, now_ms: u64) {
        let checked = |service: &&Arc<Service>| !service.health.checks.is_empty();
        let mut before = std::mem::take(&mut self.services);
        for service in config.services.values().filter(checked) {
            let mut of = before.remove(&service.name).unwrap_or_default();
            let starts: Vec<Start> = targets(service).map(|(check, _)| check.start).collect();
            let mut backends = BTreeMap::new();
            for backend in service.backends.iter() {
                let known = of.backends.remove(&backend.address);
                backends.insert(backend.address, Standing::fitted(known, &starts, now_ms));
            }
            of.last.retain(|last| backends.contains_key(last));
            self.services.insert(service.name.clone(), Of { backends, ..of });
        }
    }

    /// Takes a result in. Returns what it changes.
    pub fn judge(&mut self, key: &Key, check: &Check, outcome: &Outcome, now_ms: u64) -> Option<Change> {
        let of = self.services.get_mut(&key.service)?;
        let standing = of.backends.get_mut(&key.backend)?;
        let what = standing.judge(key.run, check, outcome, now_ms)?;
        Some(Change { service: key.service.clone(), backend: key.backend, what })
    }

    /// The tables are as `shown` says: who works there are the last that did, as long as nobody else does.
    pub fn in_effect(&mut self, shown: &Health) {
        for (name, of) in &mut self.services {
            let shown = shown.services.get(name).into_iter().flat_map(|shown| &shown.backends);
            let up: BTreeSet<_> = shown.filter(|(_, standing)| standing.up).map(|(address, _)| *address).collect();
            if !up.is_empty() {
                of.last = up;
            }
        }
    }

    /// Whether a backend works: all that are not checked do.
    pub fn is_up(&self, service: &str, backend: IpAddr) -> bool {
        self.standing(service, backend).is_none_or(|standing| standing.up)
    }

    /// Whether results in a row say otherwise of some check than what counts, so that it may change soon.
    pub fn is_undecided(&self) -> bool {
        let standings = self.services.values().flat_map(|of| of.backends.values());
        standings.flat_map(|standing| &standing.runs).any(|run| run.row > 0)
    }

    /// Who works and failed the last check.
    pub fn failing(&self) -> Vec<Failing> {
        let mut failing = Vec::new();
        for (service, of) in &self.services {
            for (backend, standing) in of.backends.iter().filter(|(_, standing)| standing.up) {
                failing.extend(standing.reason().map(|reason| Failing {
                    service: service.clone(),
                    backend: *backend,
                    reason: reason.text.clone(),
                }));
            }
        }
        failing
    }

    pub(super) fn standing(&self, service: &str, backend: IpAddr) -> Option<&Standing> {
        self.services.get(service)?.backends.get(&backend)
    }

    /// Whether one check of a backend counts as passed, and why its last run failed if it did.
    pub fn run(&self, key: &Key) -> Option<(bool, Option<&Reason>)> {
        let run = self.standing(&key.service, key.backend)?.runs.get(key.run)?;
        Some((run.up, run.reason.as_ref()))
    }
}

impl Standing {
    /// What was known if it fits; a check that is new is what the backend is, and a backend that is new what its checks say.
    fn fitted(known: Option<Standing>, starts: &[Start], now_ms: u64) -> Self {
        let run = |up| Run { up, row: 0, reason: None, weight: None };
        match known {
            Some(known) if known.runs.len() == starts.len() => known,
            Some(known) => Standing { runs: starts.iter().map(|_| run(known.up)).collect(), ..known },
            None => {
                let runs: Vec<_> = starts.iter().map(|start| run(*start == Start::Up)).collect();
                Standing {
                    up: runs.iter().all(|run| run.up),
                    since_ms: now_ms,
                    came_back: false,
                    fell_ms: None,
                    doublings: 0,
                    runs,
                }
            }
        }
    }

    fn judge(&mut self, run: usize, check: &Check, outcome: &Outcome, now_ms: u64) -> Option<What> {
        let weight = self.weight();
        let doublings = self.doublings;
        let run = self.runs.get_mut(run)?;
        match outcome {
            Outcome::Down(reason) => {
                run.reason = Some(reason.clone());
                run.fails(check.fall);
            }
            Outcome::Up { weight } => {
                run.weight = weight.or(run.weight);
                run.passes(check.rise << doublings);
            }
            Outcome::Keep => run.passes(check.rise << doublings),
            Outcome::Unasked(_) => return None,
        }
        let up = self.runs.iter().all(|run| run.up);
        if up == self.up {
            return self.weight().filter(|now| Some(*now) != weight).map(What::Weight);
        }
        (self.up, self.since_ms, self.came_back) = (up, now_ms, up);
        if up {
            return Some(What::Up);
        }
        let again = self.fell_ms.is_some_and(|fell| now_ms.saturating_sub(fell) < FLAP_MS);
        self.doublings = if again { (self.doublings + 1).min(MOST_DOUBLINGS) } else { 0 };
        self.fell_ms = Some(now_ms);
        self.reason().cloned().map(What::Down)
    }

    /// Why it does not work, or why one of its checks failed last though it does.
    pub fn reason(&self) -> Option<&Reason> {
        let failing = self.runs.iter().filter(|run| !run.up);
        failing.chain(self.runs.iter().filter(|run| run.up)).find_map(|run| run.reason.as_ref())
    }

    /// The weight that commands give it: the least, if there are several.
    pub fn weight(&self) -> Option<u16> {
        self.runs.iter().filter_map(|run| run.weight).min()
    }
}

impl Run {
    fn passes(&mut self, rise: u32) {
        self.reason = None;
        self.row = if self.up { 0 } else { self.row + 1 };
        if self.row >= rise {
            (self.up, self.row) = (true, 0);
        }
    }

    fn fails(&mut self, fall: u32) {
        self.row = if self.up { self.row + 1 } else { 0 };
        if self.row >= fall {
            (self.up, self.row) = (false, 0);
        }
    }
}
