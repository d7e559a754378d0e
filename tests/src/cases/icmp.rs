//! ICMP and ICMPv6 to VIPs.

use lb_common::verdict::Verdict::*;

use super::{Case, row};
use crate::{
    frames::{
        BROADCAST, L3, L4, Packet, SERVICE_VLAN, STRANGER, VIRTUAL, VLAN, atomic, cut, echo, icmp, options, other,
    },
    setup::{DNS, DRAINED, LOCAL, UNRESOLVED, WEB, WEB_V6},
};

/// An address that is no VIP.
const NOBODY: &str = "192.0.2.200:80";
/// The same, IPv6.
const NOBODY_V6: &str = "[2001:db8::c8]:80";

pub fn cases() -> Vec<Case> {
    let mut cases = echo_requests();
    cases.extend(no_answer());
    cases
}

/// What a request carries: its sender's number, its own, and the time in front of a pattern.
const NUMBER: [u8; 4] = [0x12, 0x34, 0, 1];
const DATA: [u8; 56] = {
    let mut data = [0x5c; 56];
    (data[0], data[1], data[2]) = (0x01, 0xfe, 0x80);
    data
};

fn echo_requests() -> Vec<Case> {
    const ALL_ONES: [u8; 4] = [0, 0, 0xff, 0xff];
    let request = |vip: &str| echo(vip, NUMBER, &DATA);
    let answered = |rows, name: &'static str, packet: Packet| {
        row(rows, name, packet.clone().frame()).answered(EchoAnswered, packet.echo_reply().frame())
    };
    let to_virtual = request(WEB).to_mac(VIRTUAL);
    vec![
        answered("60", "an address with services over TCP and UDP", request(WEB)),
        answered("60", "the same, IPv6", request(WEB_V6)),
        answered("60", "an address with services over UDP alone", request(DNS)),
        answered("60", "an address with a service on all ports", request("192.0.2.21:1")),
        answered("60 73", "the backend's next hop is not known", request(UNRESOLVED)),
        answered("60 74", "the backend is this host", request(LOCAL)),
        answered("60", "without data", echo(WEB, NUMBER, &[])),
        answered("60", "without data, IPv6", echo(WEB_V6, NUMBER, &[])),
        answered("60", "data of odd length", echo(WEB, NUMBER, &[0xa7; 33])),
        answered("60", "data of odd length, IPv6", echo(WEB_V6, NUMBER, &[0xa7; 33])),
        answered("60", "as long as a frame", echo(WEB, NUMBER, &[0xc3; 1472])),
        answered("60 68a", "in several buffers", echo(WEB, NUMBER, &[0xc3; 8000])),
        answered("60 68a", "in several buffers, IPv6", echo(WEB_V6, NUMBER, &[0xc3; 8000])),
        // The answer is nothing but zeros, of which the checksum is 0xffff: there is no other form of zero.
        answered("60", "number 0 and no data", echo(WEB, [0; 4], &[])),
        answered("60", "number 0 and zeros for data", echo(WEB, [0; 4], &[0; 56])),
        answered("60", "number 0 and zeros for data, IPv6", echo(WEB_V6, [0; 4], &[0; 56])),
        // Here both forms of zero are right.
        row("60", "an answer whose words sum to zero", echo(WEB, ALL_ONES, &[]).frame())
            .answered(EchoAnswered, echo(WEB, ALL_ONES, &[]).echo_reply().poked(L4 + 2, &[0xff, 0xff]).frame()),
        answered("60", "a checksum whose carry comes back", echo(WEB, [0xf7, 0xff, 0, 0x01], &[0; 2])),
        answered("60", "a checksum whose carry comes back, IPv6", echo(WEB_V6, [0x7e, 0xff, 0x80, 0], &[0xff; 2])),
        answered("60 5", "a tag", request(WEB).tags(&[VLAN])),
        answered("60 7", "two tags, IPv6", request(WEB_V6).tags(&[SERVICE_VLAN, VLAN])),
        answered("60 10", "padding stays", echo(WEB, NUMBER, &[]).padded(60)),
        answered("60 10", "padding stays, IPv6", echo(WEB_V6, NUMBER, &[]).padded(80)),
        answered("60 13", "options stay", request(WEB).ip4(|ip| ip.options = [7, 7, 4, 0, 0, 0, 0, 1].into())),
        answered("60 18", "identification and DF stay", {
            request(WEB).ip4(|ip| (ip.identification, ip.dont_fragment) = (0xbeef, true))
        }),
        answered("60 28", "DSCP and ECN stay", {
            request(WEB).ip4(|ip| (ip.dscp, ip.ecn) = (46.try_into().unwrap(), 1.try_into().unwrap()))
        }),
        answered("60 27", "TTL 1", request(WEB).ip4(|ip| ip.time_to_live = 1)),
        answered("60 27", "TTL 255", request(WEB).ip4(|ip| ip.time_to_live = 255)),
        answered("60 27", "hop limit 1", request(WEB_V6).ip6(|ip| ip.hop_limit = 1)),
        answered("60 42", "traffic class stays", request(WEB_V6).ip6(|ip| ip.traffic_class = 0xb9)),
        answered("60 32", "behind options, which stay", request(WEB_V6).extensions(&[options(0, 1), options(60, 2)])),
        answered("60 34", "an atomic fragment", request(WEB_V6).extensions(&[atomic()])),
        row("60 4", "to a configured MAC: the answer comes from the interface's", to_virtual.clone())
            .answered(EchoAnswered, to_virtual.echo_reply().frame()),
    ]
}

