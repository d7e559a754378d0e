//! `weir run`: brings a configuration into the kernel and keeps its next hops true until stopped.

pub mod command;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use lb_common::abi::{self, Encapsulation, mac_bits};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::{debug, info, warn};

use crate::{
    announce,
    config::{self, Announce, Config, ConfigError},
    datapath::{
        self, Access, Attachment, Datapath, Events, Pins, Started,
        requirements::{self, Kernel},
    },
    links::{self, Link, Mode, mac_text},
    next_hops::{NextHop, Resolver},
    offloads,
    plan::{NodeAddresses, Tables, plan},
    service::Service,
    stop::Stop,
};

/// How long a start waits for next hops to be known: the first packets should find them.
const SETTLE: Duration = Duration::from_secs(1);

/// What `weir run` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration's file.
    pub config: PathBuf,
    /// This mode or none.
    pub mode: Option<Mode>,
    /// Detach when stopped.
    pub detach_on_exit: bool,
    /// Go on where hardware merges packets.
    pub force: bool,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(pins: &Pins, options: &Options) -> Result<()> {
    // Listened for before anything is attached: a signal during the start is not lost.
    let mut stop = Stop::listen()?;
    let mut service = Service::listen()?;
    let config = config::load(&options.config)?;
    config.warnings.iter().for_each(|warning| warn!("{}", warning.one_line()));
    let kernel = requirements::check()?;
    kernel.lacks().iter().for_each(|lack| info!("{lack}"));
    check_host(&config, &links::list()?)?;
    pins.prepare()?;
    let _lock = pins.lock()?;
    let result = serve(pins, options, &config, kernel, &mut stop, &mut service).await;
    if result.is_err() {
        pins.remove_empty();
    }
    result
}

/// From a valid configuration on a fit host to the end.
async fn serve(
    pins: &Pins,
    options: &Options,
    config: &Config,
    kernel: Kernel,
    stop: &mut Stop,
    service: &mut Service,
) -> Result<()> {
    // Looked at once the instance is ours: what is attached does not change under our hands.
    let links = links::list()?;
    let attached = attached_links(config, &links)?;
    let watch = links::Watch::start()?;
    let mut resolver = Resolver::start(backend_addresses(config)).await?;
    check_offloads(&attached, &links, &resolver, options.force)?;
    let vips = vip_addresses(config);
    // All three take their time: rings are built while the network is asked.
    let planning = {
        let (config, node) = (config.clone(), node_addresses(&attached));
        tokio::task::spawn_blocking(move || plan(&config, node))
    };
    let asking =
        async { if config.announce == Announce::Arp { refuse_conflicts(&attached, &vips).await } else { Ok(()) } };
    let tables = tokio::select! {
        // A signal meanwhile counts, also where there is nothing to wait for.
        biased;
        () = stop.wait() => bail!("stopped before anything was attached"),
        (planned, asked, ()) = async { tokio::join!(planning, asking, resolver.settle(SETTLE)) } => {
            asked?;
            planned.context("planning the tables failed")??
        }
    };
    resolver.warnings().iter().for_each(|warning| warn!("{warning}"));

    // As it was: a restart must not silence the master.
    let old = Datapath::open(pins, Access::Read);
    let as_before = || old.as_ref().is_ok_and(|old| old.interfaces().iter().any(|entry| entry.announce != 0));
    if let (Announce::Manual, Err(error), true) = (config.announce, &old, pins.tables().exists()) {
        warn!("VIPs are not announced: whether they were cannot be read: {error:#}");
    }
    let announce = match config.announce {
        Announce::Arp => true,
        Announce::None => false,
        Announce::Manual => as_before(),
    };
    let interfaces = attached.iter().map(|link| attachment(config, link, announce)).collect();
    let loaded = datapath::load(pins, kernel, &tables, interfaces)?;
    let next_hops = NextHops::new(&links, &attached, &tables);
    next_hops.apply(loaded.datapath(), &resolver.snapshot());
    let Started { datapath, modes, events } = loaded.attach(options.mode)?;
    // What was said to the old tables in the meantime counts.
    let announce = if config.announce == Announce::Manual { as_before() } else { announce };
    datapath.set_announce(announce);
    for (link, mode) in attached.iter().zip(&modes) {
        match mode {
            Mode::Native => info!("interface {}: attached in native mode", link.name),
            Mode::Generic => {
                warn!("interface {}: attached in generic mode, which is much slower than native", link.name)
            }
        }
        // As they are now: attaching turns some off.
        if let Ok(found) = offloads::read(link.index) {
            offloads::warnings(link, found, Some(*mode), &links, &[]).iter().for_each(|warning| warn!("{warning}"));
        }
    }
    if announce {
        tell_network(&attached, &vips);
    }
    let extent =
        format!("services: {}, VIPs: {}, backends: {}", config.services.len(), vips.len(), tables.backends.len());
    info!("{extent}");

    service.ready(&extent);
    Agent { datapath, next_hops, resolver, links: watch, attached, vips }.follow(events, stop, service).await?;
    service.stopping();
    if options.detach_on_exit {
        datapath::detach(pins)?;
        info!("stopped, detached");
    } else {
        info!("stopped; forwarding goes on with the last tables (weir detach ends it)");
    }
    Ok(())
}

