//! `weir run`: brings a configuration into the kernel, keeps its next hops true and does what it is asked for, until stopped.

mod apply;
pub mod command;
mod health;
mod host;
mod interfaces;
mod pending;
pub mod ports;
mod serve;
mod start;
mod syn;
mod ways;

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, anyhow};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval},
};
use tracing::{info, warn};

pub use self::host::node_addresses;
use self::{
    apply::Generation,
    command::{Applied, Event, Kind, Requests},
    pending::Pending,
    ports::{Open, Ports, Sockets},
    ways::Ways,
};
use crate::{
    config::{self, Config},
    datapath::{self, Datapath, Events, Pins, requirements},
    health::{Checker, Health},
    links::{self, Link, Mode},
    next_hops::Resolver,
    notify::Notifier,
    overrides::{self, Overrides},
    report::Shared,
    service::Service,
    steering::Family,
    stop::Stop,
};

/// How long is waited for next hops to be known: the first packets should find them.
const SETTLE: Duration = Duration::from_secs(1);

/// How often the tables are told that somebody looks after them.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Until something that failed is tried again, milliseconds.
const PAUSE_MS: u64 = 1_000;

/// What `weir run` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration's file.
    pub config: PathBuf,
    /// Where overrides are kept.
    pub state: PathBuf,
    /// This mode or none.
    pub mode: Option<Mode>,
    /// Detach when stopped.
    pub detach_on_exit: bool,
    /// Go on where hardware merges packets.
    pub force: bool,
}

/// What joins an agent to those who serve others.
pub struct Ends {
    /// What it is asked for.
    pub requests: Requests,
    /// Where metrics are served.
    pub ports: Ports,
    /// What it knows of itself.
    pub report: Shared,
    /// Who is told what has changed.
    pub notifier: Notifier,
}

impl Ends {
    /// Those of an agent that is asked there; and where its sockets can be found.
    pub fn new(requests: Requests) -> Result<(Ends, Open)> {
        let (ports, open) = Ports::new();
        let report = Shared::default();
        let notifier = Notifier::start(report.clone())?;
        Ok((Ends { requests, ports, report, notifier }, open))
    }
}

/// Runs until SIGTERM or SIGINT, and meanwhile does what it is asked for. What `open` makes, once the instance is this
/// process's, lasts until the end.
pub async fn run<T>(pins: &Pins, options: &Options, mut ends: Ends, open: impl FnOnce() -> Result<T>) -> Result<()> {
    // Listened for before anything is attached: a signal during the start is not lost.
    let mut stop = Stop::listen()?;
    let mut service = Service::listen()?;
    let (wanted, pending) = Wanted::read(options)?;
    let kernel = requirements::check()?;
    kernel.lacks().iter().for_each(|lack| info!("{lack}"));
    host::check(&wanted.config, &links::list()?)?;
    pins.prepare()?;
    let _lock = pins.lock()?;
    ends.report.update(|report| report.started_ms = overrides::now_ms());
    // Before anything else is changed: where metrics are served may be taken.
    let sockets = ends.ports.prepare(&wanted.config.metrics).inspect_err(|_| pins.remove_empty())?;
    ends.ports.serve(sockets);
    ends.report.update(|report| report.metrics = ends.ports.report());
    ends.notifier.receivers(&wanted.config.receivers);
    let _opened = open().inspect_err(|_| pins.remove_empty())?;
    let checker = health::checker(options);
    ends.report.check_by(checker.clone());
    let interfaces = wanted.config.interfaces.clone();
    let started = start::start((pins, options, &ends), &checker, wanted, kernel, &mut stop).await;
    let (mut agent, events) = started.inspect_err(|_| {
        if pins.linked().is_empty() {
            datapath::forget_neighbours(&interfaces);
        }
        pins.remove_empty();
    })?;
    agent.pending = pending;
    service.ready(&agent.running.extent);
    agent.follow(events, &mut stop, &mut service, &mut ends.requests).await?;
    service.stopping();
    if options.detach_on_exit {
        datapath::detach(pins)?;
        info!("stopped, detached");
    } else {
        info!("stopped; forwarding goes on with the last tables (weir detach ends it)");
    }
    Ok(())
}

