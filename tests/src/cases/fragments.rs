//! Fragments of both families: what the first leaves behind, and what becomes of the others.
//!
//! What is left behind stays, so every datagram here has an identification of its own.

use lb_common::{filter::Syn, verdict::Verdict::*};

use super::{Case, row};
use crate::{
    frames::{L3, L4, Packet, bare_syn, options, other, syn, tcp, udp},
    setup::{
        ALL_PORTS, ALL_UDP, DNS, DNS_OTHER, DNS_V6, GUARDED, LOCAL, SOURCE, SPLIT, SPLIT_OTHER, SPLIT_OTHER_V6,
        SPLIT_V6, SPREAD, SPREAD_V6, TUNNEL4, TUNNEL4_UDP, TUNNEL6_V6, WEB, WEB_UDP, WEB_V6,
    },
};

const FOUR: [&str; 4] = ["10.0.0.50", "10.0.0.51", "10.0.0.52", "10.0.0.53"];
/// Backends of [`SPLIT`] and [`SPLIT_OTHER`].
const SPLIT_A: &str = "10.0.0.54";
const SPLIT_B: &str = "10.0.0.55";
/// Addresses that are no VIPs.
const NOBODY: &str = "192.0.2.200:80";
const NOBODY_V6: &str = "[2001:db8::c8]:80";
/// An extension header.
const DESTINATION: u8 = 60;

/// A datagram of 200 bytes, its header included.
fn datagram(vip: &str, id: u32) -> Packet {
    udp(vip).data(&[0x33; 192]).id(id)
}

/// A segment of 200 bytes, its header included.
fn segment(vip: &str, id: u32) -> Packet {
    tcp(vip).data(&[0x44; 180]).id(id)
}

fn first(packet: &Packet) -> Packet {
    packet.fragment(0, 96)
}

fn middle(packet: &Packet) -> Packet {
    packet.fragment(96, 160)
}

fn last(packet: &Packet) -> Packet {
    packet.fragment(160, 200)
}

pub fn cases() -> Vec<Case> {
    let mut cases = one_ring();
    cases.extend(several_rings());
    cases.extend(segments());
    cases.extend(first_headers());
    cases.extend(nothing_left());
    cases.extend(other_fragments());
    cases
}

/// Where all UDP services of an address share a ring, fragments arrive in any order.
fn one_ring() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, vip, counted, flow, id) in [
        ("20 21", DNS, DNS, "dns", 0x100),
        ("20 21", DNS_OTHER, DNS, "dns", 0x101),
        ("35 20", DNS_V6, DNS_V6, "dns6", 0x102),
    ] {
        let whole = datagram(vip, id);
        let row = |part: &str, packet| row(rows, format!("{part} fragment to {vip}"), packet);
        cases.extend([
            row("last", last(&whole)).reaches_one_of(&FOUR, flow).of(counted),
            row("first", first(&whole)).reaches_one_of(&FOUR, flow),
            row("middle", middle(&whole)).reaches_one_of(&FOUR, flow).of(counted),
        ]);
    }
    for port in 40_000..40_008 {
        let whole = datagram(DNS, 0x103).from(&format!("198.51.100.7:{port}"));
        let first = row("20", format!("first fragment from port {port}, which does not count"), first(&whole));
        cases.push(first.reaches_one_of(&FOUR, "dns"));
    }
    let (all, tunnel, web) =
        (datagram("192.0.2.22:33434/udp", 0x104), datagram(TUNNEL4_UDP, 0x105), datagram(WEB_UDP, 0x106));
    let at_one = |packet: Packet| packet.ip4(|ip| ip.fragment_offset = 1.try_into().unwrap());
    cases.extend([
        row("20", "all ports: first fragment", first(&all)).reaches("10.0.0.22").of(ALL_UDP),
        row("20", "all ports: last fragment", last(&all)).reaches("10.0.0.22").of(ALL_UDP),
        row("20", "first fragment into a tunnel", first(&tunnel)).reaches_by_tunnel("10.0.0.40"),
        row("20", "last fragment into a tunnel", last(&tunnel)).reaches_by_tunnel("10.0.0.40"),
        row("20", "UDP fragment at offset 1", at_one(last(&datagram(DNS, 0x107)))).reaches_one_of(&FOUR, "dns"),
        row("20 29", "first fragment to a port without a service", first(&datagram("192.0.2.53:80/udp", 0x108)))
            .gets(NotAService),
        row(
            "20 29",
            "last fragment to a port without a service: nobody can tell",
            last(&datagram("192.0.2.53:80/udp", 0x109)),
        )
        .reaches_one_of(&FOUR, "dns")
        .of(DNS),
        row("20 27", "first fragment, TTL 0", first(&web).ip4(|ip| ip.time_to_live = 0)).gets_from_service(TtlExpired),
        row("20 27", "last fragment, TTL 0", last(&web).ip4(|ip| ip.time_to_live = 0)).gets_from_service(TtlExpired),
        row("20 25", "first fragment from a martian", first(&web).source("127.0.0.1")).gets_from_service(Martian),
        row("20 25", "last fragment from a martian", last(&web).source("127.0.0.1")).gets_from_service(Martian),
    ]);
    cases
}

