//! UDP, and ICMP as far as it is only passed.

use lb_common::verdict::Verdict::*;

use super::{Case, row};
use crate::{
    frames::{L4, L4_V6, Packet, other, udp},
    setup::{ALL_UDP, DNS, TUNNEL4_UDP, WEB_UDP, WEB_UDP_V6},
};

const BACKEND: &str = "10.0.0.10";
const FOUR: [&str; 4] = ["10.0.0.50", "10.0.0.51", "10.0.0.52", "10.0.0.53"];
/// An address that is no VIP.
const NOBODY: &str = "192.0.2.200:53/udp";

pub fn cases() -> Vec<Case> {
    let length = |packet: Packet, l4: usize, bytes: u16| packet.poked(l4 + 4, &bytes.to_be_bytes());
    let unreachable = |packet: Packet| [&[3, 4, 0, 0, 0, 0, 5, 0xdc][..], &packet.frame()[14..42]].concat();
    vec![
        row("58", "length 7", length(udp(WEB_UDP), L4, 7)).gets_from_service(Malformed),
        row("58", "length 0", length(udp(WEB_UDP), L4, 0)).gets_from_service(Malformed),
        row("58", "length 0, IPv6", length(udp(WEB_UDP_V6), L4_V6, 0)).gets_from_service(Malformed),
        row("58", "length one byte beyond the packet", length(udp(WEB_UDP), L4, 25)).gets_from_service(Malformed),
        row("58", "length one byte beyond the packet, IPv6", length(udp(WEB_UDP_V6), L4_V6, 25))
            .gets_from_service(Malformed),
        row("58", "length 65535", length(udp(WEB_UDP), L4, 0xffff)).gets_from_service(Malformed),
        row("58", "length 7, bound for a tunnel", length(udp(TUNNEL4_UDP), L4, 7)).gets_from_service(Malformed),
        row("58", "length 7, to no VIP", length(udp(NOBODY), L4, 7)).gets(NotAVip),
        row("58", "length below the packet's: the rest is no data", length(udp(WEB_UDP), L4, 20)).reaches(BACKEND),
        row("58", "a datagram without data", udp(WEB_UDP).data(&[])).reaches(BACKEND),
        row("58", "a datagram without data, IPv6", udp(WEB_UDP_V6).data(&[])).reaches(BACKEND),
        row("59", "checksum 0", udp(WEB_UDP).poked(L4 + 6, &[0, 0])).reaches(BACKEND),
        row("59", "checksum 0, into a tunnel", udp(TUNNEL4_UDP).poked(L4 + 6, &[0, 0])).reaches_by_tunnel("10.0.0.40"),
        row("55", "source port 0, UDP", udp(WEB_UDP).from("198.51.100.7:0")).gets_from_service(Malformed),
        row("55", "destination port 0, all ports served, UDP", udp("192.0.2.22:0/udp"))
            .gets_from_service(Malformed)
            .of(ALL_UDP),
        row("29", "a port without a service, UDP", udp("192.0.2.10:80/udp")).gets(NotAService),
        row("29", "a port without a service, UDP over IPv6", udp("[2001:db8::10]:80/udp")).gets(NotAService),
        row("29", "all ports, UDP", udp("192.0.2.22:33434/udp")).reaches("10.0.0.22").of(ALL_UDP),
        row("57", "a datagram of a flow", udp(DNS)).reaches_one_of(&FOUR, "datagrams"),
        row("57", "another datagram of that flow", udp(DNS).data(&[3; 400])).reaches_one_of(&FOUR, "datagrams"),
        row("64", "fragmentation needed, about our own tunnel's packet", {
            other("10.0.0.1:0", 1, &unreachable(other("10.0.0.40:0", 4, &[0x45; 40]))).source("10.0.0.254")
        })
        .gets(NotAVip),
        row("29", "redirect to a VIP", other(WEB_UDP, 1, &[5, 1, 0, 0, 10, 0, 0, 254, 0x45, 0, 0, 0]))
            .gets(OtherProtocol),
        row("29", "echo reply to a VIP", other(WEB_UDP, 1, &[0, 0, 0, 0, 0, 1, 0, 1])).gets(OtherProtocol),
        row("29", "echo reply to a VIP, ICMPv6", other(WEB_UDP_V6, 58, &[129, 0, 0, 0, 0, 1, 0, 1]))
            .gets(OtherProtocol),
    ]
}
