//! Metrics in Prometheus' text format (exposition format 0.0.4): counters from the kernel, which a restart of the agent does not
//! set back, and what the agent knows of itself. Labels are bounded by the configuration.

mod health;
mod page;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use anyhow::Result;
use lb_common::abi::NextHop;

use self::page::{Labels, Page};
use crate::{
    datapath::{Access, Datapath, Lost, Pins},
    health::Checked,
    links::{self, Link, Mode},
    plan::{DescribedService, Description},
    report::Report,
    stats::{self, VipTotal},
};

/// Pairs of service and backend that are listed; of a configuration with more, none is.
const MAX_PAIRS: usize = 65_536;

/// Reads the tables, and says what is in them and in the report.
pub fn read(pins: &Pins, report: &Report, checks: &[Checked]) -> Result<String> {
    let datapath = Datapath::open(pins, Access::Read)?;
    let description = datapath.description()?;
    let links = links::list()?;
    let mut page = Page::default();
    build(&mut page, &description);
    agent(&mut page, report, datapath.unattended());
    interfaces(&mut page, &datapath, &description, &links);
    packets(&mut page, &datapath)?;
    vips(&mut page, &datapath, &description)?;
    signatures(&mut page, &datapath, &description)?;
    samples(&mut page, pins)?;
    services(&mut page, &description);
    backends(&mut page, &datapath, &description)?;
    health::page(&mut page, &description, checks)?;
    Ok(page.finish())
}

fn build(page: &mut Page, description: &Description) {
    let version = || Labels::of(&[("version", env!("CARGO_PKG_VERSION"))]);
    page.gauge("weir_build_info", "The weir that serves these metrics.", [(version(), 1.0)]);
    let hashes = [("configuration", &description.configuration[..]), ("tables", &description.tables)];
    let help = "Hashes of the configuration as written and of what the tables do with packets; siblings have the same.";
    page.gauge("weir_config_info", help, [(Labels::of(&hashes), 1.0)]);
}

fn agent(page: &mut Page, report: &Report, unattended: Duration) {
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let one = |value: f64| [(Labels::default(), value)];
    page.gauge("weir_agent_start_time_seconds", "When the agent began, since 1970.", one(seconds(report.started_ms)));
    let help = "For how long the agent's loop has not looked after the tables; it does every second.";
    page.gauge("weir_agent_heartbeat_age_seconds", help, one(unattended.as_secs_f64()));
    let help = "Whether the configuration that was read last was put into effect.";
    page.gauge("weir_config_last_reload_successful", help, one(flag(report.reload.error.is_none())));
    let help = "When a configuration was last put into effect, since 1970.";
    page.gauge("weir_config_last_reload_success_timestamp_seconds", help, one(seconds(report.reload.done_ms)));
    let events = report.events.iter().flat_map(|(kind, outcomes)| {
        let labels = |result| Labels::of(&[("kind", &kind[..]), ("result", result)]);
        [(labels("done"), outcomes.done as f64), (labels("failed"), outcomes.failed as f64)]
    });
    page.counter("weir_agent_events_total", "What `weir events` shows, by kind.", events);
    let receivers = &report.receivers;
    let notifications = receivers.iter().flat_map(|receiver| {
        let labels = |result| Labels::of(&[("receiver", &receiver.name[..]), ("result", result)]);
        let results = [("sent", receiver.sent), ("failed", receiver.failed), ("dropped", receiver.dropped)];
        results.map(|(result, count)| (labels(result), count as f64))
    });
    page.counter("weir_notifications_total", "Messages to those who are notified, by their fate.", notifications);
    let last =
        receivers.iter().map(|receiver| (Labels::of(&[("receiver", &receiver.name)]), flag(receiver.error.is_none())));
    page.gauge("weir_notification_last_successful", "Whether the last try to notify was taken.", last);
}

