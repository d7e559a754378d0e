//! IPv4: headers that lie, options, sources, other protocols.

use etherparse::Ipv4Options;
use lb_common::verdict::Verdict::*;

use super::{Case, row};
use crate::{
    frames::{L3, L4, cut, other, poke, tcp, udp},
    setup::{TUNNEL4, TUNNEL6, WEB, WEB_UDP},
};

const BACKEND: &str = "10.0.0.10";
/// An address that is no VIP.
const NOBODY: &str = "192.0.2.200:80";

pub fn cases() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(options());
    cases.extend(martians());
    cases.extend(classes());
    cases.extend(other_protocols());
    cases
}

fn headers() -> Vec<Case> {
    let web = || tcp(WEB).frame();
    let at = |offset: usize, bytes: &[u8]| poke(web(), L3 + offset, bytes);
    let nobody = |offset: usize, bytes: &[u8]| poke(tcp(NOBODY).frame(), L3 + offset, bytes);
    let ttl = |ttl: u8| tcp(WEB).ip4(|ip| ip.time_to_live = ttl);
    vec![
        row("11", "version 6 under IPv4's kind", at(0, &[0x65])).gets(NotIp),
        row("11", "version 0", at(0, &[0x05])).gets(NotIp),
        row("12", "header length 16", at(0, &[0x44])).gets(Malformed),
        row("12", "header length 0", at(0, &[0x40])).gets(Malformed),
        row("12", "header length 16, to no VIP", nobody(0, &[0x44])).gets(NotAVip),
        row("14", "header longer than the packet", poke(at(0, &[0x4f]), L3 + 2, &[0, 40])).gets(Malformed),
        row("14", "header longer than the frame", cut(tcp(WEB).data(&[1; 60]).poked(L3, &[0x4f]).frame(), L3 + 50))
            .gets(Malformed),
        row("14 20", "header longer than the packet, a fragment", {
            udp(WEB_UDP).data(&[2; 60]).fragment(0, 32).poked(L3, &[0x4f])
        })
        .gets(Malformed),
        row("14 29", "header longer than the packet, another protocol", other(WEB, 47, &[0; 8]).poked(L3, &[0x48]))
            .gets(Malformed),
        row("14", "header longer than the packet, to no VIP", nobody(0, &[0x4f])).gets(NotAVip),
        row("15", "total length one byte beyond the frame", at(2, &[0, 41])).gets(Malformed),
        row("15", "total length 65535", at(2, &[0xff, 0xff])).gets(Malformed),
        row("15", "total length beyond the frame, bound for a tunnel", poke(tcp(TUNNEL4).frame(), L3 + 2, &[0, 41]))
            .gets(Malformed),
        row("15", "total length beyond the frame, to no VIP", nobody(2, &[0xff, 0xff])).gets(NotAVip),
        row("16", "total length 0", at(2, &[0, 0])).gets(Malformed),
        row("16", "total length below the IP header's", at(2, &[0, 19])).gets(Malformed),
        row("16", "no room for the TCP header", at(2, &[0, 39])).gets(Malformed),
        row("16", "nothing behind the IP header", at(2, &[0, 20])).gets(Malformed),
        row("16", "no room for the UDP header", poke(udp(WEB_UDP).frame(), L3 + 2, &[0, 27])).gets(Malformed),
        row("16", "total length 0, to no VIP", nobody(2, &[0, 0])).gets(NotAVip),
        row("17", "bad header checksum", tcp(WEB).poked(L3 + 10, &[0xde, 0xad])).reaches(BACKEND),
        row("18", "DF", tcp(WEB).ip4(|ip| ip.dont_fragment = true)).reaches(BACKEND),
        row("19", "the reserved bit", tcp(WEB).poked(L3 + 6, &[0x80, 0])).reaches(BACKEND),
        row("19", "the reserved bit and DF", tcp(WEB).poked(L3 + 6, &[0xc0, 0])).reaches(BACKEND),
        row("26", "multicast destination, our MAC", udp("224.0.0.251:5353/udp")).gets(NotAVip),
        row("26", "broadcast destination, our MAC", udp("255.255.255.255:67/udp")).gets(NotAVip),
        row("27", "TTL 0", ttl(0)).gets_from_service(TtlExpired),
        row("27", "TTL 0, UDP", udp(WEB_UDP).ip4(|ip| ip.time_to_live = 0)).gets_from_service(TtlExpired),
        row("27", "TTL 0, to no VIP", tcp(NOBODY).ip4(|ip| ip.time_to_live = 0)).gets(NotAVip),
        row("27", "TTL 1 stays", ttl(1)).reaches(BACKEND),
        row("27", "TTL 1 stays in a tunnel", tcp(TUNNEL4).ip4(|ip| ip.time_to_live = 1)).reaches_by_tunnel("10.0.0.40"),
    ]
}