/// What is to be in effect.
#[derive(Clone)]
struct Wanted {
    /// The configuration's file.
    file: PathBuf,
    /// What stands in it and its parts.
    texts: Arc<config::Texts>,
    /// What that says.
    config: Config,
    /// What operators said beyond it.
    overrides: Overrides,
}

impl Wanted {
    /// What to start with, and what of it waits to be confirmed.
    fn read(options: &Options) -> Result<(Self, Option<Pending>)> {
        let overrides = overrides::file::load(&options.state.join(overrides::file::NAME))?;
        let pending = Pending::load(&options.state)?;
        if let Some(pending) = pending.as_ref().filter(|pending| pending.is_over()) {
            warn!(
                "what was applied last was not confirmed in time: running what was before it (weir apply puts {} into effect)",
                options.config.display()
            );
            return Ok((Self::of(pending.file().to_owned(), pending.texts().clone(), overrides)?, None));
        }
        Ok((Self::of(options.config.clone(), config::read_all(&options.config)?, overrides)?, pending))
    }

    /// The same by another file, or by the same one read anew.
    fn read_again(&self, file: Option<PathBuf>) -> Result<Self> {
        let file = file.unwrap_or_else(|| self.file.clone());
        Self::of(file.clone(), config::read_all(&file)?, self.overrides.clone())
    }

    fn of(file: PathBuf, texts: config::Texts, overrides: Overrides) -> Result<Self> {
        let config = config::parse_all(&texts)?;
        config.warnings.iter().for_each(|warning| warn!("{}", warning.one_line()));
        Ok(Wanted { file, texts: Arc::new(texts), config, overrides })
    }

    /// The configuration in effect: the file's, with what operators said on top, and what is known of backends on top of that; with
    /// the overrides that have no effect.
    fn in_effect(&self, checker: &Checker, now_ms: u64) -> (Config, Health, Vec<overrides::Note>) {
        let (config, notes) = self.overrides.apply(&self.config, now_ms);
        let health = checker.health(&config, now_ms);
        (health.apply(config, now_ms), health, notes)
    }
}

/// A running instance.
struct Agent {
    pins: Pins,
    options: Options,
    datapath: Datapath,
    ways: Ways,
    resolver: Resolver,
    links: links::Watch,
    /// The interfaces, as they were last seen.
    attached: Vec<Link>,
    wanted: Wanted,
    ports: Ports,
    report: Shared,
    notifier: Notifier,
    /// Who finds out which backends work.
    checker: Checker,
    /// What the tables in use are, and follow from.
    running: Generation,
    /// The grace period of the last change, while it lasts.
    grace: Option<JoinHandle<()>>,
    /// The last change has left much memory to give back.
    bulky: bool,
    /// What the SYN filter was last seen doing.
    syn: syn::Seen,
    /// What was applied and is to be confirmed.
    pending: Option<Pending>,
    /// What was asked for of late.
    events: VecDeque<Event>,
    /// What the network is being told.
    telling: Vec<JoinHandle<()>>,
    /// What was last said of an interface that cannot be attached to.
    complaint: Option<String>,
    /// When to say that somebody looks after the tables.
    heart: Interval,
    /// When a drain has its next step, by the wall clock.
    step_ms: Option<u64>,
    /// When a slow start has its next step, or health is to be shown again after that failed.
    slow_ms: Option<u64>,
    /// VIPs of these families can be checked on one backend each; none before that was seen to.
    steered: Option<BTreeSet<Family>>,
}

impl Agent {
    /// On tables that are live.
    fn new(
        (pins, options, ends, checker): (&Pins, &Options, &Ends, &Checker),
        datapath: Datapath,
        resolver: Resolver,
        links: links::Watch,
        (all, attached): (&[Link], Vec<Link>),
        (wanted, running): (Wanted, Generation),
    ) -> Self {
        let ways = Ways::new(all, &attached, &running.allocation, checker);
        let mut heart = interval(HEARTBEAT);
        heart.set_missed_tick_behavior(MissedTickBehavior::Delay);
        datapath.beat();
        let syn = syn::Seen::now(&datapath, running.services());
        Agent {
            pins: pins.clone(),
            options: options.clone(),
            datapath,
            ways,
            resolver,
            links,
            attached,
            wanted,
            ports: ends.ports.clone(),
            report: ends.report.clone(),
            notifier: ends.notifier.clone(),
            checker: checker.clone(),
            running,
            grace: None,
            bulky: false,
            syn,
            pending: None,
            events: VecDeque::new(),
            telling: Vec::new(),
            complaint: None,
            heart,
            step_ms: None,
            slow_ms: None,
            steered: None,
        }
    }

