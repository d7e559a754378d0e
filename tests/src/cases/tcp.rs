//! TCP: headers that lie, kinds of SYN, flags, ports, services.

use lb_common::{
    filter::Syn::{self, *},
    verdict::Verdict::*,
};

use super::{Case, row};
use crate::{
    frames::{L4, L4_V6, Packet, bare_syn, syn, tcp},
    setup::{
        ALL_PORTS, ALL_PORTS_V6, BAD_FLAGS_PASS, CARELESS, GUARDED, GUARDED_V6, ONE_OF_ALL, SOURCE, SOURCE_TLS,
        SOURCE_V6, SPREAD, SPREAD_V6, TUNNEL4, WEB, WEB_V6,
    },
};

const BACKEND: &str = "10.0.0.10";
const FOUR: [&str; 4] = ["10.0.0.50", "10.0.0.51", "10.0.0.52", "10.0.0.53"];
/// An address that is no VIP.
const NOBODY: &str = "192.0.2.200:80";

pub fn cases() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(kinds_of_syn());
    cases.extend(segments());
    cases.extend(flags());
    cases.extend(ports());
    cases.extend(flows());
    cases
}

fn headers() -> Vec<Case> {
    let offset = |packet: Packet, l4: usize, words: u8| packet.poked(l4 + 12, &[words << 4]);
    let data = |vip: &str| tcp(vip).data(b"GET / HTTP/1.1\r\n\r\n");
    vec![
        row("43", "19 bytes behind the IP header", tcp(WEB).poked(16, &[0, 39])).gets(Malformed),
        row("43", "19 bytes behind the IP header, to no VIP", tcp(NOBODY).poked(16, &[0, 39])).gets(NotAVip),
        row("44", "data offset 16", offset(data(WEB), L4, 4)).gets_from_service(Malformed),
        row("44", "data offset 0", offset(data(WEB), L4, 0)).gets_from_service(Malformed),
        row("44", "data offset 0, IPv6", offset(data(WEB_V6), L4_V6, 0)).gets_from_service(Malformed),
        row("44 46", "SYN with window 0 and data offset 16: malformed, not the flood's", {
            offset(bare_syn(GUARDED).tcp(|tcp| tcp.window_size = 0), L4, 4)
        })
        .gets_from_service(Malformed),
        row("44", "data offset 16, to no VIP", offset(data(NOBODY), L4, 4)).gets(NotAVip),
        row("45", "data offset beyond the segment", offset(tcp(WEB), L4, 6)).gets_from_service(Malformed),
        row("45", "data offset 60 in a segment of 38", offset(data(WEB), L4, 15)).gets_from_service(Malformed),
        row("45", "data offset beyond the segment, IPv6", offset(tcp(WEB_V6), L4_V6, 6)).gets_from_service(Malformed),
        row("45", "data offset beyond the segment, bound for a tunnel", offset(tcp(TUNNEL4), L4, 6))
            .gets_from_service(Malformed),
    ]
}

/// Options and what they make of a SYN with window 0 and with an open one.
fn kinds_of_syn() -> Vec<Case> {
    const MSS: [u8; 4] = [2, 4, 5, 0xb4];
    let forms: [(&str, &str, &[u8], Syn, Syn); 9] = [
        ("46 48", "no options", &[], ZeroBare, OpenBare),
        ("47", "an MSS", &MSS, ZeroOptions, OpenOptions),
        ("49", "NOPs alone", &[1, 1, 1, 1], ZeroPadding, OpenPadding),
        ("49", "ENDs alone", &[0, 0, 0, 0], ZeroPadding, OpenPadding),
        ("49", "NOPs and an END", &[1, 1, 0, 0], ZeroPadding, OpenPadding),
        ("49", "40 bytes of NOPs", &[1; 40], ZeroPadding, OpenPadding),
        ("49", "an END, then what looks like an option", &[0, 2, 4, 5, 0xb4, 1, 1, 1], ZeroPadding, OpenPadding),
        ("49", "NOPs, then an option", &[1, 1, 1, 1, 1, 1, 4, 2], ZeroOptions, OpenOptions),
        ("49", "39 NOPs and an option's first byte", &[[1; 39].as_slice(), &[2]].concat(), ZeroOptions, OpenOptions),
    ];
    let services = [
        ("count", WEB, BACKEND),
        ("count, IPv6", WEB_V6, BACKEND),
        ("drop", GUARDED, "10.0.0.13"),
        ("drop, IPv6", GUARDED_V6, "10.0.0.13"),
        ("off", CARELESS, "10.0.0.14"),
    ];
    let mut cases = Vec::new();
    for (rows, name, options, zero, open) in forms {
        for (policy, vip, backend) in services {
            for (window, kind) in [(0, zero), (1024, open)] {
                let packet = bare_syn(vip).tcp(|tcp| {
                    tcp.window_size = window;
                    tcp.set_options_raw(options).unwrap();
                });
                let row = row(rows, format!("SYN, window {window}, {name}; syn = {policy}"), packet);
                let case = if kind == ZeroBare && policy.starts_with("drop") {
                    row.gets_from_service(SynFlood)
                } else {
                    row.reaches(backend)
                };
                cases.push(if policy == "off" { case } else { case.syn(kind) });
            }
        }
    }
    cases
}

