//! The MSS option of SYNs to services that bound it.

use etherparse::TcpHeader;
use lb_common::{
    filter::Syn::{self, *},
    verdict::Verdict::*,
};

use super::{Case, row};
use crate::{
    frames::{Packet, SERVICE_VLAN, VLAN, bare_syn, options, tcp},
    setup::{
        CLAMP, CLAMPED, CLAMPED_BESIDE, CLAMPED_LOCAL, CLAMPED_TUNNEL4, CLAMPED_TUNNEL4_V6, CLAMPED_TUNNEL6,
        CLAMPED_V6, WEB,
    },
};

const BACKEND: &str = "10.0.0.80";
const FOUR: &str = "10.0.0.81";
const SIX: &str = "2001:db8:1::82";

pub fn cases() -> Vec<Case> {
    let mut cases = values();
    cases.extend(places());
    cases.extend(odd_options());
    cases.extend(packets());
    cases.extend(ways());
    cases
}

/// A SYN with these options.
fn with(vip: &str, options: &[u8]) -> Packet {
    bare_syn(vip).tcp(|tcp| tcp.set_options_raw(options).unwrap())
}

/// A SYN that offers this, as clients send it.
fn offering(vip: &str, mss: u16) -> Packet {
    let [high, low] = mss.to_be_bytes();
    with(vip, &[2, 4, high, low, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7])
}

fn values() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, vip) in [("", CLAMPED), (", IPv6", CLAMPED_V6)] {
        for mss in [0, 536, 1220, 1359, 1360] {
            let row = row("68b", format!("an MSS of {mss} stays{name}"), offering(vip, mss));
            cases.push(row.reaches(BACKEND).syn(OpenOptions));
        }
        for mss in [1361, 1440, 1460, 8960, 65_535] {
            let row = row("68b", format!("an MSS of {mss}{name}"), offering(vip, mss));
            cases.push(row.reaches(BACKEND).syn(OpenOptions).lowered(&offering(vip, CLAMP)));
        }
    }
    cases.push(
        row("68b", "an MSS of 1460, a service without a bound", offering(WEB, 1460))
            .reaches("10.0.0.10")
            .syn(OpenOptions),
    );
    cases
}