fn interfaces(page: &mut Page, datapath: &Datapath, description: &Description, links: &[Link]) {
    let found: Vec<_> = description
        .interfaces
        .iter()
        .zip(datapath.interfaces())
        .map(|(name, entry)| {
            let link = links.iter().find(|link| link.index == entry.index);
            let program = datapath.pins().program_of(name);
            let xdp = link.and_then(|link| link.xdp).filter(|xdp| Some(xdp.program) == program);
            let up = link.is_some_and(Link::works);
            (name, xdp.map(|xdp| xdp.mode), up, entry.announce != 0)
        })
        .collect();
    type Found<'a> = (&'a String, Option<Mode>, bool, bool);
    let mut gauge = |name, help, is: fn(&Found) -> bool| {
        let samples = found.iter().map(|found| (Labels::of(&[("interface", found.0)]), flag(is(found))));
        page.gauge(name, help, samples);
    };
    gauge("weir_interface_attached", "Whether weir's program is attached.", |found| found.1.is_some());
    let help = "Whether it runs in the driver; in the stack it is much slower.";
    gauge("weir_interface_native", help, |found| found.1 == Some(Mode::Native));
    gauge("weir_interface_up", "Whether the interface is up and has a carrier.", |found| found.2);
    gauge("weir_interface_announces", "Whether VIPs are announced there.", |found| found.3);
}

fn packets(page: &mut Page, datapath: &Datapath) -> Result<()> {
    let verdicts = datapath.verdicts()?;
    let by_verdict = verdicts.iter().map(|(verdict, by_cpu)| {
        let labels = [("verdict", verdict.label()), ("action", verdict.action().label())];
        (Labels::of(&labels), by_cpu.iter().sum::<u64>() as f64)
    });
    page.counter(
        "weir_packets_total",
        "Packets seen, by verdict (docs/packets.md) and what became of them.",
        by_verdict,
    );
    let cpus = verdicts.first().map_or(0, |(_, by_cpu)| stats::of_cpus(by_cpu).len());
    let by_cpu = (0..cpus).map(|cpu| {
        let packets: u64 = verdicts.iter().map(|(_, by_cpu)| by_cpu[cpu]).sum();
        (Labels::of(&[("cpu", &cpu.to_string())]), packets as f64)
    });
    page.counter(
        "weir_cpu_packets_total",
        "Packets seen, by the CPU that saw them since the programs were loaded.",
        by_cpu,
    );
    Ok(())
}

fn vips(page: &mut Page, datapath: &Datapath, description: &Description) -> Result<()> {
    let mut totals = Vec::new();
    for service in &description.services {
        for vip in &service.vips {
            let mut total = VipTotal::default();
            datapath.vip_counts(vip.id)?.iter().for_each(|counts| total += counts);
            totals.push((
                Labels::of(&[("service", &service.name), ("vip", &vip.vip)]),
                vip.vip.ends_with("/udp"),
                total,
            ));
        }
    }
    for counter in VipTotal::COUNTERS {
        // What only TCP has is left out elsewhere.
        let of_tcp = counter.name.starts_with("syn_") || counter.name.starts_with("mss_");
        let shown = totals.iter().filter(|(_, is_udp, _)| !(of_tcp && *is_udp));
        let samples = shown.map(|(labels, _, total)| (labels.clone(), (counter.read)(total) as f64));
        page.counter(&format!("weir_vip_{}_total", counter.name), counter.why, samples);
    }
    Ok(())
}

fn signatures(page: &mut Page, datapath: &Datapath, description: &Description) -> Result<()> {
    let (mut matched, mut dropping) = (Vec::new(), Vec::new());
    let now = datapath.path_now()?;
    for service in &description.services {
        let found = datapath.matches(service).into_iter().zip(datapath.dropping(service, now));
        for (signature, (count, drops)) in service.syn_filter.signatures.iter().zip(found) {
            let labels = Labels::of(&[("service", &service.name), ("signature", signature)]);
            matched.push((labels.clone(), count as f64));
            dropping.push((labels, flag(drops)));
        }
    }
    page.counter("weir_syn_matched_total", "SYNs that match a signature which the service looks for.", matched);
    page.gauge("weir_syn_dropping", "Whether SYNs that match it are dropped, but for the budget.", dropping);
    let off = [(Labels::default(), flag(datapath.syn_is_off()))];
    page.gauge("weir_syn_off", "Whether `weir syn off` has stopped all dropping of SYNs.", off);
    Ok(())
}

