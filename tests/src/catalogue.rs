//! The list of conformance by its numbers, and the document that shows which cases stand for each row.

use std::{collections::BTreeSet, fmt::Write};

use lb_common::verdict::Action;

use crate::{
    cases::{Case, Output, all},
    setup::STANDARD,
};

/// Rows of the list: number and subject.
pub const ROWS: &[(&str, &str)] = &[
    ("1", "Frame that ends before the destination is known"),
    ("2", "ARP for a VIP"),
    ("3", "Other ARP, other kinds of frames"),
    ("4", "Destination MAC not ours, or a group's"),
    ("5", "802.1Q tag"),
    ("6", "Priority tag"),
    ("7", "Several tags"),
    ("8", "Truncated tag"),
    ("10", "Padding"),
    ("11", "IP version not 4"),
    ("12", "IPv4 header length below 20"),
    ("13", "IPv4 options"),
    ("14", "IPv4 header longer than the packet"),
    ("15", "IPv4 packet longer than the frame"),
    ("16", "IPv4 packet shorter than its headers"),
    ("17", "Bad IPv4 header checksum"),
    ("18", "DF"),
    ("19", "IPv4's reserved bit"),
    ("20", "First fragment, UDP"),
    ("21", "Later fragment, UDP"),
    ("22", "Fragment, TCP"),
    ("23", "TCP fragment at offset 1"),
    ("24", "Fragment to no VIP"),
    ("25", "IPv4 source that nothing can be answered to"),
    ("26", "Multicast or broadcast destination"),
    ("27", "TTL or hop limit"),
    ("28", "DSCP and ECN"),
    ("29", "Other protocols and ports of a VIP"),
    ("30", "IP version not 6"),
    ("31", "IPv6 payload length 0 or beyond the frame"),
    ("32", "IPv6 extension headers"),
    ("33", "Chain of extension headers too long or truncated"),
    ("34", "Atomic fragment"),
    ("35", "IPv6 fragments"),
    ("36", "First fragment without the whole chain of headers"),
    ("37", "Authentication header, ESP, no next header"),
    ("38", "Routing header of type 0"),
    ("39", "Neighbour solicitation for a VIP"),
    ("40", "Other neighbour and listener discovery"),
    ("41", "IPv6 source that nothing can be answered to"),
    ("42", "Traffic class and flow label"),
    ("43", "TCP header cut short"),
    ("44", "TCP data offset below 20"),
    ("45", "TCP data offset beyond the segment"),
    ("46", "SYN, window 0, no options"),
    ("47", "SYN, window 0, options"),
    ("48", "SYN, open window, no options"),
    ("49", "SYN with nothing but padding for options"),
    ("50", "SYN with ECN's flags"),
    ("51", "SYN-ACK with window 0"),
    ("52", "SYN with data"),
    ("53", "TCP flags that no stack sends"),
    ("54", "ACK or RST with window 0"),
    ("55", "Port 0"),
    ("56", "Bad TCP checksum"),
    ("57", "Packets of one flow, one backend"),
    ("58", "UDP length"),
    ("59", "UDP checksum 0"),
    ("60", "Echo request to a VIP"),
    ("61", "Fragmentation needed, packet too big"),
    ("62", "Other ICMP errors"),
    ("63", "ICMP error whose quotation is odd"),
    ("64", "ICMP error about our own tunnel's packet"),
    ("65", "Packet too big below the least MTU"),
    ("66", "Too long for the way, DF or IPv6"),
    ("67", "Too long for the way, DF clear"),
    ("68a", "Frame in several buffers"),
    ("68b", "MSS of a SYN lowered"),
    ("69", "No room in front of the frame"),
    ("70", "Outer headers"),
    ("71", "Tunnel addressed to a VIP"),
    ("72", "Service without a live backend"),
    ("73", "Next hop not known"),
    ("74", "Backend is this host"),
    ("75", "Next hop on another interface"),
];

/// Rows about an interface, not a packet: what a start refuses, and where that is tested.
pub const OF_INTERFACES: &[(&str, &str, &str)] = &[
    (
        "9",
        "VLAN tags stripped in hardware under a VLAN interface that a backend is on: `weir run` refuses",
        "lb-userspace/src/offloads/tests.rs, tests/tests/netns/offloads.rs",
    ),
    (
        "68",
        "LRO on the interface: `weir run` refuses, `--force` goes on and `weir status` warns",
        "lb-userspace/src/offloads/tests.rs, tests/tests/netns/offloads.rs",
    ),
];

/// The cases of one row.
pub fn of_row<'a>(cases: &'a [Case], number: &str) -> impl Iterator<Item = &'a Case> {
    cases.iter().filter(move |case| case.rows.split(' ').any(|row| row == number))
}

/// The document: every row with its cases, in the order of the list. A case of several rows stands under its first.
pub fn document() -> String {
    let cases = all();
    let mut text = String::from(HEAD);
    for (number, subject) in ROWS {
        let _ = write!(text, "\n## {number}. {subject}\n\n");
        let (here, elsewhere): (Vec<_>, Vec<_>) = of_row(&cases, number).partition(|case| first_row(case) == *number);
        if !here.is_empty() {
            text += "| packet | verdict | leaves | runs |\n|---|---|---|---|\n";
        }
        here.into_iter().for_each(|case| text += &line(case));
        if !elsewhere.is_empty() {
            let rows: BTreeSet<_> = elsewhere.iter().map(|case| first_row(case)).collect();
            let rows = rows.into_iter().collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "\nAlso cases under {rows}: {}.", elsewhere.len());
        }
    }
    text += "\n## Rows about interfaces\n\n";
    for (number, subject, tests) in OF_INTERFACES {
        let _ = writeln!(text, "- {number}: {subject} ({tests})");
    }
    // Two empty lines in a row where a row has nothing of its own.
    text.replace("\n\n\n", "\n\n")
}

const HEAD: &str = "# What each packet gets

Generated from the table of cases in `tests/src/cases`; do not edit:
`WEIR_BLESS=1 cargo test -p tests --test catalogue` writes it anew. Every case runs through the pure path on the host
and, unless it says otherwise, through the programs in the kernel; both must agree with the table in verdict, counters
and every byte that leaves.
";

fn first_row(case: &Case) -> &'static str {
    case.rows.split(' ').next().unwrap_or_default()
}

fn line(case: &Case) -> String {
    let standard = std::ptr::eq(case.setup, &STANDARD);
    let setup = if standard { String::new() } else { format!(" ({})", case.setup.name) };
    let runs = case.host_only.map_or("host, kernel".to_owned(), |why| format!("host: {why}"));
    format!("| {}{setup} | {} | {} | {runs} |\n", case.name, case.verdict.label(), leaves(case))
}

fn leaves(case: &Case) -> &'static str {
    match (&case.output, case.verdict.action()) {
        (Output::Untouched, Action::Drop) => "nothing",
        (Output::Untouched, _) => "as it came, up the stack",
        (Output::Frame(_), _) => "the answer",
        (Output::Rewritten, _) => "with new MACs",
        (Output::Tunnelled, _) => "in a tunnel",
    }
}
