//! When who is checked. One task keeps all times in a heap and starts each check as a task of its own; results are judged as they
//! come, whatever the agent is busy with meanwhile.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    judge::{Change, Failing, Health, What},
    probe::{Outcome, Reason, ReasonKind, probe},
    probes::{Key, Probe, probes},
};
use crate::{
    config::{Config, Via},
    overrides::now_ms,
};

/// Checks under way at a time; each may have a socket. Those beyond wait.
const MOST_UNDER_WAY: usize = 4_096;
/// Changes are handed on together once none has come for so long ...
const QUIET: Duration = Duration::from_millis(200);
/// ... or once the first has waited for so long.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// The checks of an agent. Clones are the same; when the last is gone, checking ends.
#[derive(Clone)]
pub struct Checker(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    state: Mutex<State>,
    /// Other checks are asked for.
    other: Notify,
    /// Something has changed.
    changed: Notify,
    under_way: Arc<Semaphore>,
    /// Marks of backends to which no next hop is known.
    lost: Mutex<HashSet<u32>>,
}

#[derive(Default)]
struct State {
    health: Health,
    slots: Vec<Arc<Slot>>,
    changes: Vec<Change>,
    first: Option<Instant>,
    last: Option<Instant>,
    measured: HashMap<Key, Measured>,
}

/// A check that is scheduled.
struct Slot {
    probe: Probe,
    under_way: AtomicBool,
    /// Nobody asks for it any more.
    gone: AtomicBool,
}

/// What is known of the runs of one check.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    duration: Duration,
    late: Duration,
    changes: u64,
    runs: u64,
    failed: u64,
    last_error: Option<ReasonKind>,
}

/// One check of one backend, as metrics and `weir status` see it.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    /// The service's name.
    pub service: String,
    /// The backend.
    pub backend: std::net::IpAddr,
    /// The kind of the check.
    pub check: &'static str,
    /// The VIP that it goes to.
    pub vip: String,
    /// It counts as passed.
    pub up: bool,
    /// Why the last run failed, if it did.
    pub reason: Option<Reason>,
    /// What the last failure was, even if it is over.
    pub last_error: Option<ReasonKind>,
    /// How long the last run took.
    pub duration: Duration,
    /// How long after its time the last run began.
    pub late: Duration,
    /// How often the backend came or went by this check.
    pub changes: u64,
    /// Runs.
    pub runs: u64,
    /// Runs that failed.
    pub failed: u64,
}

