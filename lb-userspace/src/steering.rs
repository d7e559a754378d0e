//! The one rule and the one route by which checks' packets leave, whatever their number: to an interface where a program sends
//! each to its backend (`datapath`). Both are marked as weir's, found again by that, and removed.
//!
//! The route's gateway does not exist. A neighbour entry stands for it, so that nobody is asked for a MAC, which the program
//! replaces anyhow: the VIP itself must not be asked for, since siblings, or the master, would answer.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result};
use lb_common::steer::{MARK, MARK_MASK};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

use crate::{
    links::Link,
    netlink::{PROTOCOL, Requests},
};

/// The table with the one route: the mark's upper half.
pub const TABLE: u32 = MARK >> 16;
/// The rule's place: behind the addresses of this host (0), before all that others usually add.
pub const PRIORITY: u32 = 119;

/// The gateways that do not exist.
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 119, 101);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x7765, 0x6972);
/// Their MAC, which no frame carries.
const NOBODY: [u8; 6] = [0x02, 0, 0, 0x77, 0x65, 0x69];
/// Bytes that a tunnel puts in front, at most.
const OUTER: u32 = 40;
/// What every IPv6 link takes (RFC 8200).
const MIN_MTU: u32 = 1280;

/// An IP version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn number(self) -> AddressFamily {
        match self {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        }
    }

    fn gateway(self) -> IpAddr {
        match self {
            Family::V4 => GATEWAY4.into(),
            Family::V6 => GATEWAY6.into(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// Routes marked packets of a family out of an interface. What is there already stays; what leads elsewhere, because an earlier
/// agent had it so, is replaced.
pub fn set_up(link: &Link, family: Family) -> Result<()> {
    let add = || {
        let mut requests = Requests::open()?;
        requests
            .change(RouteNetlinkMessage::NewNeighbour(neighbour(link.index, family)), NLM_F_CREATE | NLM_F_REPLACE)?;
        requests.change(RouteNetlinkMessage::NewRoute(route(Some(link), family)), NLM_F_CREATE | NLM_F_REPLACE)?;
        match requests.change(RouteNetlinkMessage::NewRule(rule(family)), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            added => added,
        }
    };
    add().with_context(|| {
        format!(
            "interface {}: the kernel does not route checks of {} VIPs to it (check = {{ via = \"backend\" }} does without)",
            link.name,
            family.name()
        )
    })
}

/// Removes all of it that is there.
pub fn tear_down() -> Result<()> {
    let mut requests = Requests::open().context("cannot ask the kernel for routes")?;
    for family in [Family::V4, Family::V6] {
        remove(&mut requests, family)
            .with_context(|| format!("cannot remove the {} route of checks", family.name()))?;
    }
    Ok(())
}

fn remove(requests: &mut Requests, family: Family) -> io::Result<()> {
    // Of rules there may be several: a kernel without IPv6, or an administrator, may have had a hand in them.
    while gone(requests.change(RouteNetlinkMessage::DelRule(rule(family)), 0))? {}
    while gone(requests.change(RouteNetlinkMessage::DelRoute(route(None, family)), 0))? {}
    for answer in requests.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))? {
        if let RouteNetlinkMessage::NewNeighbour(found) = answer
            && found.attributes.contains(&destination(family))
        {
            gone(requests.change(RouteNetlinkMessage::DelNeighbour(neighbour(found.header.ifindex, family)), 0))?;
        }
    }
    Ok(())
}

/// Whether something was there to be removed.
fn gone(removed: io::Result<()>) -> io::Result<bool> {
    const ABSENT: [i32; 5] = [libc::ENOENT, libc::ESRCH, libc::ENODEV, libc::EAFNOSUPPORT, libc::EOPNOTSUPP];
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error().is_some_and(|number| ABSENT.contains(&number)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn rule(family: Family) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family.number();
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::FwMark(MARK),
        RuleAttribute::FwMask(MARK_MASK),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Protocol(PROTOCOL),
    ];
    rule
}

/// The route by an interface, or by whichever it leads.
fn route(link: Option<&Link>, family: Family) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family.number();
    route.header.protocol = PROTOCOL;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![RouteAttribute::Table(TABLE)];
    if let Some(link) = link {
        route.header.scope = RouteScope::Universe;
        route.header.flags = RouteFlags::Onlink;
        let mtu = link.mtu.saturating_sub(OUTER).max(MIN_MTU.min(link.mtu));
        route.attributes.extend([
            RouteAttribute::Gateway(family.gateway().into()),
            RouteAttribute::Oif(link.index),
            RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]),
        ]);
    } else {
        route.header.scope = RouteScope::NoWhere;
    }
    route
}

fn neighbour(interface: u32, family: Family) -> NeighbourMessage {
    let mut neighbour = NeighbourMessage::default();
    neighbour.header.family = family.number();
    neighbour.header.ifindex = interface;
    neighbour.header.state = NeighbourState::Permanent;
    neighbour.attributes = vec![
        destination(family),
        NeighbourAttribute::LinkLayerAddress(NOBODY.to_vec()),
        NeighbourAttribute::Protocol(PROTOCOL),
    ];
    neighbour
}

fn destination(family: Family) -> NeighbourAttribute {
    NeighbourAttribute::Destination(match family.gateway() {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    })
}

/// Whether the kernel looks at an interface for ways back to who sends.
pub fn filters(interface: &Link) -> bool {
    rp_filter(interface) != 0
}

/// What would keep backends' answers from this host, since they come from a VIP: one sentence. `route` is the kernel's index of the
/// interface that the way back to the VIP leads to, if there is one.
pub fn obstacle(interface: &Link, vip: IpAddr, route: Option<u32>) -> Option<String> {
    judge(&interface.name, rp_filter(interface), vip, route.map(|index| index == interface.index))
}

fn rp_filter(interface: &Link) -> u8 {
    let filter = |name: &str| -> u8 {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    filter("all").max(filter(&interface.name))
}

/// `way` says whether the way back leads to that interface, and is none without a way.
fn judge(name: &str, filter: u8, vip: IpAddr, way: Option<bool>) -> Option<String> {
    let (where_to, lost) = match (filter, way) {
        (1, Some(false)) => ("leads elsewhere", true),
        (1 | 2, None) => ("does not exist", true),
        _ => ("", false),
    };
    lost.then(|| {
        format!(
            "interface {name}: rp_filter is {filter} and a route to VIP {vip} {where_to}: answers to checks are dropped \
             (sysctl -w net.ipv4.conf.{name}.rp_filter=0 net.ipv4.conf.all.rp_filter=0, or check = {{ via = \"backend\" }})"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_pass_where_the_kernel_knows_a_way_back() {
        let vip = IpAddr::from([192, 0, 2, 10]);
        let passes = |filter, way| judge("eth0", filter, vip, way).is_none();
        assert!(passes(0, None) && passes(0, Some(false)));
        assert!(passes(1, Some(true)) && !passes(1, Some(false)) && !passes(1, None));
        assert!(passes(2, Some(true)) && passes(2, Some(false)) && !passes(2, None));
        let said = judge("eth0", 2, vip, None).unwrap();
        assert!(
            said.starts_with("interface eth0: rp_filter is 2 and a route to VIP 192.0.2.10 does not exist: "),
            "{said}"
        );
    }
}
