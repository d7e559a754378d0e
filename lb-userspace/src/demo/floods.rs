//! A flood of SYNs, counted and then dropped, while requests go on.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, anyhow};
use lb_common::verdict::Verdict;

use super::{
    network::{Network, VIP},
    requests::ask,
    story::{Story, thousands},
    url,
};
use crate::{
    config::Syn,
    datapath::Datapath,
    lab::{Flood, Seen, Tap, Way},
};

/// SYNs in a flood.
const PACKETS: u64 = 100_000;
/// Sources are scattered over this network (RFC 2544's, for measurements)...
const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// ... by these bits.
const VARY: Ipv4Addr = Ipv4Addr::new(0, 1, 255, 255);
/// Requests that curl makes at a time meanwhile.
const REQUESTS: u32 = 20;

/// What was measured of one flood.
struct Measured {
    made: u64,
    counted: u64,
    dropped: u64,
    at_backends: u64,
    /// Answers to requests meanwhile, or what curl said.
    answered: Result<usize>,
}

/// Shows both.
pub fn show(story: &mut Story, network: &mut Network) -> Result<()> {
    story.chapter(&format!("{} SYNs with window 0 and no options; syn = \"count\"", thousands(PACKETS)));
    let measured = flood(network, Syn::Count)?;
    counted(story, &measured);
    let text = format!("{} of them reached the backends", thousands(measured.at_backends));
    story.figure("backends", &text, measured.at_backends >= PACKETS, &thousands(PACKETS));
    requests(story, &measured);

    network.run(Syn::Drop)?;
    story.chapter("The same after a restart with syn = { mode = \"drop\", budget = \"0/s\" }");
    let measured = flood(network, Syn::Drop)?;
    counted(story, &measured);
    let Measured { counted, dropped, at_backends, .. } = measured;
    let text = format!("{} dropped, {} reached the backends", thousands(dropped), thousands(at_backends));
    story.figure("dropped", &text, dropped == counted && at_backends == 0, "all dropped");
    requests(story, &measured);
    Ok(())
}

fn counted(story: &mut Story, measured: &Measured) {
    let Measured { made, counted, .. } = measured;
    let lost = made.saturating_sub(*counted);
    let text =
        format!("{} made, {} counted, {} lost in the switch", thousands(*made), thousands(*counted), thousands(lost));
    story.figure("flood", &text, *counted >= PACKETS && counted <= made, &format!("{} counted", thousands(PACKETS)));
}

fn requests(story: &mut Story, measured: &Measured) {
    let (text, right) = match &measured.answered {
        Ok(answered) => (format!("{} requests meanwhile, all answered", thousands(*answered as u64)), *answered > 0),
        Err(error) => (format!("{error:#}"), false),
    };
    story.figure("requests", &text, right, "some, and an answer to each");
}

fn flood(network: &Network, syn: Syn) -> Result<Measured> {
    let vip: Ipv4Addr = VIP.parse()?;
    let to = (network.balancer.mac("eth0")?, SocketAddrV4::new(vip, 80));
    let mut flood = Flood::new(&network.client, "eth0", to, SOURCE, VARY)?;
    let datapath = network.datapath()?;
    let id = vip_id(network)?;
    let from = Seen::FromNetwork(SOURCE, u32::from(!VARY));
    let tap = |host| Tap::open(network.switch.host(), &network.port(host), Way::Out, from);
    let mut taps = network.backends.iter().map(tap).collect::<Result<Vec<_>>>()?;

    let (before, dropped_before) = (signatures(&datapath, id)?, dropped(&datapath)?);
    let mut at_backends = || taps.iter_mut().map(Tap::packets).sum::<Result<u64>>();
    let arrived = || if syn == Syn::Drop { signatures(&datapath, id) } else { at_backends() };
    let (made, answered) = while_asking(network, || flood.send(PACKETS, arrived))?;
    Ok(Measured {
        made,
        counted: signatures(&datapath, id)? - before,
        dropped: dropped(&datapath)? - dropped_before,
        at_backends: at_backends()?,
        answered,
    })
}

/// Does something while a client goes on asking; also returns how many answers came.
fn while_asking<T>(network: &Network, work: impl FnOnce() -> Result<T>) -> Result<(T, Result<usize>)> {
    let done = AtomicBool::new(false);
    let url = url(IpAddr::from(VIP.parse::<Ipv4Addr>()?));
    let asking = || {
        let mut answered = 0;
        while !done.load(Ordering::Relaxed) {
            answered += ask(&network.client, &url, REQUESTS)?.len();
        }
        Ok(answered)
    };
    thread::scope(|scope| {
        let asker = scope.spawn(asking);
        let worked = work();
        done.store(true, Ordering::Relaxed);
        let answered = asker.join().map_err(|_| anyhow!("the asking thread panicked"))?;
        Ok((worked?, answered))
    })
}

fn vip_id(network: &Network) -> Result<u16> {
    let description = network.description()?;
    let web = description.services.iter().find(|service| service.name == "web");
    Ok(web.and_then(|web| web.vips.first()).context("service \"web\" is not in the tables")?.id)
}

/// SYNs of the flood's kind that the service has met.
fn signatures(datapath: &Datapath, id: u16) -> Result<u64> {
    Ok(datapath.vip_counts(id)?.iter().map(|counts| counts.events.syn_zero_bare).sum())
}

fn dropped(datapath: &Datapath) -> Result<u64> {
    let verdicts = datapath.verdicts()?;
    Ok(verdicts.iter().filter(|(verdict, _)| *verdict == Verdict::SynFlood).flat_map(|(_, counts)| counts).sum())
}