/// What else a service that drops the flood gets.
fn segments() -> Vec<Case> {
    let backend = "10.0.0.13";
    let zero = |packet: Packet| packet.tcp(|tcp| tcp.window_size = 0);
    let flood = || zero(bare_syn(GUARDED));
    let mut cases = vec![
        row(
            "46",
            "the flood's signature with DF and TTL 255",
            flood().ip4(|ip| {
                (ip.dont_fragment, ip.time_to_live) = (true, 255);
            }),
        )
        .gets_from_service(SynFlood)
        .syn(ZeroBare),
        row("46 52", "the flood's signature with data", flood().data(b"x")).gets_from_service(SynFlood).syn(ZeroBare),
        row("46", "the flood's signature, to no VIP", zero(bare_syn(NOBODY))).gets(NotAVip),
        row("46", "the flood's signature, to no service", zero(bare_syn("192.0.2.13:81"))).gets(NotAService),
        row("51", "SYN-ACK with window 0", zero(bare_syn(GUARDED)).tcp(|tcp| tcp.ack = true)).reaches(backend),
        row("52", "SYN with data", syn(GUARDED).data(b"GET / HTTP/1.1\r\n\r\n")).reaches(backend).syn(OpenOptions),
        row(
            "52",
            "Fast Open: a cookie and data",
            bare_syn(GUARDED)
                .tcp(|tcp| {
                    tcp.set_options_raw(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]).unwrap();
                })
                .data(b"GET / HTTP/1.1\r\n\r\n"),
        )
        .reaches(backend)
        .syn(OpenOptions),
        row("54", "ACK with window 0", zero(tcp(GUARDED))).reaches(backend),
        row("54", "RST with window 0", zero(tcp(GUARDED)).tcp(|tcp| (tcp.rst, tcp.ack) = (true, false)))
            .reaches(backend),
        row("54", "FIN with window 0", zero(tcp(GUARDED)).tcp(|tcp| tcp.fin = true)).reaches(backend),
        row("56", "bad TCP checksum", syn(GUARDED).poked(L4 + 16, &[0xde, 0xad])).reaches(backend).syn(OpenOptions),
    ];
    for (name, ece, cwr, ae) in [
        ("ECE", true, false, false),
        ("CWR", false, true, false),
        ("AE", false, false, true),
        ("ECE, CWR and AE", true, true, true),
    ] {
        let marked = |packet: Packet| packet.tcp(|tcp| (tcp.ece, tcp.cwr, tcp.ns) = (ece, cwr, ae));
        cases.push(
            row("50", format!("the flood's signature and {name}"), marked(flood()))
                .gets_from_service(SynFlood)
                .syn(ZeroBare),
        );
        cases.push(
            row("50", format!("a client's SYN and {name}"), marked(syn(GUARDED))).reaches(backend).syn(OpenOptions),
        );
        cases.push(row("50", format!("an ACK with window 0 and {name}"), marked(zero(tcp(GUARDED)))).reaches(backend));
    }
    for (name, psh, urg) in [("PSH", true, false), ("URG", false, true), ("PSH and URG", true, true)] {
        let flagged = flood().tcp(|tcp| (tcp.psh, tcp.urg) = (psh, urg));
        cases.push(
            row("46", format!("the flood's signature and {name}"), flagged).gets_from_service(SynFlood).syn(ZeroBare),
        );
    }
    cases
}