impl Checker {
    /// Begins with what is known; checks nothing before [`Checker::follow`] says what.
    pub fn start(health: Health) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { health, ..State::default() }),
            other: Notify::new(),
            changed: Notify::new(),
            under_way: Arc::new(Semaphore::new(MOST_UNDER_WAY)),
            lost: Mutex::default(),
        });
        let task = tokio::spawn(schedule(Arc::clone(&shared)));
        Checker(Arc::new(Running { shared, task }))
    }

    /// Checks what a configuration asks for that is in effect since `now_ms`. `steer` sees to it that a check of a VIP reaches its
    /// backend. Checks that stay keep their times.
    pub fn follow(&self, config: &Config, now_ms: u64, steer: impl Fn(&mut Probe)) {
        let mut wanted = probes(config);
        wanted.iter_mut().for_each(steer);
        let mut state = self.0.shared.lock();
        let same = state.slots.len() == wanted.len() && state.slots.iter().zip(&wanted).all(|(a, b)| a.probe == *b);
        if same {
            return;
        }
        state.health.fit(config, now_ms);
        let mut known: HashMap<Key, Arc<Slot>> =
            state.slots.drain(..).map(|slot| (slot.probe.key.clone(), slot)).collect();
        let slot = |probe: Probe| match known.remove(&probe.key) {
            Some(slot) if slot.probe == probe => slot,
            before => {
                before.inspect(|before| before.gone.store(true, Ordering::Relaxed));
                Arc::new(Slot { probe, under_way: AtomicBool::new(false), gone: AtomicBool::new(false) })
            }
        };
        let slots = wanted.into_iter().map(slot).collect();
        known.into_values().for_each(|slot| slot.gone.store(true, Ordering::Relaxed));
        state.slots = slots;
        let keys: HashSet<_> = state.slots.iter().map(|slot| slot.probe.key.clone()).collect();
        state.measured.retain(|key, _| keys.contains(key));
        drop(state);
        self.0.shared.other.notify_one();
    }

    /// Whether the next hop is known of the backend that a mark leads to. Else a check by that way has nobody to ask, and fails at once.
    pub fn knows_way(&self, mark: u32, known: bool) {
        let mut lost = self.0.shared.lost();
        if known {
            lost.remove(&mark)
        } else {
            lost.insert(mark)
        };
    }

    /// What is known, fitted to a configuration that is to be in effect.
    pub fn health(&self, config: &Config, now_ms: u64) -> Health {
        let mut health = self.0.shared.lock().health.clone();
        health.fit(config, now_ms);
        health
    }

    /// That is in effect; returns what to keep of what is known.
    pub fn in_effect(&self, shown: &Health) -> Health {
        let mut state = self.0.shared.lock();
        state.health.in_effect(shown);
        state.health.clone()
    }

    /// Returns once something has changed and is worth a change of the tables; then [`Checker::take`] has all of it.
    pub async fn changed(&self) {
        loop {
            let due = {
                let state = self.0.shared.lock();
                state.first.zip(state.last).map(|(first, last)| (first + MOST_WAIT).min(last + QUIET))
            };
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = wait => return,
                () = self.0.shared.changed.notified() => {}
            }
        }
    }

    /// Whether more may change soon: checks have failed, or passed, and do not count as that yet.
    pub fn is_undecided(&self) -> bool {
        self.0.shared.lock().health.is_undecided()
    }

    /// What has changed since this was asked last; of a backend that went and came, both.
    pub fn take(&self) -> Vec<Change> {
        let mut state = self.0.shared.lock();
        (state.first, state.last) = (None, None);
        std::mem::take(&mut state.changes)
    }

    /// Who works and failed the last check.
    pub fn failing(&self) -> Vec<Failing> {
        self.0.shared.lock().health.failing()
    }

    /// Every check, as it went last.
    pub fn read(&self) -> Vec<Checked> {
        let state = self.0.shared.lock();
        let checked = |slot: &Arc<Slot>| {
            let Probe { key, check, target } = &slot.probe;
            let (up, reason) = state.health.run(key)?;
            let Measured { duration, late, changes, runs, failed, last_error } =
                state.measured.get(key).copied().unwrap_or_default();
            Some(Checked {
                service: key.service.clone(),
                backend: key.backend,
                check: check.kind.name(),
                vip: target.vip.to_string(),
                up,
                reason: reason.cloned(),
                last_error,
                duration,
                late,
                changes,
                runs,
                failed,
            })
        };
        state.slots.iter().filter_map(checked).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole, whatever became of another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, where there is a way.
    async fn ask(&self, Probe { check, target, .. }: &Probe) -> Outcome {
        if check.via == Via::Vip && target.mark.is_some_and(|mark| self.lost().contains(&mark)) {
            return Outcome::Down(Reason::new(ReasonKind::Unreachable, "next hop: not known"));
        }
        probe(check, target).await
    }

    /// Takes a result in, unless nobody asks for it any more.
    fn judge(&self, slot: &Arc<Slot>, outcome: &Outcome, duration: Duration, late: Duration) {
        let mut state = self.lock();
        let Probe { key, check, .. } = &slot.probe;
        if slot.gone.load(Ordering::Relaxed) {
            return;
        }
        let change = state.health.judge(key, check, outcome, now_ms());
        let measured = state.measured.entry(key.clone()).or_default();
        (measured.duration, measured.late) = (duration, late);
        measured.runs += 1;
        measured.failed += u64::from(matches!(outcome, Outcome::Down(_)));
        if let Outcome::Down(reason) | Outcome::Unasked(reason) = outcome {
            measured.last_error = Some(reason.kind);
        }
        if let Some(change) = change {
            measured.changes += u64::from(!matches!(change.what, What::Weight(_)));
            let now = Instant::now();
            state.changes.push(change);
            (state.first, state.last) = (state.first.or(Some(now)), Some(now));
            drop(state);
            self.changed.notify_one();
        }
    }
}

/// Checks by the time of their next run; the number is that of the slot.
type Times = BinaryHeap<Reverse<(Instant, usize)>>;

/// Starts each check when its time has come.
async fn schedule(shared: Arc<Shared>) {
    let mut heap = Times::new();
    let mut slots: Vec<Arc<Slot>> = Vec::new();
    loop {
        let next = heap.peek().map(|Reverse((at, _))| *at);
        let wait = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = shared.other.notified() => (heap, slots) = rescheduled(&shared, &heap, &slots),
            () = wait => {}
        }
        let now = Instant::now();
        while let Some(Reverse((at, index))) = heap.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            heap.pop();
            let slot = &slots[index];
            // Times stay on their grid; those that have passed by are left out.
            let every = slot.probe.check.every;
            let missed = (now - at).as_nanos() / every.as_nanos().max(1);
            heap.push(Reverse((at + every * (u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1), index)));
            if !slot.under_way.swap(true, Ordering::Relaxed) {
                tokio::spawn(run(Arc::clone(&shared), Arc::clone(slot), at));
            }
        }
    }
}

/// The schedule for the checks that are asked for now: those that were there keep their times.
fn rescheduled(shared: &Shared, heap: &Times, before: &[Arc<Slot>]) -> (Times, Vec<Arc<Slot>>) {
    let slots = shared.lock().slots.clone();
    let times: HashMap<&Key, (Instant, Duration)> = heap
        .iter()
        .filter_map(|Reverse((at, index))| before.get(*index).map(|slot| (slot, *at)))
        .map(|(slot, at)| (&slot.probe.key, (at, slot.probe.check.every)))
        .collect();
    let now = Instant::now();
    let at = |slot: &Slot| match times.get(&slot.probe.key) {
        Some((at, every)) if *every == slot.probe.check.every => *at,
        _ => now + slot.probe.offset(),
    };
    let heap = slots.iter().enumerate().map(|(index, slot)| Reverse((at(slot), index))).collect();
    (heap, slots)
}

async fn run(shared: Arc<Shared>, slot: Arc<Slot>, at: Instant) {
    let Ok(_permit) = Arc::clone(&shared.under_way).acquire_owned().await else { return };
    let begin = Instant::now();
    let outcome = shared.ask(&slot.probe).await;
    slot.under_way.store(false, Ordering::Relaxed);
    shared.judge(&slot, &outcome, begin.elapsed(), begin - at);
}