fn samples(page: &mut Page, pins: &Pins) -> Result<()> {
    let Lost { over_budget, ring_full } = Lost::ever(pins)?;
    let lost = [("over_budget", over_budget), ("ring_full", ring_full)];
    let lost = lost.map(|(reason, count)| (Labels::of(&[("reason", reason)]), count as f64));
    page.counter("weir_samples_lost_total", "Samples that a capture wanted and did not get.", lost);
    Ok(())
}

fn services(page: &mut Page, description: &Description) {
    let services = &description.services;
    let of_service = |service: &DescribedService| Labels::of(&[("service", &service.name)]);
    let count = services.iter().map(|service| (of_service(service), service.backends.len() as f64));
    page.gauge("weir_service_backends", "Backends of the service, those without a share too.", count);
    let live = services.iter().map(|service| {
        (of_service(service), service.backends.iter().filter(|backend| backend.owned > 0).count() as f64)
    });
    page.gauge("weir_service_live_backends", "Backends that have a share of the service.", live);

    let pairs: usize = services.iter().map(|service| service.backends.len()).sum();
    let left_out = if pairs > MAX_PAIRS { pairs } else { 0 };
    let help = "Pairs of service and backend without series for weight and share, because there are more than 65536.";
    page.gauge("weir_metrics_left_out", help, [(Labels::default(), left_out as f64)]);
    if left_out > 0 {
        return;
    }
    let pairs = || {
        services.iter().flat_map(|service| service.backends.iter().map(move |backend| (service, backend))).map(
            |(service, backend)| {
                let labels = [("service", &service.name[..]), ("backend", &backend.address.to_string())];
                (Labels::of(&labels), service, backend)
            },
        )
    };
    let weights = pairs().map(|(labels, _, backend)| (labels, f64::from(backend.weight)));
    page.gauge("weir_backend_weight", "The backend's weight in the service, overrides included.", weights);
    let shares =
        pairs().map(|(labels, service, backend)| (labels, f64::from(backend.owned) / f64::from(service.slots)));
    page.gauge("weir_backend_share_ratio", "The part of the service's slots that the backend has.", shares);
}

/// Whatever services share, by address and method: that is what the kernel counts by.
fn backends(page: &mut Page, datapath: &Datapath, description: &Description) -> Result<()> {
    let mut by_id: BTreeMap<u16, (IpAddr, &str)> = BTreeMap::new();
    let mut sets = BTreeSet::new();
    for service in &description.services {
        if sets.insert(service.backends.as_ptr()) {
            by_id.extend(service.backends.iter().map(|backend| (backend.id, (backend.address, &service.forward[..]))));
        }
    }
    let mut known = Vec::new();
    let mut states = BTreeMap::from([("known", 0), ("unknown", 0), ("local", 0)]);
    for (id, (address, forward)) in by_id {
        let (mut packets, mut bytes) = (0, 0);
        for counts in datapath.backend_counts(id)? {
            packets += counts.packets;
            bytes += counts.bytes;
        }
        let next_hop = datapath.backend(id).next_hop;
        let is_local = next_hop.0 & NextHop::LOCAL != 0;
        let is_known = is_local || next_hop.mac().is_some();
        let state = if is_local {
            "local"
        } else if is_known {
            "known"
        } else {
            "unknown"
        };
        *states.entry(state).or_default() += 1;
        let labels = Labels::of(&[("backend", &address.to_string()), ("forward", forward)]);
        known.push((labels, packets, bytes, is_known));
    }
    let packets = known.iter().map(|(labels, packets, ..)| (labels.clone(), *packets as f64));
    page.counter("weir_backend_packets_total", "Packets sent to the backend, of all services.", packets);
    let bytes = known.iter().map(|(labels, _, bytes, _)| (labels.clone(), *bytes as f64));
    page.counter("weir_backend_bytes_total", "Their IP bytes, without what a tunnel adds.", bytes);
    let hops = known.iter().map(|(labels, .., known)| (labels.clone(), flag(*known)));
    page.gauge("weir_backend_next_hop_known", "Whether packets for the backend have somewhere to go.", hops);
    let states = states.into_iter().map(|(state, count)| (Labels::of(&[("state", state)]), f64::from(count)));
    page.gauge("weir_next_hops", "Backends by what is known of the way to them.", states);
    Ok(())
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}
