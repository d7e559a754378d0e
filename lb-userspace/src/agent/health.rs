//! What an agent does about the health of backends: shows it in the tables, several changes as one, and keeps it over a restart.

use std::{collections::BTreeSet, net::IpAddr};

use lb_common::steer;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::spawn_blocking;
use tracing::warn;

use super::{
    Agent, Options, PAUSE_MS,
    command::{Applied, Kind},
    host, one_line, said,
};
use crate::{
    config::{Config, Service, Via},
    datapath,
    health::{Change, Checker, Health, What, file},
    links::{self, Link},
    next_hops::interfaces_to,
    notify::{Notice, Subject},
    overrides,
    plan::encapsulation,
    steering::{self, Family},
};

/// How many backends an event names.
const NAMED: usize = 20;

/// Until steering that could not be set up is tried again, milliseconds.
const STEER_AGAIN_MS: u64 = 10_000;

/// Files that may be open: each check under way has a socket, and there is more than checks.
const OPEN_FILES: u64 = 16_384;

/// Checking, with what is known from before.
pub fn checker(options: &Options) -> Checker {
    if let Err(error) = allow_open_files() {
        warn!(
            "many checks at a time will fail, for at most a few files may be open: {error} (set LimitNOFILE={OPEN_FILES})"
        );
    }
    Checker::start(file::load(&options.state).unwrap_or_else(|error| {
        warn!("{error:#}");
        Health::default()
    }))
}

fn allow_open_files() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= OPEN_FILES { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, hard.max(OPEN_FILES)) }
}

impl Agent {
    /// Backends have come or gone: all that have become one change of the tables, one event and one message.
    pub(super) async fn health_changed(&mut self) {
        let (changes, others_follow) = (self.checker.take(), self.checker.is_undecided());
        let (withdrawn, below) = (self.running.withdrawn().to_vec(), self.running.below_quorum());
        let applied = self.apply_health().await;
        let named = in_words(&changes);
        let words = applied.as_ref().map(|applied| format!("{named}; {}", said(applied)));
        self.note(Kind::Health, None, "health", &format!("{named}; not in the tables, trying again: "), words);
        let mut notices: Vec<Notice> = changes.into_iter().filter_map(notice).collect();
        notices.extend(self.services_told(&below));
        notices.extend(self.addresses_told(&withdrawn));
        self.notifier.tell_some(notices, others_follow);
    }

    /// A slow start has its next step, or what failed is tried again.
    pub(super) async fn show_health(&mut self) {
        if let Err(error) = self.apply_health().await {
            warn!("health: not in the tables, trying again: {}", one_line(&error));
        }
    }

    async fn apply_health(&mut self) -> anyhow::Result<Applied> {
        let applied = self.apply(self.wanted.clone()).await;
        if applied.is_err() {
            self.slow_ms = Some(overrides::now_ms() + PAUSE_MS);
        }
        applied
    }

    /// Tables show a configuration with this health: it is kept, and checked on.
    pub(super) fn watch(&mut self, config: &Config, shown: &Health, now_ms: u64) {
        self.steer(config);
        let (allocation, mut node) = (&self.running.allocation, host::node_addresses(&self.attached));
        let steered = self.steered.clone().unwrap_or_default();
        let lacks = |family: &Family| match family {
            Family::V4 => node.v4.is_none(),
            Family::V6 => node.v6.is_none(),
        };
        if steered.iter().any(lacks) {
            match links::list() {
                Ok(links) => node = host::asking_addresses(&self.attached, &links),
                Err(error) => warn!("{error:#}"),
            }
        }
        self.checker.follow(config, now_ms, |probe| {
            let target = &mut probe.target;
            if probe.check.via == Via::Vip && steered.contains(&Family::of(target.vip.address)) {
                let key = (target.backend, encapsulation(target.forward, target.backend));
                target.mark = allocation.backend(&key).map(steer::mark);
                target.source = match target.vip.address {
                    IpAddr::V4(_) => node.v4.map(IpAddr::from),
                    IpAddr::V6(_) => node.v6.map(IpAddr::from),
                };
            }
        });
        let (health, directory) = (self.checker.in_effect(shown), self.options.state.clone());
        if config.services.values().any(|service| !service.health.checks.is_empty()) {
            spawn_blocking(move || {
                if let Err(error) = file::save(&directory, &health) {
                    warn!("a restart will check all backends anew: {error:#}");
                }
            });
        }
    }

