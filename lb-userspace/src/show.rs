//! Text and JSON of the reading verbs. Reads nothing itself.

pub mod agent;
pub mod changes;

use std::{collections::BTreeMap, net::IpAddr};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use lb_common::{abi::NextHop, verdict::Stripping};
use serde::Serialize;
use serde_json::json;

use crate::{
    config::SeenState,
    datapath::{Datapath, Lost},
    explain::{Answer, Question},
    health::Failing,
    links::{Link, Mode, mac_text},
    offloads::{self, Offloads},
    overrides::now_ms,
    plan::{DescribedBackend, DescribedService, Description},
    report::{self, Report},
    stats::{BackendStats, ServiceStats, Stats, Traffic, VipStats, VipTotal},
};

/// Version of every JSON object that reading verbs print.
pub const JSON_VERSION: u32 = 1;

/// Puts the version in front of an object.
pub fn json_text(value: impl Serialize) -> String {
    let mut object = json!({ "version": JSON_VERSION });
    if let (Some(object), Ok(serde_json::Value::Object(fields))) = (object.as_object_mut(), serde_json::to_value(value))
    {
        object.extend(fields);
    }
    format!("{object:#}")
}

/// What `weir ls` shows beside the services.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Columns {
    /// Nothing.
    Plain,
    /// Packets and bytes.
    Stats,
    /// Packets and bytes a second.
    Rate,
}

/// A service as `weir ls` lists it.
#[derive(Debug, Serialize)]
pub struct Listed {
    #[serde(flatten)]
    service: DescribedService,
    next_hops: Vec<ListedNextHop>,
    /// Signatures that are dropped now.
    syn_dropping: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<ServiceStats>,
}

/// Where the packets of a backend go.
#[derive(Debug, Serialize)]
pub struct ListedNextHop {
    backend: String,
    state: &'static str,
    mac: Option<String>,
    interface: Option<String>,
}

/// Joins what `weir ls` shows. `stats` are totals, or rates if the caller subtracted.
pub fn list(datapath: &Datapath, description: &Description, stats: Option<Stats>, only: Option<&str>) -> Vec<Listed> {
    let mut stats = stats.map(|stats| stats.services.into_iter());
    // Without a clock nothing is told of what is dropped for a time.
    let now = datapath.path_now().unwrap_or(u64::MAX);
    let listed = description.services.iter().map(|service| Listed {
        service: service.clone(),
        next_hops: service.backends.iter().map(|backend| next_hop(datapath, description, backend)).collect(),
        syn_dropping: dropping(datapath, service, now),
        stats: stats.as_mut().and_then(Iterator::next),
    });
    listed.filter(|listed| only.is_none_or(|only| listed.service.name == only)).collect()
}

/// Adds that a backend failed its last check.
pub fn fails(listed: &mut [Listed], Failing { service, backend, reason }: &Failing) {
    let Some(listed) = listed.iter_mut().find(|listed| listed.service.name == *service) else { return };
    let mut backends = listed.service.backends.to_vec();
    for health in
        backends.iter_mut().filter(|known| known.address == *backend).filter_map(|known| known.health.as_mut())
    {
        health.failing = Some(reason.clone());
    }
    listed.service.backends = backends.into();
}

/// The signatures of a service that are dropped.
fn dropping(datapath: &Datapath, service: &DescribedService, now: u64) -> Vec<String> {
    let drops = datapath.dropping(service, now);
    let named = service.syn_filter.signatures.iter().zip(drops);
    named.filter(|(_, drops)| *drops).map(|(name, _)| name.clone()).collect()
}

fn next_hop(datapath: &Datapath, description: &Description, backend: &DescribedBackend) -> ListedNextHop {
    let entry = datapath.backend(backend.id);
    let mac = entry.next_hop.mac();
    let state = match mac {
        _ if entry.next_hop.0 & NextHop::LOCAL != 0 => "local",
        Some(_) => "resolved",
        None => "unresolved",
    };
    let interface = mac.and_then(|_| description.interfaces.get(entry.interface as usize).cloned());
    ListedNextHop { backend: backend.address.to_string(), state, mac: mac.map(mac_text), interface }
}

