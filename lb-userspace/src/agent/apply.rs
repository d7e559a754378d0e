//! From what runs to what is wanted, without losing a packet: planned beside, written beside, shown by one store.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_common::abi::Settings;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::debug;

use super::{Agent, SETTLE, Wanted, command::Applied, host, ways::Ways};
use crate::{
    config::{Announce, Config},
    datapath::{Datapath, grace_period},
    links, overrides,
    plan::{
        Allocation, DescribedService, Description, RingCache, Tables,
        diff::{self, Changes, Kind},
        plan_next,
    },
};

/// What tables in use are, and what the next follow from.
pub struct Generation {
    /// Every address that is a VIP, sorted.
    pub vips: Vec<IpAddr>,
    /// How much there is, in words.
    pub extent: String,
    /// Every address that is a backend.
    pub backends: BTreeSet<IpAddr>,
    /// Their numbers.
    pub allocation: Allocation,
    description: Description,
    settings: Settings,
    cache: RingCache,
}

impl Generation {
    /// Tables that were found live, with numbers as they use them.
    pub fn found(datapath: &Datapath, description: Description) -> Result<Self> {
        let allocation = Allocation::of(&description, datapath.arena())?;
        let vips = description.vip_addresses()?;
        let backends: BTreeSet<_> = allocation.backends().map(|((address, _), _)| address).collect();
        let settings = datapath.settings();
        let extent = String::new();
        Ok(Generation { vips, extent, backends, description, settings, allocation, cache: RingCache::default() })
    }

    /// Tables of a configuration with overrides, which are live now.
    pub fn new(config: &Config, tables: Tables) -> Self {
        let mut cache = RingCache::default();
        cache.keep(tables.kept_rings());
        Self::with_cache(config, tables, cache)
    }

    fn with_cache(config: &Config, tables: Tables, cache: RingCache) -> Self {
        let vips = host::vip_addresses(config);
        let (services, backends) = (config.services.len(), tables.backends.len());
        let extent = format!("services: {services}, VIPs: {}, backends: {backends}", vips.len());
        Generation {
            vips,
            extent,
            backends: tables.backends.iter().map(|backend| backend.address).collect(),
            description: tables.description,
            settings: tables.settings,
            allocation: tables.allocation,
            cache,
        }
    }

    /// Every VIP address that the network is told of, sorted.
    pub fn told(&self) -> Vec<IpAddr> {
        let withdrawn = &self.description.withdrawn;
        self.vips.iter().filter(|vip| !withdrawn.contains(vip)).copied().collect()
    }

    /// VIP addresses that are not announced, for too few backends work.
    pub fn withdrawn(&self) -> &[IpAddr] {
        &self.description.withdrawn
    }

    /// Services with fewer backends that take traffic than their quorum.
    pub fn below_quorum(&self) -> BTreeSet<String> {
        let below = self.description.services.iter().filter(|service| service.below_quorum.is_some());
        below.map(|service| service.name.clone()).collect()
    }

    /// The services, in words.
    pub fn services(&self) -> &[DescribedService] {
        &self.description.services
    }

    fn is(&self, tables: &Tables) -> bool {
        (&self.description, &self.settings) == (&tables.description, &tables.settings)
    }
}

impl Agent {
    /// Puts something into effect. An error leaves in effect what is.
    pub(super) async fn apply(&mut self, wanted: Wanted) -> Result<Applied> {
        let begin = Instant::now();
        let now_ms = overrides::now_ms();
        let (config, health, notes) = wanted.in_effect(&self.checker, now_ms);
        let config = Arc::new(config);
        let new = self.check(&config)?;
        let attached = self.attached.clone();
        let checked_us = micros(begin);
        // Nobody meets the tables before they are shown: whether others have the VIPs is found out meanwhile.
        let (conflicts, tables) = tokio::join!(host::refuse_conflicts(&attached, &new), self.plan_after_grace(&config));
        conflicts?;
        let tables = tables?;
        self.bulky |= !Arc::ptr_eq(&self.wanted.texts, &wanted.texts) || fresh_slots(&tables) > BULKY_SLOTS;
        let sockets = self.ports.prepare(&config.metrics)?;
        debug!("checked after {checked_us} us, planned after {} us", micros(begin));
        let mut applied = Applied { notes, remarks: self.arena_remark(&config), ..Applied::default() };
        if self.running.is(&tables) {
            self.keep(&config, tables);
        } else {
            applied.changes = self.replace(&config, tables, || applied.took_us = micros(begin)).await?;
        }
        self.serve_metrics(sockets);
        if self.wanted.config.receivers != wanted.config.receivers {
            self.notifier.receivers(&wanted.config.receivers);
        }
        self.step_ms = wanted.overrides.next_step_ms(now_ms);
        self.slow_ms = health.next_step_ms(&config, now_ms);
        self.wanted = wanted;
        self.watch(&config, &health, now_ms);
        Ok(applied)
    }

