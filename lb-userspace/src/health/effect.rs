//! What the health of backends makes of a configuration: the third layer, on top of file and overrides. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lb_common::ring::WHOLE;

use super::judge::{Health, Of, Standing};
use crate::config::{Backend, Config, HealthPolicy, OnEmpty, Seen, SeenState, Service};

/// Steps of a slow start, at most; none is shorter than a second.
const MOST_STEPS: u64 = 20;

impl Health {
    /// The configuration with the backends that do not work out of their rings, and what follows where too few do.
    pub fn apply(&self, mut config: Config, now_ms: u64) -> Config {
        // All others keep all their backends.
        let with_policy = |service: &&mut Arc<Service>| service.health != HealthPolicy::default();
        for service in config.services.values_mut().filter(with_policy) {
            let known = self.services.get(&service.name);
            apply(Arc::make_mut(service), known, now_ms);
        }
        config.withdrawn = withdrawn(&config);
        config
    }

    /// When a slow start has its next step: then the configuration in effect is another.
    pub fn next_step_ms(&self, config: &Config, now_ms: u64) -> Option<u64> {
        let of_service = |service: &Service| {
            let slow_ms = slow_start_ms(service);
            let standings = self.services.get(&service.name).into_iter().flat_map(|of| of.backends.values());
            standings.filter_map(|standing| next_step_ms(standing, slow_ms, now_ms)).min()
        };
        config.services.values().filter_map(|service| of_service(service)).min()
    }
}

fn apply(service: &mut Service, of: Option<&Of>, now_ms: u64) {
    let slow_ms = slow_start_ms(service);
    // What operators let take traffic, whatever its health.
    let allowed: BTreeMap<IpAddr, u32> = service
        .backends
        .iter()
        .filter(|backend| backend.weight > 0 && backend.part > 0)
        .map(|backend| (backend.address, backend.part))
        .collect();
    let backends = Arc::make_mut(&mut service.backends);
    for backend in backends.iter_mut() {
        let Some(standing) = of.and_then(|of| of.backends.get(&backend.address)) else { continue };
        let part = if standing.up { slow_part(standing, slow_ms, now_ms) } else { 0 };
        backend.part = backend.part.min(part);
        let by_hand = backend.overridden.is_some_and(|said| said.file_weight.is_some());
        if let Some(weight) = standing.weight().filter(|_| backend.weight > 0 && !by_hand) {
            backend.weight = weight;
        }
        service.seen.insert(backend.address, seen(standing, part));
    }
    among_each_other(backends, &allowed);
    let live = backends.iter().filter(|backend| backend.weight > 0 && backend.part > 0).count();
    service.below_quorum = service.health.quorum.is_some_and(|quorum| live < quorum as usize);
    let empty = live == 0;
    if empty && service.health.on_empty == OnEmpty::Last {
        keep_last(service, of, &allowed);
    }
    add_sorry(service, empty && service.health.on_empty == OnEmpty::Sorry);
}

/// Where all that work have come back just now, there is nobody whom they spare: the furthest of them takes all that is its own.
fn among_each_other(backends: &mut [Backend], allowed: &BTreeMap<IpAddr, u32>) {
    let takes = |backend: &&mut Backend| backend.weight > 0 && backend.part > 0;
    let most = backends.iter_mut().filter(takes).map(|backend| backend.part).max().unwrap_or(WHOLE);
    for backend in backends.iter_mut().filter(takes) {
        let raised = u64::from(backend.part) * u64::from(WHOLE) / u64::from(most.max(1));
        let most = allowed.get(&backend.address).copied().unwrap_or(WHOLE);
        backend.part = (raised as u32).min(most);
    }
}

/// Nobody works: the last that did keep their slots, or all if nobody knows who those are.
fn keep_last(service: &mut Service, of: Option<&Of>, allowed: &BTreeMap<IpAddr, u32>) {
    let nobody = BTreeSet::new();
    let last = of.map_or(&nobody, |of| &of.last);
    let known = last.iter().any(|last| allowed.contains_key(last));
    for backend in Arc::make_mut(&mut service.backends) {
        let Some(part) = allowed.get(&backend.address) else { continue };
        if !known || last.contains(&backend.address) {
            backend.part = *part;
            // A command may have said 0.
            backend.weight = backend.weight.max(1);
            if let Some(seen) = service.seen.get_mut(&backend.address) {
                seen.state = SeenState::Kept;
            }
        }
    }
}

/// Sorry backends are always in the tables, so that their next hops are known when they are needed.
fn add_sorry(service: &mut Service, needed: bool) {
    let backends = Arc::make_mut(&mut service.backends);
    for sorry in &service.health.sorry {
        // An operator may have added it as a backend.
        if backends.iter().any(|backend| backend.address == sorry.address) {
            continue;
        }
        let part = if needed { WHOLE } else { 0 };
        backends.push(Backend { part, sorry: true, ..*sorry });
    }
    backends.sort();
}

/// Addresses that nobody is to be sent to: all their services are below quorum, or one that is required is.
fn withdrawn(config: &Config) -> BTreeSet<IpAddr> {
    let mut addresses: BTreeMap<IpAddr, (bool, bool)> = BTreeMap::new();
    for service in config.services.values() {
        for vip in &service.vips {
            let (all, required) = addresses.entry(vip.address).or_insert((true, false));
            *all &= service.below_quorum;
            *required |= service.below_quorum && service.health.required;
        }
    }
    addresses.into_iter().filter(|(_, (all, required))| *all || *required).map(|(address, _)| address).collect()
}

fn seen(standing: &Standing, part: u32) -> Seen {
    let state = match standing.up {
        false => SeenState::Down,
        true if part < WHOLE => SeenState::Slow,
        true => SeenState::Up,
    };
    let reason = standing.reason().filter(|_| !standing.up).map(|reason| shortened(&reason.text));
    Seen { state, since_ms: standing.since_ms, reason, failing: None }
}

/// Tables have room for so much of it.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn slow_start_ms(service: &Service) -> u64 {
    u64::try_from(service.health.slow_start.as_millis()).unwrap_or(u64::MAX)
}

/// The part of its slots that a backend has at a time. Steps are equal, and the first is at once.
fn slow_part(standing: &Standing, slow_ms: u64, now_ms: u64) -> u32 {
    let elapsed = now_ms.saturating_sub(standing.since_ms);
    if !standing.came_back || elapsed >= slow_ms {
        return WHOLE;
    }
    let steps = steps(slow_ms);
    let done = elapsed * steps / slow_ms + 1;
    (u64::from(WHOLE) * done / (steps + 1)) as u32
}

fn next_step_ms(standing: &Standing, slow_ms: u64, now_ms: u64) -> Option<u64> {
    let elapsed = now_ms.saturating_sub(standing.since_ms);
    if !standing.up || !standing.came_back || elapsed >= slow_ms {
        return None;
    }
    let steps = steps(slow_ms);
    let next = elapsed * steps / slow_ms + 1;
    Some(standing.since_ms + (next * slow_ms).div_ceil(steps))
}

fn steps(slow_ms: u64) -> u64 {
    (slow_ms / 1_000).clamp(1, MOST_STEPS)
}
