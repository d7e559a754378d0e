//! Questions for VIPs' MACs: which are answered, and how.

use etherparse::ArpOperation;
use lb_common::verdict::Verdict::*;

use super::{Case, row};
use crate::{
    frames::{
        BROADCAST, L3, L4_V6, Mac, OURS, ROUTER, SERVICE_VLAN, STRANGER, Tag, VIRTUAL, VLAN, arp, cut, ethernet, icmp6,
        poke,
    },
    setup::{ROUTED, STANDBY},
};

const VIP: &str = "192.0.2.10";
const VIP_V6: &str = "2001:db8::10";
/// The solicited-node group of the VIP.
const GROUP: &str = "ff02::1:ff00:10";
const GROUP_MAC: Mac = [0x33, 0x33, 0xff, 0, 0, 0x10];
const ALL_NODES: &str = "ff02::1";
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ROUTER_ADDRESS: &str = "192.0.2.1";
const ROUTER_V6: &str = "2001:db8::1";
const LINK_LOCAL: &str = "fe80::e:ff:fe00:1";
const ZEROS: Mac = [0; 6];

const REQUEST: ArpOperation = ArpOperation::REQUEST;
const REPLY: ArpOperation = ArpOperation::REPLY;

pub fn cases() -> Vec<Case> {
    let mut cases = arp_cases();
    cases.extend(solicitations());
    cases.extend(other_discovery());
    cases
}

fn arp_frame(destination: Mac, tags: &[Tag], packet: &[u8]) -> Vec<u8> {
    ethernet(destination, ROUTER, tags, 0x0806, packet)
}

fn request(target: &str) -> Vec<u8> {
    arp(REQUEST, (ROUTER, ROUTER_ADDRESS), (ZEROS, target))
}

fn arp_cases() -> Vec<Case> {
    let reply = |tags: &[Tag], to: &str| ethernet(ROUTER, OURS, tags, 0x0806, &arp(REPLY, (OURS, VIP), (ROUTER, to)));
    let padded = |frame: Vec<u8>| [frame, vec![0; 18]].concat();
    let answered = |name: &'static str, destination, tags: &[Tag]| {
        row("2", name, arp_frame(destination, tags, &request(VIP))).answered(ArpAnswered, reply(tags, ROUTER_ADDRESS))
    };
    let passed = |name: &'static str, packet: &[u8]| row("3", name, arp_frame(BROADCAST, &[], packet)).gets(NotIp);
    vec![
        answered("ARP request, broadcast", BROADCAST, &[]),
        answered("ARP request, unicast as neighbours renew what they know", OURS, &[]),
        answered("ARP request to a configured MAC", VIRTUAL, &[]),
        answered("ARP request, tagged", BROADCAST, &[VLAN]),
        answered("ARP request, two tags", BROADCAST, &[SERVICE_VLAN, VLAN]),
        row("2 10", "ARP request, padded", padded(arp_frame(BROADCAST, &[], &request(VIP))))
            .answered(ArpAnswered, padded(reply(&[], ROUTER_ADDRESS))),
        row(
            "2",
            "ARP probe: who takes the address is told that it is taken",
            arp_frame(BROADCAST, &[], &arp(REQUEST, (ROUTER, "0.0.0.0"), (ZEROS, VIP))),
        )
        .answered(ArpAnswered, reply(&[], "0.0.0.0")),
        row("2", "ARP request, announced by routing", arp_frame(BROADCAST, &[], &request(VIP)))
            .under(&ROUTED)
            .gets(NotIp),
        row("2", "ARP request, announced by another node", arp_frame(BROADCAST, &[], &request(VIP)))
            .under(&STANDBY)
            .gets(NotIp),
        row("2", "ARP request to another MAC", arp_frame(STRANGER, &[], &request(VIP))).gets(NotOurs),
        passed("ARP request for an address that is no VIP", &request("192.0.2.200")),
        passed("ARP reply", &arp(REPLY, (ROUTER, ROUTER_ADDRESS), (OURS, VIP))),
        passed("gratuitous ARP request, by somebody who holds a VIP too", &arp(REQUEST, (STRANGER, VIP), (ZEROS, VIP))),
        passed("gratuitous ARP reply", &arp(REPLY, (STRANGER, VIP), (BROADCAST, VIP))),
        passed("ARP for another kind of link", &poke(request(VIP), 0, &[0, 6])),
        passed("ARP for another protocol", &poke(request(VIP), 2, &[0x08, 0x06])),
        passed("ARP with other lengths", &poke(request(VIP), 4, &[8, 4])),
        row("3", "ARP under three tags", arp_frame(BROADCAST, &[VLAN, VLAN, VLAN], &request(VIP))).gets(NotIp),
    ]
}