    /// Whether the host is fit for it. Returns the VIPs that come and that nobody else on the network may have.
    fn check(&mut self, config: &Config) -> Result<Vec<IpAddr>> {
        let links = links::list()?;
        for link in &mut self.attached {
            // Tunnels come from these.
            if let Some(now) = links.iter().find(|now| now.index == link.index) {
                link.addresses.clone_from(&now.addresses);
            }
        }
        let names: Vec<_> = self.attached.iter().map(|link| link.name.clone()).collect();
        ensure!(
            config.interfaces == names,
            "interface: {} in the configuration, {} attached: restart the agent, forwarding goes on meanwhile",
            config.interfaces.join(", "),
            names.join(", ")
        );
        host::check(config, &links)?;
        let mut new = host::vip_addresses(config);
        new.retain(|vip| config.announce == Announce::Arp && self.running.vips.binary_search(vip).is_err());
        Ok(new)
    }

    /// Plans the next tables once what the tables before the present ones had may be written over.
    async fn plan_after_grace(&mut self, config: &Arc<Config>) -> Result<Tables> {
        if let Some(grace) = self.grace.take() {
            grace.await.context("waiting for a grace period failed")?;
            self.settle();
        }
        self.plan(config).await
    }

    /// Plans the next tables; next hops are followed meanwhile.
    pub(super) async fn plan(&mut self, config: &Arc<Config>) -> Result<Tables> {
        let (config, node) = (Arc::clone(config), host::node_addresses(&self.attached));
        let (allocation, cache) = (self.running.allocation.clone(), std::mem::take(&mut self.running.cache));
        let mut planning = spawn_blocking(move || (plan_next(&config, node, Some(&allocation), &cache), cache));
        loop {
            tokio::select! {
                biased;
                planned = &mut planning => {
                    let (tables, cache) = planned.context("planning the tables failed")?;
                    self.running.cache = cache;
                    return tables;
                }
                changes = self.resolver.changed() => self.ways.apply(&self.datapath, &changes),
            }
        }
    }

    /// Replaces the tables in use; `live` is called when packets meet the new ones.
    async fn replace(&mut self, config: &Config, tables: Tables, live: impl FnOnce()) -> Result<Changes> {
        let links = links::list()?;
        let fresh = self.know_ways(&tables).await;
        let beside = self.datapath.write(&tables, self.running.services())?;
        let ways = Ways::new(&links, &self.attached, &tables.allocation, &self.checker);
        let mut hops = self.resolver.snapshot();
        hops.retain(|(backend, _)| fresh.contains(backend));
        ways.apply(&self.datapath, &hops);
        self.datapath.show(beside);
        live();
        self.grace = Some(spawn_blocking(grace_period));
        self.ways = ways;

        self.show_interfaces(config);
        // The old rings stay where they are until the next change.
        let changes = self.would_change(&tables);
        let told = self.running.told();
        self.keep(config, tables);
        self.tell_changes(&told);
        Ok(changes)
    }

    /// Tells the network of VIPs that have come, and no longer of those that have gone.
    fn tell_changes(&mut self, before: &[IpAddr]) {
        if !self.announces() {
            return;
        }
        let now = self.running.told();
        let new: Vec<_> = now.iter().filter(|vip| before.binary_search(vip).is_err()).copied().collect();
        if before.iter().any(|vip| now.binary_search(vip).is_err()) {
            self.tell_anew();
        } else if !new.is_empty() {
            let attached = self.attached.clone();
            self.tell(&attached, &new);
        }
    }

    /// Takes note of what is live.
    fn keep(&mut self, config: &Config, tables: Tables) {
        let mut cache = std::mem::take(&mut self.running.cache);
        cache.keep(tables.kept_rings());
        self.running = Generation::with_cache(config, tables, cache);
    }

