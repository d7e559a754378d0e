//! What the operator said of backends beyond the file: added, removed, another weight, out of service. Pure: overrides and a
//! configuration make the configuration in effect. `file` keeps them over a restart.

mod drain;
pub mod file;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use lb_common::{abi::MAX_WEIGHT, ring::WHOLE};
use serde::{Deserialize, Serialize};

pub use self::drain::Drain;
use crate::config::{Backend, Config, Out, Overridden, Service};

/// Everything that was said and not taken back.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    services: BTreeMap<String, BTreeMap<IpAddr, Override>>,
}

/// Of one backend of one service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Override {
    /// Added, with this weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<u16>,
    /// Taken away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
    /// Another weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    /// Out of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Drain(Drain),
    Maint,
}

impl State {
    /// The part of its slots that the backend has now.
    fn part(&self, now_ms: u64) -> u32 {
        match self {
            State::Drain(drain) => drain.part(now_ms),
            State::Maint => 0,
        }
    }
}

/// What an operator asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// A backend more, of weight 1 unless said; one that was removed comes back.
    Add {
        /// Its weight.
        weight: Option<u16>,
    },
    /// A backend less.
    Remove,
    /// Another weight.
    Weight(u16),
    /// Out of service, by giving its slots up in equal steps.
    Drain {
        /// Until it has none; at once if zero.
        over: Duration,
        /// In how many steps, unless that follows from the time.
        steps: Option<u32>,
    },
    /// Out of service at once.
    Maint,
    /// Back in service.
    Ready,
}

/// Why an operator is not obeyed: one line that names the thing, the reason and the way out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// An override that has no effect, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Note {
    /// The service.
    pub service: String,
    /// The backend; none if the service is not there.
    pub backend: Option<IpAddr>,
    /// What is the matter with it.
    pub reason: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { service, backend, reason } = self;
        match backend {
            Some(backend) => write!(f, "override of backend {backend} in service {service:?}: {reason}")?,
            None => write!(f, "overrides of service {service:?}: {reason}")?,
        }
        let backend = backend.map(|backend| format!(" {backend}")).unwrap_or_default();
        write!(f, " (weir revert {service}{backend} clears it)")
    }
}

impl Overrides {
    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Takes a verb in, as if it were said now. `config` is the file's, without overrides. Returns a remark if there is
    /// something to say; an error changes nothing.
    pub fn change(
        &mut self,
        config: &Config,
        service: &str,
        backend: IpAddr,
        verb: Verb,
        now_ms: u64,
    ) -> Result<Option<String>, Refused> {
        let of_file = find_service(config, service)?;
        let in_file = of_file.backends.iter().find(|known| known.address == backend);
        let before = self.of(service, backend).unwrap_or_default();
        let is_there = if in_file.is_some() { !before.removed } else { before.added.is_some() };
        if !is_there && !matches!(verb, Verb::Add { .. }) {
            return Err(self.no_such_backend(of_file, backend));
        }
        let mut after = before;
        let mut remark = None;
        match verb {
            Verb::Add { weight } => {
                if is_there {
                    return Err(Refused(format!(
                        "backend {backend} is in service {service:?} already (weir weight {service} {backend} N changes its weight)"
                    )));
                }
                check_addition(of_file, backend)?;
                let weight = weight.map(check_weight).transpose()?;
                after = match in_file {
                    Some(_) => Override { weight, ..Override::default() },
                    None => Override { added: Some(weight.unwrap_or(1)), ..Override::default() },
                };
            }
            Verb::Remove => {
                after = Override { removed: in_file.is_some(), ..Override::default() };
            }
            Verb::Weight(weight) => after.weight = Some(check_weight(weight)?),
            Verb::Drain { over, steps } => {
                let part = before.state.map_or(WHOLE, |state| state.part(now_ms));
                after.state = Some(State::Drain(Drain::new(now_ms, over, steps, part)));
                if part == 0 {
                    remark = Some(format!("backend {backend} had no slots of service {service:?} any more"));
                }
            }
            Verb::Maint => after.state = Some(State::Maint),
            Verb::Ready => {
                after.state = None;
                let weight = before.weight.or(before.added).or(in_file.map(|known| known.weight));
                if weight == Some(0) {
                    remark = Some(format!(
                        "backend {backend} has weight 0 in service {service:?}: weir weight {service} {backend} N gives it one"
                    ));
                }
            }
        }
        self.set(service, backend, after);
        if remark.is_none() && self.leaves_none(of_file, now_ms) {
            remark = Some(format!("no backend of service {service:?} takes traffic any more"));
        }
        Ok(remark)
    }

    /// Takes back what was said: of one backend, of one service, or all. Returns of how many backends; an error if a name was
    /// given of which nothing was said.
    pub fn revert(&mut self, service: Option<&str>, backend: Option<IpAddr>) -> Result<usize, Refused> {
        let Some(service) = service else {
            return Ok(std::mem::take(&mut self.services).values().map(BTreeMap::len).sum());
        };
        let Some(said) = self.services.get_mut(service) else {
            let have = some_of(self.services.keys().map(String::as_str));
            return Err(Refused(format!("service {service:?}: no overrides (have: {have})")));
        };
        let Some(backend) = backend else {
            let reverted = said.len();
            self.services.remove(service);
            return Ok(reverted);
        };
        if said.remove(&backend).is_none() {
            let have = some_of(said.keys());
            return Err(Refused(format!("backend {backend} has no override in service {service:?} (have: {have})")));
        }
        self.services.retain(|_, said| !said.is_empty());
        Ok(1)
    }

