//! IPv6: headers that lie, extension headers, sources, other protocols.

use etherparse::Ipv6FlowLabel;
use lb_common::verdict::Verdict::*;

use super::{Case, row};
use crate::{
    frames::{L3, L4_V6, Packet, atomic, authentication, cut, options, other, poke, routing, tcp, udp},
    setup::{DNS_V6, JUMBO_V6, TUNNEL4_V6, TUNNEL6_V6, WEB_UDP_V6, WEB_V6},
};

const BACKEND: &str = "10.0.0.10";
const FOUR: [&str; 4] = ["10.0.0.50", "10.0.0.51", "10.0.0.52", "10.0.0.53"];
/// An address that is no VIP.
const NOBODY: &str = "[2001:db8::c8]:80";

const HOP_BY_HOP: u8 = 0;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

pub fn cases() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(extensions());
    cases.extend(martians());
    cases.extend(classes());
    cases.extend(other_protocols());
    cases
}

fn headers() -> Vec<Case> {
    let at = |offset: usize, bytes: &[u8]| poke(tcp(WEB_V6).frame(), L3 + offset, bytes);
    let nobody = |offset: usize, bytes: &[u8]| poke(tcp(NOBODY).frame(), L3 + offset, bytes);
    vec![
        row("30", "version 4 under IPv6's kind", at(0, &[0x40])).gets(NotIp),
        row("30", "version 0", at(0, &[0x00])).gets(NotIp),
        row("31", "payload length 0", at(4, &[0, 0])).gets(Malformed),
        row("31", "payload length 0, to no VIP", nobody(4, &[0, 0])).gets(NotAVip),
        row("31", "jumbogram", {
            let jumbo = options(HOP_BY_HOP, 1).1;
            let jumbo = poke(jumbo, 2, &[0xc2, 4, 0, 0, 0, 28]);
            poke(tcp(WEB_V6).extensions(&[(HOP_BY_HOP, jumbo)]).frame(), L3 + 4, &[0, 0])
        })
        .gets(Malformed),
        row("31", "payload one byte beyond the frame", at(4, &[0, 21])).gets(Malformed),
        row("31", "payload of 65535 bytes", at(4, &[0xff, 0xff])).gets(Malformed),
        row("31", "payload beyond the frame, bound for a tunnel", poke(tcp(TUNNEL6_V6).frame(), L3 + 4, &[0, 21]))
            .gets(Malformed),
        row("31", "payload beyond the frame, to no VIP", nobody(4, &[0, 21])).gets(NotAVip),
        row("27", "hop limit 0", tcp(WEB_V6).ip6(|ip| ip.hop_limit = 0)).gets_from_service(TtlExpired),
        row("27", "hop limit 1 stays", tcp(WEB_V6).ip6(|ip| ip.hop_limit = 1)).reaches(BACKEND),
        row("27", "hop limit 1 stays in a tunnel", tcp(TUNNEL6_V6).ip6(|ip| ip.hop_limit = 1))
            .reaches_by_tunnel("2001:db8:1::60"),
        row("43", "no room for the TCP header", at(4, &[0, 19])).gets(Malformed),
        row("58", "no room for the UDP header", poke(udp(WEB_UDP_V6).frame(), L3 + 4, &[0, 7])).gets(Malformed),
    ]
}

