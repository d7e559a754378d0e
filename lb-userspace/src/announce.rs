//! Who else on the link holds a VIP, and telling the link that this host does now.

mod frames;
pub mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::time::Instant;

use crate::links::{Link, mac_text};
use frames::Claim;
use wire::Wire;

/// Probes for each address, and how long each waits for an answer. RFC 5227 waits a second or more, for the slowest
/// hosts of a network; balancers and backends answer in microseconds, and a start should not take that long.
const PROBES: u32 = 3;
/// See [`PROBES`].
const PROBE_GAP: Duration = Duration::from_millis(200);
/// Announcements of each address: the second is for whoever missed the first.
const ANNOUNCEMENTS: u32 = 2;
/// RFC 4861 wants a second between two advertisements.
const ANNOUNCEMENT_GAP: Duration = Duration::from_secs(1);
/// Frames sent at once, and how often: what the queues of switches and hosts take without loss.
const BURST: usize = 1_000;
/// See [`BURST`].
const BURST_GAP: Duration = Duration::from_millis(100);

/// A VIP that somebody else holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Conflict {
    /// The VIP.
    pub vip: IpAddr,
    /// Who holds it.
    pub mac: [u8; 6],
    /// Name of the interface on which it was found.
    pub interface: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = if self.vip.is_ipv4() { "ARP" } else { "neighbour solicitations" };
        write!(
            f,
            "vip {}: already answered by {} on {}: another balancer with announce = \"arp\", or a backend that answers \
             {asked} for it (weir backend setup shows how to stop that)",
            self.vip,
            mac_text(self.mac),
            self.interface
        )
    }
}

/// Asks the link whether anybody holds one of these VIPs, or is about to; takes 0.6 s, and longer with thousands.
/// The conflicts come sorted, one for each VIP and MAC.
pub async fn probe(interface: &Link, vips: &[IpAddr]) -> Result<Vec<Conflict>> {
    if vips.is_empty() {
        return Ok(Vec::new());
    }
    check(interface)?;
    let ours: BTreeSet<IpAddr> = vips.iter().copied().collect();
    let frames: Vec<_> = ours.iter().map(|vip| frames::probe(interface.mac, *vip)).collect();
    let mut claims = BTreeSet::new();
    let mut hear = |claim: Claim| {
        if claim.mac != interface.mac && ours.contains(&claim.address) {
            claims.insert(claim);
        }
    };
    let explain = |error| explain(interface, &error);
    let wire = Wire::to_send_and_hear(interface.index).map_err(explain)?;
    run(&wire, &frames, PROBES, PROBE_GAP, Some(&mut hear)).await.map_err(explain)?;
    let conflict = |claim: Claim| Conflict { vip: claim.address, mac: claim.mac, interface: interface.name.clone() };
    Ok(claims.into_iter().map(conflict).collect())
}

/// Tells the link that these VIPs are at this interface's MAC, twice: each VIP once without delay, and again a second
/// later. Returns after that.
pub async fn announce(interface: &Link, vips: &[IpAddr]) -> Result<()> {
    if vips.is_empty() {
        return Ok(());
    }
    check(interface)?;
    let frames: Vec<_> = vips.iter().map(|vip| frames::announcement(interface.mac, *vip)).collect();
    let explain = |error| explain(interface, &error);
    let wire = Wire::to_send(interface.index).map_err(explain)?;
    run(&wire, &frames, ANNOUNCEMENTS, ANNOUNCEMENT_GAP, None).await.map_err(explain)
}

/// Who is told what was claimed.
type Hear<'a> = &'a mut (dyn FnMut(Claim) + Send);

/// Sends all frames in so many rounds and passes on what is claimed meanwhile. One who listens still does for a gap
/// after the last frame.
async fn run(
    wire: &Wire,
    frames: &[Vec<u8>],
    rounds: u32,
    gap: Duration,
    mut hear: Option<Hear<'_>>,
) -> io::Result<()> {
    let begin = Instant::now();
    let mut end = begin;
    for (after, burst) in schedule(frames.len(), rounds, gap) {
        wait(wire, begin + after, &mut hear).await?;
        for frame in &frames[burst] {
            wire.send(frame).await?;
        }
        end = Instant::now() + gap;
    }
    if hear.is_some() {
        wait(wire, end, &mut hear).await?;
    }
    Ok(())
}

/// Listens until then, if anybody wants to hear; else sleeps.
async fn wait(wire: &Wire, until: Instant, hear: &mut Option<Hear<'_>>) -> io::Result<()> {
    let listen = async {
        let Some(hear) = hear else { return pending().await };
        loop {
            if let Some(claim) = frames::claim(&wire.receive().await?) {
                hear(claim);
            }
        }
    };
    tokio::select! {
        () = tokio::time::sleep_until(until) => Ok(()),
        ended = listen => ended,
    }
}

