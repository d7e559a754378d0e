//! Interfaces and neighbours that go and come back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_userspace::{lab::wait_for, links::mac_text};

use super::Seen;
use crate::{
    ledger::FLOWS,
    rig::{FIRST_BACKEND, PATIENCE, Rig, backend_interface, backend_mac},
};

/// How soon frames must arrive again after something is back.
const SOON: Duration = Duration::from_secs(2);
/// Frames sent into the void, each time.
const VOID: u64 = 50_000;

/// The balancer's interface goes down and up.
pub fn flap(rig: &mut Rig) -> Result<Seen> {
    outages(rig, |rig| {
        rig.balancer.ip("link set eth0 down")?;
        rig.let_pass(VOID)?;
        rig.balancer.ip("link set eth0 up").map(drop)
    })
}

/// The balancer's interface is deleted and made again. Without a wire, nothing is sent meanwhile.
pub fn recreated(rig: &mut Rig) -> Result<Seen> {
    outages(rig, |rig| {
        rig.balancer.ip("link delete eth0")?;
        rig.agent.wait_to_say("is gone, nothing is forwarded", PATIENCE)?;
        rig.plug_again()
    })
}

/// What is lost may be lost until all is back and for a while after; then nothing more.
fn outages(rig: &mut Rig, outage: impl Fn(&mut Rig) -> Result<()>) -> Result<Seen> {
    let times = (rig.scale.twenty / 4).max(2);
    let (mut allowed_lost, mut longest) = (0, Duration::ZERO);
    for _ in 0..times {
        let from = rig.begin_losses();
        outage(rig)?;
        let resumed = rig.all_resume(Instant::now())?;
        ensure!(resumed <= SOON, "it took {} ms to resume", resumed.as_millis());
        longest = longest.max(resumed);
        allowed_lost += rig.end_losses(from);
        rig.let_pass(rig.scale.frames / times)?;
    }
    let note = format!("{times} times, resumed within {} ms", longest.as_millis());
    Ok(Seen { allowed_lost, note, ..Seen::default() })
}

/// A backend vanishes, and comes back with another MAC.
pub fn neighbour(rig: &mut Rig) -> Result<Seen> {
    const PLACE: u8 = 3;
    let interface = backend_interface(PLACE);
    for (key, value) in [("base_reachable_time_ms", 200), ("retrans_time_ms", 60), ("delay_first_probe_time", 0)] {
        rig.balancer.set(&format!("net/ipv4/neigh/eth0/{key}"), value)?;
    }
    // What the kernel has confirmed before goes by the times from before, half a minute.
    let (address, mac) = (FIRST_BACKEND + PLACE, mac_text(backend_mac(PLACE, 0)));
    rig.balancer.ip(&format!("neigh change 10.1.0.{address} lladdr {mac} dev eth0 nud stale"))?;
    let owned = rig.owners().0.iter().filter(|owner| **owner == PLACE).count() as u64;
    let from = rig.begin_losses();
    let vanished = Instant::now();
    rig.backends.ip(&format!("link set {interface} down"))?;
    // How long the kernel asks before it gives a neighbour up is the kernel's affair.
    let counted = wait_for("packets without a next hop", PATIENCE, || {
        rig.verdict("no_neighbour").ok().filter(|packets| *packets > 0)
    });
    counted?;
    let noticed = vanished.elapsed();
    rig.let_pass(VOID)?;
    rig.backends.change_mac(&interface, backend_mac(PLACE, 1))?;
    rig.backends.ip(&format!("link set {interface} up"))?;
    let resumed = rig.resumes(PLACE, Instant::now())?;
    ensure!(resumed <= SOON, "it took {} ms to resume", resumed.as_millis());
    // Only its own flows, in their turns.
    let allowed_lost = (rig.end_losses(from) / FLOWS as u64 + 1) * owned;
    rig.let_pass(rig.scale.frames)?;
    let note = format!("noticed after {} ms, resumed within {} ms", noticed.as_millis(), resumed.as_millis());
    Ok(Seen { allowed_lost, note, ..Seen::default() })
}
