//! What tables hold, in words: kept beside them in the kernel, so that reading verbs need no agent and no file.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use anyhow::{Result, anyhow, bail};
use lb_common::{abi::Encapsulation, ring::WHOLE};
use serde::{Deserialize, Serialize, Serializer};

use super::encapsulation;
use crate::config::{Forward, Overridden, Seen, SeenState, Vip};

/// All of it.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Description {
    /// Version of weir that made the tables.
    pub weir: String,
    /// Hash of the configuration's meaning: equal on siblings that agree.
    pub configuration: String,
    /// Hash of what the tables do with packets: equal on siblings that send every packet to the same backend.
    pub tables: String,
    /// How VIPs are announced.
    pub announce: String,
    /// MACs that are ours besides the interfaces'.
    pub macs: Vec<String>,
    /// The hash key is the one that everybody knows.
    pub public_hash_key: bool,
    /// The interfaces, by their numbers.
    pub interfaces: Vec<String>,
    /// Addresses that are not announced, for too few backends work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<IpAddr>,
    /// Prefixes whose SYNs are never dropped.
    pub allowed: Vec<String>,
    /// By name.
    pub services: Vec<DescribedService>,
}

impl Description {
    /// Every address that is a VIP, once.
    pub fn vip_addresses(&self) -> Result<Vec<IpAddr>> {
        let vips = self.services.iter().flat_map(|service| &service.vips);
        let parse = |vip: &DescribedVip| {
            let parsed: Result<Vip, _> = vip.vip.parse();
            parsed.map(|parsed| parsed.address).map_err(|_| anyhow!("vip {:?} in the tables: none", vip.vip))
        };
        Ok(vips.map(parse).collect::<Result<BTreeSet<_>>>()?.into_iter().collect())
    }
}

/// One service.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DescribedService {
    /// Its name in the configuration.
    pub name: String,
    /// How packets reach its backends.
    pub forward: String,
    /// What is hashed.
    pub hash: String,
    /// What happens to SYNs that match a signature.
    pub syn: String,
    /// Which signatures, and how many SYNs.
    pub syn_filter: DescribedFilter,
    /// Size of the ring.
    pub slots: u32,
    /// The largest MSS that a SYN may offer, if it is bounded.
    pub mss: Option<u16>,
    /// What becomes of packets while no backend has a share.
    pub on_empty: String,
    /// Where in RINGS its ring begins, in slots.
    pub ring: u32,
    /// Its VIP entries.
    pub vips: Vec<DescribedVip>,
    /// Its backends; services with the same ones share this.
    pub backends: Arc<[DescribedBackend]>,
    /// Backends of the configuration that overrides took away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<IpAddr>,
    /// The quorum, while fewer backends take traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below_quorum: Option<u32>,
}

impl DescribedService {
    /// How packets reach one of its backends.
    pub fn encapsulation(&self, backend: IpAddr) -> Result<Encapsulation> {
        let methods = [Forward::L2, Forward::Ipip];
        match methods.into_iter().find(|method| method.to_string() == self.forward) {
            Some(method) => Ok(encapsulation(method, backend)),
            None => {
                bail!("service {:?} in the tables: forward {:?} is none that this weir knows", self.name, self.forward)
            }
        }
    }
}

/// What a service does about SYNs.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DescribedFilter {
    /// The signatures, in the order in which they are tried.
    pub signatures: Vec<String>,
    /// What a SYN must be to match them, in their order.
    pub conditions: Vec<String>,
    /// Matches a second above which `auto` drops.
    pub threshold: u32,
    /// Matches a second that are let through.
    pub budget: u32,
    /// Other SYNs a second, if they are bounded.
    pub rate: Option<u32>,
    /// Which entry of SYN_STATES.
    pub state: u16,
}

/// One VIP entry.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DescribedVip {
    /// As written: address, port or `*`, `/udp`.
    pub vip: String,
    /// Which entry of VIP_COUNTS.
    pub id: u16,
}

/// One backend of a service.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DescribedBackend {
    /// Its address.
    pub address: IpAddr,
    /// Its weight; 0 is drained.
    pub weight: u16,
    /// The part of its slots that it takes, of 65,536.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub part: u32,
    /// Which entry of the backends' table.
    pub id: u16,
    /// Slots that it owns in the service's ring.
    pub owned: u32,
    /// What an override says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Overridden>,
    /// It takes traffic only while no other does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sorry: bool,
    /// Whether it works, if it is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Seen>,
}

