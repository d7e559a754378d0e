//! The start: from a valid configuration on a fit host to tables that packets meet.

use anyhow::{Context, Result, bail};
use tracing::{info, warn};

use super::{Agent, Options, SETTLE, Wanted, apply::Generation, host, interfaces::tell_network, ways::Ways};
use crate::{
    config::{Announce, Config},
    datapath::{self, Access, Datapath, Events, Pins, Started, requirements::Kernel},
    links::{self, Link, Mode},
    next_hops::Resolver,
    offloads, overrides,
    plan::{Tables, plan},
    stop::Stop,
};

/// Starts beside what runs, and takes over from it.
pub async fn start(
    pins: &Pins,
    options: &Options,
    wanted: Wanted,
    kernel: Kernel,
    stop: &mut Stop,
) -> Result<(Agent, Events)> {
    let now_ms = overrides::now_ms();
    let (config, notes) = wanted.overrides.apply(&wanted.config, now_ms);
    notes.iter().for_each(|note| warn!("{note}"));
    // Looked at once the instance is ours: what is attached does not change under our hands.
    let links = links::list()?;
    let attached = host::attached_links(&config, &links)?;
    let watch = links::Watch::start()?;
    let mut resolver = Resolver::start(host::backend_addresses(&config)).await?;
    host::check_offloads(&attached, &links, &resolver, options.force)?;
    let tables = prepare(&config, &attached, &mut resolver, stop).await?;
    resolver.warnings().iter().for_each(|warning| warn!("{warning}"));

    let ways = Ways::new(&links, &attached, &tables);
    let announce = announces(pins, config.announce);
    let interfaces = attached.iter().map(|link| host::attachment(&config, link, announce)).collect();
    let loaded = datapath::load(pins, kernel, &tables, interfaces)?;
    ways.apply(loaded.datapath(), &resolver.snapshot());
    // What was said to the old tables in the meantime counts.
    let announce = announces(pins, config.announce);
    let Started { datapath, modes, events } = loaded.attach(options.mode)?;
    datapath.set_announce(announce);
    say_modes(&attached, &modes, &links);
    if announce {
        tell_network(&attached, &host::vip_addresses(&config));
    }
    let running = Generation::new(&config, tables);
    info!("{}", running.extent);
    let step_ms = wanted.overrides.next_step_ms(now_ms);
    let agent = Agent { datapath, ways, resolver, links: watch, attached, wanted, running, grace: None, step_ms };
    Ok((agent, events))
}

/// Plans the tables, while the network is asked for next hops and for others that have the VIPs.
async fn prepare(config: &Config, attached: &[Link], resolver: &mut Resolver, stop: &mut Stop) -> Result<Tables> {
    let vips = host::vip_addresses(config);
    let planning = {
        let (config, node) = (config.clone(), host::node_addresses(attached));
        tokio::task::spawn_blocking(move || plan(&config, node))
    };
    let asking =
        async { if config.announce == Announce::Arp { host::refuse_conflicts(attached, &vips).await } else { Ok(()) } };
    tokio::select! {
        // A signal meanwhile counts, also where there is nothing to wait for.
        biased;
        () = stop.wait() => bail!("stopped before anything was attached"),
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
        Announce::Manual => match Datapath::open(pins, Access::Read) {
            Ok(old) => old.interfaces().iter().any(|entry| entry.announce != 0),
            Err(error) => {
                if pins.tables().exists() {
                    warn!("VIPs are not announced: whether they were cannot be read: {error:#}");
                }
                false
            }
        },
    }
}

fn say_modes(attached: &[Link], modes: &[Mode], links: &[Link]) {
    for (link, mode) in attached.iter().zip(modes) {
        match mode {
            Mode::Native => info!("interface {}: attached in native mode", link.name),
            Mode::Generic => {
                warn!("interface {}: attached in generic mode, which is much slower than native", link.name)
            }
        }
        // As they are now: attaching turns some off.
        if let Ok(found) = offloads::read(link.index) {
            offloads::warnings(link, found, Some(*mode), links, &[]).iter().for_each(|warning| warn!("{warning}"));
        }
    }
}