    /// The loop: next hops, interfaces, datapath events and what is asked for, until told to stop.
    async fn follow(
        &mut self,
        events: Events,
        stop: &mut Stop,
        service: &mut Service,
        requests: &mut Requests,
    ) -> Result<()> {
        // SAFETY: the logger owns the ring buffer's descriptor and keeps it, open and the same, until it is dropped.
        let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
        let mut events = events.map_err(|error| anyhow!("cannot wait for datapath events: {error}"))?;
        loop {
            tokio::select! {
                changes = self.resolver.changed() => self.ways.apply(&self.datapath, &changes),
                links = self.links.changed() => self.interfaces_changed(&links?),
                ready = events.readable_mut() => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
                () = stop.wait() => return Ok(()),
                () = service.asks_for_reload() => self.reload(service).await,
                _ = self.heart.tick() => self.beat(),
                () = apply::passed(&mut self.grace) => self.settle(),
                () = apply::at(self.step_ms) => self.step().await,
                () = self.checker.changed() => self.health_changed().await,
                () = apply::at(self.slow_ms) => self.show_health().await,
                () = apply::at(self.pending.as_ref().map(|pending| pending.until_ms)) => self.undo().await,
                Some(request) = requests.recv() => self.serve(request).await,
            }
        }
    }

    /// SIGHUP: the file is read again, and its configuration put into effect if it can be.
    async fn reload(&mut self, service: &Service) {
        service.reloading();
        let applied = self.apply_file(None, None).await;
        self.note(Kind::Reload, None, "SIGHUP", "the old configuration stays: ", applied.as_ref().map(said));
        service.reloaded();
    }

    /// A drain has its next step.
    async fn step(&mut self) {
        let applied = self.apply(self.wanted.clone()).await;
        if applied.is_err() {
            self.step_ms = Some(overrides::now_ms() + PAUSE_MS);
        }
        self.note(Kind::Override, None, "drain step", "the last one stays, trying again: ", applied.as_ref().map(said));
    }

    /// What was applied is not confirmed: back to what was before.
    async fn undo(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let (file, texts) = (pending.file().to_owned(), pending.texts().clone());
        let wanted = Wanted::of(file, texts, self.wanted.overrides.clone());
        let applied = match wanted {
            Ok(wanted) => self.apply(wanted).await,
            Err(error) => Err(error),
        };
        if applied.is_err() {
            self.pending = Some(pending.again_at(overrides::now_ms() + PAUSE_MS));
        }
        self.note(Kind::Reload, None, "not confirmed, going back", "trying again: ", applied.as_ref().map(said));
    }

    /// A second has passed.
    fn beat(&mut self) {
        self.datapath.beat();
        self.watch_syns();
        self.open_ports();
        if self.attached.iter().any(|link| !self.pins.hold(&link.name, link.index)) {
            match links::list() {
                Ok(links) => self.interfaces_changed(&links),
                Err(error) => warn!("cannot look for the interfaces: {error:#}"),
            }
        }
    }
}

impl Agent {
    /// Tries again to serve metrics where it could not be done.
    fn open_ports(&self) {
        // Where it was asked for there is nothing lacking.
        if self.ports.lacks()
            && let Ok(sockets) = self.ports.prepare(&self.wanted.config.metrics)
        {
            self.serve_metrics(sockets);
        }
    }

    fn serve_metrics(&self, sockets: Sockets) {
        self.ports.serve(sockets);
        self.report.update(|report| report.metrics = self.ports.report());
    }
}

/// What there is to say of something that went live.
fn said(applied: &Applied) -> String {
    applied.notes.iter().for_each(|note| warn!("{note}"));
    applied.remarks.iter().for_each(|remark| warn!("{remark}"));
    if applied.changes.is_empty() {
        return "nothing changes".to_owned();
    }
    format!("live after {} us: {}", applied.took_us, apply::in_words(&applied.changes))
}

/// An error as the log takes it.
fn one_line(error: &anyhow::Error) -> String {
    match error.downcast_ref::<config::ConfigError>() {
        Some(error) => error.one_line(),
        None => format!("{error:#}"),
    }
}