fn flags() -> Vec<Case> {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const PSH: u8 = 8;
    const ACK: u8 = 16;
    const URG: u8 = 32;
    const ECE_CWR: u8 = 0xc0;
    let with = |vip: &str, l4: usize, flags: u8| tcp(vip).poked(l4 + 13, &[flags]);
    let mut cases = Vec::new();
    for (name, flags) in [
        ("SYN and FIN", SYN | FIN),
        ("SYN and RST", SYN | RST),
        ("SYN, FIN and ACK", SYN | FIN | ACK),
        ("no flags", 0),
        ("PSH and URG alone", PSH | URG),
        ("ECE and CWR alone", ECE_CWR),
        ("all flags", 0xff),
        ("SYN, FIN, ECE and CWR", SYN | FIN | ECE_CWR),
    ] {
        cases.push(row("53", name, with(WEB, L4, flags)).gets_from_service(BadFlags));
        cases.push(row("53", format!("{name}, IPv6"), with(WEB_V6, L4_V6, flags)).gets_from_service(BadFlags));
        cases.push(row("53", format!("{name}, to no VIP"), with(NOBODY, L4, flags)).gets(NotAVip));
        cases.push(
            row("53", format!("{name}, bad_flags = pass"), with(WEB, L4, flags))
                .under(&BAD_FLAGS_PASS)
                .reaches(BACKEND),
        );
    }
    for (name, flags) in [
        ("FIN alone", FIN),
        ("RST alone", RST),
        ("ACK alone", ACK),
        ("RST and ACK", RST | ACK),
        ("FIN, PSH and URG", FIN | PSH | URG),
    ] {
        cases.push(row("53", format!("{name}, which is legal or harmless"), with(WEB, L4, flags)).reaches(BACKEND));
    }
    cases
}

fn ports() -> Vec<Case> {
    vec![
        row("55", "source port 0", tcp(WEB).from("198.51.100.7:0")).gets_from_service(Malformed),
        row("55", "source port 0, IPv6", tcp(WEB_V6).from("[2001:db8:c::7]:0")).gets_from_service(Malformed),
        row("55", "destination port 0, all ports served", tcp("192.0.2.21:0"))
            .gets_from_service(Malformed)
            .of(ALL_PORTS),
        row("55", "destination port 0, no service", tcp("192.0.2.10:0")).gets(NotAService),
        row("55", "source port 0, to no VIP", tcp(NOBODY).from("198.51.100.7:0")).gets(NotAVip),
        row("29", "a port without a service", tcp("192.0.2.10:81")).gets(NotAService),
        row("29", "a port without a service, IPv6", tcp("[2001:db8::10]:81")).gets(NotAService),
        row("29", "the port of a service over UDP", tcp("192.0.2.10:443")).gets(NotAService),
        row("29", "a port without a service, flags that no stack sends", tcp("192.0.2.10:81").poked(L4 + 13, &[0]))
            .gets(NotAService),
        row("29", "all ports: the first", tcp("192.0.2.21:1")).reaches("10.0.0.21").of(ALL_PORTS),
        row("29", "all ports: the last", tcp("192.0.2.21:65535")).reaches("10.0.0.21").of(ALL_PORTS),
        row("29", "all ports, IPv6", tcp("[2001:db8::21]:20001")).reaches("10.0.0.21").of(ALL_PORTS_V6),
        row("29", "all ports, a SYN", syn("192.0.2.21:20001")).reaches("10.0.0.21").of(ALL_PORTS).syn(OpenOptions),
        row("29", "all ports but for one that has its own service", tcp(ONE_OF_ALL)).reaches("10.0.0.23"),
        row("29", "all ports of TCP alone", crate::frames::udp("192.0.2.21:20001/udp")).gets(NotAService),
    ]
}

fn flows() -> Vec<Case> {
    let of_flow = |name: &'static str, packet: Packet| row("57", name, packet).reaches_one_of(&FOUR, "connection");
    let of_source = |name: &'static str, packet: Packet| row("57", name, packet).reaches_one_of(&FOUR, "source");
    let again = |packet: Packet| packet.ip4(|ip| (ip.identification, ip.time_to_live) = (0xbeef, 48));
    vec![
        of_flow("SYN", syn(SPREAD)).syn(OpenOptions),
        of_flow("SYN, sent again", again(syn(SPREAD))).syn(OpenOptions),
        of_flow("SYN, sent again with fewer options", again(bare_syn(SPREAD))).syn(OpenBare),
        of_flow("the same connection, with data", tcp(SPREAD).data(&[7; 100])),
        of_flow("the same connection, closing", tcp(SPREAD).tcp(|tcp| tcp.fin = true)),
        row("57", "SYN, IPv6", syn(SPREAD_V6)).reaches_one_of(&FOUR, "connection6").syn(OpenOptions),
        row("57", "the same connection, IPv6", tcp(SPREAD_V6).data(&[7; 100])).reaches_one_of(&FOUR, "connection6"),
        of_source("hash = source", tcp(SOURCE)),
        of_source("hash = source, another port of the client", tcp(SOURCE).from("198.51.100.7:40001")),
        of_source("hash = source, another VIP", tcp(SOURCE_TLS).from("198.51.100.7:40002")),
        row("57", "hash = source, IPv6", tcp(SOURCE_V6)).reaches_one_of(&FOUR, "source6"),
        row("57", "hash = source, another port of the client, IPv6", tcp(SOURCE_V6).from("[2001:db8:c::7]:40001"))
            .reaches_one_of(&FOUR, "source6"),
    ]
}