/// Where they do not, the first fragment tells.
fn several_rings() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, vip, backend, other, other_backend, id) in [
        ("21", SPLIT, SPLIT_A, SPLIT_OTHER, SPLIT_B, 0x200),
        ("35 21", SPLIT_V6, SPLIT_A, SPLIT_OTHER_V6, SPLIT_B, 0x300),
    ] {
        let row = |name: &str, packet| row(rows, format!("{name}, {vip}"), packet);
        let (whole, another) = (datagram(vip, id), datagram(other, id + 1));
        cases.extend([
            row("a first fragment", first(&whole)).reaches(backend),
            row("a middle fragment after its first", middle(&whole)).after(&[&first(&whole)]).reaches(backend),
            row("a last fragment after its first", last(&whole)).after(&[&first(&whole)]).reaches(backend),
            row("a last fragment after the others", last(&whole))
                .after(&[&first(&whole), &middle(&whole)])
                .reaches(backend),
            row("a last fragment after a first to the other port", last(&another))
                .after(&[&first(&another)])
                .reaches(other_backend)
                .of(other),
            row("a tagged last fragment after its first", last(&whole).tags(&[crate::frames::VLAN]))
                .after(&[&first(&whole)])
                .reaches(backend),
        ]);
        // The same identification, used again.
        let (before, after) = (datagram(vip, id + 2), datagram(other, id + 2));
        cases.push(
            row("a last fragment after two firsts: the later one counts", last(&before))
                .after(&[&first(&before), &first(&after)])
                .reaches(other_backend)
                .of(other),
        );
        let late = datagram(vip, id + 3);
        cases.extend([
            row("a last fragment without a first", last(&late)).gets(Fragment),
            row("a middle fragment without a first", middle(&late)).gets(Fragment),
        ]);
        let stranger = if rows == "21" { "198.51.100.8" } else { "2001:db8:c::8" };
        let sent = datagram(vip, id + 4);
        cases.extend([
            row("a last fragment after a first of another client", last(&sent).source(stranger))
                .after(&[&first(&sent)])
                .gets(Fragment),
            row("a last fragment of UDP after a first of TCP", last(&datagram(vip, id + 6)))
                .after(&[&first(&segment(if rows == "21" { WEB } else { WEB_V6 }, id + 6))])
                .gets(Fragment),
        ]);
        let dead = datagram(vip, id + 7);
        let ttl = |packet: Packet| {
            if rows == "21" { packet.ip4(|ip| ip.time_to_live = 0) } else { packet.ip6(|ip| ip.hop_limit = 0) }
        };
        cases.push(
            row("a last fragment with TTL 0 after its first", ttl(last(&dead)))
                .after(&[&first(&dead)])
                .gets_from_service(TtlExpired),
        );
    }
    let v6 = datagram(SPLIT_V6, 0x0001_0400);
    cases.push(
        row("35 21", "a last fragment after a first whose identification differs in its upper half", last(&v6))
            .after(&[&first(&datagram(SPLIT_V6, 0x0002_0400))])
            .gets(Fragment),
    );
    cases
}

