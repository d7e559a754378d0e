//! Who is checked, and when: what a configuration asks for. Pure.

use std::{
    collections::BTreeMap,
    hash::{Hash as _, Hasher},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use super::probe::Target;
use crate::config::{Check, Config, Service, Via, Vip};

/// One check of one backend: what is asked of whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Whose result it is.
    pub key: Key,
    /// What is asked.
    pub check: Arc<Check>,
    /// Whom.
    pub target: Target,
}

/// What a result belongs to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// The service's name.
    pub service: String,
    /// The backend.
    pub backend: IpAddr,
    /// Which of the service's checks and addresses, counted together.
    pub run: usize,
}

impl Probe {
    /// How long after the begin it runs first: so checks spread over their interval, the same way each time.
    pub fn offset(&self) -> Duration {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        self.key.hash(&mut hash);
        let part = lb_common::hash::mix(hash.finish()) >> 32;
        Duration::from_micros((self.check.every.as_micros() as u64).saturating_mul(part) >> 32)
    }
}

/// All checks of a configuration, by service, backend and check. Backends that operators took out are checked on: they may come
/// back at any time.
pub fn probes(config: &Config) -> Vec<Probe> {
    let mut probes = Vec::new();
    for service in config.services.values() {
        let of_service: Vec<_> = targets(service).map(|(check, vip)| (Arc::new(check.clone()), vip)).collect();
        for backend in service.backends.iter().filter(|backend| !backend.sorry) {
            for (run, (check, vip)) in of_service.iter().enumerate() {
                let key = Key { service: service.name.clone(), backend: backend.address, run };
                let target = Target {
                    service: service.name.clone(),
                    vip: *vip,
                    backend: backend.address,
                    forward: service.forward,
                    mark: None,
                    source: None,
                };
                probes.push(Probe { key, check: Arc::clone(check), target });
            }
        }
    }
    probes
}

/// The checks of a service, each with the VIPs that it goes to: one for each address, for a backend may lack one of them. A check
/// of the backend's own address is one.
pub fn targets(service: &Service) -> impl Iterator<Item = (&Check, Vip)> {
    service.health.checks.iter().flat_map(|check| {
        let mut addresses: BTreeMap<IpAddr, Vip> = BTreeMap::new();
        for vip in best_first(check, &service.vips) {
            addresses.entry(vip.address).or_insert(vip);
        }
        let most = if check.via == Via::Backend { 1 } else { usize::MAX };
        let port = |vip: Vip| check.port.or(vip.port).or(check.kind.usual_port()).filter(|_| check.kind.has_port());
        addresses.into_values().take(most).map(move |vip| (check, Vip { port: port(vip), ..vip })).collect::<Vec<_>>()
    })
}

/// The VIPs that a check may go to, those first at whose port such servers usually listen.
fn best_first(check: &Check, vips: &[Vip]) -> Vec<Vip> {
    let mut fitting: Vec<Vip> = vips
        .iter()
        .filter(|vip| {
            check.via == Via::Backend || check.kind.protocol().is_none_or(|protocol| protocol == vip.protocol)
        })
        .copied()
        .collect();
    let fits = |vip: &Vip| check.kind.protocol().is_none_or(|protocol| protocol == vip.protocol);
    fitting.sort_by_key(|vip| (!fits(vip), vip.port.is_none(), vip.port != check.kind.usual_port(), *vip));
    fitting
}

/// FNV-1a: the standard library's hash is another in each process.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
