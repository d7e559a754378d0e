//! What hardware does to frames before any program sees them, as ethtool's netlink tells it, and which of that a
//! balancer cannot live with.

mod ethtool;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

pub use self::ethtool::read;
use crate::links::{Link, Mode};

/// What an interface's hardware does with frames that it receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Offloads {
    /// It merges segments, and what it merged cannot be told apart again (LRO).
    pub lro: bool,
    /// It merges segments as the kernel's GRO does.
    pub hardware_gro: bool,
    /// It takes 802.1Q tags out of frames.
    pub strips_tags: bool,
    /// It takes 802.1ad tags out of frames.
    pub strips_service_tags: bool,
}

/// Refuses an interface whose hardware merges what must be forwarded one by one; `force` goes on with it.
pub fn check_merging(name: &str, offloads: Offloads, force: bool) -> Result<()> {
    ensure!(
        !offloads.lro || force,
        "interface {name:?}: LRO is on, merged packets cannot be forwarded: ethtool -K {name} lro off (--force goes on)"
    );
    Ok(())
}

/// Refuses an interface that takes the tags off frames for a VLAN on it, where backends are: `ways` are backends and the
/// index of the interface that their packets leave by.
pub fn check_tags(attached: &Link, offloads: Offloads, links: &[Link], ways: &[(IpAddr, u32)]) -> Result<()> {
    if let Some(fault) = stripped(attached, offloads, links, ways) {
        bail!("interface {:?}: {fault}", attached.name);
    }
    Ok(())
}

/// What `weir status` warns of: it may have been so at the start, by force, or have become so since.
pub fn warnings(
    attached: &Link,
    offloads: Offloads,
    mode: Option<Mode>,
    links: &[Link],
    ways: &[(IpAddr, u32)],
) -> Vec<String> {
    let name = &attached.name;
    let mut warnings = Vec::new();
    if offloads.lro {
        warnings.push(format!("LRO IS ON: what it merges is dropped or harmed (ethtool -K {name} lro off)"));
    }
    // In native mode the driver turns it off, or refuses the program; virtio goes on calling it on all the same.
    if offloads.hardware_gro && mode == Some(Mode::Generic) {
        warnings.push(format!(
            "hardware GRO is on in generic mode: what it merges is dropped (ethtool -K {name} rx-gro-hw off)"
        ));
    }
    warnings.extend(stripped(attached, offloads, links, ways));
    warnings.iter().map(|warning| format!("interface {name}: {warning}")).collect()
}

/// Whether an answer of [`check_tags`] could depend on the ways at all: looking those up takes its time.
pub fn may_strip(attached: &Link, offloads: Offloads, links: &[Link]) -> bool {
    links.iter().any(|link| vlan_on(attached, link.index, links).is_some_and(|vlan| strips(offloads, vlan)))
}

/// The first backend behind a VLAN whose tags no program would see, in words.
fn stripped(attached: &Link, offloads: Offloads, links: &[Link], ways: &[(IpAddr, u32)]) -> Option<String> {
    ways.iter().find_map(|(backend, interface)| {
        let vlan = vlan_on(attached, *interface, links).filter(|vlan| strips(offloads, vlan))?;
        let offload = if is_service(vlan) { "rx-vlan-stag-hw-parse" } else { "rxvlan" };
        Some(format!(
            "its hardware strips VLAN tags, but backend {backend} is on VLAN interface {:?}: ethtool -K {} {offload} off",
            vlan.name, attached.name
        ))
    })
}

fn strips(offloads: Offloads, vlan: &Link) -> bool {
    if is_service(vlan) { offloads.strips_service_tags } else { offloads.strips_tags }
}

fn is_service(link: &Link) -> bool {
    link.vlan.is_some_and(|vlan| vlan.protocol == libc::ETH_P_8021AD as u16)
}

/// The VLAN directly on the attached interface by which packets leave: the interface itself, or what it lies on.
fn vlan_on<'a>(attached: &Link, interface: u32, links: &'a [Link]) -> Option<&'a Link> {
    let find = |index: u32| links.iter().find(|link| link.index == index);
    // Each lies on the one below: there are no more of them than interfaces.
    let chain = std::iter::successors(find(interface), |link| find(link.vlan?.parent)).take(links.len());
    chain.into_iter().find(|link| link.vlan.is_some_and(|vlan| vlan.parent == attached.index))
}
