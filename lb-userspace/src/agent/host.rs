//! What the host must be like for a configuration, and what a configuration takes from the host.

use std::{collections::BTreeSet, net::IpAddr, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, bail};
use lb_common::abi::{self, mac_bits};
use tracing::warn;

use crate::{
    announce,
    config::{self, Config, ConfigError},
    datapath::Attachment,
    links::{self, Link},
    next_hops::Resolver,
    offloads,
    plan::NodeAddresses,
};

/// Whether the configuration fits the host.
pub fn check(config: &Config, links: &[Link]) -> Result<()> {
    let names: Vec<_> = links.iter().map(|link| link.name.clone()).collect();
    let addresses: Vec<_> = links.iter().flat_map(|link| link.addresses.clone()).collect();
    let diagnostics = config::check_host(config, &names, &addresses, runs);
    if diagnostics.is_empty() { Ok(()) } else { Err(ConfigError::from(diagnostics).into()) }
}

/// Whether a program can be run.
fn runs(program: &str) -> bool {
    std::fs::metadata(program).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The links of the configured interfaces, in its order, which must be up and of Ethernet.
pub fn attached_links(config: &Config, links: &[Link]) -> Result<Vec<Link>> {
    let mut attached = Vec::new();
    for name in &config.interfaces {
        let link = links.iter().find(|link| link.name == *name).context("checked against the host before")?;
        links::check_attachable(link)?;
        attached.push(link.clone());
    }
    Ok(attached)
}

/// Refuses what hardware would do to frames before the program sees them.
pub fn check_offloads(attached: &[Link], links: &[Link], resolver: &Resolver, force: bool) -> Result<()> {
    let hops = resolver.snapshot();
    let ways: Vec<_> = hops.iter().filter_map(|(backend, hop)| Some((*backend, hop.interface()?))).collect();
    for link in attached {
        let name = &link.name;
        match offloads::read(link.index) {
            Ok(found) => {
                offloads::check_merging(name, found, force)?;
                offloads::check_tags(link, found, links, &ways)?;
            }
            Err(error) => warn!("interface {name}: see to it that LRO is off (ethtool -K {name} lro off): {error:#}"),
        }
    }
    Ok(())
}

/// The addresses that tunnels from these interfaces have for their source.
pub fn node_addresses<'a>(attached: impl IntoIterator<Item = &'a Link>) -> NodeAddresses {
    let mut node = NodeAddresses::default();
    for address in attached.into_iter().flat_map(|link| &link.addresses) {
        match address {
            IpAddr::V4(address) => node.v4 = node.v4.or(Some(*address)),
            IpAddr::V6(address) if address.is_unicast_link_local() => {}
            IpAddr::V6(address) => node.v6 = node.v6.or(Some(*address)),
        }
    }
    node
}

/// The addresses to ask backends from: where the attached interfaces have none of a family, a VLAN on one of them may have one.
pub fn asking_addresses(attached: &[Link], links: &[Link]) -> NodeAddresses {
    let is_on_one = |link: &&Link| link.vlan.is_some_and(|vlan| attached.iter().any(|one| one.index == vlan.parent));
    node_addresses(attached.iter().chain(links.iter().filter(is_on_one)))
}

/// Every address that is a VIP, once.
pub fn vip_addresses(config: &Config) -> Vec<IpAddr> {
    let mut vips: Vec<_> =
        config.services.values().flat_map(|service| service.vips.iter().map(|vip| vip.address)).collect();
    vips.sort();
    vips.dedup();
    vips
}

/// Every address that is a backend, once.
pub fn backend_addresses(config: &Config) -> Vec<IpAddr> {
    let backends = config.services.values().flat_map(|service| service.backends.iter());
    backends.map(|backend| backend.address).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Refuses VIPs that somebody else on the network has.
pub async fn refuse_conflicts(attached: &[Link], vips: &[IpAddr]) -> Result<()> {
    let own: Vec<_> = attached.iter().map(|link| link.mac).collect();
    for link in attached {
        let mut conflicts = announce::probe(link, vips).await?;
        // Two interfaces on one segment hear each other.
        conflicts.retain(|conflict| !own.contains(&conflict.mac));
        if let Some(first) = conflicts.first() {
            let more = if conflicts.len() > 1 { format!(" ({} VIPs in all)", conflicts.len()) } else { String::new() };
            bail!("{first}{more}");
        }
    }
    Ok(())
}

/// What goes into the table of interfaces.
pub fn attachment(config: &Config, link: &Link, announce: bool) -> Attachment {
    let mut more_macs = [0; 3];
    for (slot, mac) in more_macs.iter_mut().zip(&config.macs) {
        *slot = mac_bits(*mac);
    }
    Attachment {
        name: link.name.clone(),
        entry: abi::Interface { mac: mac_bits(link.mac), more_macs, index: link.index, announce: announce.into() },
        xdp: link.xdp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::Vlan;

    #[test]
    fn backends_are_asked_from_an_attached_interface_or_else_a_vlan_on_one() {
        let link = |index, parent: Option<u32>, addresses: &[&str]| Link {
            vlan: parent.map(|parent| Vlan { parent, id: 10, protocol: 0x8100 }),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ..Link::working(index)
        };
        let attached = [link(2, None, &["10.0.0.2"])];
        let elsewhere = link(3, Some(9), &["fd00::9"]);
        let on_it = link(4, Some(2), &["10.4.0.2", "fe80::4", "fd00::4"]);
        let links = [attached[0].clone(), elsewhere, on_it];
        let asking = asking_addresses(&attached, &links);
        assert_eq!((asking.v4, asking.v6), ("10.0.0.2".parse().ok(), "fd00::4".parse().ok()));
        assert_eq!(asking_addresses(&attached, &links[..2]).v6, None);
    }
}
