//! The start: from a valid configuration on a fit host to tables that packets meet.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{Agent, Ends, Options, SETTLE, Wanted, apply::Generation, host};
use crate::{
    config::{Announce, Config},
    datapath::{self, Adopted, Attachment, Events, Found, Pins, Started, grace_period, requirements::Kernel},
    health::{Checker, Health},
    links::{self, Link, Mode},
    next_hops::{Resolver, own_interfaces},
    offloads, overrides,
    plan::{Tables, plan},
    report::Reload,
    stop::Stop,
};

/// Goes on with what runs, or starts beside it and takes over from it.
pub async fn start(
    (pins, options, ends): (&Pins, &Options, &Ends),
    checker: &Checker,
    wanted: Wanted,
    kernel: Kernel,
    stop: &mut Stop,
) -> Result<(Agent, Events)> {
    let now_ms = overrides::now_ms();
    let (config, health, notes) = wanted.in_effect(checker, now_ms);
    notes.iter().for_each(|note| warn!("{note}"));
    // Looked at once the instance is ours: what is attached does not change under our hands.
    let links = links::list()?;
    let attached = host::attached_links(&config, &links)?;
    let interfaces: Vec<_> = attached.iter().map(|link| host::attachment(&config, link, false)).collect();
    let start = Start { pins, options, ends, checker, health, now_ms, kernel, links, attached, interfaces };
    let (mut agent, events) = match datapath::find(pins, &start.interfaces, options.mode)? {
        Found::Same(adopted) if !fits(&adopted, &config) => {
            info!("what runs is loaded anew: another arena");
            start.anew(wanted, &config, stop).await?
        }
        Found::Same(adopted) => match start.go_on(*adopted, &wanted, &config, stop).await {
            Ok(started) => started,
            Err(error) if error.is::<Stopped>() => return Err(error),
            Err(error) => {
                warn!("what runs cannot be changed in place: {}: loading beside it", super::one_line(&error));
                start.anew(wanted, &config, stop).await?
            }
        },
        Found::Other(difference) => {
            info!("what runs is loaded anew: {difference}");
            start.anew(wanted, &config, stop).await?
        }
        Found::Nothing => start.anew(wanted, &config, stop).await?,
    };
    if agent.announces() {
        agent.tell_anew();
    }
    info!("{}", agent.running.extent);
    ends.report.update(|report| report.reload = Reload { done_ms: overrides::now_ms(), error: None });
    Ok((agent, events))
}

/// A signal came first.
#[derive(Debug, thiserror::Error)]
#[error("stopped before anything was attached or changed")]
struct Stopped;

/// Whether the arena is as large as the configuration says, if it says so.
fn fits(adopted: &Adopted, config: &Config) -> bool {
    config.arena.is_none_or(|arena| arena == adopted.datapath.arena())
}

/// What is known when it begins.
struct Start<'a> {
    pins: &'a Pins,
    options: &'a Options,
    ends: &'a Ends,
    checker: &'a Checker,
    /// As the configuration has it.
    health: Health,
    now_ms: u64,
    kernel: Kernel,
    links: Vec<Link>,
    attached: Vec<Link>,
    interfaces: Vec<Attachment>,
}