fn no_answer() -> Vec<Case> {
    let request = |vip: &str| echo(vip, NUMBER, &DATA);
    let bare = |vip: &str| echo(vip, NUMBER, &[]);
    let mut cases = vec![
        row("60", "to no VIP", request(NOBODY)).gets(NotAVip),
        row("60", "to no VIP, IPv6", request(NOBODY_V6)).gets(NotAVip),
        row("60 72", "an address none of whose services has a backend", request(DRAINED)).gets(OtherProtocol),
        row("60", "code 1", icmp(WEB, [8, 1], NUMBER, &DATA)).gets(OtherProtocol),
        row("60", "code 1, IPv6", icmp(WEB_V6, [128, 1], NUMBER, &DATA)).gets(OtherProtocol),
        row("60", "ICMPv6's kind in ICMP", icmp(WEB, [128, 0], NUMBER, &DATA)).gets(OtherProtocol),
        row("60", "ICMP's kind in ICMPv6", icmp(WEB_V6, [8, 0], NUMBER, &DATA)).gets(OtherProtocol),
        row("60", "ICMPv6 over IPv4", other(WEB, 58, &[128, 0, 0, 0, 0, 1, 0, 1])).gets(OtherProtocol),
        row("60", "ICMP over IPv6", other(WEB_V6, 1, &[8, 0, 0, 0, 0, 1, 0, 1])).gets(OtherProtocol),
        row("60 4", "to another MAC", request(WEB).to_mac(STRANGER)).gets(NotOurs),
        row("60 4", "to the broadcast MAC", request(WEB).to_mac(BROADCAST)).gets(NotOurs),
        row("60 4", "to a group's MAC, IPv6", request(WEB_V6).to_mac([0x33, 0x33, 0, 0, 0, 1])).gets(NotOurs),
        row("60 27", "TTL 0", request(WEB).ip4(|ip| ip.time_to_live = 0)).gets(TtlExpired),
        row("60 27", "hop limit 0", request(WEB_V6).ip6(|ip| ip.hop_limit = 0)).gets(TtlExpired),
        row("60 25 27", "TTL 0 from a martian", request(WEB).source("127.0.0.1").ip4(|ip| ip.time_to_live = 0))
            .gets(Martian),
        row("60 25 72", "from a martian, nobody lives there", request(DRAINED).source("127.0.0.1")).gets(Martian),
        row("60", "no byte of it in the packet", bare(WEB).poked(L3 + 2, &[0, 20])).gets(Malformed),
        row("60", "no byte of it, to no VIP", bare(NOBODY).poked(L3 + 2, &[0, 20])).gets(NotAVip),
        row("60", "three bytes", bare(WEB).poked(L3 + 2, &[0, 23])).gets(Malformed),
        row("60", "seven bytes, the eighth in the padding", bare(WEB).padded(60).poked(L3 + 2, &[0, 27]))
            .gets(Malformed),
        row("60", "seven bytes, the eighth in the padding, IPv6", bare(WEB_V6).padded(80).poked(L3 + 4, &[0, 7]))
            .gets(Malformed),
        row("60", "seven bytes, from a martian", bare(WEB).poked(L3 + 2, &[0, 27]).source("127.0.0.1")).gets(Malformed),
        row("60 15", "the packet ends beyond the frame", cut(request(WEB).frame(), L4 + 32)).gets(Malformed),
        row("29", "another message of four bytes", other(WEB, 1, &[5, 1, 0, 0])).gets(OtherProtocol),
        row("29", "a timestamp request", icmp(WEB, [13, 0], NUMBER, &[0; 12])).gets(OtherProtocol),
        row("60 68a", "in the second buffer, where drivers put none", request(WEB)).first_buffer(36).gets(Malformed),
    ];
    for source in ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "192.0.2.10"] {
        cases.push(row("60 25", format!("from {source}"), request(WEB).source(source)).gets(Martian));
    }
    for source in ["::1", "::", "ff02::1", "2001:db8::10"] {
        cases.push(row("60 41", format!("from {source}"), request(WEB_V6).source(source)).gets(Martian));
    }
    cases
}