    /// The configuration in effect, and the overrides that have none: these are kept, for the file may be mended.
    pub fn apply(&self, config: &Config, now_ms: u64) -> (Config, Vec<Note>) {
        let mut config = config.clone();
        let mut notes = Vec::new();
        for (name, said) in &self.services {
            let Some(service) = config.services.get_mut(name) else {
                let reason = "stale, the configuration has no such service".to_owned();
                notes.push(Note { service: name.clone(), backend: None, reason });
                continue;
            };
            for (backend, said) in said {
                if let Err(reason) = said.apply(Arc::make_mut(service), *backend, now_ms) {
                    notes.push(Note { service: name.clone(), backend: Some(*backend), reason });
                }
            }
        }
        (config, notes)
    }

    /// When a drain has its next step: then the configuration in effect is another.
    pub fn next_step_ms(&self, now_ms: u64) -> Option<u64> {
        let states = self.services.values().flat_map(BTreeMap::values).filter_map(|said| said.state);
        let drains = states.filter_map(|state| match state {
            State::Drain(drain) => drain.next_step_ms(now_ms),
            State::Maint => None,
        });
        drains.min()
    }

    fn of(&self, service: &str, backend: IpAddr) -> Option<Override> {
        self.services.get(service)?.get(&backend).copied()
    }

    fn set(&mut self, service: &str, backend: IpAddr, said: Override) {
        let of_service = self.services.entry(service.to_owned()).or_default();
        if said == Override::default() {
            of_service.remove(&backend);
        } else {
            of_service.insert(backend, said);
        }
        self.services.retain(|_, said| !said.is_empty());
    }

    fn leaves_none(&self, service: &Service, now_ms: u64) -> bool {
        let mut service = service.clone();
        for (backend, said) in self.services.get(&service.name).into_iter().flatten() {
            // What has no effect leaves the service as it is.
            let _ = said.apply(&mut service, *backend, now_ms);
        }
        !service.backends.iter().any(|backend| backend.weight > 0 && backend.part > 0)
    }

    fn no_such_backend(&self, service: &Service, backend: IpAddr) -> Refused {
        let said = |address: &IpAddr| self.of(&service.name, *address).unwrap_or_default();
        let of_file = service.backends.iter().map(|known| known.address).filter(|address| !said(address).removed);
        let added = self.services.get(&service.name).into_iter().flatten();
        let added = added.filter(|(_, said)| said.added.is_some()).map(|(address, _)| *address);
        let name = &service.name;
        let have = some_of(of_file.chain(added));
        Refused(format!(
            "backend {backend} is not in service {name:?} (have: {have}; weir add {name} {backend} adds it)"
        ))
    }

    /// Whether every number is one that could have been said; a state file may hold anything.
    fn is_valid(&self) -> bool {
        self.services.values().flat_map(BTreeMap::values).all(|said| {
            let weights = [said.added, said.weight].into_iter().flatten().all(|weight| weight <= MAX_WEIGHT);
            weights && !matches!(said.state, Some(State::Drain(drain)) if !drain.is_valid())
        })
    }
}

impl Override {
    /// Changes a service of the file; an error says why this has no effect, or not all of it.
    fn apply(&self, service: &mut Service, address: IpAddr, now_ms: u64) -> Result<(), String> {
        let known = service.backends.iter().position(|known| known.address == address);
        let at = match (known, self.added) {
            (Some(at), _) if self.removed => {
                Arc::make_mut(&mut service.backends).remove(at);
                service.removed.push(address);
                return Ok(());
            }
            (Some(at), _) => at,
            (None, None) => return Err("stale, the configuration has no such backend".to_owned()),
            (None, Some(_)) if service.vips.iter().any(|vip| vip.address == address) => {
                return Err("it is a VIP of the service now".to_owned());
            }
            (None, Some(weight)) => {
                let at = service.backends.partition_point(|other| other.address < address);
                Arc::make_mut(&mut service.backends).insert(at, Backend::new(address, weight));
                at
            }
        };
        let backend = &mut Arc::make_mut(&mut service.backends)[at];
        let mut overridden = Overridden { added: known.is_none(), ..Overridden::default() };
        if let Some(weight) = self.weight {
            overridden.file_weight = known.map(|_| backend.weight);
            backend.weight = weight;
        }
        if let Some(state) = &self.state {
            backend.part = state.part(now_ms);
            overridden.state = Some(if *state == State::Maint { Out::Maint } else { Out::Drain });
        }
        backend.overridden = (overridden != Overridden::default()).then_some(overridden);
        if known.is_some() && self.added.is_some() {
            return Err("the configuration has it too, so adding it has no effect".to_owned());
        }
        Ok(())
    }
}

/// The wall clock, which drains go by.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn find_service<'a>(config: &'a Config, name: &str) -> Result<&'a Service, Refused> {
    let have = || some_of(config.services.keys().map(String::as_str));
    let service = config.services.get(name).map(Arc::as_ref);
    service.ok_or_else(|| Refused(format!("service {name:?}: no such service (have: {})", have())))
}

fn check_addition(service: &Service, backend: IpAddr) -> Result<(), Refused> {
    if service.vips.iter().any(|vip| vip.address == backend) {
        let name = &service.name;
        return Err(Refused(format!(
            "backend {backend} is the VIP of service {name:?} itself: name the backend by an address of its own"
        )));
    }
    Ok(())
}

fn check_weight(weight: u16) -> Result<u16, Refused> {
    if weight > MAX_WEIGHT {
        return Err(Refused(format!("weight {weight}: out of range (a weight is 0 to {MAX_WEIGHT}, and 0 drains)")));
    }
    Ok(weight)
}

/// Names for an error: all, or the first few and how many more there are.
fn some_of<T: fmt::Display>(names: impl Iterator<Item = T>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    match names.len().checked_sub(SHOWN) {
        _ if names.is_empty() => "none".to_owned(),
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}