fn extensions() -> Vec<Case> {
    let walked = |rows, name: &'static str, headers: &[(u8, Vec<u8>)]| {
        let name = |protocol| format!("{name}, {protocol}");
        [
            row(rows, name("TCP"), tcp(WEB_V6).extensions(headers)).reaches(BACKEND),
            row(rows, name("UDP"), udp(WEB_UDP_V6).extensions(headers)).reaches(BACKEND),
            row(rows, name("TCP into a tunnel"), tcp(TUNNEL4_V6).extensions(headers)).reaches_by_tunnel("10.0.0.40"),
        ]
    };
    let several = |n: usize| vec![options(DESTINATION, 1); n];
    let mixed = [options(HOP_BY_HOP, 1), options(DESTINATION, 2), routing(2), authentication(), options(MOBILITY, 1)];
    let longest = [options(DESTINATION, 250), options(DESTINATION, 1)];
    let too_long = [options(DESTINATION, 250), options(DESTINATION, 2)];
    let old_routing = || tcp(WEB_V6).extensions(&[routing(0)]);
    let with_options = || tcp(WEB_V6).extensions(&[options(HOP_BY_HOP, 2)]);
    let mut cases = Vec::new();
    cases.extend(walked("32", "hop-by-hop options", &[options(HOP_BY_HOP, 1)]));
    cases.extend(walked("32", "destination options of 24 bytes", &[options(DESTINATION, 3)]));
    cases.extend(walked("32", "a routing header of type 2", &[routing(2)]));
    cases.extend(walked("32", "a segment routing header", &[routing(4)]));
    cases.extend(walked("32", "a mobility header", &[options(MOBILITY, 2)]));
    cases.extend(walked("37", "an authentication header", &[authentication()]));
    cases.extend(walked("32 37", "a header of each kind", &mixed));
    cases.extend(walked("33", "as many headers as are walked", &several(8)));
    cases.extend(walked("34", "an atomic fragment", &[atomic()]));
    cases.extend(walked(
        "34",
        "an atomic fragment behind options",
        &[options(HOP_BY_HOP, 1), atomic(), options(DESTINATION, 1)],
    ));
    cases.extend([
        row("33", "as many bytes as are walked", tcp(JUMBO_V6).extensions(&longest)).reaches("10.0.0.90"),
        row("33", "8 bytes more than are walked", tcp(JUMBO_V6).extensions(&too_long)).gets(Malformed),
        row("33", "one header more than are walked", tcp(WEB_V6).extensions(&several(9))).gets(Malformed),
        row("33 35", "one header more than are walked, that of a later fragment", {
            udp(DNS_V6).data(&[0x33; 192]).extensions(&several(8)).fragment(96, 200)
        })
        .gets(Malformed),
        row("33 35", "as many headers as are walked, the last that of a later fragment", {
            udp(DNS_V6).data(&[0x33; 192]).extensions(&several(7)).fragment(96, 200)
        })
        .reaches_one_of(&FOUR, "dns6"),
        row("33", "20 headers", tcp(WEB_V6).extensions(&several(20))).gets(Malformed),
        row("33", "20 headers, to no VIP", tcp(NOBODY).extensions(&several(20))).gets(NotAVip),
        row("33", "an extension header longer than the packet", poke(with_options().frame(), L4_V6 + 1, &[5]))
            .gets(Malformed),
        row("33 37", "an extension header longer than the packet, ESP behind it", {
            other(WEB_V6, 50, &[0x11; 8]).extensions(&[options(HOP_BY_HOP, 2)]).padded(120).poked(L4_V6 + 1, &[3])
        })
        .gets(Malformed),
        row("33", "the packet ends within an extension header", poke(with_options().frame(), L3 + 4, &[0, 9]))
            .gets(Malformed),
        row("33", "the frame ends within an extension header", cut(with_options().frame(), L4_V6 + 8)).gets(Malformed),
        row("33 43", "the packet ends behind the extension headers", poke(with_options().frame(), L3 + 4, &[0, 16]))
            .gets(Malformed),
        row("33", "an extension header longer than the packet, to no VIP", {
            poke(tcp(NOBODY).extensions(&[options(HOP_BY_HOP, 2)]).frame(), L4_V6 + 1, &[5])
        })
        .gets(NotAVip),
        row("37", "an authentication header longer than the packet", {
            poke(tcp(WEB_V6).extensions(&[authentication()]).frame(), L4_V6 + 1, &[40])
        })
        .gets(Malformed),
        row("38", "routing header of type 0", old_routing()).gets(Malformed),
        row("38", "routing header of type 0 behind options", {
            tcp(WEB_V6).extensions(&[options(HOP_BY_HOP, 1), options(DESTINATION, 1), routing(0)])
        })
        .gets(Malformed),
        row("38", "routing header of type 0, to no VIP", tcp(NOBODY).extensions(&[routing(0)])).gets(NotAVip),
        row("32 46", "the flood's signature behind extension headers", {
            let bare = crate::frames::bare_syn(crate::setup::GUARDED_V6).tcp(|tcp| tcp.window_size = 0);
            bare.extensions(&[options(HOP_BY_HOP, 1), options(DESTINATION, 2)])
        })
        .gets_from_service(SynFlood)
        .syn(lb_common::filter::Syn::ZeroBare),
    ]);
    cases
}