impl ListedNextHop {
    fn text(&self) -> String {
        match (&self.mac, &self.interface, self.state) {
            (Some(mac), Some(interface), _) => format!("{mac} {interface}"),
            (_, _, "local") => "this host".into(),
            _ => "unresolved: packets are dropped (no_neighbour)".into(),
        }
    }
}

/// The table of `weir ls`, in the manner of `ipvsadm -Ln`.
pub fn list_text(listed: &[Listed], columns: Columns, now_ms: u64) -> String {
    let mut table = plain_table();
    let numbers: &[&str] = match columns {
        Columns::Plain => &[],
        Columns::Stats => &["Packets", "Bytes"],
        Columns::Rate => &["Packets/s", "Bytes/s"],
    };
    let header =
        |first: [&'static str; 5]| first.into_iter().chain(numbers.iter().copied()).map(str::to_owned).collect();
    let with = |mut row: Vec<String>, traffic: Option<Traffic>| {
        row.extend(traffic.into_iter().flat_map(|traffic| [traffic.packets.to_string(), traffic.bytes.to_string()]));
        row
    };
    row(&mut table, header(["Prot VIP", "Service", "Forward", "Hash", "SYN"]));
    row(&mut table, header(["  -> Backend", "Weight", "Share", "Next hop", "Health"]));
    for Listed { service, next_hops, syn_dropping, stats } in listed {
        let drops_by_itself = service.syn == "auto" && !syn_dropping.is_empty();
        let syn = if drops_by_itself { "auto, dropping".to_owned() } else { service.syn.clone() };
        for (index, vip) in service.vips.iter().enumerate() {
            let (protocol, vip) = match vip.vip.strip_suffix("/udp") {
                Some(vip) => ("UDP", vip),
                None => ("TCP", vip.vip.as_str()),
            };
            let cells = [&format!("{protocol}  {vip}"), &service.name, &service.forward, &service.hash, &syn];
            let traffic = stats.as_ref().map(|stats| Traffic::from(&stats.vips[index]));
            row(&mut table, with(cells.map(String::clone).to_vec(), traffic));
        }
        for (index, (backend, next_hop)) in service.backends.iter().zip(next_hops).enumerate() {
            let share = 100.0 * f64::from(backend.owned) / f64::from(service.slots);
            let cells = [
                format!("  -> {}", backend.address),
                match backend.overridden_text() {
                    Some(overridden) => format!("{} ({overridden})", backend.weight),
                    None => backend.weight.to_string(),
                },
                format!("{share:.1} %"),
                next_hop.text(),
                backend.health_text(Some(now_ms)).unwrap_or_default(),
            ];
            let traffic = stats.as_ref().map(|stats| Traffic::from(&stats.backends[index]));
            row(&mut table, with(cells.to_vec(), traffic));
        }
        if let Some(quorum) = service.below_quorum {
            row(&mut table, vec![format!("  !! below quorum {quorum}")]);
        }
        for backend in &service.removed {
            row(&mut table, vec![format!("  -> {backend}"), "(removed)".into()]);
        }
    }
    for column in 5..5 + numbers.len() {
        align_right(&mut table, column);
    }
    text(&table)
}

/// The table of `weir stats`.
pub fn stats_text(stats: &Stats, per_cpu: bool) -> String {
    let cpus = if per_cpu { stats.cpus() } else { 0 };
    let columns = |first: &[&str]| {
        let cpus = (0..cpus).map(|cpu| format!("cpu{cpu}"));
        first.iter().map(|name| (*name).to_owned()).chain(cpus).collect::<Vec<_>>()
    };
    let cells = |first: Vec<String>, counts: &[u64]| {
        first.into_iter().chain(counts.iter().take(cpus).map(u64::to_string)).collect::<Vec<_>>()
    };
    let numbers_from = |table: &mut Table, first: usize, last: usize| {
        (first..last).for_each(|column| align_right(table, column));
    };

    let mut verdicts = plain_table();
    row(&mut verdicts, columns(&["Verdict", "Action", "Packets"]));
    for verdict in stats.verdicts.iter().filter(|verdict| verdict.packets != 0) {
        let first = [verdict.verdict.into(), verdict.action.into(), verdict.packets.to_string()];
        row(&mut verdicts, cells(first.to_vec(), &verdict.per_cpu));
    }
    row(&mut verdicts, vec!["all".into(), String::new(), stats.packets.to_string()]);
    numbers_from(&mut verdicts, 2, 3 + cpus);

    let shown = counts_to_show(stats);
    let mut services = plain_table();
    let names: Vec<_> = ["Service", "VIP or backend"].into_iter().chain(shown.iter().map(|(name, _)| *name)).collect();
    row(&mut services, columns(&names));
    for ServiceStats { service, vips, backends, .. } in &stats.services {
        for VipStats { vip, total, per_cpu } in vips {
            let counts = shown.iter().map(|(_, count)| count(total).to_string());
            row(&mut services, cells([service.clone(), vip.clone()].into_iter().chain(counts).collect(), per_cpu));
        }
        for BackendStats { backend, packets, bytes, per_cpu } in backends {
            let first = [service.clone(), format!("  -> {backend}"), packets.to_string(), bytes.to_string()];
            row(&mut services, cells([first.to_vec(), vec![String::new(); shown.len() - 2]].concat(), per_cpu));
        }
    }
    numbers_from(&mut services, 2, 2 + shown.len() + cpus);
    let tables = [Some(verdicts), Some(services), signatures_table(stats)];
    tables.iter().flatten().map(text).collect::<Vec<_>>().join("\n\n")
}

/// What services look for in SYNs; none if none does, or nothing has been found and nothing is dropped.
fn signatures_table(stats: &Stats) -> Option<Table> {
    let mut table = plain_table();
    row(&mut table, ["Service", "Signature", "Matched", "Dropped now"].map(str::to_owned).to_vec());
    let all = stats.services.iter().flat_map(|of| of.signatures.iter().map(move |signature| (of, signature)));
    let mut any = false;
    for (of, signature) in all.filter(|(_, signature)| signature.matched != 0) {
        any = true;
        let drops = if signature.dropping { "yes" } else { "no" };
        let cells = [&of.service, &signature.signature, &signature.matched.to_string(), drops];
        row(&mut table, cells.map(|cell: &str| cell.to_owned()).to_vec());
    }
    align_right(&mut table, 2);
    any.then_some(table)
}

/// A count of a VIP entry, and what the table calls it.
type Count = (&'static str, fn(&VipTotal) -> u64);

/// The first are always shown, the others where there are any.
fn counts_to_show(stats: &Stats) -> Vec<Count> {
    const ALWAYS: [Count; 4] = [
        ("Packets", |total| total.packets),
        ("Bytes", |total| total.bytes),
        ("Dropped", |total| total.dropped),
        ("SYN window 0, no options", |total| total.syn_zero_bare),
    ];
    const SOMETIMES: [Count; 7] = [
        ("SYNs dropped", |total| total.syn_dropped),
        ("Let through", |total| total.syn_let),
        ("Allowed", |total| total.syn_allowed),
        ("Capped", |total| total.syn_capped),
        ("ICMP errors", |total| total.icmp_errors),
        ("Small MTU", |total| total.small_mtu),
        ("MSS lowered", |total| total.mss_lowered),
    ];
    let counted =
        |(_, count): &Count| stats.services.iter().flat_map(|service| &service.vips).any(|vip| count(&vip.total) != 0);
    ALWAYS.into_iter().chain(SOMETIMES.into_iter().filter(counted)).collect()
}

/// The text of `weir backend stats`.
pub fn strippings_text(counts: &[(Stripping, u64)]) -> String {
    let mut table = plain_table();
    row(&mut table, ["Outcome", "Action", "Packets", "Why"].map(str::to_owned).to_vec());
    for (stripping, packets) in counts {
        let (label, action, why) = (stripping.label(), stripping.action().label(), stripping.why());
        row(&mut table, vec![label.into(), action.into(), packets.to_string(), why.into()]);
    }
    let all: u64 = counts.iter().map(|(_, packets)| packets).sum();
    row(&mut table, vec!["all".into(), String::new(), all.to_string()]);
    align_right(&mut table, 2);
    text(&table)
}

/// The same as an object, without its version.
pub fn strippings_json(counts: &[(Stripping, u64)]) -> serde_json::Value {
    let all: u64 = counts.iter().map(|(_, packets)| packets).sum();
    let outcome = |(stripping, packets): &(Stripping, u64)| {
        let (label, action, why) = (stripping.label(), stripping.action().label(), stripping.why());
        json!({ "outcome": label, "action": action, "packets": packets, "why": why })
    };
    json!({ "packets": all, "outcomes": counts.iter().map(outcome).collect::<Vec<_>>() })
}

/// What `weir status` knows.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Version of the weir that loaded the tables.
    pub weir: String,
    /// Where they are pinned.
    pub pins: String,
    /// The agent's process, while one is running.
    pub agent: Option<u32>,
    /// For how long no agent has looked after the tables, seconds; one that runs does every second.
    pub unattended_s: u64,
    /// Hash of the configuration: equal on siblings that agree.
    pub configuration: String,
    /// Hash of what the tables do with packets: equal on siblings that send every packet to the same backend.
    pub tables: String,
    /// How many services there are.
    pub services: usize,
    /// How many VIP entries.
    pub vips: usize,
    /// How many backends, those with weight 0 too.
    pub backends: usize,
    /// Where the program is attached.
    pub interfaces: Vec<StatusInterface>,
    /// Packets seen.
    pub packets: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Samples that captures have lost since the tables were made.
    pub samples_lost: Lost,
    /// Where metrics are served, while an agent is running.
    pub metrics: Vec<report::Port>,
    /// Who is notified, and what became of it, while an agent is running.
    pub receivers: Vec<report::Receiver>,
    /// What is not as it should be, a sentence each.
    pub warnings: Vec<String>,
    /// For the text.
    #[serde(skip)]
    report: Option<Report>,
}

/// An interface in `weir status`.
#[derive(Debug, Serialize)]
pub struct StatusInterface {
    /// Its name.
    pub name: String,
    /// How the program runs, `null` if it is not attached.
    pub mode: Option<Mode>,
    /// Whether it is up and has a carrier.
    pub up: bool,
    /// Whether VIPs are announced there.
    pub announce: bool,
    /// What its hardware does with frames before the program sees them, `null` if that is not known.
    pub offloads: Option<Offloads>,
}

/// What the kernel says of the network, as far as `weir status` needs it.
#[derive(Debug, Default)]
pub struct Network {
    /// All interfaces.
    pub links: Vec<Link>,
    /// Of the attached interfaces, by their index; or why they cannot be told.
    pub offloads: BTreeMap<u32, Result<Offloads, String>>,
    /// Backends and the index of the interface that their packets leave by, where that matters.
    pub ways: Vec<(IpAddr, u32)>,
}

/// An agent that has not looked after the tables for so long is stuck: a large change may keep it for some seconds.
const STUCK_S: u64 = 15;

/// Joins what `weir status` shows.
pub fn status(
    datapath: &Datapath,
    description: &Description,
    stats: &Stats,
    network: &Network,
    (agent, report): (Option<u32>, Option<Report>),
    pins: String,
) -> Status {
    let entries = datapath.interfaces();
    let Network { links, offloads, ways } = network;
    let mut warnings = Vec::new();
    let interfaces: Vec<_> = description
        .interfaces
        .iter()
        .zip(&entries)
        .map(|(name, entry)| {
            let link = links.iter().find(|link| link.index == entry.index);
            let ours = datapath.pins().program_of(name);
            let xdp = link.and_then(|link| link.xdp);
            if let Some(xdp) = xdp.filter(|xdp| Some(xdp.program) != ours) {
                warnings.push(format!(
                    "interface {name}: another XDP program (id {}) is in the place of weir's, nothing is forwarded (ip link set \
                     dev {name} xdp off; the agent then attaches again)",
                    xdp.program
                ));
            }
            let mode = xdp.filter(|xdp| Some(xdp.program) == ours).map(|xdp| xdp.mode);
            let up = link.is_some_and(Link::works);
            let offloads = offloads.get(&entry.index).and_then(|found| found.as_ref().ok().copied());
            StatusInterface { name: name.clone(), mode, up, announce: entry.announce != 0, offloads }
        })
        .collect();
    let unattended_s = datapath.unattended().as_secs();
    if agent.is_none() {
        warnings.push(format!(
            "no agent is running, nobody has looked after the tables for {unattended_s} s: forwarding goes on, but next hops are \
             not followed (weir run)"
        ));
    } else if unattended_s > STUCK_S {
        warnings.push(format!(
            "the agent is stuck: it has not looked after the tables for {unattended_s} s (weir run takes over once it is ended)"
        ));
    }
    for interface in &interfaces {
        if interface.mode.is_some() && !interface.up {
            warnings.push(format!(
                "interface {0}: is down or has no carrier, nothing is forwarded (ip link set dev {0} up)",
                interface.name
            ));
        }
        match interface.mode {
            Some(Mode::Native) => {}
            Some(Mode::Generic) => {
                warnings.push(format!("interface {}: generic mode, which is much slower than native", interface.name));
            }
            None => warnings
                .push(format!("interface {}: no XDP program is attached (weir run attaches it)", interface.name)),
        }
    }
    for link in links.iter().filter(|link| interfaces.iter().any(|interface| interface.name == link.name)) {
        let mode = link.xdp.map(|xdp| xdp.mode);
        match offloads.get(&link.index) {
            Some(Ok(found)) => warnings.extend(offloads::warnings(link, *found, mode, links, ways)),
            Some(Err(error)) => {
                warnings.push(format!("interface {}: whether LRO is on is not known: {error}", link.name))
            }
            None => {}
        }
    }
    if description.public_hash_key {
        warnings.push(
            "hash_key: the public default is in use, so anybody can aim at one backend (openssl rand -hex 16)".into(),
        );
    }
    if datapath.syn_is_off() {
        warnings.push("syn: no SYN is dropped, by `weir syn off` (weir syn on ends that)".into());
    }
    let now = datapath.path_now().unwrap_or(u64::MAX);
    for service in description.services.iter().filter(|service| service.syn == "auto") {
        let dropped = dropping(datapath, service, now);
        if !dropped.is_empty() {
            warnings.push(format!(
                "service {}: a flood is dropped: SYNs that match {}",
                service.name,
                dropped.join(", ")
            ));
        }
    }
    warnings.extend(backend_warnings(datapath, description));
    warnings.extend(report.iter().flat_map(agent::warnings));
    let count = |n: fn(&DescribedService) -> usize| description.services.iter().map(n).sum();
    Status {
        weir: description.weir.clone(),
        pins,
        agent,
        unattended_s,
        configuration: description.configuration.clone(),
        tables: description.tables.clone(),
        services: description.services.len(),
        vips: count(|service| service.vips.len()),
        backends: count(|service| service.backends.len()),
        interfaces,
        packets: stats.packets,
        dropped: stats.dropped(),
        samples_lost: Lost::ever(datapath.pins()).unwrap_or_default(),
        metrics: report.as_ref().map(|report| report.metrics.clone()).unwrap_or_default(),
        receivers: report.as_ref().map(|report| report.receivers.clone()).unwrap_or_default(),
        warnings,
        report,
    }
}

/// One sentence a service: thousands of backends behind a lost switch are no thousand lines.
fn backend_warnings(datapath: &Datapath, description: &Description) -> Vec<String> {
    let mut warnings = Vec::new();
    if !description.withdrawn.is_empty() {
        let list = description.withdrawn.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        warnings.push(format!("below quorum, no longer announced: {list} (weir ls says which backends are down)"));
    }
    for service in &description.services {
        let kept =
            |backend: &DescribedBackend| backend.health.as_ref().is_some_and(|health| health.state == SeenState::Kept);
        if service.backends.iter().any(kept) {
            warnings.push(format!(
                "service {}: no backend works, the last that did keep their slots (on_empty = \"last\")",
                service.name
            ));
        }
        if service.backends.iter().all(|backend| backend.owned == 0) {
            warnings.push(format!(
                "service {}: no backend has a share, its packets are dropped (no_backend) or reset (on_empty = \"reset\")",
                service.name
            ));
        }
        let unresolved: Vec<_> = service
            .backends
            .iter()
            .filter(|backend| backend.owned != 0 && next_hop(datapath, description, backend).state == "unresolved")
            .map(|backend| backend.address.to_string())
            .collect();
        if let Some(first) = unresolved.first() {
            let others =
                if unresolved.len() > 1 { format!(" and {} more", unresolved.len() - 1) } else { String::new() };
            warnings.push(format!(
                "service {}: next hop of {first}{others} is not known, packets for it are dropped (no_neighbour)",
                service.name
            ));
        }
    }
    warnings
}

/// The text of `weir status`.
pub fn status_text(status: &Status) -> String {
    let mut table = plain_table();
    let agent =
        status.agent.map_or(format!("not running for {} s", status.unattended_s), |pid| format!("running, pid {pid}"));
    let mut line = |name: &str, value: String| row(&mut table, vec![name.into(), value]);
    line("weir", format!("{}, pinned in {}", status.weir, status.pins));
    line("agent", agent);
    for interface in &status.interfaces {
        let mode = match interface.mode {
            Some(Mode::Native) => "native",
            Some(Mode::Generic) => "generic",
            None => "not attached",
        };
        let announce = if interface.announce { "announces VIPs" } else { "does not announce VIPs" };
        line("interface", format!("{}: {mode}, {announce}", interface.name));
    }
    for (name, value) in status.report.iter().flat_map(|report| agent::lines(report, now_ms())) {
        line(name, value);
    }
    let Status { services, vips, backends, configuration, tables, packets, dropped, .. } = status;
    line("configuration", format!("{configuration}, services: {services}, VIPs: {vips}, backends: {backends}"));
    line("tables", tables.clone());
    line("packets", format!("{packets} seen, {dropped} dropped"));
    let Lost { over_budget, ring_full } = status.samples_lost;
    if over_budget + ring_full > 0 {
        let lost = format!("{over_budget} lost over the budget, {ring_full} while the reader was slow (weir capture)");
        line("samples", lost);
    }
    for warning in &status.warnings {
        line("warning", warning.clone());
    }
    text(&table)
}

/// The text of `weir syn`.
pub fn syn_text(off: bool) -> String {
    if off { "no SYN is dropped (weir syn on ends that)" } else { "SYNs are dropped as services are configured" }
        .to_owned()
}

/// The text of `weir announce`.
pub fn announce_text(on: bool) -> String {
    format!("VIPs are {}announced", if on { "" } else { "no longer " })
}

/// The text of `weir explain`.
pub fn explain_text(question: &Question, answer: &Answer) -> String {
    let protocol = if question.udp { "udp" } else { "tcp" };
    let mut table = plain_table();
    let mut line = |name: &str, value: String| row(&mut table, vec![format!("  {name}"), value]);
    line("verdict", format!("{} ({}): {}", answer.verdict, answer.action, answer.why));
    if let (Some(service), Some(vip)) = (&answer.service, &answer.vip) {
        line("service", format!("{service}, VIP {vip}"));
    }
    if let (Some(hash), Some(slot), Some(slots)) = (answer.hash, answer.slot, answer.slots) {
        line("slot", format!("{slot} of {slots}, by hash {hash:#010x}"));
    }
    if let (Some(backend), Some(weight), Some(forward)) = (&answer.backend, answer.weight, &answer.forward) {
        line("backend", format!("{backend}, weight {weight}, by {forward}"));
        let next_hop = match (&answer.next_hop, &answer.interface) {
            (Some(mac), Some(interface)) => format!("{mac} on {interface}"),
            _ => "not known".into(),
        };
        line("next hop", next_hop);
    }
    if let Some(next) = &answer.next {
        line("then", format!("{next} would have this flow if that backend left"));
    }
    format!("{} -> {} {protocol}\n{}", question.source, question.vip, text(&table))
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn row(table: &mut Table, cells: Vec<String>) {
    table.add_row(cells);
}

fn align_right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Without the blanks that tables put at both ends of a line.
fn text(table: &Table) -> String {
    let lines = table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}