/// Fragments of TCP follow their connection, if the first came first.
fn segments() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, vip, flow, id) in [
        ("22", SPREAD, "fragmented", 0x500),
        ("35 22", SPREAD_V6, "fragmented6", 0x600),
        ("22", SOURCE, "fragmented by source", 0x700),
    ] {
        let row = |name: &str, packet| row(rows, format!("{name}, {vip}"), packet);
        let (whole, opening) = (segment(vip, id), syn(vip).data(&[0x55; 160]).id(id + 1));
        cases.extend([
            row("a whole segment", whole.clone()).reaches_one_of(&FOUR, flow),
            row("a first fragment", first(&whole)).reaches_one_of(&FOUR, flow),
            row("a middle fragment after its first", middle(&whole))
                .after(&[&first(&whole)])
                .reaches_one_of(&FOUR, flow),
            row("a last fragment after its first", last(&whole)).after(&[&first(&whole)]).reaches_one_of(&FOUR, flow),
            row("a first fragment of a SYN", first(&opening)).reaches_one_of(&FOUR, flow).syn(Syn::OpenOptions),
            row("a last fragment of a SYN", last(&opening)).after(&[&first(&opening)]).reaches_one_of(&FOUR, flow),
            row("a last fragment without a first", last(&segment(vip, id + 2))).gets(Fragment),
        ]);
    }
    for port in 41_000..41_008 {
        let whole = segment(SPREAD, 0x800 + port).from(&format!("198.51.100.7:{port}"));
        let flow: &'static str = ["a", "b", "c", "d", "e", "f", "g", "h"][port as usize % 8];
        let name = |name: &str| format!("{name}, from port {port}");
        cases.push(row("22 57", name("whole"), whole.clone()).reaches_one_of(&FOUR, flow));
        cases.push(row("22 57", name("a first fragment"), first(&whole)).reaches_one_of(&FOUR, flow));
        cases.push(row("22 57", name("its last"), last(&whole)).after(&[&first(&whole)]).reaches_one_of(&FOUR, flow));
    }
    let (all, tunnel, tunnel6, local) = (
        segment("192.0.2.21:20001", 0x900),
        segment(TUNNEL4, 0x901),
        segment(TUNNEL6_V6, 0x902),
        segment(LOCAL, 0x903),
    );
    cases.extend([
        row("22", "all ports: a first fragment", first(&all)).reaches("10.0.0.21").of(ALL_PORTS),
        row("22", "all ports: a last fragment", last(&all)).after(&[&first(&all)]).reaches("10.0.0.21").of(ALL_PORTS),
        row("22", "a first fragment into a tunnel", first(&tunnel)).reaches_by_tunnel("10.0.0.40"),
        row("22", "a last fragment into a tunnel", last(&tunnel))
            .after(&[&first(&tunnel)])
            .reaches_by_tunnel("10.0.0.40"),
        row("35 22", "a first fragment into a tunnel, IPv6", first(&tunnel6)).reaches_by_tunnel("2001:db8:1::60"),
        row("35 22", "a last fragment into a tunnel, IPv6", last(&tunnel6))
            .after(&[&first(&tunnel6)])
            .reaches_by_tunnel("2001:db8:1::60"),
        row("22 74", "a first fragment, the backend is this host", first(&local))
            .gets_from_service(LocalBackend)
            .chose(&["10.0.0.71"]),
        row("22 74", "a last fragment, the backend is this host", last(&local))
            .after(&[&first(&local)])
            .gets_from_service(LocalBackend)
            .chose(&["10.0.0.71"]),
    ]);
    let at_one = |packet: Packet| packet.ip4(|ip| ip.fragment_offset = 1.try_into().unwrap());
    let (early, nobody, v6) = (segment(WEB, 0x910), segment(NOBODY, 0x911), segment(WEB_V6, 0x912));
    cases.extend([
        row("23", "TCP fragment at offset 1", at_one(last(&early))).gets(Malformed),
        row("23", "TCP fragment at offset 1, after its first", at_one(last(&early)))
            .after(&[&first(&early)])
            .gets(Malformed),
        row("23", "TCP fragment at offset 1, to no VIP", at_one(last(&nobody))).gets(NotAVip),
        row("35", "TCP fragment at offset 1, after its first, which over IPv6 is whole", v6.fragment(8, 96))
            .after(&[&first(&v6)])
            .reaches("10.0.0.10"),
    ]);
    cases
}

