//! Requests by curl, and where they went.

use std::net::IpAddr;

use anyhow::{Context, Result};

use super::{
    network::Network,
    story::{Story, thousands},
    url,
};
use crate::lab::{Host, Seen, Tap, Traffic, Way};

/// Requests to each service.
const REQUESTS: u32 = 1_000;
/// A spread further from its share than so many standard deviations is no chance.
const DEVIATIONS: f64 = 5.0;

/// Asks a service, and shows who answered and by which way.
pub fn show(story: &mut Story, network: &Network, service: &str, vip: IpAddr, way: &str) -> Result<()> {
    let url = url(vip);
    story.chapter(&format!("{} requests to {url}: {way}", thousands(REQUESTS.into())));
    let port = network.port(&network.balancer);
    let mut answers_there = Tap::open(network.switch.host(), &port, Way::Out, Seen::From(vip))?;
    let before = traffic(network)?;
    let answers = ask(&network.client, &url, REQUESTS)?;
    let after = traffic(network)?;

    spread(story, network, service, &answers)?;
    let (client, balancer) = (since(before.0, after.0), since(before.1, after.1));
    let through = answers_there.packets()?;
    let text = format!(
        "{} KB came straight to the client, {} packets of them by the balancer",
        thousands(client.rx.bytes / 1_000),
        thousands(through)
    );
    story.figure("answers", &text, through == 0 && client.rx.bytes > balancer.rx.bytes, "no packet by the balancer");
    let text = format!(
        "received {} KB in {} packets, sent on {}",
        thousands(balancer.rx.bytes / 1_000),
        thousands(balancer.rx.packets),
        thousands(balancer.tx.packets)
    );
    // Besides requests there is a little ARP and neighbour discovery.
    let right = balancer.rx.packets.abs_diff(balancer.tx.packets) <= 50 && balancer.tx.packets > u64::from(REQUESTS);
    story.figure("balancer", &text, right, "as many sent as received");
    Ok(())
}

/// Each request is a connection of its own. Returns the first word of each answer.
pub fn ask(client: &Host, url: &str, times: u32) -> Result<Vec<String>> {
    let urls = format!("{url}[1-{times}]");
    let options = ["-s", "-S", "-f", "--fail-early", "-m", "10", "--no-keepalive", "-H", "Connection: close"];
    let text = client.output("curl", &[&options[..], &[&urls]].concat())?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

fn spread(story: &mut Story, network: &Network, service: &str, answers: &[String]) -> Result<()> {
    let description = network.description()?;
    let described = description.services.iter().find(|described| described.name == service);
    let described = described.with_context(|| format!("service {service:?} is not in the tables"))?;
    let (mut parts, mut right) = (Vec::new(), answers.len() == REQUESTS as usize);
    for (backend, host) in described.backends.iter().zip(&network.backends) {
        let seen = answers.iter().filter(|name| *name == host.name()).count();
        let share = f64::from(backend.owned) / f64::from(described.slots);
        let expected = f64::from(REQUESTS) * share;
        let deviation = (expected * (1.0 - share)).sqrt();
        right &= (seen as f64 - expected).abs() <= DEVIATIONS * deviation;
        let word = if parts.is_empty() { " expected" } else { "" };
        parts.push(format!("{} {seen} ({expected:.0}{word})", host.name()));
    }
    let expected = format!("{REQUESTS} answers, each share within {DEVIATIONS} standard deviations");
    story.figure("spread", &parts.join(", "), right, &expected);
    Ok(())
}

/// Of the client's interface and of the balancer's.
fn traffic(network: &Network) -> Result<(Traffic, Traffic)> {
    Ok((network.client.traffic("eth0")?, network.balancer.traffic("eth0")?))
}

fn since(before: Traffic, after: Traffic) -> Traffic {
    let mut traffic = after;
    traffic.rx.packets -= before.rx.packets;
    traffic.rx.bytes -= before.rx.bytes;
    traffic.tx.packets -= before.tx.packets;
    traffic.tx.bytes -= before.tx.bytes;
    traffic
}