/// Tells switches and neighbours where the VIPs are now; twice, the second time a moment later.
fn tell_network(attached: &[Link], vips: &[IpAddr]) {
    for link in attached {
        let (link, vips) = (link.clone(), vips.to_vec());
        tokio::spawn(async move {
            if let Err(error) = announce::announce(&link, &vips).await {
                warn!("interface {}: cannot announce the VIPs: {error:#}", link.name);
            }
        });
    }
}

/// A running instance.
struct Agent {
    datapath: Datapath,
    next_hops: NextHops,
    resolver: Resolver,
    links: links::Watch,
    /// The interfaces, as they were last seen.
    attached: Vec<Link>,
    /// Every address that is a VIP.
    vips: Vec<IpAddr>,
}

impl Agent {
    /// The loop: next hops, interfaces and datapath events, until told to stop.
    async fn follow(mut self, events: Events, stop: &mut Stop, service: &mut Service) -> Result<()> {
        // SAFETY: the logger owns the ring buffer's descriptor and keeps it, open and the same, until it is dropped.
        let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
        let mut events = events.map_err(|error| anyhow!("cannot wait for datapath events: {error}"))?;
        loop {
            tokio::select! {
                changes = self.resolver.changed() => self.next_hops.apply(&self.datapath, &changes),
                links = self.links.changed() => self.interfaces_changed(&links?)?,
                ready = events.readable_mut() => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
                () = stop.wait() => return Ok(()),
                () = service.asks_for_reload() => self.reload(service),
            }
        }
    }

    /// The configuration is not read again yet, but SIGHUP must not end an agent.
    fn reload(&self, service: &Service) {
        service.reloading();
        warn!("SIGHUP: nothing is reloaded: restart the agent, which takes over without a gap");
        service.reloaded();
    }

    /// Keeps the MACs of the attached interfaces true: frames to another MAC are not ours. An interface that is gone took
    /// the program with it, which is an error; one that comes up again tells the network where the VIPs are.
    fn interfaces_changed(&mut self, links: &[Link]) -> Result<()> {
        for (number, old) in (0..).zip(&mut self.attached) {
            let name = &old.name;
            let new = links.iter().find(|link| link.index == old.index);
            let new = new.with_context(|| format!("interface {name:?}: is gone, and the program with it"))?;
            if new.mac != old.mac {
                info!("interface {name}: its MAC is now {}", mac_text(new.mac));
                self.datapath.set_mac(number, new.mac);
            }
            if old.works() && !new.works() {
                warn!("interface {name}: is down, nothing is forwarded");
            }
            let announces = self.datapath.interfaces().get(number as usize).is_some_and(|entry| entry.announce != 0);
            if !old.works() && new.works() {
                info!("interface {name}: is up again");
            }
            if announces && new.works() && (!old.works() || new.mac != old.mac) {
                tell_network(std::slice::from_ref(new), &self.vips);
            }
            if old.xdp.is_some() && new.xdp.is_none() {
                warn!("interface {name}: the XDP program was detached from outside (weir run attaches it)");
            }
            *old = new.clone();
        }
        Ok(())
    }
}

fn check_host(config: &Config, links: &[Link]) -> Result<()> {
    let names: Vec<_> = links.iter().map(|link| link.name.clone()).collect();
    let addresses: Vec<_> = links.iter().flat_map(|link| link.addresses.clone()).collect();
    let diagnostics = config::check_host(config, &names, &addresses);
    if diagnostics.is_empty() { Ok(()) } else { Err(ConfigError::from(diagnostics).into()) }
}

/// The links of the configured interfaces, in its order, which must be up and of Ethernet.
fn attached_links(config: &Config, links: &[Link]) -> Result<Vec<Link>> {
    let mut attached = Vec::new();
    for name in &config.interfaces {
        let link = links.iter().find(|link| link.name == *name).context("checked against the host before")?;
        links::check_attachable(link)?;
        attached.push(link.clone());
    }
    Ok(attached)
}

/// Refuses what hardware would do to frames before the program sees them.
fn check_offloads(attached: &[Link], links: &[Link], resolver: &Resolver, force: bool) -> Result<()> {
    let hops = resolver.snapshot();
    let ways: Vec<_> = hops.iter().filter_map(|(backend, hop)| Some((*backend, hop.interface()?))).collect();
    for link in attached {
        let name = &link.name;
        match offloads::read(link.index) {
            Ok(found) => {
                offloads::check_merging(name, found, force)?;
                offloads::check_tags(link, found, links, &ways)?;
            }
            Err(error) => warn!("interface {name}: see to it that LRO is off (ethtool -K {name} lro off): {error:#}"),
        }
    }
    Ok(())
}

