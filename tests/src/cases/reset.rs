//! Segments for a service without a backend that says `on_empty = "reset"`, and what is not answered.

use lb_common::{filter::Syn::*, verdict::Verdict::*};

use super::{Case, row};
use crate::{
    frames::{Packet, SERVICE_VLAN, VLAN, atomic, bare_syn, error, options, syn, tcp, udp},
    setup::{BAD_FLAGS_PASS, DRAINED, RESET, RESET_ALL, RESET_UDP, RESET_V6},
};

/// What `tcp` and `syn` send, and what `tcp` acknowledges.
const SEQUENCE: u32 = 0x1000_0001;
const ACKNOWLEDGED: u32 = 0x2000_0002;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, vip) in [("", RESET), (", IPv6", RESET_V6)] {
        cases.extend(answered(family, vip));
        cases.extend(not_answered(family, vip));
    }
    cases.extend(others());
    cases
}

/// It begins where the segment says that its sender expects it to.
fn expected(packet: &Packet) -> Vec<u8> {
    packet.reset(Some(ACKNOWLEDGED), None)
}

/// It acknowledges all of a segment without ACK, which takes `length` numbers.
fn acknowledging(packet: &Packet, length: u32) -> Vec<u8> {
    packet.reset(None, Some(SEQUENCE.wrapping_add(length)))
}

fn answered(family: &str, vip: &str) -> Vec<Case> {
    let named = |name: &str| format!("{name}{family}");
    let mut cases = Vec::new();
    for (name, packet) in [
        ("a segment", tcp(vip)),
        ("a segment with data", tcp(vip).data(&[7; 333])),
        ("a segment with data, behind a tag", tcp(vip).data(&[7; 100]).tags(&[VLAN])),
        ("a segment with data, behind two tags", tcp(vip).data(&[7; 100]).tags(&[SERVICE_VLAN, VLAN])),
        ("a segment with options", tcp(vip).tcp(|tcp| tcp.set_options_raw(&[1; 40]).unwrap())),
        ("a segment, padded", tcp(vip).padded(90)),
        ("FIN and ACK", tcp(vip).tcp(|tcp| tcp.fin = true)),
        ("PSH, ACK and ECN's flags", tcp(vip).tcp(|tcp| (tcp.psh, tcp.ece, tcp.cwr) = (true, true, true))),
        ("a SYN-ACK", tcp(vip).tcp(|tcp| tcp.syn = true)),
    ] {
        cases.push(row("72", named(&format!("reset: {name}")), packet.clone()).reset(expected(&packet)));
    }
    let last = |packet: Packet| packet.tcp(|tcp| tcp.sequence_number = u32::MAX);
    for (name, packet, kind, length) in [
        ("a SYN", syn(vip), OpenOptions, 1),
        ("a SYN without options", bare_syn(vip), OpenBare, 1),
        ("a SYN with data", syn(vip).data(&[7; 20]), OpenOptions, 21),
        ("a SYN with ECN's flags", syn(vip).tcp(|tcp| (tcp.ece, tcp.cwr) = (true, true)), OpenOptions, 1),
    ] {
        let case = row("72", named(&format!("reset: {name}")), packet.clone()).reset(acknowledging(&packet, length));
        cases.push(case.syn(kind));
    }
    let packet = last(syn(vip));
    let case = row("72", named("reset: a SYN with the last number"), packet.clone()).reset(packet.reset(None, Some(0)));
    cases.push(case.syn(OpenOptions));
    let packet = tcp(vip).data(&[7; 10]).tcp(|tcp| (tcp.fin, tcp.ack) = (true, false));
    cases.push(row("72", named("reset: FIN without ACK, data"), packet.clone()).reset(acknowledging(&packet, 11)));
    let packet = tcp(vip).data(&[7; 10]).tcp(|tcp| tcp.ack = false);
    let name = named("reset: no flags, where they pass");
    cases.push(row("72", name, packet.clone()).under(&BAD_FLAGS_PASS).reset(acknowledging(&packet, 10)));
    let packet = tcp(vip).data(&[7; 5_000]);
    cases.push(row("72", named("reset: in several buffers"), packet.clone()).reset(expected(&packet)));
    let packet = tcp(vip);
    cases.push(row("72", named("reset: no room in front"), packet.clone()).headroom(0).reset(expected(&packet)));
    cases
}

fn not_answered(family: &str, vip: &str) -> Vec<Case> {
    let named = |name: &str| format!("no reset: {name}{family}");
    let whole = tcp(vip).data(&[7; 100]);
    vec![
        row("72", named("a reset"), tcp(vip).tcp(|tcp| (tcp.rst, tcp.ack) = (true, false)))
            .gets_from_service(NoBackend),
        row("72", named("a reset with ACK"), tcp(vip).tcp(|tcp| tcp.rst = true)).gets_from_service(NoBackend),
        row("72", named("a first fragment"), whole.fragment(0, 64)).gets_from_service(NoBackend),
        row("72", named("a later fragment"), whole.fragment(64, 120))
            .after(&[&whole.fragment(0, 64)])
            .gets_from_service(NoBackend)
            .of(vip),
        row("72", named("a SYN that the filter drops"), bare_syn(vip).tcp(|tcp| tcp.window_size = 0))
            .gets_from_service(SynFlood)
            .syn(ZeroBare),
        row("72", named("flags that no stack sends"), tcp(vip).tcp(|tcp| tcp.ack = false)).gets_from_service(BadFlags),
    ]
}

fn others() -> Vec<Case> {
    let with_options = tcp(RESET).data(&[7; 9]).ip4(|ip| ip.options = [1; 40].into());
    let with_headers = tcp(RESET_V6).data(&[7; 9]).extensions(&[options(0, 2), options(60, 4)]);
    let alone = tcp(RESET_V6).data(&[7; 9]).extensions(&[atomic()]);
    let all_ports = tcp("192.0.2.77:8443");
    let marked = tcp(RESET).ip4(|ip| (ip.dscp, ip.identification) = (46.try_into().unwrap(), 4711));
    let quoted = tcp(RESET).reversed().packet();
    vec![
        row("72", "reset: IPv4 options", with_options.clone()).reset(expected(&with_options)),
        row("72", "reset: extension headers", with_headers.clone()).reset(expected(&with_headers)),
        row("72", "reset: an atomic fragment", alone.clone()).reset(expected(&alone)),
        row("72", "reset: all ports", all_ports.clone()).reset(expected(&all_ports)).of(RESET_ALL),
        row("72", "reset: DSCP and identification stay behind", marked.clone()).reset(expected(&marked)),
        row("72", "no reset: a datagram", udp(RESET_UDP)).gets_from_service(NoBackend),
        row("72", "no reset: an ICMP error", error(RESET, [3, 1], [0; 4], &quoted)).gets_from_service(NoBackend),
        row("72", "no reset: a martian", tcp(RESET).source("127.0.0.1")).gets_from_service(Martian),
        row("72", "no reset: on_empty = \"last\"", tcp(DRAINED)).gets_from_service(NoBackend),
    ]
}
