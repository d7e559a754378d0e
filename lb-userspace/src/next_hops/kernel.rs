//! What the kernel is asked about routes and neighbours, and its answers in the terms of [`super::table`].

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteType, RouteVia},
};

use super::table::{Hop, Route, Said};
use crate::links::Link;
use crate::netlink::{PROTOCOL, Requests};

/// The way to `destination`; of several equal ones the kernel's choice for this address. An error of the lookup is an
/// answer as well: there is no way.
pub fn route(requests: &mut Requests, links: &BTreeMap<u32, Link>, destination: IpAddr) -> Route {
    if matches!(destination, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return unreachable(format!("{destination} is a link-local address, which no route can be looked up for"));
    }
    match requests.get(RouteNetlinkMessage::GetRoute(lookup(destination))) {
        Ok(RouteNetlinkMessage::NewRoute(answer)) => read_route(&answer, links, destination),
        Ok(_) => unreachable(format!("the kernel did not answer the route lookup for {destination}")),
        Err(error) => unreachable(explain(destination, &error)),
    }
}

/// The kernel's neighbour tables, IPv4's and IPv6's.
pub fn neighbours(requests: &mut Requests) -> io::Result<HashMap<Hop, Said>> {
    let answers = requests.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => read_neighbour(message),
            _ => None,
        })
        .collect())
}

/// Tells the kernel that a neighbour is wanted, as `ip neigh ... use extern_learn` does. It then asks the wire if it has to.
///
/// An entry that somebody outside the kernel looks after (NTF_EXT_LEARNED) neither counts against the size of the neighbour table
/// (`gc_thresh3`) nor is swept away, so there may be thousands: net/core/neighbour.c, `exempt_from_gc`.
pub fn kick(requests: &mut Requests, hop: Hop) -> io::Result<()> {
    let mut message = entry(hop);
    message.header.flags = NeighbourFlags::Use | NeighbourFlags::ExtLearned;
    message.attributes.push(NeighbourAttribute::Protocol(PROTOCOL));
    requests.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Deletes those of the entries that kicks have made which are to go: all that it can, also after an error.
pub fn sweep(requests: &mut Requests, goes: impl Fn(&Hop) -> bool) -> io::Result<()> {
    let mut swept = Ok(());
    for answer in requests.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))? {
        let RouteNetlinkMessage::NewNeighbour(message) = answer else { continue };
        let Some((hop, _)) = read_neighbour(&message) else { continue };
        if keeper(&message) != Some(PROTOCOL) || !goes(&hop) {
            continue;
        }
        match requests.change(RouteNetlinkMessage::DelNeighbour(entry(hop)), 0) {
            // Somebody was faster.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {}
            deleted => swept = swept.and(deleted),
        }
    }
    swept
}

fn entry(hop: Hop) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(hop.via);
    message.header.ifindex = hop.interface;
    message.attributes.push(NeighbourAttribute::Destination(match hop.via {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    }));
    message
}

/// Who outside the kernel looks after an entry, if somebody does.
fn keeper(message: &NeighbourMessage) -> Option<RouteProtocol> {
    let by = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Protocol(by) => Some(*by),
        _ => None,
    });
    message.header.flags.contains(NeighbourFlags::ExtLearned).then(|| by.unwrap_or(RouteProtocol::Unspec))
}

/// What a message says of a neighbour; `None` if it is about something else (a bridge's table, a proxy entry).
pub fn read_neighbour(message: &NeighbourMessage) -> Option<(Hop, Said)> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut via, mut mac) = (None, None);
    let mut kept_by_others = keeper(message).is_some_and(|by| by != PROTOCOL);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => via = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => via = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            NeighbourAttribute::ExtFlags(flags) => kept_by_others |= flags.contains(NeighbourExtFlags::Managed),
            _ => {}
        }
    }
    let hop = Hop { interface: message.header.ifindex, via: via? };
    Some((hop, said(message.header.state, mac, kept_by_others)))
}