    /// Has the ways to backends that come looked up before the first packet is for them; returns these backends.
    async fn know_ways(&mut self, tables: &Tables) -> BTreeSet<IpAddr> {
        let fresh: BTreeSet<_> =
            tables.backends.iter().filter(|backend| backend.fresh).map(|backend| backend.address).collect();
        if !fresh.is_subset(&self.running.backends) {
            self.resolver.set_backends(self.running.backends.union(&fresh).copied().collect());
            self.resolver.settle_some(&fresh, SETTLE).await;
        }
        fresh
    }

    /// What of a configuration stands beside the tables' halves: MACs, and whether VIPs are announced.
    pub(super) fn show_interfaces(&self, config: &Config) {
        let announce = match config.announce {
            Announce::Arp => true,
            Announce::None => false,
            Announce::Manual => self.announces(),
        };
        for (number, link) in (0..).zip(&self.attached) {
            self.datapath.set_interface(number, host::attachment(config, link, announce).entry);
        }
    }

    /// Whether VIPs are announced.
    pub(super) fn announces(&self) -> bool {
        self.datapath.interfaces().iter().any(|entry| entry.announce != 0)
    }

    /// Whether the configuration in use lets VIPs be announced.
    pub(super) fn may_announce(&self) -> bool {
        self.running.description.announce != Announce::None.to_string()
    }

    /// A grace period has passed: what the last change gave up may be given away.
    pub(super) fn settle(&mut self) {
        self.grace = None;
        self.running.allocation = self.running.allocation.settled();
        self.resolver.set_backends(self.running.backends.iter().copied().collect());
        if std::mem::take(&mut self.bulky) {
            give_memory_back();
        }
    }

    fn arena_remark(&self, config: &Config) -> Vec<String> {
        let (has, asked) = (self.datapath.arena(), config.arena);
        let other = asked.filter(|asked| asked.next_multiple_of(2) != has);
        let remark =
            |asked| format!("arena: {asked} slots are asked for, the arena has {has} until `weir run` is started anew");
        other.map(remark).into_iter().collect()
    }

    /// What tables would change.
    pub(super) fn would_change(&self, tables: &Tables) -> Changes {
        self.diff(&self.running.description, &self.running.settings, tables)
    }

    fn diff(&self, description: &Description, settings: &Settings, tables: &Tables) -> Changes {
        let ring = |service: &crate::plan::DescribedService| self.datapath.ring(service);
        let running = diff::Running { description, settings, arena: self.datapath.arena(), ring: &ring };
        diff::diff(&running, tables)
    }
}

/// Slots of fresh rings that are worth giving memory back for: twenty bytes each.
const BULKY_SLOTS: usize = 1 << 20;

fn fresh_slots(tables: &Tables) -> usize {
    tables.rings.iter().filter(|ring| ring.fresh).map(|ring| ring.slots().len()).sum()
}

/// A large change takes as much again as what runs; the next may be far away.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain call, which leaves alone what is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns when a grace period has passed; never if none is under way.
pub async fn passed(grace: &mut Option<JoinHandle<()>>) {
    match grace {
        // One that failed has come to its end too: the thread that waited is gone.
        Some(grace) => drop(grace.await),
        None => std::future::pending().await,
    }
}

/// Returns at a time of the wall clock, milliseconds; never at none.
pub async fn at(at_ms: Option<u64>) {
    let Some(at_ms) = at_ms else { return std::future::pending().await };
    // It may be set meanwhile.
    const LOOK_AGAIN_MS: u64 = 1_000;
    loop {
        let left = at_ms.saturating_sub(overrides::now_ms());
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(left.min(LOOK_AGAIN_MS))).await;
    }
}

/// Changes for the log: how many services, and how much of the most moved one.
pub fn in_words(changes: &Changes) -> String {
    let count = |kind| changes.services.iter().filter(|service| service.change == kind).count();
    let most = changes.services.iter().map(|service| service.slots.share).fold(0.0, f64::max);
    let (added, removed, changed) = (count(Kind::Added), count(Kind::Removed), count(Kind::Changed));
    let settings = changes.settings.iter().map(|setting| setting.key).collect::<Vec<_>>().join(", ");
    let settings = if settings.is_empty() { String::new() } else { format!(", settings: {settings}") };
    format!(
        "services added: {added}, removed: {removed}, changed: {changed}; at most {:.2} % of a service's slots moved{settings}",
        100.0 * most
    )
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
