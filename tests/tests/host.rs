//! Every case through the pure path on the host, and what the table itself must hold.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{
    balance::Outcome,
    filter::Syn,
    verdict::{Action, Verdict},
};
use tests::{
    cases::{self, Case, Marks},
    expect::{Flows, check},
    frames::{self, tcp},
    host::Host,
    setup::{
        BESIDE, DNS, DNS_V6, GUARDED, ONE_OF_ALL, SOURCE, SOURCE_V6, SPREAD, STANDARD, TUNNEL4, TUNNEL4_UDP,
        TUNNEL4_V6, TUNNEL6, TUNNEL6_UDP, TUNNEL6_V6, WEB, WEB_UDP, WEB_UDP_V6, WEB_V6,
    },
};

/// Runs the cases of an area; fails with all that differ.
fn run(area: &str) {
    let mut hosts: BTreeMap<&str, (Host, Flows)> = BTreeMap::new();
    let mut faults = Vec::new();
    for case in cases::area(area) {
        let (host, flows) =
            hosts.entry(case.setup.name).or_insert_with(|| (Host::new(case.setup.world()), Flows::default()));
        if let Err(fault) = run_case(host, flows, &case) {
            faults.push(format!("{}: {fault}", case.title()));
        }
    }
    assert!(faults.is_empty(), "{} cases of {area}:\n{}", faults.len(), faults.join("\n"));
}

fn run_case(host: &Host, flows: &mut Flows, case: &Case) -> Result<(), String> {
    let (outcome, seen) = host.run(case);
    check(case, &seen, flows)?;
    if Syn::from_number(outcome.syn) != case.syn {
        return Err(format!("SYN: {:?}, not {:?}", outcome.syn, case.syn));
    }
    if let Some(marks) = marks(&outcome)
        && marks != case.marks
    {
        return Err(format!("marks: {marks:?}, not {:?}", case.marks));
    }
    let beside = host.world.interfaces[1].index;
    if outcome.verdict == Verdict::Redirected && outcome.redirect != beside {
        return Err(format!("to interface {}, not {beside}", outcome.redirect));
    }
    Ok(())
}

/// What is counted besides of a packet that is sent on.
fn marks(outcome: &Outcome) -> Option<Marks> {
    let marked = |mark| outcome.marks & mark != 0;
    matches!(outcome.verdict, Verdict::Forwarded | Verdict::Redirected).then(|| Marks {
        icmp_error: marked(Outcome::ICMP_ERROR),
        small_mtu: marked(Outcome::SMALL_MTU),
        mss_lowered: marked(Outcome::MSS_LOWERED),
        syn_allowed: marked(Outcome::SYN_ALLOWED),
    })
}

#[test]
fn ethernet() {
    run("Ethernet and VLAN");
}

#[test]
fn neighbours() {
    run("ARP and neighbour discovery");
}

#[test]
fn ipv4() {
    run("IPv4");
}

#[test]
fn ipv6() {
    run("IPv6");
}

#[test]
fn tcp_segments() {
    run("TCP");
}

#[test]
fn syn_filter() {
    run("SYN filter");
}

#[test]
fn udp() {
    run("UDP");
}

#[test]
fn fragments() {
    run("Fragments");
}

#[test]
fn mss() {
    run("MSS");
}

#[test]
fn icmp() {
    run("ICMP and ICMPv6");
}

#[test]
fn backends_and_tunnels() {
    run("Backends, tunnels and size");
}

#[test]
fn every_case_has_a_title_of_its_own() {
    let mut titles = BTreeSet::new();
    for case in cases::all() {
        assert!(titles.insert(case.title()), "{}: twice", case.title());
    }
}

#[test]
fn every_verdict_but_one_has_a_case() {
    let cases = cases::all();
    for verdict in Verdict::ALL {
        // Arrays of the kernel are always there, so tables that are not cannot be made for both sides; and one SYN is never too
        // many.
        let shown = cases.iter().any(|case| case.verdict == *verdict);
        assert_eq!(shown, !matches!(verdict, Verdict::NotReady | Verdict::SynCapped), "{}", verdict.label());
    }
}

#[test]
fn what_is_passed_or_dropped_is_untouched() {
    for case in cases::all() {
        let rewrites = matches!(case.verdict.action(), Action::Transmit | Action::Redirect);
        assert_eq!(rewrites, case.output != cases::Output::Untouched, "{}", case.title());
    }
}

/// The plain path is held to the other wherever it decides; this shows that it does.
#[test]
fn plain_packets_go_the_plain_way() {
    let mut host = Host::new(STANDARD.world());
    let tcp = [WEB, WEB_V6, SOURCE, SOURCE_V6, GUARDED, TUNNEL4, TUNNEL4_V6, TUNNEL6, TUNNEL6_V6, BESIDE, ONE_OF_ALL];
    let udp = [WEB_UDP, WEB_UDP_V6, DNS, DNS_V6, TUNNEL4_UDP, TUNNEL6_UDP];
    let tcp = tcp.map(|vip| (vip, frames::tcp(vip).frame()));
    let udp = udp.map(|vip| (vip, frames::udp(vip).data(&[0; 40]).frame()));
    let others = [("a flood", frames::bare_syn(GUARDED).tcp(|tcp| tcp.window_size = 0).frame())];
    for (what, frame) in tcp.into_iter().chain(udp).chain(others) {
        // Of a flood it goes on with what the other one has ruled.
        host.run_frame(&frame);
        assert!(host.is_plain(&frame), "{what}");
        host.listen(true);
        assert!(
            !host.is_plain(&frame),
            "{what}: the plain path takes no samples, so while somebody captures it takes no packets"
        );
        host.listen(false);
    }
}

/// Otherwise it would mean nothing that one flow reaches one backend.
#[test]
fn flows_spread_over_backends() {
    let host = Host::new(STANDARD.world());
    let reached = |port| host.run_frame(&tcp(SPREAD).from(&format!("198.51.100.7:{port}")).frame()).1.backend;
    let backends: BTreeSet<_> = (40_000..40_100).map(|port| reached(port).expect("one is chosen").0).collect();
    assert_eq!(backends.len(), 4, "{backends:?}");
}
