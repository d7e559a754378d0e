//! ICMP and ICMPv6 to VIPs.

use lb_common::verdict::Verdict::*;

use super::{Case, row};
use crate::{
    frames::{
        BROADCAST, L3, L4, Packet, SERVICE_VLAN, STRANGER, VIRTUAL, VLAN, atomic, authentication, cut, echo, error,
        icmp, options, other, poke, routing, tcp, udp,
    },
    setup::{
        ALL_PORTS, ALL_UDP, BESIDE, DNS, DNS_V6, DRAINED, JUMBO, LOCAL, SOURCE, SOURCE_V6, SPREAD, SPREAD_V6, TUNNEL4,
        TUNNEL4_V6, TUNNEL6, TUNNEL6_V6, UNRESOLVED, WEB, WEB_V6,
    },
};

/// An address that is no VIP.
const NOBODY: &str = "192.0.2.200:80";
/// The same, IPv6.
const NOBODY_V6: &str = "[2001:db8::c8]:80";

pub fn cases() -> Vec<Case> {
    let mut cases = echo_requests();
    cases.extend(no_answer());
    cases.extend(errors());
    cases.extend(ways());
    cases.extend(quotations());
    cases.extend(odd_quotations());
    cases.extend(mtus());
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

const BACKEND: &str = "10.0.0.10";
const FOUR: [&str; 4] = ["10.0.0.50", "10.0.0.51", "10.0.0.52", "10.0.0.53"];
/// Fragmentation needed: kind, code, and an MTU.
const NEEDED: ([u8; 2], [u8; 4]) = ([3, 4], [0, 0, 5, 0x78]);
/// Packet too big: kind, code, and an MTU.
const TOO_BIG: ([u8; 2], [u8; 4]) = ([2, 0], [0, 0, 5, 0x78]);

/// That something that the VIP answered to this packet was too big for a link.
fn too_big(packet: &Packet) -> Packet {
    about(packet, &packet.clone().reversed().packet())
}

/// The same with another quotation.
fn about(packet: &Packet, quoted: &[u8]) -> Packet {
    let (kind, word) = if packet.vip().starts_with('[') { TOO_BIG } else { NEEDED };
    error(packet.vip(), kind, word, quoted)
}

/// Errors of every kind, and the flow that they are about: all reach one backend.
fn errors() -> Vec<Case> {
    const KINDS: [(&str, &str, [u8; 2]); 7] = [
        ("61", "fragmentation needed", [3, 4]),
        ("62", "host unreachable", [3, 1]),
        ("62", "port unreachable", [3, 3]),
        ("62", "prohibited", [3, 13]),
        ("62", "TTL exceeded", [11, 0]),
        ("62", "time for fragments exceeded", [11, 1]),
        ("62", "parameter problem", [12, 0]),
    ];
    const KINDS_V6: [(&str, &str, [u8; 2]); 7] = [
        ("61", "packet too big", [2, 0]),
        ("62", "no route", [1, 0]),
        ("62", "port unreachable", [1, 4]),
        ("62", "hop limit exceeded", [3, 0]),
        ("62", "time for fragments exceeded", [3, 1]),
        ("62", "parameter problem", [4, 1]),
        ("62", "parameter problem of a code to come", [4, 200]),
    ];
    let mut cases = Vec::new();
    for (name, flow, packet, kinds) in [
        ("TCP", "quoted TCP", tcp(SPREAD), KINDS),
        ("TCP over IPv6", "quoted TCP6", tcp(SPREAD_V6), KINDS_V6),
        ("UDP", "quoted UDP", udp(DNS), KINDS),
        ("UDP over IPv6", "quoted UDP6", udp(DNS_V6), KINDS_V6),
        ("TCP by source", "quoted source", tcp(SOURCE), KINDS),
        ("TCP by source, IPv6", "quoted source6", tcp(SOURCE_V6), KINDS_V6),
    ] {
        let quoted = packet.clone().reversed().packet();
        cases.push(row("61 62", format!("{name}: what errors are about"), packet.clone()).reaches_one_of(&FOUR, flow));
        for (rows, kind, number) in kinds {
            let error = error(packet.vip(), number, [0, 0, 5, 0x78], &quoted);
            cases.push(row(rows, format!("{name}: {kind}"), error).reaches_one_of(&FOUR, flow).icmp_error());
        }
    }
    cases
}

/// Errors go all the ways that packets go.
fn ways() -> Vec<Case> {
    let long =
        |vip: &str, bytes: usize| about(&tcp(vip), &[&tcp(vip).reversed().packet()[..], &vec![7; bytes]].concat());
    let name = |name: &str, vip: &str| format!("{name}, {vip}");
    let mut cases = Vec::new();
    for (vip, backend) in
        [(TUNNEL4, "10.0.0.40"), (TUNNEL4_V6, "10.0.0.40"), (TUNNEL6, "2001:db8:1::60"), (TUNNEL6_V6, "2001:db8:1::60")]
    {
        let row = |what, tags: &[_]| row("61 70", name(what, vip), too_big(&tcp(vip)).tags(tags));
        cases.push(row("into a tunnel", &[]).reaches_by_tunnel(backend).icmp_error());
        cases.push(row("into a tunnel, two tags", &[SERVICE_VLAN, VLAN]).reaches_by_tunnel(backend).icmp_error());
        cases.push(
            super::row("61 67", name("too long itself", vip), long(vip, 1450))
                .gets_from_service(TooBig)
                .chose(&[backend]),
        );
    }
    cases.extend([
        row("61 5", "a tag", too_big(&tcp(WEB)).tags(&[VLAN])).reaches(BACKEND).icmp_error(),
        row("61 7", "two tags, IPv6", too_big(&tcp(WEB_V6)).tags(&[VLAN, VLAN])).reaches(BACKEND).icmp_error(),
        row("61 10", "padding", about(&tcp(WEB), &tcp(WEB).reversed().packet()[..24]).padded(80))
            .reaches(BACKEND)
            .icmp_error(),
        row("61 13", "options", too_big(&tcp(WEB)).ip4(|ip| ip.options = [1; 40].into())).reaches(BACKEND).icmp_error(),
        row("61 32", "behind extension headers", too_big(&tcp(WEB_V6)).extensions(&[options(0, 1), options(60, 2)]))
            .reaches(BACKEND)
            .icmp_error(),
        row("61 34", "an atomic fragment", too_big(&tcp(WEB_V6)).extensions(&[atomic()])).reaches(BACKEND).icmp_error(),
        row("61 56", "a bad checksum", too_big(&tcp(WEB)).poked(L4 + 2, &[0xde, 0xad])).reaches(BACKEND).icmp_error(),
        row("61 29", "all ports", too_big(&tcp("192.0.2.21:20001"))).reaches("10.0.0.21").of(ALL_PORTS).icmp_error(),
        row("61 29", "all ports, UDP", too_big(&udp("192.0.2.22:33434/udp")))
            .reaches("10.0.0.22")
            .of(ALL_UDP)
            .icmp_error(),
        row("61 75", "by the other interface", too_big(&tcp(BESIDE))).reaches("10.0.1.73").redirected().icmp_error(),
        row("61 74", "the backend is this host", too_big(&tcp(LOCAL)))
            .gets_from_service(LocalBackend)
            .chose(&["10.0.0.71"]),
        row("61 73", "the backend's next hop is not known", too_big(&tcp(UNRESOLVED)))
            .gets_from_service(NoNeighbour)
            .chose(&["10.0.0.72"]),
        row("61 72", "no backend", too_big(&tcp(DRAINED))).gets_from_service(NoBackend),
        row("61 68a", "8,000 bytes", long(JUMBO, 7900)).reaches("10.0.0.90").icmp_error(),
        row("61 4", "to another MAC", too_big(&tcp(WEB)).to_mac(STRANGER)).gets(NotOurs),
        row("61", "to no VIP", too_big(&tcp(NOBODY))).gets(NotAVip),
        row("61", "to no VIP, IPv6", too_big(&tcp(NOBODY_V6))).gets(NotAVip),
        row("61 29", "no service on the port that sent it", too_big(&tcp("192.0.2.10:81"))).gets(NotAService),
        row("61 29", "no service on the port that sent it, UDP over IPv6", too_big(&udp("[2001:db8::10]:80/udp")))
            .gets(NotAService),
        row("61 25", "from a martian", too_big(&tcp(WEB)).source("127.0.0.1")).gets_from_service(Martian),
        row("61 25", "from the VIP", too_big(&tcp(WEB)).source("192.0.2.10")).gets_from_service(Martian),
        row("61 41", "from a martian, IPv6", too_big(&tcp(WEB_V6)).source("::1")).gets_from_service(Martian),
        row("61 25", "from a martian, no service", too_big(&tcp("192.0.2.10:81")).source("127.0.0.1"))
            .gets(NotAService),
        row("61 27", "TTL 0", too_big(&tcp(WEB)).ip4(|ip| ip.time_to_live = 0)).gets_from_service(TtlExpired),
        row("61 25", "about what went to a martian, which is not judged", too_big(&tcp(WEB).source("127.0.0.1")))
            .reaches(BACKEND)
            .icmp_error(),
        row("61", "from the client itself", too_big(&tcp(WEB)).source("198.51.100.7")).reaches(BACKEND).icmp_error(),
    ]);
    cases
}

/// Quotations that routers do send.
fn quotations() -> Vec<Case> {
    let answer = |vip: &str| tcp(vip).reversed().data(&[0x77; 100]);
    let quotes = |rows, name: &str, vip: &str, quoted: &[u8]| {
        row(rows, name.to_owned(), about(&tcp(vip), quoted)).reaches(BACKEND).icmp_error()
    };
    let with_options = |words: usize| answer(WEB).ip4(|ip| ip.options = vec![1; 4 * words][..].try_into().unwrap());
    let chain = [options(0, 1), options(60, 2), routing(2), authentication()];
    let mut cases = vec![
        quotes("61", "8 bytes behind the quoted header (RFC 792)", WEB, &answer(WEB).packet()[..28]),
        quotes("61", "as much as fits into 576 bytes", WEB, &answer(WEB).data(&[1; 1400]).packet()[..548]),
        quotes("61", "as much as fits into 1280 bytes", WEB_V6, &answer(WEB_V6).data(&[1; 1400]).packet()[..1232]),
        quotes("63", "the ports and no more", WEB, &answer(WEB).packet()[..24]),
        quotes("63", "the ports and no more, IPv6", WEB_V6, &answer(WEB_V6).packet()[..44]),
        quotes("63", "extension headers", WEB_V6, &answer(WEB_V6).extensions(&chain).packet()),
        quotes("63 34", "an atomic fragment", WEB_V6, &answer(WEB_V6).extensions(&[atomic()]).packet()),
        quotes("63", "a TTL of 0 and a header checksum of 0, as routers leave them", WEB, &{
            poke(poke(answer(WEB).packet(), 8, &[0]), 10, &[0, 0])
        }),
        quotes("63", "a total length in another byte order", WEB, &poke(answer(WEB).packet(), 2, &[140, 0])),
        quotes("63", "DF and the reserved bit", WEB, &poke(answer(WEB).packet(), 6, &[0xc0, 0])),
        quotes("63", "a payload length of 0", WEB_V6, &poke(answer(WEB_V6).packet(), 4, &[0, 0])),
        quotes("63", "a data offset of 0", WEB, &poke(answer(WEB).packet(), 32, &[0])),
    ];
    for words in 1..=10 {
        cases.push(quotes("63", &format!("{} bytes of options", 4 * words), WEB, &with_options(words).packet()[..]));
    }
    cases
}

/// Quotations from which no flow can be told.
fn odd_quotations() -> Vec<Case> {
    let answer = |vip: &str| tcp(vip).reversed().data(&[0x77; 100]);
    let (v4, v6) = (answer(WEB).packet(), answer(WEB_V6).packet());
    let ports = |vip: &str, at: usize, ports: [u8; 4]| poke(answer(vip).packet(), at, &ports);
    let mut cases = Vec::new();
    for (name, vip, quoted) in [
        ("nothing", WEB, vec![]),
        ("nothing, IPv6", WEB_V6, vec![]),
        ("19 bytes of a header", WEB, v4[..19].to_vec()),
        ("39 bytes of a header", WEB_V6, v6[..39].to_vec()),
        ("a header alone", WEB, v4[..20].to_vec()),
        ("a header alone, IPv6", WEB_V6, v6[..40].to_vec()),
        ("3 bytes of ports", WEB, v4[..23].to_vec()),
        ("3 bytes of ports, IPv6", WEB_V6, v6[..43].to_vec()),
        ("IPv6 in ICMP", WEB, v6.clone()),
        ("IPv4 in ICMPv6", WEB_V6, v4.clone()),
        ("version 0", WEB, poke(v4.clone(), 0, &[0x05])),
        ("a header length of 16", WEB, poke(v4.clone(), 0, &[0x44])),
        ("options, the ports beyond the packet", WEB, poke(v4[..60].to_vec(), 0, &[0x4f])),
        ("a first fragment", WEB, answer(WEB).fragment(0, 64).packet()),
        ("a later fragment", WEB, answer(WEB).fragment(64, 120).packet()),
        ("a first fragment, IPv6", WEB_V6, answer(WEB_V6).fragment(0, 64).packet()),
        ("a later fragment, IPv6", WEB_V6, answer(WEB_V6).fragment(64, 120).packet()),
        ("another protocol", WEB, poke(v4.clone(), 9, &[47])),
        ("ICMP", WEB, poke(v4.clone(), 9, &[1])),
        ("no next header", WEB_V6, poke(v6.clone(), 6, &[59])),
        ("ICMPv6", WEB_V6, poke(v6.clone(), 6, &[58])),
        ("from somebody else", WEB, poke(v4.clone(), 12, &[192, 0, 2, 200])),
        ("from another VIP", WEB, poke(v4.clone(), 12, &[192, 0, 2, 11])),
        ("from somebody else, IPv6", WEB_V6, poke(v6.clone(), 8 + 15, &[0xc8])),
        ("from port 0", WEB, ports(WEB, 20, [0, 0, 0x9c, 0x40])),
        ("to port 0", WEB, ports(WEB, 20, [0, 80, 0, 0])),
        ("from port 0, IPv6", WEB_V6, ports(WEB_V6, 40, [0, 0, 0x9c, 0x40])),
        ("a chain of 9 headers", WEB_V6, answer(WEB_V6).extensions(&vec![options(60, 1); 9]).packet()),
        ("a chain cut short", WEB_V6, answer(WEB_V6).extensions(&[options(60, 4)]).packet()[..60].to_vec()),
        (
            "a chain that ends where the packet does",
            WEB_V6,
            answer(WEB_V6).extensions(&[options(60, 1)]).packet()[..48].to_vec(),
        ),
        ("a routing header of type 0", WEB_V6, answer(WEB_V6).extensions(&[routing(0)]).packet()),
    ] {
        cases.push(row("63", format!("quotes {name}"), about(&tcp(vip), &quoted)).gets(Malformed));
    }
    let short = |vip: &str, at: usize, length: u8| about(&tcp(vip), &[]).padded(100).poked(at, &[0, length]);
    cases.extend([
        row("63", "7 bytes in all", short(WEB, L3 + 2, 27)).gets(Malformed),
        row("63", "7 bytes in all, IPv6", short(WEB_V6, L3 + 4, 7)).gets(Malformed),
        row("63", "7 bytes in all, to no VIP", short(NOBODY, L3 + 2, 27)).gets(NotAVip),
        row("63 10", "the ports in the padding", too_big(&tcp(WEB)).poked(L3 + 2, &[0, 20 + 8 + 23])).gets(Malformed),
        row("63 10", "the ports in the padding, IPv6", too_big(&tcp(WEB_V6)).poked(L3 + 4, &[0, 8 + 43]))
            .gets(Malformed),
        row("63 10", "the quoted header in the padding, IPv6", too_big(&tcp(WEB_V6)).poked(L3 + 4, &[0, 8 + 39]))
            .gets(Malformed),
        row("63", "nothing, from a martian: malformed comes first", about(&tcp(WEB), &[]).source("127.0.0.1"))
            .gets(Malformed),
        row("63 68a", "the quotation in the second buffer, where drivers put none", too_big(&tcp(WEB)))
            .first_buffer(42)
            .gets(Malformed),
        row("63", "nothing, to no VIP", about(&tcp(NOBODY), &[])).gets(NotAVip),
        row("63", "a fragment, to no VIP", about(&tcp(NOBODY), &answer(NOBODY).fragment(0, 64).packet())).gets(NotAVip),
    ]);
    cases
}

fn mtus() -> Vec<Case> {
    let needed = |mtu: u16| {
        let [high, low] = mtu.to_be_bytes();
        error(WEB, [3, 4], [0xff, 0xff, high, low], &tcp(WEB).reversed().packet())
    };
    let too_big = |mtu: u32| error(WEB_V6, [2, 0], mtu.to_be_bytes(), &tcp(WEB_V6).reversed().packet());
    let sent = |name: String, packet: Packet| row("65", name, packet).reaches(BACKEND).icmp_error();
    let mut cases = Vec::new();
    for mtu in [0, 1, 67] {
        cases.push(sent(format!("an MTU of {mtu}"), needed(mtu)).small_mtu());
    }
    for mtu in [68, 576, 1279, 65_535] {
        cases.push(sent(format!("an MTU of {mtu}"), needed(mtu)));
    }
    for mtu in [0, 68, 1279] {
        cases.push(sent(format!("an MTU of {mtu}, IPv6"), too_big(mtu)).small_mtu());
    }
    for mtu in [1280, 1500, 0x0001_0000, u32::MAX] {
        cases.push(sent(format!("an MTU of {mtu}, IPv6"), too_big(mtu)));
    }
    let other = |vip: &str, kind| error(vip, kind, [0; 4], &tcp(vip).reversed().packet());
    cases.extend([
        sent("no MTU: host unreachable".into(), other(WEB, [3, 1])),
        sent("no MTU: time exceeded of the same code".into(), other(WEB, [11, 4])),
        sent("no MTU: no route".into(), other(WEB_V6, [1, 0])),
        row("65 72", "a small MTU, no backend", error(DRAINED, [3, 4], [0; 4], &tcp(DRAINED).reversed().packet()))
            .gets_from_service(NoBackend),
    ]);
    cases
}
