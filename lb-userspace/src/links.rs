//! The interfaces of this host: names, MACs, addresses, and which VLAN lies on which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
};

use serde::Serialize;

use crate::netlink::{Notifications, Requests};

/// Names listed by "no such interface"; a host full of containers has hundreds.
const NAMES_SHOWN: usize = 12;

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The kernel's index of it.
    pub index: u32,
    /// Its MAC; zero unless `ethernet`.
    pub mac: [u8; 6],
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Set up by the administrator.
    pub up: bool,
    /// The other end is there as well.
    pub carrier: bool,
    /// Whether its frames are Ethernet's.
    pub ethernet: bool,
    /// What it lies on, if it is a VLAN.
    pub vlan: Option<Vlan>,
    /// The XDP program attached to it, if there is one.
    pub xdp: Option<Xdp>,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
}

#[cfg(test)]
impl Link {
    /// One that works, for tests.
    pub fn working(index: u32) -> Self {
        Link {
            name: format!("if{index}"),
            index,
            mac: [0; 6],
            mtu: 1_500,
            up: true,
            carrier: true,
            ethernet: true,
            vlan: None,
            xdp: None,
            addresses: Vec::new(),
        }
    }
}

/// How an XDP program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack, on any driver, much slower.
    Generic,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Xdp {
    /// How it runs.
    pub mode: Mode,
    /// The kernel's number of it.
    pub program: u32,
}

impl Link {
    /// Whether frames can be sent and received: set up, and the other end is there.
    pub fn works(&self) -> bool {
        self.up && self.carrier
    }
}

/// Where a VLAN interface sends its frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vlan {
    /// Index of the interface below.
    pub parent: u32,
    /// The VLAN's number.
    pub id: u16,
    /// The EtherType of its tag: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub protocol: u16,
}

/// All interfaces, by index.
pub fn list() -> Result<Vec<Link>> {
    let mut requests = Requests::open().context("cannot ask the kernel for its interfaces")?;
    let mut links = dump(&mut requests).context("cannot list the interfaces")?;
    for (index, address) in dump_addresses(&mut requests).context("cannot list the addresses")? {
        if let Some(link) = links.get_mut(&index) {
            link.addresses.push(address);
        }
    }
    Ok(links.into_values().collect())
}

/// The interface of this name.
pub fn find(name: &str) -> Result<Link> {
    pick(list()?, name)
}

/// Every address of this host.
pub fn local_addresses() -> Result<BTreeSet<IpAddr>> {
    Ok(list()?.into_iter().flat_map(|link| link.addresses).collect())
}

/// Follows the interfaces.
pub struct Watch(Notifications);

impl Watch {
    /// Begins to follow; to be called inside a tokio runtime.
    pub fn start() -> Result<Self> {
        Ok(Watch(Notifications::subscribe(&[libc::RTNLGRP_LINK]).context("cannot follow the interfaces")?))
    }

    /// Waits until something about an interface changes, and lists them all.
    pub async fn changed(&mut self) -> Result<Vec<Link>> {
        self.0.next().await.context("cannot follow the interfaces")?;
        list()
    }
}

/// Whether a program may be attached to an interface.
pub fn check_attachable(link: &Link) -> Result<()> {
    let name = &link.name;
    ensure!(link.ethernet, "interface {name:?}: not Ethernet, there are no MACs to forward by");
    ensure!(link.up, "interface {name:?}: is down: ip link set dev {name} up");
    if let Some(vlan) = link.vlan {
        bail!(
            "interface {name:?}: VLAN {} on another interface: name that one instead, tags are understood there",
            vlan.id
        );
    }
    Ok(())
}

/// A MAC as people write it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// All interfaces by index, without their addresses.
pub(crate) fn dump(requests: &mut Requests) -> std::io::Result<BTreeMap<u32, Link>> {
    let answers = requests.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let links = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => read(message),
        _ => None,
    });
    Ok(links.map(|link| (link.index, link)).collect())
}

/// The interface that a message is about, without its addresses; `None` if it is about a bridge's view of it.
pub(crate) fn read(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        index: message.header.index,
        mac: [0; 6],
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        vlan: read_vlan(&message.attributes),
        xdp: read_xdp(&message.attributes),
        addresses: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) if link.ethernet => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}