/// What is judged of a first fragment's headers.
fn first_headers() -> Vec<Case> {
    let cut = |packet: Packet, length: usize| packet.fragment(0, length);
    let long_options = {
        let mut header = options(DESTINATION, 6).1;
        header[0] = 17;
        other(DNS_V6, DESTINATION, &header)
    };
    let behind_options = {
        let mut header = options(DESTINATION, 1).1;
        header[0] = 17;
        let datagram = datagram(DNS_V6, 0).fragment(0, 199).packet()[48..].to_vec();
        other(DNS_V6, DESTINATION, &[&header[..], &datagram].concat()).id(0xa00)
    };
    let with_options = |id| syn(WEB).data(&[1; 160]).id(id);
    vec![
        row("20", "a UDP header cut short", cut(datagram(WEB_UDP, 0xa01), 7)).gets(Malformed),
        row("20", "a UDP header and no data", cut(datagram(WEB_UDP, 0xa02), 8)).reaches("10.0.0.10"),
        row("20 58", "a UDP length of 7", first(&datagram(WEB_UDP, 0xa03)).poked(L4 + 4, &[0, 7]))
            .gets_from_service(Malformed),
        row(
            "20 58",
            "a UDP length of 65535: the datagram's",
            first(&datagram(WEB_UDP, 0xa04)).poked(L4 + 4, &[0xff, 0xff]),
        )
        .reaches("10.0.0.10"),
        row("20 55", "source port 0", first(&datagram(WEB_UDP, 0xa05).from("198.51.100.7:0")))
            .gets_from_service(Malformed),
        row("22 43", "no byte of a TCP header", cut(segment(WEB, 0xa06), 0)).gets(Malformed),
        row("22 43", "16 bytes of a TCP header", cut(segment(WEB, 0xa07), 16)).gets(Malformed),
        row("22 43", "16 bytes of a TCP header, to no service", cut(segment("192.0.2.10:81", 0xa08), 16))
            .gets(Malformed),
        row("22 43", "16 bytes of a TCP header, to no VIP", cut(segment(NOBODY, 0xa09), 16)).gets(NotAVip),
        row("22", "a TCP header and no data", cut(segment(WEB, 0xa0a), 20)).reaches("10.0.0.10"),
        row("22 45", "TCP options beyond the fragment", cut(with_options(0xa0b), 32)).gets_from_service(Malformed),
        row("22 45", "TCP options as long as the fragment", cut(with_options(0xa0c), 40))
            .reaches("10.0.0.10")
            .syn(Syn::OpenOptions),
        row("22 44", "a data offset of 16", first(&segment(WEB, 0xa0d)).poked(L4 + 12, &[0x40]))
            .gets_from_service(Malformed),
        row(
            "22 44",
            "a data offset of 16, to no service",
            first(&segment("192.0.2.10:81", 0xa0e)).poked(L4 + 12, &[0x40]),
        )
        .gets(NotAService),
        row("22 53", "no flags", first(&segment(WEB, 0xa0f)).poked(L4 + 13, &[0])).gets_from_service(BadFlags),
        row("22 55", "destination port 0, all ports served", first(&segment("192.0.2.21:0", 0xa10)))
            .gets_from_service(Malformed)
            .of(ALL_PORTS),
        row(
            "22 46",
            "the flood's signature",
            first(&bare_syn(GUARDED).tcp(|tcp| tcp.window_size = 0).data(&[0; 180]).id(0xa11)),
        )
        .gets_from_service(SynFlood)
        .syn(Syn::ZeroBare),
        row("22 29", "a port without a service", first(&segment("192.0.2.10:81", 0xa12))).gets(NotAService),
        row("22 25", "from a martian", first(&segment(WEB, 0xa13).source("127.0.0.1"))).gets_from_service(Martian),
        row("22 27", "TTL 0", first(&segment(WEB, 0xa14)).ip4(|ip| ip.time_to_live = 0)).gets_from_service(TtlExpired),
        row("35", "first fragment behind options", first(&behind_options)).reaches_one_of(&FOUR, "dns6"),
        row("36", "first fragment without the ports", cut(segment(WEB_V6, 0xa15), 0)).gets(Malformed),
        row("36", "first fragment without the ports, UDP", cut(datagram(DNS_V6, 0xa16), 0)).gets(Malformed),
        row("36", "first fragment with a part of the UDP header", cut(datagram(DNS_V6, 0xa17), 7)).gets(Malformed),
        row("36", "first fragment with a part of the TCP header", cut(segment(WEB_V6, 0xa18), 16)).gets(Malformed),
        row("36", "first fragment that ends before the upper layer", cut(long_options, 16)).gets(Malformed),
        row("36", "first fragment without the ports, to no VIP", cut(segment(NOBODY_V6, 0xa19), 0)).gets(NotAVip),
        row("36 45", "first fragment with a part of the TCP options", cut(syn(WEB_V6).data(&[1; 160]).id(0xa1a), 32))
            .gets_from_service(Malformed),
    ]
}