/// An entry that a routing daemon or the kernel itself looks after never counts as stale: a kick would take that mark
/// from it.
fn said(state: NeighbourState, mac: Option<[u8; 6]>, kept_by_others: bool) -> Said {
    use NeighbourState::{Delay, Failed, Incomplete, Noarp, Permanent, Probe, Reachable, Stale};
    match (state, mac) {
        (Stale, Some(mac)) if !kept_by_others => Said::Stale(mac),
        (Stale | Reachable | Delay | Probe | Permanent | Noarp, Some(mac)) => Said::Fresh(mac),
        (Incomplete, _) => Said::Asking,
        (Failed, _) => Said::Failed,
        _ => Said::Gone,
    }
}

fn lookup(destination: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    message
}

fn read_route(answer: &RouteMessage, links: &BTreeMap<u32, Link>, destination: IpAddr) -> Route {
    match answer.header.kind {
        RouteType::Local | RouteType::Anycast => return Route::Local,
        RouteType::Unicast => {}
        RouteType::Broadcast => return unreachable(format!("{destination} is a broadcast address")),
        RouteType::Multicast => return unreachable(format!("{destination} is a multicast address")),
        _ => return unreachable(format!("an unreachable route covers {destination}")),
    }
    let (mut interface, mut via, mut source, mut mtu) = (None, destination, None, u32::MAX);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                via = IpAddr::V4(*v4);
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                via = IpAddr::V6(*v6);
            }
            RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => source = Some(IpAddr::V4(*v4)),
            RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => source = Some(IpAddr::V6(*v6)),
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(route_mtu).unwrap_or(mtu),
            _ => {}
        }
    }
    let Some(link) = interface.and_then(|index| links.get(&index)) else {
        return unreachable(format!("the interface towards {destination} just went away"));
    };
    if !link.ethernet {
        return unreachable(format!("the route to {destination} leaves by {}, which is not Ethernet", link.name));
    }
    let mtu = u16::try_from(mtu.min(link.mtu)).unwrap_or(u16::MAX);
    Route::Via { hop: Hop { interface: link.index, via }, mtu, source }
}

fn route_mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}

fn unreachable(reason: String) -> Route {
    Route::Unreachable { reason }
}

