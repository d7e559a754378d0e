//! What reading verbs read and show, for whoever may read pins: the command line, or the agent for those who may not.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    datapath::{Access, Datapath, Pins},
    explain::{self, Question},
    health::Failing,
    links, next_hops, offloads,
    plan::Description,
    report::Report,
    show::{self, Columns, Network},
    stats::Stats,
};

/// What is to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reading {
    /// `weir status`
    Status,
    /// `weir ls`
    Services {
        /// Only this one.
        only: Option<String>,
        /// With which numbers.
        columns: Columns,
    },
    /// `weir stats`
    Stats {
        /// In the text, a column for each CPU.
        per_cpu: bool,
    },
    /// `weir explain`
    Explain {
        /// The client.
        source: SocketAddr,
        /// The VIP.
        vip: SocketAddr,
        /// UDP rather than TCP.
        udp: bool,
    },
}

/// What was read, in both forms.
#[derive(Clone, PartialEq, Debug)]
pub struct Page {
    /// For people.
    pub text: String,
    /// For programs; without the version.
    pub json: Value,
}

/// A service was named that is not there.
#[derive(Debug, thiserror::Error)]
#[error("service {service:?}: no such service (have: {have})")]
pub struct NoSuchService {
    service: String,
    have: String,
}

impl NoSuchService {
    /// Names it, and those that are there.
    pub fn new(service: &str, have: &[&str]) -> Self {
        NoSuchService { service: service.to_owned(), have: have.join(", ") }
    }
}

/// Reads. Rates take a second to measure. `report` asks the agent that looks after these pins what it knows of itself, if it can.
pub fn read(pins: &Pins, reading: Reading, report: impl FnOnce() -> Option<Report>) -> Result<Page> {
    let datapath = Datapath::open(pins, Access::Read)?;
    match reading {
        Reading::Status => status(pins, &datapath, report),
        Reading::Services { only, columns } => {
            let report = pins.holder().and_then(|_| report());
            services(&datapath, only.as_deref(), columns, &report.unwrap_or_default().failing)
        }
        Reading::Stats { per_cpu } => {
            let stats = Stats::read(&datapath, &datapath.description()?)?;
            page(show::stats_text(&stats, per_cpu), &stats)
        }
        Reading::Explain { source, vip, udp } => {
            let question = Question { source, vip, udp };
            let answer = explain::explain(&datapath, question)?;
            page(show::explain_text(&question, &answer), &answer)
        }
    }
}

fn page(text: String, json: impl Serialize) -> Result<Page> {
    Ok(Page { text, json: serde_json::to_value(json)? })
}

fn status(pins: &Pins, datapath: &Datapath, report: impl FnOnce() -> Option<Report>) -> Result<Page> {
    let description = datapath.description()?;
    let stats = Stats::read(datapath, &description)?;
    let place = pins.root().display().to_string();
    let network = network(datapath, &description)?;
    let holder = pins.holder();
    let agent = (holder, holder.and_then(|_| report()));
    let status = show::status(datapath, &description, &stats, &network, agent, place);
    page(show::status_text(&status), &status)
}

/// What the kernel says of the network. Routes are looked up where their answer could matter alone: there may be
/// thousands of backends.
fn network(datapath: &Datapath, description: &Description) -> Result<Network> {
    let links = links::list()?;
    let entries = datapath.interfaces();
    let mut network = Network::default();
    let mut routes_matter = false;
    for link in links.iter().filter(|link| entries.iter().any(|entry| entry.index == link.index)) {
        let found = offloads::read(link.index);
        routes_matter |= found.as_ref().is_ok_and(|found| offloads::may_strip(link, *found, &links));
        network.offloads.insert(link.index, found.map_err(|error| format!("{error:#}")));
    }
    if routes_matter {
        let backends = description.services.iter().flat_map(|service| service.backends.iter());
        let addresses: BTreeSet<IpAddr> = backends.map(|backend| backend.address).collect();
        network.ways = next_hops::interfaces_to(&Vec::from_iter(addresses))?;
    }
    Ok(Network { links, ..network })
}

fn services(datapath: &Datapath, only: Option<&str>, columns: Columns, failing: &[Failing]) -> Result<Page> {
    let description = datapath.description()?;
    if let Some(only) = only {
        let names: Vec<_> = description.services.iter().map(|service| service.name.as_str()).collect();
        ensure!(names.contains(&only), NoSuchService::new(only, &names));
    }
    let stats = match columns {
        Columns::Plain => None,
        Columns::Stats => Some(Stats::read(datapath, &description)?),
        Columns::Rate => {
            let before = Stats::read(datapath, &description)?;
            std::thread::sleep(Duration::from_secs(1));
            Some(Stats::read(datapath, &description)?.since(&before))
        }
    };
    let mut listed = show::list(datapath, &description, stats, only);
    failing.iter().for_each(|failing| show::fails(&mut listed, failing));
    page(show::list_text(&listed, columns, crate::overrides::now_ms()), json!({ "services": listed }))
}