/// When to send which frames: bursts, one after the other, and at least `gap` from one round to the next.
fn schedule(frames: usize, rounds: u32, gap: Duration) -> Vec<(Duration, Range<usize>)> {
    let bursts: Vec<Range<usize>> = (0..frames).step_by(BURST).map(|first| first..frames.min(first + BURST)).collect();
    let round_length = gap.max(BURST_GAP * bursts.len() as u32);
    (0..rounds)
        .flat_map(|round| {
            let round_begin = round_length * round;
            (0u32..).zip(bursts.clone()).map(move |(n, burst)| (round_begin + BURST_GAP * n, burst))
        })
        .collect()
}

fn check(interface: &Link) -> Result<()> {
    if !interface.ethernet {
        bail!(
            "interface {:?}: is not Ethernet, so no VIP can be announced on it: use announce = \"none\"",
            interface.name
        );
    }
    if !interface.up {
        return Err(down(interface));
    }
    Ok(())
}

fn explain(interface: &Link, error: &io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::ENETDOWN) => down(interface),
        Some(libc::ENXIO | libc::ENODEV) => anyhow!("interface {:?}: went away", interface.name),
        Some(libc::EPERM) => {
            anyhow!("interface {:?}: not allowed to send ARP: run as root or with CAP_NET_RAW", interface.name)
        }
        _ => anyhow!("interface {:?}: cannot probe or announce VIPs: {error}", interface.name),
    }
}

fn down(interface: &Link) -> anyhow::Error {
    anyhow!("interface {:?}: is down: bring it up (ip link set {} up)", interface.name, interface.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(up: bool, ethernet: bool) -> Link {
        Link {
            name: "eth0".to_string(),
            index: 0x7fff_ffff,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1_500,
            up,
            carrier: up,
            ethernet,
            vlan: None,
            xdp: None,
            addresses: Vec::new(),
        }
    }

    fn milliseconds(schedule: &[(Duration, Range<usize>)]) -> Vec<(u128, Range<usize>)> {
        schedule.iter().map(|(after, burst)| (after.as_millis(), burst.clone())).collect()
    }

    #[test]
    fn few_frames_go_at_once_in_each_round() {
        let found = schedule(2, 3, PROBE_GAP);
        assert_eq!(milliseconds(&found), [(0, 0..2), (200, 0..2), (400, 0..2)]);
    }

    #[test]
    fn many_frames_go_in_bursts_and_a_round_waits_for_the_one_before() {
        let found = schedule(2_500, 2, PROBE_GAP);
        let expected = [
            (0, 0..1_000),
            (100, 1_000..2_000),
            (200, 2_000..2_500),
            (300, 0..1_000),
            (400, 1_000..2_000),
            (500, 2_000..2_500),
        ];
        assert_eq!(milliseconds(&found), expected);
        assert_eq!(schedule(0, 3, PROBE_GAP), []);
    }

    #[test]
    fn a_conflict_names_who_and_what_to_do() {
        let mut conflict =
            Conflict { vip: "192.0.2.10".parse().unwrap(), mac: [2, 0, 0, 0, 0, 7], interface: "eth0".to_string() };
        assert_eq!(
            conflict.to_string(),
            "vip 192.0.2.10: already answered by 02:00:00:00:00:07 on eth0: another balancer with announce = \"arp\", or \
             a backend that answers ARP for it (weir backend setup shows how to stop that)"
        );
        conflict.vip = "2001:db8::10".parse().unwrap();
        assert!(conflict.to_string().contains("answers neighbour solicitations for it"));
    }

    #[tokio::test]
    async fn an_interface_that_cannot_is_named_with_the_way_out() {
        let vips = ["192.0.2.10".parse().unwrap()];
        let rows = [
            (link(false, true), "interface \"eth0\": is down: bring it up (ip link set eth0 up)"),
            (
                link(true, false),
                "interface \"eth0\": is not Ethernet, so no VIP can be announced on it: use announce = \"none\"",
            ),
        ];
        for (link, expected) in rows {
            assert_eq!(probe(&link, &vips).await.unwrap_err().to_string(), expected);
            assert_eq!(announce(&link, &vips).await.unwrap_err().to_string(), expected);
            assert_eq!(probe(&link, &[]).await.unwrap(), [], "without a VIP nothing is asked of it");
            announce(&link, &[]).await.unwrap();
        }
    }
}
