//! Where packets go: backends of every kind, tunnels, sizes.

use lb_common::{filter::Syn::OpenOptions, verdict::Verdict::*};

use super::{Case, row};
use crate::{
    frames::{PRIORITY, Packet, SERVICE_VLAN, VLAN, options, other, syn, tcp, udp},
    setup::{
        BESIDE, BESIDE_TUNNEL, BESIDE_TUNNEL6, CLAMPED_TUNNEL4, DRAINED, JUMBO, JUMBO_TUNNEL, JUMBO_TUNNEL6, JUMBO_V6,
        LOCAL, LOOPING, PREFIXES, SILENT, TUNNEL4, TUNNEL4_UDP, TUNNEL4_V6, TUNNEL6, TUNNEL6_UDP, TUNNEL6_V6,
        UNRESOLVED, WEB, WEB_V6,
    },
};

const FOUR: &str = "10.0.0.40";
const SIX: &str = "2001:db8:1::60";
/// Bytes of an IPv4 and a TCP header, and of an IPv6 and a TCP header.
const HEADERS: usize = 40;
const HEADERS_V6: usize = 60;

pub fn cases() -> Vec<Case> {
    let mut cases = combinations();
    cases.extend(sources());
    cases.extend(sizes());
    cases.extend(jumbo());
    cases.extend(rooms());
    cases.extend(already_tunnelled());
    cases.extend(backends());
    cases
}

/// Both families in both, under no, one and two tags.
fn combinations() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, tags, tagged) in [
        ("70", &[][..], "untagged"),
        ("70 5", &[VLAN], "a tag"),
        ("70 6", &[PRIORITY], "a priority tag"),
        ("70 7", &[SERVICE_VLAN, VLAN], "two tags"),
    ] {
        for (name, vip, backend) in [
            ("IPv4 in IPv4", TUNNEL4, FOUR),
            ("IPv6 in IPv4", TUNNEL4_V6, FOUR),
            ("IPv4 in IPv6", TUNNEL6, SIX),
            ("IPv6 in IPv6", TUNNEL6_V6, SIX),
        ] {
            let named = |what: &str| format!("{name}, {what}, {tagged}");
            cases.push(row(rows, named("SYN"), syn(vip).tags(tags)).reaches_by_tunnel(backend).syn(OpenOptions));
            cases.push(
                row(rows, named("data of odd length"), tcp(vip).tags(tags).data(&[1; 333])).reaches_by_tunnel(backend),
            );
        }
        for (name, vip, backend) in [("UDP in IPv4", TUNNEL4_UDP, FOUR), ("UDP in IPv6", TUNNEL6_UDP, SIX)] {
            cases.push(row(rows, format!("{name}, {tagged}"), udp(vip).tags(tags)).reaches_by_tunnel(backend));
        }
    }
    cases
}

/// From configured prefixes, varied by flow: enough flows that every bit of the varying part was seen both ways.
fn sources() -> Vec<Case> {
    let mut cases = Vec::new();
    for port in 40_000..40_012 {
        for (name, vip, backend) in [("IPv4", TUNNEL4, FOUR), ("IPv6", TUNNEL6, SIX)] {
            let packet = tcp(vip).from(&format!("198.51.100.7:{port}"));
            let name = format!("source from an {name} prefix, client's port {port}");
            cases.push(row("70", name, packet).under(&PREFIXES).reaches_by_tunnel(backend));
        }
    }
    cases
}

/// A packet of so many bytes that nobody may cut.
fn sized(vip: &str, length: usize) -> Packet {
    let headers = if vip.starts_with('[') { HEADERS_V6 } else { HEADERS };
    let data: Vec<u8> = (0..length - headers).map(|at| at as u8).collect();
    tcp(vip).data(&data)
}

/// The same, and routers may cut it.
fn loose(vip: &str, length: usize) -> Packet {
    sized(vip, length).ip4(|ip| ip.dont_fragment = false)
}