impl Start<'_> {
    fn own_interfaces(&self) -> BTreeSet<u32> {
        own_interfaces(&self.links, |link| self.attached.iter().any(|attached| attached.index == link.index))
    }

    /// Takes over what another agent has left: programs and links stay, tables change only where something differs.
    async fn go_on(
        &self,
        adopted: Adopted,
        wanted: &Wanted,
        config: &Config,
        stop: &mut Stop,
    ) -> Result<(Agent, Events)> {
        let Adopted { datapath, description, modes, events } = adopted;
        let watch = links::Watch::start()?;
        let running = Generation::found(&datapath, description)?;
        let backends: BTreeSet<_> = host::backend_addresses(config).into_iter().collect();
        let mut resolver = Resolver::start(backends.union(&running.backends).copied().collect()).await?;
        resolver.sweep_left_over(&self.own_interfaces());
        host::check_offloads(&self.attached, &self.links, &resolver, self.options.force)?;
        tokio::select! {
            biased;
            () = stop.wait() => return Err(Stopped.into()),
            () = resolver.settle(SETTLE) => {}
        }
        let hops = resolver.snapshot();
        let attached = (&self.links[..], self.attached.clone());
        let mut agent = Agent::new(
            (self.pins, self.options, self.ends, self.checker),
            datapath,
            resolver,
            watch,
            attached,
            (wanted.clone(), running),
        );
        agent.ways.apply(&agent.datapath, &hops);
        // What the other agent changed last may still be met by packets under way.
        agent.grace = Some(spawn_blocking(grace_period));
        let applied = agent.apply(wanted.clone()).await?;
        applied.remarks.iter().for_each(|remark| warn!("{remark}"));
        agent.show_interfaces(config);
        for (link, mode) in self.attached.iter().zip(&modes) {
            info!("interface {}: goes on in {} mode", link.name, mode_text(*mode));
        }
        self.warn_of_offloads(&modes);
        Ok((agent, events))
    }

    /// Loads programs and tables beside what runs, if anything does, and replaces that.
    async fn anew(&self, wanted: Wanted, config: &Config, stop: &mut Stop) -> Result<(Agent, Events)> {
        let Start { pins, attached, links, .. } = self;
        let watch = links::Watch::start()?;
        let mut resolver = Resolver::start(host::backend_addresses(config)).await?;
        resolver.sweep_left_over(&self.own_interfaces());
        host::check_offloads(attached, links, &resolver, self.options.force)?;
        let tables = prepare(config, attached, &mut resolver, stop).await?;

        let loaded = datapath::load(pins, self.kernel, &tables, self.interfaces.clone())?;
        let ways = super::Ways::new(links, attached, &tables.allocation, self.checker);
        ways.apply(loaded.datapath(), &resolver.snapshot());
        loaded.datapath().set_announce(announces(pins, config.announce));
        let counted = pins.counted();
        if let Some(counted) = &counted {
            loaded.datapath().carry(counted, &tables.allocation, false)?;
        }
        let Started { datapath, modes, events } = loaded.attach(self.options.mode)?;
        if let Some(counted) = counted {
            // The old programs have counted on until now.
            spawn_blocking(grace_period).await.context("waiting for a grace period failed")?;
            datapath.carry(&counted, &tables.allocation, true)?;
        }
        for (link, mode) in attached.iter().zip(&modes) {
            match mode {
                Mode::Native => info!("interface {}: attached in native mode", link.name),
                Mode::Generic => {
                    warn!("interface {}: attached in generic mode, which is much slower than native", link.name)
                }
            }
        }
        self.warn_of_offloads(&modes);
        let step_ms = wanted.overrides.next_step_ms(overrides::now_ms());
        let running = Generation::new(config, tables);
        let mut agent = Agent::new(
            (self.pins, self.options, self.ends, self.checker),
            datapath,
            resolver,
            watch,
            (links, attached.clone()),
            (wanted, running),
        );
        agent.step_ms = step_ms;
        agent.slow_ms = self.health.next_step_ms(config, overrides::now_ms());
        agent.watch(config, &self.health, self.now_ms);
        Ok((agent, events))
    }

    /// As they are now: attaching turns some off.
    fn warn_of_offloads(&self, modes: &[Mode]) {
        for (link, mode) in self.attached.iter().zip(modes) {
            if let Ok(found) = offloads::read(link.index) {
                let warnings = offloads::warnings(link, found, Some(*mode), &self.links, &[]);
                warnings.iter().for_each(|warning| warn!("{warning}"));
            }
        }
    }
}

/// Plans the tables, while the network is asked for next hops and for others that have the VIPs.
async fn prepare(config: &Config, attached: &[Link], resolver: &mut Resolver, stop: &mut Stop) -> Result<Tables> {
    let vips = host::vip_addresses(config);
    let planning = {
        let (config, node) = (config.clone(), host::node_addresses(attached));
        spawn_blocking(move || plan(&config, node))
    };
    let asking =
        async { if config.announce == Announce::Arp { host::refuse_conflicts(attached, &vips).await } else { Ok(()) } };
    tokio::select! {
        // A signal meanwhile counts, also where there is nothing to wait for.
        biased;
        () = stop.wait() => Err(Stopped.into()),
        (planned, asked, ()) = async { tokio::join!(planning, asking, resolver.settle(SETTLE)) } => {
            asked?;
            planned.context("planning the tables failed")?
        }
    }
}

/// Whether VIPs are to be announced. By hand it is as it was: a restart must not silence the master.
fn announces(pins: &Pins, announce: Announce) -> bool {
    match announce {
        Announce::Arp => true,
        Announce::None => false,
        Announce::Manual => pins.announced().unwrap_or_else(|| {
            if pins.tables().exists() {
                warn!("VIPs are not announced: whether they were cannot be read (weir announce on)");
            }
            false
        }),
    }
}

fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
    }
}
