//! The SYN filter's part of the tables.

use lb_common::{
    abi::{Address, MAX_SIGNATURES, NO_SIGNATURE, SERVICE_SIGNATURES, Service, Signature, SynPolicy, VIP_ENTRIES},
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
    /// A hash of what each signature of the configuration asks for.
    asked: Vec<u64>,
    meaning: Vec<u64>,
}

impl SynTables {
    pub(super) fn new(config: &Config) -> Self {
        let mut signatures = [Signature::default(); MAX_SIGNATURES as usize];
        signatures.iter_mut().zip(&config.signatures).for_each(|(place, signature)| *place = signature.conditions);
        let meaning = config.allowed.iter().map(|prefix| of_text(&prefix.to_string())).collect();
        let policies = Box::new([SynPolicy::default(); VIP_ENTRIES as usize]);
        let asked = config.signatures.iter().map(|signature| of_text(&format!("{:?}", signature.conditions))).collect();
        SynTables { signatures, policies, allowed: config.allowed.clone(), asked, meaning }
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
        let vips = service.vips.iter().flat_map(|vip| {
            let Address([a, b, c, d]) = vip.address.into();
            let port = u64::from(vip.port.unwrap_or(0));
            [u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d), port << 8 | vip.protocol as u64]
        });
        let policy = [mode.into(), budget_ns, cap_ns, threshold.into()];
        let asked = places(service).iter().map(|number| self.asked[*number]);
        self.meaning.push(of_words(vips.chain(policy).chain(asked)));
    }

    /// For the hash of what tables do.
    pub(super) fn meaning(&self) -> impl Iterator<Item = u64> {
        self.meaning.iter().copied()
    }
}

fn of_text(text: &str) -> u64 {
    let words = text.as_bytes().chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    of_words(words.chain([text.len() as u64]))
}

fn of_words(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0, |hash, word| mix(hash ^ word))
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
    let asked = filter.signatures.iter().zip(&filter.conditions);
    of_words([of_text(service)].into_iter().chain(asked.flat_map(|(name, asked)| [of_text(name), of_text(asked)])))
}

/// What an entry of the services' table says of SYNs.
pub(super) fn flags(config: &Config, service: &config::Service) -> u8 {
    let looks = service.syn != Syn::Off || service.filter.rate.is_some();
    let first = places(service).first().map(|number| config.signatures[*number].name.as_str());
    let drops = matches!(service.syn, Syn::Drop | Syn::Auto);
    let bare = drops && first == Some(BUILT_IN) && config.allowed.is_empty();
    (if looks { Service::SYN_LOOK } else { 0 }) | if bare { Service::SYN_BARE } else { 0 }
}

/// All but the states, of all services.
pub(super) fn describe(config: &Config) -> Vec<DescribedFilter> {
    let conditions: Vec<_> = config.signatures.iter().map(ToString::to_string).collect();
    config.services.values().map(|service| describe_one(config, &conditions, service)).collect()
}

fn describe_one(config: &Config, conditions: &[String], service: &config::Service) -> DescribedFilter {
    DescribedFilter {
        signatures: places(service).iter().map(|number| config.signatures[*number].name.clone()).collect(),
        conditions: places(service).iter().map(|number| conditions[*number].clone()).collect(),
        threshold: service.filter.threshold,
        budget: service.filter.budget,
        rate: service.filter.rate,
        state: 0,
    }
}