fn sizes() -> Vec<Case> {
    let mut cases =
        vec![row("67", "tags do not count", loose(TUNNEL4, 1480).tags(&[SERVICE_VLAN, VLAN])).reaches_by_tunnel(FOUR)];
    for (name, vip, backend, fits) in [
        ("L2", WEB, "10.0.0.10", 1500),
        ("L2, IPv6", WEB_V6, "10.0.0.10", 1500),
        ("IPv4 in IPv4", TUNNEL4, FOUR, 1480),
        ("IPv6 in IPv4", TUNNEL4_V6, FOUR, 1480),
        ("IPv4 in IPv6", TUNNEL6, SIX, 1460),
        ("IPv6 in IPv6", TUNNEL6_V6, SIX, 1460),
    ] {
        let arrives = |rows, what: &str, packet| {
            let row = row(rows, format!("{name}, as long as the way takes{what}"), packet);
            if backend == "10.0.0.10" { row.reaches(backend) } else { row.reaches_by_tunnel(backend) }
        };
        cases.push(arrives("66", "", sized(vip, fits)));
        for (what, tags, longer) in [
            ("", &[][..], 1),
            (", a tag", &[VLAN], 1),
            (", two tags", &[SERVICE_VLAN, VLAN], 1),
            (" and more", &[], 1000),
        ] {
            let packet = sized(vip, fits + longer).tags(tags);
            let row = row("66", format!("{name}, a byte longer{what}"), packet.clone());
            cases.push(row.told(packet.too_big(fits as u16), backend));
        }
        if !vip.starts_with('[') {
            cases.push(arrives("67", ", DF clear", loose(vip, fits)));
            let row = row("67", format!("{name}, a byte longer, DF clear"), loose(vip, fits + 1));
            cases.push(row.gets_from_service(TooBig).chose(&[backend]));
        }
        let silent = row("66", format!("{name}, a byte longer, icmp_rate = 0"), sized(vip, fits + 1)).under(&SILENT);
        cases.push(silent.gets_from_service(TooBig).chose(&[backend]));
    }
    cases.extend(told());
    cases.extend(not_told());
    cases
}

/// What else is answered that is too long.
fn told() -> Vec<Case> {
    let told = |rows, name: &'static str, packet: Packet, mtu, backend: &str| {
        row(rows, name, packet.clone()).told(packet.too_big(mtu), backend)
    };
    let datagram = |vip: &str| udp(vip).data(&[0x2d; 1460]);
    let fragmented = |vip: &str, id| tcp(vip).data(&[0x2d; 2000]).id(id).fragment(0, 1488);
    let odd = sized(TUNNEL4, 1481).ip4(|ip| {
        (ip.dscp, ip.ecn, ip.identification) = (46.try_into().unwrap(), 1.try_into().unwrap(), 0xbeef);
    });
    let syn = |vip: &str| syn(vip).data(&[0x2d; 1440]);
    vec![
        told("66", "a datagram", datagram(TUNNEL4_UDP), 1480, FOUR),
        told("66", "a datagram into an IPv6 tunnel", datagram(TUNNEL6_UDP), 1460, SIX),
        told("66 28", "DSCP, ECN and identification stay in what is quoted", odd, 1480, FOUR),
        told("66 13", "options", sized(TUNNEL4, 1481).ip4(|ip| ip.options = [1; 40].into()), 1480, FOUR),
        told("66 32", "extension headers", sized(TUNNEL4_V6, 1481).extensions(&[options(60, 2)]), 1480, FOUR),
        told(
            "66 42",
            "a flow label",
            sized(TUNNEL6_V6, 1461).ip6(|ip| ip.flow_label = 7.try_into().unwrap()),
            1460,
            SIX,
        ),
        told("66 56", "a bad checksum", sized(TUNNEL4, 1481).poked(14 + 36, &[0xde, 0xad]), 1480, FOUR),
        told("66 10", "padding is cut off", sized(TUNNEL4, 1481).padded(1600), 1480, FOUR),
        told("66 22", "a first fragment with DF", fragmented(TUNNEL4, 0xe00), 1480, FOUR),
        told("66 35", "a first fragment, IPv6", fragmented(TUNNEL4_V6, 0xe01), 1480, FOUR),
        told("66 68a", "in several buffers", sized(JUMBO, 9001), 9000, "10.0.0.90"),
        told(
            "66 68a",
            "in several buffers, IPv6 and two tags",
            sized(JUMBO_V6, 9001).tags(&[VLAN, VLAN]),
            9000,
            "10.0.0.90",
        ),
        told("66 68a", "in several buffers, into a tunnel", sized(JUMBO_TUNNEL, 8981), 8980, "10.0.0.91"),
        told(
            "66 75",
            "a tunnel by the other interface: the answer leaves by this one",
            sized(BESIDE_TUNNEL, 1481),
            1480,
            "10.0.1.74",
        ),
        told("66 52", "a SYN", syn(TUNNEL4), 1480, FOUR).syn(OpenOptions),
        told("66 68b", "a SYN whose MSS stays", syn(CLAMPED_TUNNEL4), 1480, "10.0.0.81").syn(OpenOptions),
    ]
}