/// The target, and an option with the asker's MAC.
fn question(target: &str, with_mac: bool) -> Vec<u8> {
    let target = target.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let option = if with_mac { [&[1, 1][..], &ROUTER].concat() } else { Vec::new() };
    [&target[..], &option].concat()
}

fn solicitation(source: &str, destination: &str, question: &[u8]) -> Vec<u8> {
    icmp6(source, destination, [135, 0], [0; 4], question)
}

fn nd_frame(destination: Mac, tags: &[Tag], packet: &[u8]) -> Vec<u8> {
    ethernet(destination, ROUTER, tags, 0x86dd, packet)
}

fn advertisement(to_mac: Mac, to: &str, tags: &[Tag], flags: u8) -> Vec<u8> {
    let target = VIP_V6.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let packet = icmp6(VIP_V6, to, [136, 0], [flags, 0, 0, 0], &[&target[..], &[2, 1], &OURS].concat());
    ethernet(to_mac, OURS, tags, 0x86dd, &packet)
}

fn solicitations() -> Vec<Case> {
    const SOLICITED_OVERRIDE: u8 = 0x60;
    const OVERRIDE: u8 = 0x20;
    let asked = |name: &'static str, mac, tags: &[Tag], source: &str, destination: &str, question: &[u8]| {
        row("39", name, nd_frame(mac, tags, &solicitation(source, destination, question)))
            .answered(NdAnswered, advertisement(ROUTER, source, tags, SOLICITED_OVERRIDE))
    };
    let plain = question(VIP_V6, true);
    let without = question(VIP_V6, false);
    let whole = || nd_frame(GROUP_MAC, &[], &solicitation(ROUTER_V6, GROUP, &question(VIP_V6, true)));
    let nonce = [&plain[..], &[14, 1, 1, 2, 3, 4, 5, 6]].concat();
    let padding = vec![0; 6];
    let mut cases = vec![
        asked("neighbour solicitation, to the group", GROUP_MAC, &[], ROUTER_V6, GROUP, &plain),
        asked("neighbour solicitation, unicast", OURS, &[], ROUTER_V6, VIP_V6, &plain),
        asked("neighbour solicitation, unicast, without the asker's MAC", OURS, &[], ROUTER_V6, VIP_V6, &without),
        asked(
            "neighbour solicitation, to the group, without the asker's MAC",
            GROUP_MAC,
            &[],
            ROUTER_V6,
            GROUP,
            &without,
        ),
        asked("neighbour solicitation from a link-local address", GROUP_MAC, &[], LINK_LOCAL, GROUP, &plain),
        asked("neighbour solicitation, tagged", GROUP_MAC, &[VLAN], ROUTER_V6, GROUP, &plain),
        asked("neighbour solicitation, tagged, without the asker's MAC", OURS, &[VLAN], ROUTER_V6, VIP_V6, &without),
        asked("neighbour solicitation, two tags", GROUP_MAC, &[SERVICE_VLAN, VLAN], ROUTER_V6, GROUP, &plain),
        asked(
            "neighbour solicitation, two tags, without the asker's MAC",
            OURS,
            &[SERVICE_VLAN, VLAN],
            ROUTER_V6,
            VIP_V6,
            &without,
        ),
        row(
            "39 10",
            "neighbour solicitation with a second option, which stays behind the answer as padding",
            nd_frame(GROUP_MAC, &[], &solicitation(ROUTER_V6, GROUP, &nonce)),
        )
        .answered(NdAnswered, [&advertisement(ROUTER, ROUTER_V6, &[], SOLICITED_OVERRIDE)[..], &nonce[24..]].concat()),
        row("39 10", "neighbour solicitation, padded", [whole(), padding.clone()].concat())
            .answered(NdAnswered, [advertisement(ROUTER, ROUTER_V6, &[], SOLICITED_OVERRIDE), padding].concat()),
        row(
            "39",
            "search for duplicates: answered to all, for the asker has no address",
            nd_frame(GROUP_MAC, &[], &solicitation("::", GROUP, &without)),
        )
        .answered(NdAnswered, advertisement(ALL_NODES_MAC, ALL_NODES, &[], OVERRIDE)),
        row(
            "39 69",
            "neighbour solicitation without the asker's MAC, no room in front",
            nd_frame(GROUP_MAC, &[], &solicitation(ROUTER_V6, GROUP, &without)),
        )
        .headroom(4)
        .gets(NoHeadroom),
        row("39 68a", "neighbour solicitation whose option lies in the second buffer", whole())
            .first_buffer(78)
            .gets(NeighbourPassed),
        row("39", "neighbour solicitation, announced by routing", whole()).under(&ROUTED).gets(NeighbourPassed),
        row("39", "neighbour solicitation, announced by another node", whole()).under(&STANDBY).gets(NeighbourPassed),
        row("39", "neighbour solicitation to another MAC", poke(whole(), 0, &STRANGER)).gets(NotOurs),
        row("40", "neighbour solicitation from afar: hop limit 64", poke(whole(), L3 + 7, &[64])).gets(NeighbourPassed),
        row("40", "neighbour solicitation with a code", poke(whole(), L4_V6 + 1, &[1])).gets(NeighbourPassed),
    ];
    let not_a_vip = solicitation(ROUTER_V6, "ff02::1:ff00:c8", &question("2001:db8::c8", true));
    cases.push(
        row("40", "neighbour solicitation for no VIP", nd_frame([0x33, 0x33, 0xff, 0, 0, 0xc8], &[], &not_a_vip))
            .gets(NeighbourPassed),
    );
    let cut_short = icmp6(ROUTER_V6, GROUP, [135, 0], [0; 4], &question(VIP_V6, false)[..12]);
    for (name, padding) in [("", 0), (", in a padded frame", 40)] {
        let frame = [nd_frame(GROUP_MAC, &[], &cut_short), vec![0; padding]].concat();
        let name = format!("neighbour solicitation that ends within the target{name}");
        cases.push(row("40", name, frame).gets(NeighbourPassed));
    }
    cases.push(
        row("31 40", "neighbour solicitation, longer than its frame", cut(whole(), whole().len() - 8)).gets(NotOurs),
    );
    cases
}