/// The addresses that tunnels from these interfaces have for their source.
pub fn node_addresses<'a>(attached: impl IntoIterator<Item = &'a Link>) -> NodeAddresses {
    let mut node = NodeAddresses::default();
    for address in attached.into_iter().flat_map(|link| &link.addresses) {
        match address {
            IpAddr::V4(address) => node.v4 = node.v4.or(Some(*address)),
            IpAddr::V6(address) if address.is_unicast_link_local() => {}
            IpAddr::V6(address) => node.v6 = node.v6.or(Some(*address)),
        }
    }
    node
}

fn vip_addresses(config: &Config) -> Vec<IpAddr> {
    let mut vips: Vec<_> =
        config.services.values().flat_map(|service| service.vips.iter().map(|vip| vip.address)).collect();
    vips.sort();
    vips.dedup();
    vips
}

fn backend_addresses(config: &Config) -> Vec<IpAddr> {
    let backends = config.services.values().flat_map(|service| &service.backends);
    backends.map(|backend| backend.address).collect::<BTreeSet<_>>().into_iter().collect()
}

async fn refuse_conflicts(attached: &[Link], vips: &[IpAddr]) -> Result<()> {
    let own: Vec<_> = attached.iter().map(|link| link.mac).collect();
    for link in attached {
        let mut conflicts = announce::probe(link, vips).await?;
        // Two interfaces on one segment hear each other.
        conflicts.retain(|conflict| !own.contains(&conflict.mac));
        if let Some(first) = conflicts.first() {
            let more = if conflicts.len() > 1 { format!(" ({} VIPs in all)", conflicts.len()) } else { String::new() };
            bail!("{first}{more}");
        }
    }
    Ok(())
}

fn attachment(config: &Config, link: &Link, announce: bool) -> Attachment {
    let mut more_macs = [0; 3];
    for (slot, mac) in more_macs.iter_mut().zip(&config.macs) {
        *slot = mac_bits(*mac);
    }
    Attachment {
        name: link.name.clone(),
        entry: abi::Interface { mac: mac_bits(link.mac), more_macs, index: link.index, announce: announce.into() },
        xdp: link.xdp,
    }
}

/// Turns what is known of the way to a backend into entries of the tables.
struct NextHops {
    /// Which attached interface an index of the kernel's stands for; a VLAN on one stands for that one, because the
    /// program keeps the tags that packets came with.
    interfaces: BTreeMap<u32, u32>,
    /// Numbers in the backends' table by address, and whether packets are to reach it by their MAC alone.
    ids: BTreeMap<IpAddr, Vec<(u16, bool)>>,
}

/// What the backends' table says of a way: next hop, interface's number, MTU.
type Way = (abi::NextHop, u32, u16);

const NO_WAY: Way = (abi::NextHop(0), 0, u16::MAX);

impl NextHops {
    fn new(links: &[Link], attached: &[Link], tables: &Tables) -> Self {
        let mut ids: BTreeMap<IpAddr, Vec<(u16, bool)>> = BTreeMap::new();
        for backend in &tables.backends {
            let l2 = backend.entry.encapsulation == Encapsulation::L2 as u8;
            ids.entry(backend.address).or_default().push((backend.id, l2));
        }
        let mut interfaces: BTreeMap<u32, u32> = attached.iter().map(|link| link.index).zip(0..).collect();
        for link in links {
            if let Some(number) = link.vlan.and_then(|vlan| interfaces.get(&vlan.parent).copied()) {
                interfaces.insert(link.index, number);
            }
        }
        NextHops { interfaces, ids }
    }

    fn apply(&self, datapath: &Datapath, changes: &[(IpAddr, NextHop)]) {
        for (backend, next_hop) in changes {
            for (id, l2) in self.ids.get(backend).into_iter().flatten() {
                let (entry, interface, mtu) = self.way(*backend, next_hop, *l2);
                datapath.set_next_hop(*id, entry, interface, mtu);
            }
        }
    }

    fn way(&self, backend: IpAddr, next_hop: &NextHop, l2: bool) -> Way {
        match next_hop {
            NextHop::Local => (abi::NextHop(abi::NextHop::LOCAL), 0, u16::MAX),
            NextHop::Unreachable { reason } => {
                warn!("backend {backend}: {reason}");
                NO_WAY
            }
            NextHop::Resolving { via, .. } => {
                debug!("backend {backend}: asking for the MAC of {via}");
                NO_WAY
            }
            // The gateway would route a packet for the VIP back here, and so on until its TTL is used up.
            NextHop::Known { via, .. } if l2 && *via != backend => {
                warn!("backend {backend}: behind gateway {via}, where forward = \"l2\" does not reach: use \"ipip\"");
                NO_WAY
            }
            NextHop::Known { interface, via, mac, mtu, .. } => match self.interfaces.get(interface) {
                Some(number) => {
                    debug!("backend {backend}: next hop {via} at {}", mac_text(*mac));
                    (abi::NextHop::resolved(*mac), *number, *mtu)
                }
                None => {
                    warn!(
                        "backend {backend}: its next hop {via} is not on an attached interface: add that to `interface`"
                    );
                    NO_WAY
                }
            },
        }
    }
}