    /// Sees to it that checks of VIPs leave by the program that sends them to their backends, if there are such checks.
    fn steer(&mut self, config: &Config) {
        let wanted: BTreeSet<Family> =
            by_vip(config).flat_map(|service| &service.vips).map(|vip| Family::of(vip.address)).collect();
        if self.steered.as_ref() == Some(&wanted) {
            return;
        }
        let Some(link) = self.attached.first() else { return };
        let set_up = || {
            if wanted.is_empty() {
                return datapath::steering::end(&self.pins);
            }
            datapath::steering::attach(&self.pins, &link.name)?;
            wanted.iter().try_for_each(|family| steering::set_up(link, *family))
        };
        let said = match set_up() {
            Ok(()) => {
                let obstacle = if wanted.contains(&Family::V4) { self.obstacle(link, config) } else { None };
                self.steered = Some(wanted);
                obstacle
            }
            Err(error) => {
                self.slow_ms = Some(overrides::now_ms() + STEER_AGAIN_MS);
                let error = one_line(&error);
                Some(format!("checks of VIPs cannot be made, backends stay as they are: {error}"))
            }
        };
        said.iter().for_each(|said| warn!("{said}"));
        self.report.update(|report| report.steering = said);
    }

    /// What keeps the answers to checks of VIPs away, for the first VIP of which that is so.
    fn obstacle(&self, link: &Link, config: &Config) -> Option<String> {
        let vips: BTreeSet<IpAddr> = by_vip(config).flat_map(|service| &service.vips).map(|vip| vip.address).collect();
        let vips: Vec<IpAddr> = vips.into_iter().filter(IpAddr::is_ipv4).collect();
        if !steering::filters(link) {
            return None;
        }
        let ways = interfaces_to(&vips).inspect_err(|error| warn!("{error:#}")).unwrap_or_default();
        let way = |vip: &IpAddr| ways.iter().find(|(address, _)| address == vip).map(|(_, interface)| *interface);
        vips.iter().find_map(|vip| steering::obstacle(link, *vip, way(vip)))
    }

    /// Services that have fallen below quorum since, or have it again.
    fn services_told(&self, before: &BTreeSet<String>) -> Vec<Notice> {
        let now = self.running.below_quorum();
        let gone = now.difference(before).map(|service| Notice::bad(Subject::Service(service.clone()), "below quorum"));
        let back = before
            .difference(&now)
            .map(|service| Notice::good(Subject::Service(service.clone()), "has its quorum again"));
        gone.chain(back).collect()
    }

    /// Addresses that have been withdrawn since, or are announced again: as events, and as notices.
    fn addresses_told(&mut self, before: &[IpAddr]) -> Vec<Notice> {
        let now = self.running.withdrawn().to_vec();
        let gone: Vec<IpAddr> = now.iter().filter(|address| !before.contains(address)).copied().collect();
        let back: Vec<IpAddr> = before.iter().filter(|address| !now.contains(address)).copied().collect();
        if !gone.is_empty() {
            let words = format!("below quorum, no longer announced: {}", list(&gone));
            self.note(Kind::Health, None, "withdraw", "", Ok(words));
        }
        if !back.is_empty() {
            self.note(Kind::Health, None, "announce again", "", Ok(format!("quorum is back: {}", list(&back))));
        }
        let gone = gone.into_iter().map(|address| Notice::bad(Subject::Address(address), "withdrawn, below quorum"));
        let back = back.into_iter().map(|address| Notice::good(Subject::Address(address), "announced again"));
        gone.chain(back).collect()
    }
}

/// Services with checks of VIPs.
fn by_vip(config: &Config) -> impl Iterator<Item = &Service> {
    config
        .services
        .values()
        .map(AsRef::as_ref)
        .filter(|service: &&Service| service.health.checks.iter().any(|check| check.via == Via::Vip))
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn notice(Change { service, backend, what }: Change) -> Option<Notice> {
    let subject = Subject::Backend(service, backend);
    match what {
        What::Up => Some(Notice::good(subject, "passes its checks again")),
        What::Down(reason) => Some(Notice::bad(subject, reason.text)),
        What::Weight(_) => None,
    }
}

/// Changes in one line: who is down and why, who is up again. Backends that end as they began are named last.
fn in_words(changes: &[Change]) -> String {
    let mut down: Vec<String> = Vec::new();
    let mut up = Vec::new();
    let mut weights = Vec::new();
    for Change { service, backend, what } in changes {
        match what {
            What::Down(reason) => down.push(format!("{service} {backend} ({reason})")),
            What::Up => up.push(format!("{service} {backend}")),
            What::Weight(weight) => weights.push(format!("{service} {backend} ({weight})")),
        }
    }
    let words = [("down", down), ("up", up), ("weight", weights)];
    let list = |(what, names): (&str, Vec<String>)| {
        let more = names.len().checked_sub(NAMED).filter(|more| *more > 0);
        let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
        let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{what}: {shown}{more}"))
    };
    words.into_iter().filter_map(list).collect::<Vec<_>>().join("; ")
}