fn other_discovery() -> Vec<Case> {
    let target = VIP_V6.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let advertised = icmp6(VIP_V6, ALL_NODES, [136, 0], [0x20, 0, 0, 0], &[&target[..], &[2, 1], &STRANGER].concat());
    let to = |mac, kind: u8, rest: &[u8]| nd_frame(mac, &[], &icmp6(LINK_LOCAL, VIP_V6, [kind, 0], [0; 4], rest));
    let passed = |name: &'static str, frame| row("40", name, frame).gets(NeighbourPassed);
    let report = icmp6(LINK_LOCAL, "ff02::16", [143, 0], [0, 0, 0, 1], &[4, 0, 0, 0]);
    // A router alert before the report, as hosts send it.
    let with_alert = [&report[..6], &[0], &report[7..40], &[58, 0, 5, 2, 0, 0, 1, 0], &report[40..]].concat();
    let with_alert = poke(with_alert, 4, &(report.len() as u16 - 40 + 8).to_be_bytes());
    let report_mac = [0x33, 0x33, 0, 0, 0, 0x16];
    vec![
        passed("neighbour advertisement of a VIP by somebody else", nd_frame(ALL_NODES_MAC, &[], &advertised)),
        passed("neighbour advertisement to a VIP", to(OURS, 136, &target)),
        passed("router solicitation", to([0x33, 0x33, 0, 0, 0, 2], 133, &[])),
        passed("router advertisement", to(ALL_NODES_MAC, 134, &[0; 8])),
        passed("redirect to a VIP", to(OURS, 137, &[0; 32])),
        passed("listener query to a VIP", to(OURS, 130, &[0; 16])),
        passed("listener report, without hop-by-hop options", nd_frame(report_mac, &[], &report)),
        row("40", "listener report, as hosts send it", nd_frame(report_mac, &[], &with_alert)).gets(NotOurs),
        row("40", "router solicitation to another MAC", to(STRANGER, 133, &[])).gets(NotOurs),
    ]
}