fn read_xdp(attributes: &[LinkAttribute]) -> Option<Xdp> {
    let xdp = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    })?;
    let program = xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    })?;
    let generic = xdp.iter().any(|attribute| matches!(attribute, LinkXdp::Attached(XdpAttached::SocketBuffer)));
    Some(Xdp { mode: if generic { Mode::Generic } else { Mode::Native }, program })
}

fn read_vlan(attributes: &[LinkAttribute]) -> Option<Vlan> {
    let (mut parent, mut id, mut protocol) = (None, None, 0x8100);
    for attribute in attributes {
        match attribute {
            LinkAttribute::Link(index) => parent = Some(*index),
            // Its index is that of another network namespace: nothing here.
            LinkAttribute::LinkNetNsId(_) => return None,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos.iter().filter_map(as_vlan).flatten() {
                    match info {
                        InfoVlan::Id(number) => id = Some(*number),
                        InfoVlan::Protocol(value) => protocol = (*value).into(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Vlan { parent: parent?, id: id?, protocol })
}

fn as_vlan(info: &LinkInfo) -> Option<&Vec<InfoVlan>> {
    match info {
        LinkInfo::Data(InfoData::Vlan(vlan)) => Some(vlan),
        _ => None,
    }
}

fn dump_addresses(requests: &mut Requests) -> std::io::Result<Vec<(u32, IpAddr)>> {
    let answers = requests.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => Some((message.header.index, own_address(message)?)),
            _ => None,
        })
        .collect())
}

/// On a point-to-point link the plain attribute is the peer's address, and the local one ours.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn pick(links: Vec<Link>, name: &str) -> Result<Link> {
    let mut names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
    if let Some(link) = links.into_iter().find(|link| link.name == name) {
        return Ok(link);
    }
    names.sort();
    let hidden = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    let more = if hidden > 0 { format!(" and {hidden} more") } else { String::new() };
    bail!("interface {name:?}: no such interface (have: {}{more})", names.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::{InfoKind, VlanProtocol};

    fn link(name: &str) -> Link {
        Link {
            name: name.to_string(),
            index: 1,
            mac: [0; 6],
            mtu: 1_500,
            up: true,
            carrier: true,
            ethernet: true,
            vlan: None,
            xdp: None,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_those_there_are() {
        let error = pick(vec![link("lo"), link("eth0")], "eht0").unwrap_err();
        assert_eq!(error.to_string(), r#"interface "eht0": no such interface (have: eth0, lo)"#);
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let links = (0..20).map(|n| link(&format!("veth{n:02}"))).collect();
        let error = pick(links, "eth0").unwrap_err().to_string();
        assert!(error.ends_with("veth10, veth11 and 8 more)"), "{error}");
    }

    #[test]
    fn loopback_is_always_there() {
        let lo = find("lo").unwrap();
        assert_eq!((lo.index, lo.ethernet, lo.mac, lo.vlan), (1, false, [0; 6], None));
    }

    fn vlan(id: u16, protocol: VlanProtocol) -> Vec<LinkAttribute> {
        let data = InfoData::Vlan(vec![InfoVlan::Protocol(protocol), InfoVlan::Id(id)]);
        vec![
            LinkAttribute::Link(2),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)]),
        ]
    }

    #[test]
    fn a_vlan_is_read_with_its_parent() {
        let plain = read_vlan(&vlan(100, VlanProtocol::Ieee8021Q));
        assert_eq!(plain, Some(Vlan { parent: 2, id: 100, protocol: 0x8100 }));
        let outer = read_vlan(&vlan(200, VlanProtocol::Ieee8021Ad));
        assert_eq!(outer, Some(Vlan { parent: 2, id: 200, protocol: 0x88a8 }));
    }

    #[test]
    fn a_link_below_alone_makes_no_vlan_nor_does_one_elsewhere() {
        assert_eq!(read_vlan(&[LinkAttribute::Link(2)]), None);
        let mut elsewhere = vlan(100, VlanProtocol::Ieee8021Q);
        elsewhere.push(LinkAttribute::LinkNetNsId(0));
        assert_eq!(read_vlan(&elsewhere), None);
    }

    #[test]
    fn a_mac_is_written_with_colons() {
        assert_eq!(mac_text([2, 0, 0, 0, 0, 0xab]), "02:00:00:00:00:ab");
    }
}
