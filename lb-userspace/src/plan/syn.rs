//! The SYN filter's part of the tables.

use lb_common::{
    abi::{MAX_SIGNATURES, NO_SIGNATURE, SERVICE_SIGNATURES, Service, Signature, SynPolicy, VIP_ENTRIES},
    hash::mix,
    rate::SECOND,
};

use super::description::DescribedFilter;
use crate::config::{self, Allowed, BUILT_IN, Config, Syn};

/// What SYNs are judged by.
#[derive(Clone)]
pub struct SynTables {
    /// What services may look for.
    pub signatures: [Signature; MAX_SIGNATURES as usize],
    /// By VIP entry; of those that have nothing to say of SYNs, the default.
    pub policies: Box<[SynPolicy; VIP_ENTRIES as usize]>,
    /// Whose SYNs are never dropped.
    pub allowed: Vec<Allowed>,
    /// Each signature of the configuration in words.
    words: Vec<String>,
    meaning: Vec<u64>,
}

impl SynTables {
    pub(super) fn new(config: &Config) -> Self {
        let mut signatures = [Signature::default(); MAX_SIGNATURES as usize];
        signatures.iter_mut().zip(&config.signatures).for_each(|(place, signature)| *place = signature.conditions);
        let meaning = config.allowed.iter().map(|prefix| of_text(&prefix.to_string())).collect();
        let policies = Box::new([SynPolicy::default(); VIP_ENTRIES as usize]);
        let words = config.signatures.iter().map(|signature| format!("{:?}", signature.conditions)).collect();
        SynTables { signatures, policies, allowed: config.allowed.clone(), words, meaning }
    }

    /// The policy of a service, for its VIP entries.
    pub(super) fn add(&mut self, config: &Config, service: &config::Service, ids: &[u16], state: u16) {
        if flags(config, service) == 0 {
            return;
        }
        let policy = policy(config, service, state);
        for id in ids {
            self.policies[usize::from(*id)] = policy;
        }
        let SynPolicy { budget_ns, cap_ns, threshold, mode, .. } = policy;
        let vips: String = service.vips.iter().map(ToString::to_string).collect();
        let signatures: Vec<_> = places(service).iter().map(|number| self.words[*number].as_str()).collect();
        let signatures = signatures.join(", ");
        self.meaning.push(of_text(&format!("{vips} {mode} {budget_ns} {cap_ns} {threshold} [{signatures}]")));
    }

    /// For the hash of what tables do.
    pub(super) fn meaning(&self) -> impl Iterator<Item = u64> {
        self.meaning.iter().copied()
    }
}

fn of_text(text: &str) -> u64 {
    text.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// The signatures that a service looks for.
fn places(service: &config::Service) -> &[usize] {
    if service.syn == Syn::Off { &[] } else { &service.filter.signatures }
}

fn policy(config: &Config, service: &config::Service, state: u16) -> SynPolicy {
    let mut signatures = [NO_SIGNATURE; SERVICE_SIGNATURES];
    signatures.iter_mut().zip(places(service)).for_each(|(place, number)| *place = *number as u8);
    let between = |rate: u32| if rate == 0 { SynPolicy::NEVER } else { SECOND / u64::from(rate) };
    SynPolicy {
        signatures,
        budget_ns: between(service.filter.budget),
        cap_ns: service.filter.rate.map_or(0, between),
        threshold: service.filter.threshold,
        state,
        mode: match service.syn {
            Syn::Off | Syn::Count => SynPolicy::COUNT,
            Syn::Drop => SynPolicy::DROP,
            Syn::Auto => SynPolicy::AUTO,
        },
        allows: (!config.allowed.is_empty()).into(),
    }
}

/// What a service's state in the kernel is of: the service, and what it looks for.
pub(super) fn state_key(service: &str, filter: &DescribedFilter) -> u64 {
    of_text(&format!("{service} {:?} {:?}", filter.signatures, filter.conditions))
}

/// What an entry of the services' table says of SYNs.
pub(super) fn flags(config: &Config, service: &config::Service) -> u16 {
    let looks = service.syn != Syn::Off || service.filter.rate.is_some();
    let first = places(service).first().map(|number| config.signatures[*number].name.as_str());
    let drops = matches!(service.syn, Syn::Drop | Syn::Auto);
    let bare = drops && first == Some(BUILT_IN) && config.allowed.is_empty();
    (if looks { Service::SYN_LOOK } else { 0 }) | if bare { Service::SYN_BARE } else { 0 }
}

/// All but the state.
pub(super) fn describe(config: &Config, service: &config::Service) -> DescribedFilter {
    DescribedFilter {
        signatures: places(service).iter().map(|number| config.signatures[*number].name.clone()).collect(),
        conditions: places(service).iter().map(|number| config.signatures[*number].to_string()).collect(),
        threshold: service.filter.threshold,
        budget: service.filter.budget,
        rate: service.filter.rate,
        state: 0,
    }
}