impl DescribedBackend {
    /// What an override says of it, in a few words.
    pub fn overridden_text(&self) -> Option<String> {
        let Overridden { added, file_weight, state } = self.overridden?;
        let state = state.map(|state| match self.part {
            0 => state.to_string(),
            part => format!("{state}, {:.0} % left", 100.0 * f64::from(part) / f64::from(WHOLE)),
        });
        let words = [added.then(|| "added".to_owned()), file_weight.map(|weight| format!("file: {weight}")), state];
        Some(words.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl DescribedBackend {
    /// Whether it works, in words, if it is checked; it may be told how long ago that began.
    pub fn health_text(&self, now_ms: Option<u64>) -> Option<String> {
        let Some(Seen { state, since_ms, reason, failing }) = &self.health else {
            return self.sorry.then(|| "sorry".to_owned());
        };
        let mut text = state.text().to_owned();
        if *state == SeenState::Slow {
            text += &format!(", {:.0} %", 100.0 * f64::from(self.part) / f64::from(WHOLE));
        }
        if let Some(now_ms) = now_ms.filter(|_| *state != SeenState::Up) {
            text += &format!(" for {} s", now_ms.saturating_sub(*since_ms) / 1_000);
        }
        if let Some(reason) = reason {
            text += &format!(": {reason}");
        } else if let Some(failing) = failing {
            text += &format!(", fails: {failing}");
        }
        Some(text)
    }
}

fn whole() -> u32 {
    WHOLE
}

fn is_whole(part: &u32) -> bool {
    *part == WHOLE
}

/// The form in the kernel: a set of backends stands once, however many services share it. Written of what is borrowed: each change
/// writes all of it.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    weir: Cow<'a, str>,
    configuration: Cow<'a, str>,
    tables: Cow<'a, str>,
    announce: Cow<'a, str>,
    macs: Cow<'a, [String]>,
    public_hash_key: bool,
    interfaces: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    withdrawn: Cow<'a, [IpAddr]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    allowed: Cow<'a, [String]>,
    sets: Vec<Arc<[DescribedBackend]>>,
    services: Vec<StoredService<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredService<'a> {
    name: Cow<'a, str>,
    forward: Cow<'a, str>,
    hash: Cow<'a, str>,
    syn: Cow<'a, str>,
    #[serde(default)]
    syn_filter: Cow<'a, DescribedFilter>,
    slots: u32,
    mss: Option<u16>,
    #[serde(default)]
    on_empty: Cow<'a, str>,
    ring: u32,
    vips: Cow<'a, [DescribedVip]>,
    /// Which of the sets.
    set: usize,
    #[serde(default, skip_serializing_if = "is_empty")]
    removed: Cow<'a, [IpAddr]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below_quorum: Option<u32>,
}

fn is_empty<T>(list: &[T]) -> bool {
    list.is_empty()
}

impl Serialize for Description {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sets = Vec::new();
        let mut known = HashMap::new();
        let mut services = Vec::new();
        for service in &self.services {
            let DescribedService { name, forward, hash, syn, syn_filter, slots, mss, .. } = service;
            let DescribedService { on_empty, ring, vips, backends, removed, below_quorum, .. } = service;
            let set = *known.entry(backends.as_ptr()).or_insert_with(|| {
                sets.push(Arc::clone(backends));
                sets.len() - 1
            });
            services.push(StoredService {
                name: name.into(),
                forward: forward.into(),
                hash: hash.into(),
                syn: syn.into(),
                syn_filter: Cow::Borrowed(syn_filter),
                slots: *slots,
                mss: *mss,
                on_empty: on_empty.into(),
                ring: *ring,
                vips: vips.into(),
                set,
                removed: removed.into(),
                below_quorum: *below_quorum,
            });
        }
        let stored = Stored {
            weir: (&self.weir).into(),
            configuration: (&self.configuration).into(),
            tables: (&self.tables).into(),
            announce: (&self.announce).into(),
            macs: (&self.macs).into(),
            public_hash_key: self.public_hash_key,
            interfaces: (&self.interfaces).into(),
            withdrawn: (&self.withdrawn).into(),
            allowed: (&self.allowed).into(),
            sets,
            services,
        };
        stored.serialize(serializer)
    }
}

impl TryFrom<Stored<'_>> for Description {
    type Error = String;

    fn try_from(stored: Stored<'_>) -> Result<Self, String> {
        let Stored {
            weir,
            configuration,
            tables,
            announce,
            macs,
            public_hash_key,
            interfaces,
            withdrawn,
            allowed,
            sets,
            services,
        } = stored;
        let restore = |service: StoredService| {
            let StoredService {
                name,
                forward,
                hash,
                syn,
                syn_filter,
                slots,
                mss,
                on_empty,
                ring,
                vips,
                set,
                removed,
                below_quorum,
            } = service;
            let backends = sets.get(set).cloned().ok_or_else(|| format!("service {name:?} has no backends"))?;
            Ok(DescribedService {
                name: name.into_owned(),
                forward: forward.into_owned(),
                hash: hash.into_owned(),
                syn: syn.into_owned(),
                syn_filter: syn_filter.into_owned(),
                slots,
                mss,
                on_empty: on_empty.into_owned(),
                ring,
                vips: vips.into_owned(),
                backends,
                removed: removed.into_owned(),
                below_quorum,
            })
        };
        let services = services.into_iter().map(restore).collect::<Result<_, String>>()?;
        Ok(Description {
            weir: weir.into_owned(),
            configuration: configuration.into_owned(),
            tables: tables.into_owned(),
            announce: announce.into_owned(),
            macs: macs.into_owned(),
            public_hash_key,
            interfaces: interfaces.into_owned(),
            withdrawn: withdrawn.into_owned(),
            allowed: allowed.into_owned(),
            services,
        })
    }
}
