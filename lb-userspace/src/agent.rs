//! `weir run`: brings a configuration into the kernel, keeps its next hops true and does what it is asked for, until stopped.

mod apply;
pub mod command;
mod host;
mod interfaces;
mod start;
mod ways;

use std::{path::PathBuf, time::Duration};

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
    command::{Applied, Requests},
    ways::Ways,
};
use crate::{
    config::{self, Config},
    datapath::{self, Datapath, Events, Pins, requirements},
    links::{self, Link, Mode},
    next_hops::Resolver,
    overrides::{self, Overrides},
    service::Service,
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

/// Runs until SIGTERM or SIGINT, and meanwhile does what `requests` ask for.
pub async fn run(pins: &Pins, options: &Options, mut requests: Requests) -> Result<()> {
    // Listened for before anything is attached: a signal during the start is not lost.
    let mut stop = Stop::listen()?;
    let mut service = Service::listen()?;
    let wanted = Wanted::read(options)?;
    let kernel = requirements::check()?;
    kernel.lacks().iter().for_each(|lack| info!("{lack}"));
    host::check(&wanted.config, &links::list()?)?;
    pins.prepare()?;
    let _lock = pins.lock()?;
    let started = start::start(pins, options, wanted, kernel, &mut stop).await;
    let (mut agent, events) = started.inspect_err(|_| pins.remove_empty())?;
    service.ready(&agent.running.extent);
    agent.follow(events, &mut stop, &mut service, &mut requests).await?;
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
    /// What it says.
    config: Config,
    /// What operators said beyond it.
    overrides: Overrides,
}

impl Wanted {
    fn read(options: &Options) -> Result<Self> {
        let overrides = overrides::file::load(&options.state.join(overrides::file::NAME))?;
        let wanted = Wanted { file: options.config.clone(), config: config::load(&options.config)?, overrides };
        wanted.warn();
        Ok(wanted)
    }

    /// The same with its file read anew.
    fn read_again(&self) -> Result<Self> {
        let wanted = Wanted { config: config::load(&self.file)?, ..self.clone() };
        wanted.warn();
        Ok(wanted)
    }

    fn warn(&self) {
        self.config.warnings.iter().for_each(|warning| warn!("{}", warning.one_line()));
    }
}

/// A running instance.
struct Agent {
    datapath: Datapath,
    ways: Ways,
    resolver: Resolver,
    links: links::Watch,
    /// The interfaces, as they were last seen.
    attached: Vec<Link>,
    wanted: Wanted,
    /// What the tables in use are, and follow from.
    running: Generation,
    /// The grace period of the last change, while it lasts.
    grace: Option<JoinHandle<()>>,
    /// When to say that somebody looks after the tables.
    heart: Interval,
    /// When a drain has its next step, by the wall clock.
    step_ms: Option<u64>,
}

impl Agent {
    /// On tables that are live.
    fn new(
        datapath: Datapath,
        resolver: Resolver,
        links: links::Watch,
        (all, attached): (&[Link], Vec<Link>),
        (wanted, running): (Wanted, Generation),
    ) -> Self {
        let ways = Ways::new(all, &attached, &running.allocation);
        let mut heart = interval(HEARTBEAT);
        heart.set_missed_tick_behavior(MissedTickBehavior::Delay);
        datapath.beat();
        Agent { datapath, ways, resolver, links, attached, wanted, running, grace: None, heart, step_ms: None }
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
                links = self.links.changed() => self.interfaces_changed(&links?)?,
                ready = events.readable_mut() => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
                () = stop.wait() => return Ok(()),
                () = service.asks_for_reload() => self.reload(service).await,
                _ = self.heart.tick() => self.datapath.beat(),
                () = apply::passed(&mut self.grace) => self.settle(),
                () = apply::at(self.step_ms) => self.step().await,
                Some(_request) = requests.recv() => {}
            }
        }
    }

    fn warn(applied: &Applied) {
        applied.notes.iter().for_each(|note| warn!("{note}"));
        applied.remarks.iter().for_each(|remark| warn!("{remark}"));
    }

    /// SIGHUP: the file is read again, and its configuration put into effect if it can be.
    async fn reload(&mut self, service: &Service) {
        service.reloading();
        let applied = match self.wanted.read_again() {
            Ok(wanted) => self.apply(wanted).await,
            Err(error) => Err(error),
        };
        applied.iter().for_each(Self::warn);
        match applied {
            Ok(applied) if applied.changes.is_empty() => info!("SIGHUP: nothing changes, {}", self.running.extent),
            Ok(applied) => {
                info!("SIGHUP: live after {} us: {}", applied.took_us, apply::in_words(&applied.changes));
                info!("{}", self.running.extent);
            }
            Err(error) => tracing::error!("SIGHUP: the old configuration stays: {}", one_line(&error)),
        }
        service.reloaded();
    }

    /// A drain has its next step.
    async fn step(&mut self) {
        match self.apply(self.wanted.clone()).await {
            Ok(applied) => info!("drain: {}", apply::in_words(&applied.changes)),
            Err(error) => {
                tracing::error!("drain: the last step stays, trying again: {}", one_line(&error));
                self.step_ms = Some(overrides::now_ms() + PAUSE_MS);
            }
        }
    }
}

/// An error as the log takes it.
fn one_line(error: &anyhow::Error) -> String {
    match error.downcast_ref::<config::ConfigError>() {
        Some(error) => error.one_line(),
        None => format!("{error:#}"),
    }
}