/// First fragments that are not good leave nothing behind.
fn nothing_left() -> Vec<Case> {
    let behind = |name: &str, first: Packet, last: Packet| {
        row("21 22", format!("a last fragment after a first {name}"), last).after(&[&first]).gets(Fragment)
    };
    let split = |id| datagram(SPLIT, id);
    let flood = bare_syn(GUARDED).tcp(|tcp| tcp.window_size = 0).data(&[0; 180]).id(0xb07);
    let (unserved, unserved_udp) = (segment("192.0.2.10:81", 0xb05), datagram("192.0.2.54:80/udp", 0xb06));
    vec![
        behind("with a UDP length of 7", first(&split(0xb00)).poked(L4 + 4, &[0, 7]), last(&split(0xb00))),
        behind("from port 0", first(&split(0xb01).from("198.51.100.7:0")), last(&split(0xb01))),
        behind("with TTL 0", first(&split(0xb02)).ip4(|ip| ip.time_to_live = 0), last(&split(0xb02))),
        behind("from a martian", first(&split(0xb03)).source("127.0.0.1"), last(&split(0xb03)).source("127.0.0.1")),
        behind("without flags", first(&segment(WEB, 0xb04)).poked(L4 + 13, &[0]), last(&segment(WEB, 0xb04))),
        behind("to no service", first(&unserved), last(&unserved)),
        behind("to no service, UDP", first(&unserved_udp), last(&unserved_udp)),
        behind("with the flood's signature", first(&flood), last(&flood)),
        behind("to another MAC", first(&split(0xb08)).to_mac(crate::frames::STRANGER), last(&split(0xb08))),
        row("21 29", "a last fragment of UDP, an address with services over TCP alone", {
            last(&datagram("192.0.2.11:53/udp", 0xb09))
        })
        .gets(Fragment),
        row("21 29", "a first fragment of UDP, an address with services over TCP alone", {
            first(&datagram("192.0.2.11:53/udp", 0xb0a))
        })
        .gets(NotAService),
        row("35 29", "a last fragment of UDP, an address with services over TCP alone, IPv6", {
            last(&datagram("[2001:db8::11]:53/udp", 0xb0b))
        })
        .gets(Fragment),
    ]
}

fn other_fragments() -> Vec<Case> {
    let (udp, udp6) = (datagram("192.0.2.200:53/udp", 0xc00), datagram("[2001:db8::c8]:53/udp", 0xc01));
    let (tcp, tcp6) = (segment(NOBODY, 0xc02), segment(NOBODY_V6, 0xc03));
    let behind_options = other(WEB_V6, DESTINATION, &[17; 200]).id(0xc04);
    vec![
        row("24", "first fragment of UDP to no VIP", first(&udp)).gets(NotAVip),
        row("24", "last fragment of UDP to no VIP", last(&udp)).after(&[&first(&udp)]).gets(NotAVip),
        row("24", "first fragment of TCP to no VIP", first(&tcp)).gets(NotAVip),
        row("24", "last fragment of TCP to no VIP", last(&tcp)).after(&[&first(&tcp)]).gets(NotAVip),
        row("24 35", "first fragment of UDP to no VIP, IPv6", first(&udp6)).gets(NotAVip),
        row("24 35", "last fragment of UDP to no VIP, IPv6", last(&udp6)).gets(NotAVip),
        row("24 35", "first fragment of TCP to no VIP, IPv6", first(&tcp6)).gets(NotAVip),
        row("24 35", "last fragment of TCP to no VIP, IPv6", last(&tcp6)).gets(NotAVip),
        row("29", "first fragment of another protocol", other(WEB, 47, &[0; 64]).fragment(0, 32)).gets(OtherProtocol),
        row("29", "last fragment of another protocol", other(WEB, 47, &[0; 64]).fragment(32, 64)).gets(OtherProtocol),
        row("29 60", "first fragment of an echo request", other(WEB, 1, &[8, 0, 0, 0, 0, 0, 0, 0, 1]).fragment(0, 8))
            .gets(OtherProtocol),
        row("29", "last fragment of ICMP", other(WEB, 1, &[8; 64]).fragment(32, 64)).gets(OtherProtocol),
        row("35 29", "first fragment of another protocol, IPv6", other(WEB_V6, 47, &[0; 64]).fragment(0, 32))
            .gets(OtherProtocol),
        row("35 29", "first fragment of another protocol, no byte of it", other(WEB_V6, 47, &[0; 64]).fragment(0, 0))
            .gets(OtherProtocol),
        row("35 60", "first fragment of an echo request, IPv6", other(WEB_V6, 58, &[128; 64]).fragment(0, 32))
            .gets(OtherProtocol),
        row("35", "last fragment of ICMPv6", other(WEB_V6, 58, &[128; 64]).fragment(32, 64)).gets(OtherProtocol),
        row("35", "last fragment of a chain that begins behind the fragment header", last(&behind_options))
            .gets(OtherProtocol),
        row("19 22", "the reserved bit makes no fragment", segment(WEB, 0).poked(L3 + 6, &[0x80, 0]))
            .reaches("10.0.0.10"),
    ]
}
