//! The SYN filter: signatures, each of their conditions, and sources that are never dropped. What depends on time has tests of its own.

use lb_common::{filter::Syn::*, verdict::Verdict::*};

use super::{Case, row};
use crate::{
    frames::{Packet, bare_syn, syn, tcp},
    setup::{ALLOWING, GUARDED, LOCAL, PICKY, PICKY_V6, UNRESOLVED},
};

const BACKEND: &str = "10.0.0.15";

pub fn cases() -> Vec<Case> {
    let mut cases = small_window();
    cases.extend(long_and_low());
    cases.extend(allowed());
    cases
}

fn windowed(packet: Packet, window: u16) -> Packet {
    packet.tcp(|tcp| tcp.window_size = window)
}

fn small_window() -> Vec<Case> {
    let small = |vip: &str| windowed(bare_syn(vip), 512);
    let ttl = |packet: Packet, ttl| packet.ip4(|ip| ip.time_to_live = ttl);
    let hops = |packet: Packet, limit| packet.ip6(|ip| ip.hop_limit = limit);
    let padded = |packet: Packet| packet.tcp(|tcp| tcp.set_options_raw(&[1, 1, 1, 0]).unwrap());
    let real = |packet: Packet| packet.tcp(|tcp| tcp.set_options_raw(&[2, 4, 5, 0xb4]).unwrap());
    let mut cases = vec![
        row("46", "the built-in signature beside others", windowed(bare_syn(PICKY), 0))
            .gets_from_service(SynFlood)
            .syn(ZeroBare),
        row("48", "a signature: window within", small(PICKY)).gets_from_service(SynFlood).syn(OpenBare),
        row("48", "a signature: window within, IPv6", small(PICKY_V6)).gets_from_service(SynFlood).syn(OpenBare),
        row("48", "a signature that the service does not name", small(GUARDED)).reaches("10.0.0.13").syn(OpenBare),
        row("49", "a signature: only padding", padded(small(PICKY))).gets_from_service(SynFlood).syn(OpenPadding),
        row("49", "a signature: real options", real(small(PICKY))).reaches(BACKEND).syn(OpenOptions),
        row("48", "a signature: TTL within", ttl(small(PICKY), 200)).gets_from_service(SynFlood).syn(OpenBare),
        row("48", "a signature: TTL above", ttl(small(PICKY), 201)).reaches(BACKEND).syn(OpenBare),
        row("48", "a signature: hop limit above, IPv6", hops(small(PICKY_V6), 255)).reaches(BACKEND).syn(OpenBare),
        row("54", "a signature, but no SYN", windowed(tcp(PICKY), 512)).reaches(BACKEND),
        row("51", "a signature, but a SYN-ACK", small(PICKY).tcp(|tcp| tcp.ack = true)).reaches(BACKEND),
    ];
    for (window, drops) in [(1, true), (1023, true), (1024, false), (u16::MAX, false)] {
        let row = row("48", format!("a signature: window {window}"), windowed(bare_syn(PICKY), window));
        let case = if drops { row.gets_from_service(SynFlood) } else { row.reaches(BACKEND) };
        cases.push(case.syn(OpenBare));
    }
    cases
}

fn long_and_low() -> Vec<Case> {
    let low = |packet: Packet| packet.from("198.51.100.7:1023");
    let low6 = |packet: Packet| packet.from("[2001:db8:c::7]:1023");
    let data = |bytes: usize| vec![7; bytes];
    vec![
        row("52", "a signature: all of five conditions", low(syn(PICKY)).data(&data(20)))
            .gets_from_service(SynFlood)
            .syn(OpenOptions),
        row("52", "a signature: all of five conditions, IPv6", low6(syn(PICKY_V6)).data(&data(20)))
            .gets_from_service(SynFlood)
            .syn(OpenOptions),
        row("52", "a signature: no payload", low(syn(PICKY)).tcp(|tcp| tcp.set_options_raw(&[1; 40]).unwrap()))
            .reaches(BACKEND)
            .syn(OpenPadding),
        row("52", "a signature: the least payload", low(syn(PICKY)).data(&data(1)))
            .gets_from_service(SynFlood)
            .syn(OpenOptions),
        row("52", "a signature: the least length", low(bare_syn(PICKY)).data(&data(20)))
            .gets_from_service(SynFlood)
            .syn(OpenBare),
        row("52", "a signature: too short", low(bare_syn(PICKY)).data(&data(19))).reaches(BACKEND).syn(OpenBare),
        row("52", "a signature: source port above", syn(PICKY).from("198.51.100.7:1024").data(&data(20)))
            .reaches(BACKEND)
            .syn(OpenOptions),
        row("52", "a signature: another port of the VIP", low(syn("192.0.2.15:8080")).data(&data(20)))
            .reaches(BACKEND)
            .syn(OpenOptions),
    ]
}

fn allowed() -> Vec<Case> {
    let flood = |vip: &str, source: &str| windowed(bare_syn(vip), 0).source(source);
    vec![
        row("46", "a source that is never dropped", flood(PICKY, "198.51.100.64"))
            .under(&ALLOWING)
            .reaches(BACKEND)
            .syn(ZeroBare)
            .allowed(),
        row(
            "46 73",
            "a source that is never dropped, the backend's next hop is not known",
            flood(UNRESOLVED, "198.51.100.64"),
        )
        .under(&ALLOWING)
        .gets_from_service(NoNeighbour)
        .chose(&["10.0.0.72"])
        .syn(ZeroBare)
        .allowed(),
        row("46 74", "a source that is never dropped, the backend is this host", flood(LOCAL, "198.51.100.64"))
            .under(&ALLOWING)
            .gets_from_service(LocalBackend)
            .chose(&["10.0.0.71"])
            .syn(ZeroBare)
            .allowed(),
        row("46", "the last of them", flood(PICKY, "198.51.100.127"))
            .under(&ALLOWING)
            .reaches(BACKEND)
            .syn(ZeroBare)
            .allowed(),
        row("46", "the one before them", flood(PICKY, "198.51.100.63"))
            .under(&ALLOWING)
            .gets_from_service(SynFlood)
            .syn(ZeroBare),
        row("46", "the one behind them", flood(PICKY, "198.51.100.128"))
            .under(&ALLOWING)
            .gets_from_service(SynFlood)
            .syn(ZeroBare),
        row("46", "a source that is never dropped, IPv6", flood(PICKY_V6, "2001:db8:a110::1"))
            .under(&ALLOWING)
            .reaches(BACKEND)
            .syn(ZeroBare)
            .allowed(),
        row("46", "another source, IPv6", flood(PICKY_V6, "2001:db8:a111::1"))
            .under(&ALLOWING)
            .gets_from_service(SynFlood)
            .syn(ZeroBare),
        row("48", "a source that is never dropped, nothing against it", syn(PICKY).source("198.51.100.64"))
            .under(&ALLOWING)
            .reaches(BACKEND)
            .syn(OpenOptions),
    ]
}