fn martians() -> Vec<Case> {
    let mut cases = Vec::new();
    for source in ["::1", "::", "::ffff:192.0.2.1", "ff02::1", "ff0e::1", "2001:db8::10"] {
        cases.push(row("41", format!("from {source}"), tcp(WEB_V6).source(source)).gets_from_service(Martian));
        cases.push(row("41", format!("from {source}, UDP"), udp(WEB_UDP_V6).source(source)).gets_from_service(Martian));
        let nobody = tcp(NOBODY).source(if source == "2001:db8::10" { "2001:db8::c8" } else { source });
        cases.push(row("41", format!("from {source}, to no VIP"), nobody).gets(NotAVip));
    }
    for source in ["::2", "::192.0.2.1", "64:ff9b::192.0.2.1", "fe80::1", "fd00::1", "2001:db8::11"] {
        cases.push(row("41", format!("from {source}, which is none"), tcp(WEB_V6).source(source)).reaches(BACKEND));
    }
    cases
}

fn classes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (class, label) in [(0, 0), (0xb8, 0), (0xff, 0xf_ffff), (0x03, 0x1_2345), (0x00, 0x0_0001), (0x28, 0x8_0000)] {
        for (vip, backend) in [(TUNNEL4_V6, "10.0.0.40"), (TUNNEL6_V6, "2001:db8:1::60")] {
            let packet = tcp(vip).ip6(|ip| {
                (ip.traffic_class, ip.flow_label) = (class, Ipv6FlowLabel::try_new(label).unwrap());
            });
            let name = format!("class {class:#04x} and flow label {label:#07x} by {backend}");
            cases.push(row("42", name, packet).reaches_by_tunnel(backend));
        }
        let packet = tcp(WEB_V6).ip6(|ip| {
            (ip.traffic_class, ip.flow_label) = (class, Ipv6FlowLabel::try_new(label).unwrap());
        });
        cases.push(row("42", format!("class {class:#04x} and flow label {label:#07x} stay"), packet).reaches(BACKEND));
    }
    cases
}

fn other_protocols() -> Vec<Case> {
    let with_options = |packet: Packet| packet.extensions(&[options(HOP_BY_HOP, 1)]);
    vec![
        row("37", "ESP", other(WEB_V6, 50, &[0x11; 24])).gets(OtherProtocol),
        row("37", "no next header", other(WEB_V6, 59, &[0x11; 8])).gets(OtherProtocol),
        row("37", "no next header behind options", with_options(other(WEB_V6, 59, &[]))).gets(OtherProtocol),
        row("37", "ESP behind options", with_options(other(WEB_V6, 50, &[0x11; 24]))).gets(OtherProtocol),
        row("29", "SCTP over IPv6", other(WEB_V6, 132, &[0x11; 24])).gets(OtherProtocol),
        row("29", "SCTP over IPv6, to no VIP", other(NOBODY, 132, &[0x11; 24])).gets(NotAVip),
        row("29", "an unknown protocol behind options", with_options(other(WEB_V6, 200, &[0x11; 24])))
            .gets(OtherProtocol),
    ]
}