/// Wherever the option lies.
fn places() -> Vec<Case> {
    let lowered = |name: &str, before: &[u8], after: &[u8]| {
        let syn = |vip, mss: u16| with(vip, &[before, &[2, 4], &mss.to_be_bytes(), after].concat());
        [CLAMPED, CLAMPED_V6].map(|vip| {
            row("68b", format!("the MSS {name}, {vip}"), syn(vip, 1460))
                .reaches(BACKEND)
                .syn(OpenOptions)
                .lowered(&syn(vip, CLAMP))
        })
    };
    let timestamps = [8, 10, 2, 4, 5, 0xb4, 2, 4, 5, 0xb4];
    [
        lowered("alone", &[], &[]),
        lowered("behind one NOP", &[1], &[1, 1, 1]),
        lowered("behind two NOPs", &[1, 1], &[1, 1]),
        lowered("behind three NOPs", &[1, 1, 1], &[1]),
        lowered("behind a window scale", &[3, 3, 7], &[1]),
        lowered("behind an option that looks like one inside", &timestamps, &[1, 1]),
        lowered("behind a Fast Open cookie of odd length", &[34, 9, 1, 2, 3, 4, 5, 6, 7], &[0, 0, 0]),
        lowered("behind 36 NOPs, at the end", &[1; 36], &[]),
        lowered("behind 35 NOPs", &[1; 35], &[0]),
        lowered("behind an option of its kind that is too short", &[2, 3, 9], &[1]),
        lowered("behind an option of its kind that is too long", &[2, 6, 9, 9, 9, 9], &[1, 1]),
        lowered("before another, which stays", &[], &[2, 4, 5, 0xb4]),
        lowered("before an option that ends nowhere", &[], &[3, 40, 7, 1]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Nothing to lower, or nothing that could be found.
fn odd_options() -> Vec<Case> {
    let kept: [(&str, &[u8], Syn); 12] = [
        ("no options: none is added", &[], OpenBare),
        ("padding", &[1, 1, 1, 0], OpenPadding),
        ("options without one", &[4, 2, 1, 3, 3, 7, 1, 1], OpenOptions),
        ("behind an END", &[0, 2, 4, 5, 0xb4, 1, 1, 1], OpenPadding),
        ("behind an option of length 0", &[3, 0, 2, 4, 5, 0xb4, 1, 1], OpenOptions),
        ("behind an option of length 1", &[3, 1, 2, 4, 5, 0xb4, 1, 1], OpenOptions),
        ("behind an option that ends beyond the header", &[3, 9, 2, 4, 5, 0xb4, 1, 1], OpenOptions),
        ("behind an option of length 255", &[3, 255, 2, 4, 5, 0xb4, 1, 1], OpenOptions),
        ("its last byte beyond the header", &[1, 2, 4, 5], OpenOptions),
        ("its length beyond the header", &[1, 1, 1, 2], OpenOptions),
        ("a length of 3", &[2, 3, 5, 0xb4], OpenOptions),
        ("a small one, then a large one", &[2, 4, 2, 0x18, 2, 4, 5, 0xb4], OpenOptions),
    ];
    let case = |(name, options, syn): (&str, &[u8], Syn)| {
        // What lies behind the header must not be taken for a part of it.
        let packet = with(CLAMPED, options).data(&[0xb4, 4, 5, 0xb4, 2, 4, 5, 0xb4]);
        row("68b", name.to_owned(), packet).reaches(BACKEND).syn(syn)
    };
    kept.into_iter().map(case).collect()
}

/// Which packets count as SYNs.
fn packets() -> Vec<Case> {
    type Change = fn(&mut TcpHeader);
    let change = |change: Change, mss| offering(CLAMPED, mss).tcp(change);
    let mut cases = Vec::new();
    let changes: [(&str, Change, Syn); 5] = [
        ("ECE and CWR", |tcp| (tcp.ece, tcp.cwr) = (true, true), OpenOptions),
        ("AE", |tcp| tcp.ns = true, OpenOptions),
        ("PSH and URG", |tcp| (tcp.psh, tcp.urg) = (true, true), OpenOptions),
        ("window 0", |tcp| tcp.window_size = 0, ZeroOptions),
        ("an acknowledgement number", |tcp| tcp.acknowledgment_number = 7, OpenOptions),
    ];
    for (name, with, syn) in changes {
        let row = row("68b 50", format!("a SYN with {name}"), change(with, 1460));
        cases.push(row.reaches(BACKEND).syn(syn).lowered(&change(with, CLAMP)));
    }
    for (name, with) in [
        ("a SYN-ACK", (|tcp| tcp.ack = true) as Change),
        ("an ACK", |tcp| (tcp.syn, tcp.ack) = (false, true)),
        ("an RST", |tcp| (tcp.syn, tcp.rst) = (false, true)),
    ] {
        cases.push(row("68b", format!("{name} keeps what it offers"), change(with, 1460)).reaches(BACKEND));
    }
    let data = |mss| offering(CLAMPED, mss).data(b"GET / HTTP/1.1\r\n\r\n");
    let ip_options = |mss| offering(CLAMPED, mss).ip4(|ip| ip.options = [1; 8].into());
    let extensions = |mss| offering(CLAMPED_V6, mss).extensions(&[options(0, 1), options(60, 2)]);
    let fragment = |mss| offering(CLAMPED, mss).data(&[0x61; 160]).id(0xd00).fragment(0, 96);
    for (rows, name, packet, lowered) in [
        ("68b 52", "with data", data(1460), data(CLAMP)),
        ("68b 10", "padded", offering(CLAMPED, 1460).padded(80), offering(CLAMPED, CLAMP).padded(80)),
        ("68b 13", "with IPv4 options", ip_options(1460), ip_options(CLAMP)),
        ("68b 32", "behind extension headers", extensions(1460), extensions(CLAMP)),
        ("68b 5", "tagged", offering(CLAMPED, 1460).tags(&[VLAN]), offering(CLAMPED, CLAMP).tags(&[VLAN])),
        (
            "68b 7",
            "under two tags, IPv6",
            { offering(CLAMPED_V6, 1460).tags(&[SERVICE_VLAN, VLAN]) },
            offering(CLAMPED_V6, CLAMP).tags(&[SERVICE_VLAN, VLAN]),
        ),
    ] {
        cases.push(row(rows, format!("a SYN {name}"), packet).reaches(BACKEND).syn(OpenOptions).lowered(&lowered));
    }
    // Its checksum covers more than the fragment, so the whole one's is what tells.
    let whole = |mss| offering(CLAMPED, mss).data(&[0x61; 160]).id(0xd00);
    cases.push(
        row("68b 22", "the first fragment of a SYN", fragment(1460))
            .reaches(BACKEND)
            .syn(OpenOptions)
            .lowered(&whole(CLAMP).fragment(0, 96)),
    );
    cases.push(
        row("68b 22", "the last fragment of a SYN, in which an option seems to be", {
            whole(1460).data(&[2, 4, 5, 0xb4].repeat(40)).fragment(96, 200)
        })
        .after(&[&fragment(1460)])
        .reaches(BACKEND),
    );
    cases.push(
        row("68b", "a segment with data that look like one", tcp(CLAMPED).data(&[2, 4, 5, 0xb4].repeat(9)))
            .reaches(BACKEND),
    );
    cases
}

/// Whatever way the SYN goes; and what goes nowhere stays as it came.
fn ways() -> Vec<Case> {
    let mut cases = Vec::new();
    for (vip, backend) in [(CLAMPED_TUNNEL4, FOUR), (CLAMPED_TUNNEL4_V6, FOUR), (CLAMPED_TUNNEL6, SIX)] {
        for (name, tags) in [("", &[][..]), (", two tags", &[SERVICE_VLAN, VLAN])] {
            let syn = |mss| offering(vip, mss).tags(tags);
            cases.push(
                row("68b 70", format!("into a tunnel, {vip}{name}"), syn(1460))
                    .reaches_by_tunnel(backend)
                    .syn(OpenOptions)
                    .lowered(&syn(CLAMP)),
            );
        }
    }
    cases.extend([
        row("68b 75", "by the other interface", offering(CLAMPED_BESIDE, 1460))
            .reaches("10.0.1.84")
            .redirected()
            .syn(OpenOptions)
            .lowered(&offering(CLAMPED_BESIDE, CLAMP)),
        row("68b 74", "the backend is this host: nothing is changed", offering(CLAMPED_LOCAL, 1460))
            .gets_from_service(LocalBackend)
            .chose(&["10.0.0.71"])
            .syn(OpenOptions),
        row("68b 69", "no room for the tunnel: nothing is changed", offering(CLAMPED_TUNNEL4, 1460))
            .headroom(0)
            .gets_from_service(NoHeadroom)
            .chose(&[FOUR])
            .syn(OpenOptions),
        row("68b 68a", "the options in the second buffer, where drivers put none", offering(CLAMPED, 1460))
            .first_buffer(54)
            .reaches(BACKEND)
            .syn(OpenOptions),
    ]);
    cases
}