fn options() -> Vec<Case> {
    let with = |vip: &str, words: usize| {
        let mut options = vec![1; 4 * words];
        // A record route that fills the rest.
        (options[0], options[1], options[2]) = (7, 4 * words as u8 - 1, 4);
        tcp(vip).ip4(|ip| ip.options = Ipv4Options::try_from(&options[..]).unwrap())
    };
    let mut cases = vec![
        row("13", "options, into a tunnel", with(TUNNEL4, 5)).reaches_by_tunnel("10.0.0.40"),
        row("13", "options, into an IPv6 tunnel", with(TUNNEL6, 5)).reaches_by_tunnel("2001:db8:1::60"),
        row("13 44", "options that hide a data offset of 4", with(WEB, 2).poked(L4 + 8 + 12, &[0x40]))
            .gets_from_service(Malformed),
        row(
            "13 29",
            "options, another protocol",
            other(WEB, 132, &[0; 16]).ip4(|ip| {
                ip.options = [1, 1, 1, 1].into();
            }),
        )
        .gets(OtherProtocol),
    ];
    for words in 1..=10 {
        cases.push(row("13", format!("{} bytes of options", 4 * words), with(WEB, words)).reaches(BACKEND));
    }
    cases
}

fn martians() -> Vec<Case> {
    let mut cases = Vec::new();
    for source in [
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        "0.0.0.0",
        "0.1.2.3",
        "192.0.2.10",
    ] {
        cases.push(row("25", format!("from {source}"), tcp(WEB).source(source)).gets_from_service(Martian));
        cases.push(row("25", format!("from {source}, UDP"), udp(WEB_UDP).source(source)).gets_from_service(Martian));
        let nobody = tcp(NOBODY).source(if source == "192.0.2.10" { "192.0.2.200" } else { source });
        cases.push(row("25", format!("from {source}, to no VIP"), nobody).gets(NotAVip));
    }
    for source in ["1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255", "10.0.0.10", "192.0.2.11"] {
        cases.push(row("25", format!("from {source}, which is none"), tcp(WEB).source(source)).reaches(BACKEND));
    }
    cases.push(row("25", "from a martian, to no service", tcp("192.0.2.10:81").source("127.0.0.1")).gets(NotAService));
    cases
}

fn classes() -> Vec<Case> {
    let mut cases = Vec::new();
    for class in [0xb8u8, 0x01, 0x02, 0x2b, 0xff] {
        for (vip, backend) in [(TUNNEL4, "10.0.0.40"), (TUNNEL6, "2001:db8:1::60")] {
            let packet = tcp(vip).ip4(|ip| {
                (ip.dscp, ip.ecn) = ((class >> 2).try_into().unwrap(), (class & 3).try_into().unwrap());
            });
            let name = format!("DSCP {} and ECN {} by {backend}", class >> 2, class & 3);
            cases.push(row("28", name, packet).reaches_by_tunnel(backend));
        }
    }
    cases
}

fn other_protocols() -> Vec<Case> {
    let mut cases = Vec::new();
    for (protocol, name) in
        [(2, "IGMP"), (47, "GRE"), (50, "ESP"), (51, "AH"), (89, "OSPF"), (112, "VRRP"), (132, "SCTP")]
    {
        cases.push(row("29", name, other(WEB, protocol, &[0x11; 24])).gets(OtherProtocol));
        cases.push(row("29", format!("{name}, to no VIP"), other(NOBODY, protocol, &[0x11; 24])).gets(NotAVip));
    }
    cases.push(row("29", "another protocol without payload", other(WEB, 47, &[])).gets(OtherProtocol));
    cases
}
