//! Telling people and their programs what has changed: what happens together is one message, what goes on and off again is not a
//! thousand (`batch`, pure), and a receiver that is slow or dead costs nobody but itself (`send`).

mod batch;
mod message;
mod send;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::warn;

use self::batch::Batcher;
pub use self::message::{Change, Message};
use crate::{
    config::Receiver,
    overrides::now_ms,
    report::{self, Shared},
};

/// Sets of notices that may wait to be looked at.
const WAITING: usize = 1_024;
/// Messages that may wait for one receiver.
const QUEUE: usize = 16;
/// How often an Alertmanager is told again of what lasts: it takes what it no longer hears of for over.
const REMIND: Duration = Duration::from_secs(60);

/// What a notice is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// The configuration that was read last.
    Configuration,
    /// An attached interface.
    Interface(String),
    /// An address that is a VIP, and whether it is announced.
    Address(IpAddr),
    /// A service, and whether enough of its backends work.
    Service(String),
    /// A service, and whether SYNs for it are dropped as a flood.
    Flood(String),
    /// A backend of a service.
    Backend(String, IpAddr),
}

/// That something is so now: it went wrong, or is right again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// What.
    pub subject: Subject,
    /// Whether all is well with it.
    pub ok: bool,
    /// How it is, in a few words.
    pub text: String,
}

impl Notice {
    /// Something went wrong.
    pub fn bad(subject: Subject, text: impl Into<String>) -> Self {
        Notice { subject, ok: false, text: text.into() }
    }

    /// Something is right again, or was all along.
    pub fn good(subject: Subject, text: impl Into<String>) -> Self {
        Notice { subject, ok: true, text: text.into() }
    }
}

enum Input {
    /// These are told from now on.
    Receivers(Vec<Receiver>),
    /// What has changed, and whether more may follow that belongs to it.
    Notices(Vec<Notice>, bool),
}

/// Where an agent says what has changed. It never waits.
#[derive(Clone, Debug)]
pub struct Notifier {
    inputs: mpsc::Sender<Input>,
}

impl Notifier {
    /// Starts the thread that tells others, for as long as this or a clone of it lives; `report` says what became of messages.
    pub fn start(report: Shared) -> Result<Notifier> {
        let (inputs, receiver) = mpsc::channel(WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime for notifications")?;
        let run = move || {
            runtime.block_on(Work::new(report).run(receiver));
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
        };
        thread::Builder::new()
            .name("notify".to_owned())
            .spawn(run)
            .context("cannot start the thread for notifications")?;
        Ok(Notifier { inputs })
    }

    /// These are told from now on, and no others.
    pub fn receivers(&self, receivers: &[Receiver]) {
        self.input(Input::Receivers(receivers.to_vec()));
    }

    /// These have changed, all at once.
    pub fn tell(&self, notices: Vec<Notice>) {
        self.tell_some(notices, false);
    }

    /// These have changed, and others that belong to them may follow.
    pub fn tell_some(&self, notices: Vec<Notice>, others_follow: bool) {
        if !notices.is_empty() {
            self.input(Input::Notices(notices, others_follow));
        }
    }

    fn input(&self, input: Input) {
        if self.inputs.try_send(input).is_err() {
            warn!("notify: too many changes at once: one set of them is not told");
        }
    }
}

/// One that is told, and what waits for it.
struct Worker {
    receiver: Receiver,
    name: String,
    queue: mpsc::Sender<Arc<Message>>,
}

struct Work {
    report: Shared,
    batcher: Batcher,
    workers: Vec<Worker>,
    begin: Instant,
}

impl Work {
    fn new(report: Shared) -> Self {
        Work { report, batcher: Batcher::default(), workers: Vec::new(), begin: Instant::now() }
    }

    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut remind = interval(REMIND);
        remind.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.batcher.due();
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(Input::Receivers(receivers)) => self.set(receivers),
                    Some(Input::Notices(notices, others_follow)) => {
                        let now = self.begin.elapsed();
                        notices.into_iter().for_each(|notice| self.batcher.note(now, now_ms(), notice));
                        self.batcher.expect(others_follow);
                    }
                    None => return,
                },
                () = at(self.begin, due) => {
                    if let Some(changes) = self.batcher.take(self.begin.elapsed()) {
                        self.send(Message::new(host(), now_ms(), changes), |_| true);
                    }
                }
                _ = remind.tick() => {
                    let lasting = self.batcher.lasting();
                    if !lasting.changes.is_empty() {
                        self.send(Message::new(host(), now_ms(), lasting), |receiver| matches!(receiver, Receiver::Alertmanager(_)));
                    }
                }
            }
        }
    }

    fn set(&mut self, receivers: Vec<Receiver>) {
        let mut names = BTreeSet::new();
        let mut workers = Vec::new();
        for receiver in receivers {
            let mut name = receiver.to_string();
            // Two below one host differ in what is not shown.
            for number in 2.. {
                if names.insert(name.clone()) {
                    break;
                }
                name = format!("{receiver} ({number})");
            }
            let known = self.workers.iter().position(|worker| worker.receiver == receiver && worker.name == name);
            workers.push(match known {
                Some(at) => self.workers.swap_remove(at),
                None => self.worker(receiver, name),
            });
        }
        // Those that are no longer told end with what they have; nobody counts it any more.
        self.workers = workers;
        self.report.update(|report| {
            let before = std::mem::take(&mut report.receivers);
            let known = |name: &str| before.iter().find(|receiver| receiver.name == name).cloned();
            let entry = |worker: &Worker| {
                let new = report::Receiver { name: worker.name.clone(), ..report::Receiver::default() };
                known(&worker.name).unwrap_or(new)
            };
            report.receivers = self.workers.iter().map(entry).collect();
        });
    }

    fn worker(&self, receiver: Receiver, name: String) -> Worker {
        let (queue, messages) = mpsc::channel(QUEUE);
        tokio::spawn(send::work(receiver.clone(), name.clone(), messages, self.report.clone()));
        Worker { receiver, name, queue }
    }

    fn send(&self, message: Message, to: impl Fn(&Receiver) -> bool) {
        let message = Arc::new(message);
        for worker in self.workers.iter().filter(|worker| to(&worker.receiver)) {
            if worker.queue.try_send(message.clone()).is_err() {
                warn!("notify: {}: {QUEUE} messages wait already: one more is dropped", worker.name);
                send::count(&self.report, &worker.name, |receiver| receiver.dropped += 1);
            }
        }
    }
}

/// Returns at a time since `begin`; never at none.
async fn at(begin: Instant, due: Option<Duration>) {
    match due {
        Some(due) => sleep(due.saturating_sub(begin.elapsed())).await,
        None => std::future::pending().await,
    }
}

/// What this host is called.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}