fn explain(destination: IpAddr, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH) => format!("no route to {destination}"),
        Some(libc::EHOSTUNREACH) => format!("an unreachable route covers {destination}"),
        Some(libc::EACCES) => format!("a prohibit route covers {destination}"),
        Some(libc::EINVAL) => format!("a blackhole route covers {destination}, or it is no address to send to"),
        _ => format!("the route lookup for {destination} failed: {error}"),
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn neighbour(state: NeighbourState, flags: NeighbourFlags, attributes: Vec<NeighbourAttribute>) -> Option<Said> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 3;
        message.header.state = state;
        message.header.flags = flags;
        message.attributes = attributes;
        let (hop, said) = read_neighbour(&message)?;
        assert_eq!(hop, Hop { interface: 3, via: address("10.0.0.2") });
        Some(said)
    }

    fn to() -> NeighbourAttribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 2].into()))
    }

    fn mac() -> NeighbourAttribute {
        NeighbourAttribute::LinkLayerAddress(MAC.to_vec())
    }

    #[test]
    fn every_state_with_a_mac_is_usable() {
        use NeighbourState::{Delay, Failed, Incomplete, Noarp, None, Permanent, Probe, Reachable, Stale};
        let plain = NeighbourFlags::empty();
        for state in [Reachable, Delay, Probe, Permanent, Noarp] {
            assert_eq!(neighbour(state, plain, vec![to(), mac()]), Some(Said::Fresh(MAC)), "{state}");
            assert_eq!(neighbour(state, plain, vec![to()]), Some(Said::Gone), "{state}");
        }
        assert_eq!(neighbour(Stale, plain, vec![to(), mac()]), Some(Said::Stale(MAC)));
        assert_eq!(neighbour(Incomplete, plain, vec![to()]), Some(Said::Asking));
        assert_eq!(neighbour(Failed, plain, vec![to()]), Some(Said::Failed));
        assert_eq!(neighbour(None, plain, vec![to()]), Some(Said::Gone));
    }

    #[test]
    fn entries_that_others_keep_are_never_stale() {
        let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
        let stale = NeighbourState::Stale;
        assert_eq!(neighbour(stale, NeighbourFlags::empty(), vec![to(), mac(), managed]), Some(Said::Fresh(MAC)));
        assert_eq!(neighbour(stale, NeighbourFlags::ExtLearned, vec![to(), mac()]), Some(Said::Fresh(MAC)));
        let by = |protocol| vec![to(), mac(), NeighbourAttribute::Protocol(protocol)];
        assert_eq!(neighbour(stale, NeighbourFlags::ExtLearned, by(RouteProtocol::Bgp)), Some(Said::Fresh(MAC)));
        assert_eq!(neighbour(stale, NeighbourFlags::ExtLearned, by(PROTOCOL)), Some(Said::Stale(MAC)));
    }

    #[test]
    fn proxies_and_bridge_entries_are_no_neighbours() {
        assert_eq!(neighbour(NeighbourState::Permanent, NeighbourFlags::Proxy, vec![to(), mac()]), None);
        assert_eq!(neighbour(NeighbourState::Permanent, NeighbourFlags::empty(), vec![mac()]), None);
    }

    fn link(index: u32, mtu: u32, ethernet: bool) -> (u32, Link) {
        (index, Link { mtu, ethernet, ..Link::working(index) })
    }

    fn read(kind: RouteType, attributes: Vec<RouteAttribute>) -> Route {
        let mut answer = RouteMessage::default();
        answer.header.kind = kind;
        answer.attributes = attributes;
        let links = [link(1, 1_500, false), link(2, 1_500, true), link(3, 65_536, true)].into();
        read_route(&answer, &links, address("10.0.0.2"))
    }

    fn way(interface: u32, via: &str, mtu: u16) -> Route {
        Route::Via { hop: Hop { interface, via: address(via) }, mtu, source: None }
    }

    #[test]
    fn routes_are_read() {
        let unicast = RouteType::Unicast;
        let gateway = |text: &str| RouteAttribute::Gateway(address(text).into());
        let mtu = |mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]);
        let oif = RouteAttribute::Oif;
        let rows = [
            ("on-link", vec![oif(2)], way(2, "10.0.0.2", 1_500)),
            ("gateway", vec![oif(2), gateway("10.0.0.1")], way(2, "10.0.0.1", 1_500)),
            ("v6 gateway", vec![oif(2), RouteAttribute::Via(address("fe80::1").into())], way(2, "fe80::1", 1_500)),
            ("route's MTU", vec![oif(2), mtu(1_400)], way(2, "10.0.0.2", 1_400)),
            ("route's MTU above the device's", vec![oif(2), mtu(9_000)], way(2, "10.0.0.2", 1_500)),
            ("MTU beyond 16 bits", vec![oif(3)], way(3, "10.0.0.2", 65_535)),
        ];
        for (name, attributes, expected) in rows {
            assert_eq!(read(unicast, attributes), expected, "{name}");
        }
    }

    #[test]
    fn the_source_is_read() {
        let source = Some(address("10.0.0.9"));
        let attributes = vec![RouteAttribute::Oif(2), RouteAttribute::PrefSource(address("10.0.0.9").into())];
        let Route::Via { source: read, .. } = read(RouteType::Unicast, attributes) else { panic!("no way") };
        assert_eq!(read, source);
    }

    #[test]
    fn what_is_no_way_says_why() {
        let rows = [
            (RouteType::Unicast, 1, "the route to 10.0.0.2 leaves by if1, which is not Ethernet"),
            (RouteType::Unicast, 9, "the interface towards 10.0.0.2 just went away"),
            (RouteType::Broadcast, 2, "10.0.0.2 is a broadcast address"),
            (RouteType::BlackHole, 2, "an unreachable route covers 10.0.0.2"),
        ];
        for (kind, interface, reason) in rows {
            let reason = reason.to_string();
            assert_eq!(read(kind, vec![RouteAttribute::Oif(interface)]), Route::Unreachable { reason });
        }
        assert_eq!(read(RouteType::Local, vec![RouteAttribute::Oif(1)]), Route::Local);
    }
}