/// What is too long and not answered.
fn not_told() -> Vec<Case> {
    let dropped = |rows, name: &'static str, packet: Packet| row(rows, name, packet);
    let whole = |vip: &str, id| udp(vip).data(&[0x2d; 4000]).id(id);
    let (segment, segment6) =
        (tcp(TUNNEL4).data(&[0x2d; 4000]).id(0xe10), tcp(TUNNEL4_V6).data(&[0x2d; 4000]).id(0xe11));
    vec![
        dropped("66 21", "a later fragment with DF", whole(TUNNEL4_UDP, 0xe12).fragment(1488, 2976))
            .gets_from_service(TooBig)
            .chose(&[FOUR]),
        dropped("66 22", "a later fragment of TCP with DF", segment.fragment(1000, 2488))
            .after(&[&segment.fragment(0, 1000)])
            .gets_from_service(TooBig)
            .chose(&[FOUR]),
        dropped("66 35", "a later fragment, IPv6", segment6.fragment(1000, 2488))
            .after(&[&segment6.fragment(0, 1000)])
            .gets_from_service(TooBig)
            .chose(&[FOUR]),
        dropped("67 20", "a first fragment, DF clear", {
            whole(TUNNEL4_UDP, 0xe13).ip4(|ip| ip.dont_fragment = false).fragment(0, 1488)
        })
        .gets_from_service(TooBig)
        .chose(&[FOUR]),
        dropped("66 69", "no room for the answer's headers", sized(WEB, 1501))
            .headroom(24)
            .gets_from_service(NoHeadroom)
            .chose(&["10.0.0.10"]),
        dropped("66 69", "no room for the answer's headers, IPv6", sized(WEB_V6, 1501))
            .headroom(44)
            .gets_from_service(NoHeadroom)
            .chose(&["10.0.0.10"]),
        dropped("66 69", "as much room as the answer's headers need", sized(WEB, 1501))
            .headroom(28)
            .told(sized(WEB, 1501).too_big(1500), "10.0.0.10"),
        dropped("66 69", "as much room as the answer's headers need, IPv6", sized(WEB_V6, 1501))
            .headroom(48)
            .told(sized(WEB_V6, 1501).too_big(1500), "10.0.0.10"),
        dropped("66 68a", "what would be quoted in the second buffer", sized(WEB, 1501))
            .first_buffer(14 + 252)
            .gets_from_service(TooBig)
            .chose(&["10.0.0.10"]),
        dropped("66 68a", "just what is quoted in the first buffer", sized(WEB, 1501))
            .first_buffer(14 + 256)
            .told(sized(WEB, 1501).too_big(1500), "10.0.0.10"),
    ]
}

fn jumbo() -> Vec<Case> {
    let sized = |vip: &str, bytes: usize| tcp(vip).data(&vec![0xd5; bytes]);
    vec![
        row("68a", "8,000 bytes by L2", sized(JUMBO, 8000)).reaches("10.0.0.90"),
        row("68a", "8,000 bytes by L2, two tags", sized(JUMBO, 8000).tags(&[SERVICE_VLAN, VLAN])).reaches("10.0.0.90"),
        row("68a", "8,000 bytes by L2, IPv6", sized(JUMBO_V6, 8000)).reaches("10.0.0.90"),
        row("68a", "8,000 bytes into a tunnel", sized(JUMBO_TUNNEL, 8000)).reaches_by_tunnel("10.0.0.91"),
        row("68a", "8,000 bytes into an IPv6 tunnel", sized(JUMBO_TUNNEL6, 8000).tags(&[VLAN]))
            .reaches_by_tunnel("2001:db8:1::92"),
        row("68a", "as long as the way takes", sized(JUMBO, 9000 - HEADERS)).reaches("10.0.0.90"),
        row("68a 67", "a byte longer, DF clear", loose(JUMBO, 9001)).gets_from_service(TooBig).chose(&["10.0.0.90"]),
        row("68a 15", "total length one byte beyond all buffers", sized(JUMBO, 8000).poked(16, &8041u16.to_be_bytes()))
            .gets(Malformed),
        row("68a 10", "padding behind the first buffer", sized(JUMBO_TUNNEL, 3400).padded(5000))
            .reaches_by_tunnel("10.0.0.91"),
        row("68a 58", "a datagram of 8,000 bytes to no service", udp("192.0.2.90:53/udp").data(&[1; 8000]))
            .gets(NotAService),
        row("68a", "headers alone in the first buffer", tcp(WEB).data(&[1; 100])).first_buffer(54).reaches("10.0.0.10"),
        row("68a", "headers alone in the first buffer, into a tunnel", tcp(TUNNEL6_V6).tags(&[VLAN]).data(&[1; 100]))
            .first_buffer(78)
            .reaches_by_tunnel(SIX),
        row("68a", "the TCP header in the second buffer, where drivers put none", tcp(WEB))
            .first_buffer(34)
            .gets(Malformed),
        row("68a", "the IP header in the second buffer, where drivers put none", tcp(WEB))
            .first_buffer(32)
            .gets(ShortFrame),
        row("68a", "8,000 bytes to no VIP", sized("192.0.2.200:80", 8000)).gets(NotAVip),
    ]
}

