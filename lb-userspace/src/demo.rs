//! `weir demo`: the main job shown on this host, in network namespaces of its own, with every figure measured and checked.

mod floods;
mod network;
mod requests;
mod story;

use std::{net::IpAddr, time::Instant};

use anyhow::{Result, ensure};

use crate::{
    datapath::requirements::Kernel,
    demo::{
        network::{Network, VIP, VIP_TUNNEL, VIP6},
        story::{Story, thousands},
    },
    lab::{LIVE_FRAMES_KERNEL, find, wait_until},
};

/// Shows all of it; an error if a figure is not as it should be.
pub fn run() -> Result<()> {
    for (program, package) in [("curl", "curl"), ("nft", "nftables"), ("sysctl", "procps")] {
        ensure!(find(program).is_some(), "{program}: not found (apt install {package})");
    }
    let begin = Instant::now();
    let mut story = Story::default();
    let mut network = Network::new()?;
    introduce(&mut story, &network)?;

    for (service, vip, way) in [
        ("web", VIP, "IPv4, backends on the same link"),
        ("tunnel", VIP_TUNNEL, "IPv4, through tunnels (ipip)"),
        ("web6", VIP6, "IPv6, backends on the same link"),
    ] {
        requests::show(&mut story, &network, service, vip.parse()?, way)?;
    }
    if Kernel::running()? >= LIVE_FRAMES_KERNEL {
        floods::show(&mut story, &mut network)?;
    } else {
        story.chapter(&format!("No flood: this kernel cannot send one, {LIVE_FRAMES_KERNEL} and newer can"));
    }
    connection_tracking(&mut story, &network)?;
    clean_up(&mut story, network)?;
    story.end(begin.elapsed())
}

fn introduce(story: &mut Story, network: &Network) -> Result<()> {
    story.chapter("A client, a balancer and three backends on one switch, each in a namespace of its own");
    story.note("backends", &format!("{}; set up by what `weir backend setup` prints", network.server()));
    story.note("balancer", "weir run; backend3 has weight 2, the others 1");
    story.figure("mode", "native: the program runs in the driver", network.is_native()?, "native");
    Ok(())
}

/// The balancer's namespace tracks connections, of which there must be none.
fn connection_tracking(story: &mut Story, network: &Network) -> Result<()> {
    story.chapter("Connection tracking in the balancer's namespace");
    let Some(count) = network.tracked()? else {
        story.note("tracked", "this kernel has none (no nf_conntrack)");
        return Ok(());
    };
    let text = format!("nf_conntrack_count is {} after all that", thousands(count));
    story.figure("tracked", &text, count == 0, "0");
    if network.tracks() {
        // The proof that a 0 says something.
        network.disturb_balancer()?;
        let counted = wait_until("an entry", network::PATIENCE, || network.tracked().is_ok_and(|n| n > Some(0)));
        let text = "one datagram to the balancer itself, past the VIPs, and there is an entry";
        story.figure("control", text, counted.is_ok(), "an entry");
    } else {
        story.note("control", "no nft here to switch tracking on, so a 0 says little");
    }
    Ok(())
}

fn clean_up(story: &mut Story, network: Network) -> Result<()> {
    story.chapter("Clean-up");
    let traces = network.traces();
    drop(network);
    let left: Vec<_> = traces.iter().filter(|trace| trace.exists()).map(|trace| trace.display().to_string()).collect();
    let text = format!("{} namespaces, pins and directories are gone", traces.len());
    story.figure("left", &text, left.is_empty(), &format!("gone, but there is {}", left.join(", ")));
    Ok(())
}

/// A URL's host.
fn url(vip: IpAddr) -> String {
    match vip {
        IpAddr::V4(vip) => format!("http://{vip}/"),
        IpAddr::V6(vip) => format!("http://[{vip}]/"),
    }
}