fn rooms() -> Vec<Case> {
    vec![
        row("69", "16 bytes of room, an IPv4 tunnel", tcp(TUNNEL4))
            .headroom(16)
            .gets_from_service(NoHeadroom)
            .chose(&[FOUR]),
        row("69", "36 bytes of room, an IPv6 tunnel", tcp(TUNNEL6))
            .headroom(36)
            .gets_from_service(NoHeadroom)
            .chose(&[SIX]),
        row("69", "no room, an IPv6 tunnel for IPv6", tcp(TUNNEL6_V6).tags(&[SERVICE_VLAN, VLAN]))
            .headroom(0)
            .gets_from_service(NoHeadroom)
            .chose(&[SIX]),
        row("69", "as much room as an IPv4 tunnel needs", tcp(TUNNEL4)).headroom(20).reaches_by_tunnel(FOUR),
        row("69", "as much room as an IPv6 tunnel needs", tcp(TUNNEL6)).headroom(40).reaches_by_tunnel(SIX),
        row("69", "L2 needs no room", tcp(WEB)).headroom(0).reaches("10.0.0.10"),
    ]
}

fn already_tunnelled() -> Vec<Case> {
    let inner4 = tcp(TUNNEL4).frame()[14..].to_vec();
    let inner6 = tcp(TUNNEL6_V6).frame()[14..].to_vec();
    vec![
        row("71", "IPv4 in IPv4, to a VIP", other(TUNNEL4, 4, &inner4)).gets(OtherProtocol),
        row("71", "IPv6 in IPv4, to a VIP", other(TUNNEL4, 41, &inner6)).gets(OtherProtocol),
        row("71", "IPv4 in IPv6, to a VIP", other(TUNNEL6_V6, 4, &inner4)).gets(OtherProtocol),
        row("71", "IPv6 in IPv6, to a VIP", other(TUNNEL6_V6, 41, &inner6)).gets(OtherProtocol),
        row("71", "a tunnel to a backend", other("10.0.0.40:80", 4, &inner4)).gets(NotAVip),
    ]
}

fn backends() -> Vec<Case> {
    vec![
        row("72", "every backend has weight 0", tcp(DRAINED)).gets_from_service(NoBackend),
        row("72", "every backend has weight 0, a SYN", syn(DRAINED)).gets_from_service(NoBackend).syn(OpenOptions),
        row("73", "nobody knows the next hop's MAC", tcp(UNRESOLVED))
            .gets_from_service(NoNeighbour)
            .chose(&["10.0.0.72"]),
        row("74", "the backend is this host", tcp(LOCAL)).gets_from_service(LocalBackend).chose(&["10.0.0.71"]),
        row("74", "the backend is this host, a SYN, tagged", syn(LOCAL).tags(&[VLAN]))
            .gets_from_service(LocalBackend)
            .chose(&["10.0.0.71"])
            .syn(OpenOptions),
        row("75", "L2 by the other interface", tcp(BESIDE)).reaches("10.0.1.73").redirected(),
        row("75", "L2 by the other interface, tagged", tcp(BESIDE).tags(&[VLAN])).reaches("10.0.1.73").redirected(),
        row("75", "a tunnel by the other interface", tcp(BESIDE_TUNNEL)).reaches_by_tunnel("10.0.1.74").redirected(),
        row("75", "an IPv6 tunnel by the other interface", tcp(BESIDE_TUNNEL6))
            .reaches_by_tunnel("2001:db8:2::75")
            .redirected(),
        row("75", "a next hop with a MAC of ours", tcp(LOOPING)).reaches("10.0.0.93"),
    ]
}
