//! What `decapsulate` makes of a frame, a row a frame. The host's tests and the kernel's include this file, so it needs
//! nothing but `Stripping` of whoever includes it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Stripping;

/// A VIP served by the backend under test.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
/// The same, IPv6.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);
/// Where tunnels to it end.
pub const END4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 21);
/// The same, IPv6.
pub const END6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x21);

const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
const BALANCER4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const BALANCER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const OTHER4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);

const HOP_BY_HOP: u8 = 0;
const IN4: u8 = 4;
const UDP: u8 = 17;
const IN6: u8 = 41;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

const ETHERTYPE4: u16 = 0x0800;
const ETHERTYPE6: u16 = 0x86dd;
const TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
/// The network header of a frame without tags.
const L3: usize = 14;

/// A row.
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// As it arrives.
    pub frame: Vec<u8>,
    /// What it gets.
    pub gets: Stripping,
    /// As it goes on.
    pub out: Vec<u8>,
}

/// All rows.
pub fn cases() -> Vec<Case> {
    [stripped(), not_tunnels(), not_for_us(), fragments(), malformed(), congestion()].into_iter().flatten().collect()
}

fn stripped() -> Vec<Case> {
    let (in4, in6) = (&udp4(VIP4)[..], &udp6(VIP6)[..]);
    let row = |name: &str, tags: &[u16], outer: Vec<u8>, inner: &[u8]| Case {
        name: name.into(),
        frame: frame(tags, &join(&[&outer, inner])),
        gets: Stripping::Stripped,
        out: frame(tags, inner),
    };
    let limit = [IN4, 0, 4, 1, 4, 1, 0, 0];
    let padding = [DESTINATION, 0, 1, 4, 0, 0, 0, 0];
    let atomic = [IN6, 0, 0, 0, 0, 0, 0, 1];
    vec![
        row("4in4", &[], to4(IN4, 28), in4),
        row("6in4", &[], to4(IN6, 48), in6),
        row("4in6", &[], to6(IN4, 28), in4),
        row("6in6", &[], to6(IN6, 48), in6),
        row("4in4, one tag", &[TAG], to4(IN4, 28), in4),
        row("6in4, one tag", &[TAG], to4(IN6, 48), in6),
        row("4in6, two tags", &[SERVICE_TAG, TAG], to6(IN4, 28), in4),
        row("4in4, options", &[], with_options(to4(IN4, 28), 12), in4),
        row("6in4, as many options as there can be", &[], with_options(to4(IN6, 48), 40), in6),
        row("4in4, DF", &[], set(to4(IN4, 28), 6, &[0x40, 0]), in4),
        row("4in6, a limit of encapsulations", &[], join(&[&to6(DESTINATION, 36), &limit]), in4),
        row("4in6, two extension headers", &[], join(&[&to6(HOP_BY_HOP, 44), &padding, &limit]), in4),
        row("6in6, an atomic fragment", &[], join(&[&to6(FRAGMENT, 56), &atomic]), in6),
        row("6in6, outer DSCP 63", &[], with_class6(to6(IN6, 48), 63 << 2), in6),
        row("4in4, padded to the least length of a frame", &[], to4(IN4, 20), &join(&[&in4[..20], &[0; 6]])),
    ]
}

fn not_tunnels() -> Vec<Case> {
    let tunnel4 = join(&[&to4(IN4, 28), &udp4(VIP4)]);
    let tunnel6 = join(&[&to6(IN4, 28), &udp4(VIP4)]);
    let old_routing = join(&[&to6(ROUTING, 36), &[IN4, 0, 0, 0, 0, 0, 0, 0], &udp4(VIP4)]);
    let long_extension = join(&[&to6(DESTINATION, 8), &[IN4, 1, 1, 12], &[0; 12], &udp4(VIP4)]);
    let fragment_of_udp =
        |[high, low]: [u8; 2]| join(&[&to6(FRAGMENT, 16), &[UDP, 0, high, low, 0, 0, 0, 1], &UDP_HEADER]);
    let row = |name, frame| untouched(name, Stripping::NotATunnel, frame);
    vec![
        row("UDP to the VIP", frame(&[], &udp4(VIP4))),
        row("UDP to the VIP, IPv6", frame(&[], &udp6(VIP6))),
        row("UDP to the backend itself", frame(&[], &udp4(END4))),
        row("ARP", frame_of(&[], 0x0806, &[0; 28])),
        row("an unknown ethertype", frame_of(&[], 0x88b5, &tunnel4)),
        row("three tags", frame(&[TAG, TAG, TAG], &tunnel4)),
        row("a frame that ends in its tag", frame(&[TAG], &tunnel4)[..17].to_vec()),
        row("a frame that ends before its ethertype", frame(&[], &tunnel4)[..13].to_vec()),
        row("an outer IPv4 header cut short", frame(&[], &tunnel4[..19])),
        row("an outer IPv6 header cut short", frame(&[], &tunnel6[..39])),
        row("outer version 5 for IPv4", set(frame(&[], &tunnel4), L3, &[0x55])),
        row("outer version 5 for IPv6", set(frame(&[], &tunnel6), L3, &[0x50])),
        row("an outer IPv4 header of 16 bytes", set(frame(&[], &tunnel4), L3, &[0x44])),
        row("a routing header of type 0", frame(&[], &old_routing)),
        row("an extension header longer than the payload", frame(&[], &long_extension)),
        row("first fragment of a UDP datagram, IPv4", frame(&[], &set(to4(UDP, 0), 6, &[0x20, 0]))),
        row("first fragment of a UDP datagram, IPv6", frame(&[], &fragment_of_udp([0, 1]))),
        row("last fragment of a UDP datagram, IPv6", frame(&[], &fragment_of_udp([0, 8]))),
    ]
}

fn not_for_us() -> Vec<Case> {
    let elsewhere = |name, packet: &[&[u8]]| untouched(name, Stripping::NotOurs, frame(&[], &join(packet)));
    let no_vip = |name, packet: &[&[u8]]| untouched(name, Stripping::NotAVip, frame(&[], &join(packet)));
    vec![
        elsewhere("4in4 to another host", &[&ipv4(IN4, BALANCER4, OTHER4, 28), &udp4(VIP4)]),
        elsewhere("4in4 to the VIP itself", &[&ipv4(IN4, BALANCER4, VIP4, 28), &udp4(VIP4)]),
        elsewhere("6in6 to another host", &[&ipv6(IN6, BALANCER6, OTHER6, 48), &udp6(VIP6)]),
        elsewhere(
            "first fragment of a 4in6 to another host",
            &[&ipv6(FRAGMENT, BALANCER6, OTHER6, 36), &[IN4, 0, 0, 1, 0, 0, 0, 1], &udp4(VIP4)],
        ),
        elsewhere(
            "last fragment of a 4in6 to another host",
            &[&ipv6(FRAGMENT, BALANCER6, OTHER6, 36), &[IN4, 0, 0, 8, 0, 0, 0, 1], &udp4(VIP4)],
        ),
        no_vip("4in4 for no VIP", &[&to4(IN4, 28), &udp4(OTHER4)]),
        no_vip("4in4 for the backend's own address", &[&to4(IN4, 28), &udp4(END4)]),
        no_vip("4in4 for no VIP, outer CE", &[&set(to4(IN4, 28), 1, &[CE]), &udp4(OTHER4)]),
        no_vip("6in4 for no VIP", &[&to4(IN6, 48), &udp6(OTHER6)]),
        no_vip("4in6 for no VIP", &[&to6(IN4, 28), &udp4(OTHER4)]),
        no_vip("IPv6 inside that says it is IPv4", &[&to4(IN4, 48), &udp6(VIP6)]),
        no_vip("IPv4 inside that says it is IPv6", &[&to4(IN6, 40), &udp4(VIP4), &[0; 12]]),
        no_vip("version 5 inside, for IPv4", &[&to4(IN4, 28), &set(udp4(VIP4), 0, &[0x55])]),
        no_vip("version 5 inside, for IPv6", &[&to6(IN6, 48), &set(udp6(VIP6), 0, &[0x50])]),
        no_vip("a tunnel in a tunnel", &[&to4(IN4, 48), &to4(IN4, 28), &udp4(VIP4)]),
    ]
}

fn fragments() -> Vec<Case> {
    let four = |flags: [u8; 2]| frame(&[], &join(&[&set(to4(IN4, 28), 6, &flags), &udp4(VIP4)]));
    let six = |offset: [u8; 2]| {
        let header = [IN4, 0, offset[0], offset[1], 0, 0, 0, 1];
        frame(&[], &join(&[&to6(FRAGMENT, 36), &header, &udp4(VIP4)]))
    };
    let row = |name, frame| untouched(name, Stripping::Fragment, frame);
    vec![
        row("first fragment of a 4in4", four([0x20, 0])),
        row("later fragment of a 4in4", four([0x20, 8])),
        row("last fragment of a 4in4", four([0, 8])),
        row("first fragment of a 4in6", six([0, 1])),
        row("last fragment of a 4in6", six([0, 8])),
    ]
}

fn malformed() -> Vec<Case> {
    let row = |name, packet: &[&[u8]]| untouched(name, Stripping::Malformed, frame(&[], &join(packet)));
    vec![
        row("4in4, nothing inside", &[&to4(IN4, 0)]),
        row("4in4, the header inside cut short", &[&to4(IN4, 19), &udp4(VIP4)[..19]]),
        row("6in4, the header inside cut short", &[&to4(IN6, 39), &udp6(VIP6)[..39]]),
        row("4in6, the header inside cut short", &[&to6(IN4, 19), &udp4(VIP4)[..19]]),
        row("6in6, nothing inside", &[&to6(IN6, 0)]),
        row("4in4, options longer than the frame", &[&set(to4(IN4, 8), 0, &[0x4f]), &[0; 8]]),
    ]
}

const NOT_ECT: u8 = 0;
const ECT1: u8 = 1;
const ECT0: u8 = 2;
const CE: u8 = 3;

/// Every ECN field outside with every one inside, in all four kinds of tunnels. DSCP differs outside and inside, and
/// checksums inside are right, before and after.
fn congestion() -> Vec<Case> {
    // Outer, inner, and the inner one afterwards; `None` if the packet is dropped.
    [
        ("outer not-ECT, inner not-ECT", NOT_ECT, NOT_ECT, Some(NOT_ECT)),
        ("outer not-ECT, inner ECT(1)", NOT_ECT, ECT1, Some(ECT1)),
        ("outer not-ECT, inner ECT(0)", NOT_ECT, ECT0, Some(ECT0)),
        ("outer not-ECT, inner CE", NOT_ECT, CE, Some(CE)),
        ("outer ECT(1), inner not-ECT", ECT1, NOT_ECT, Some(NOT_ECT)),
        ("outer ECT(1), inner ECT(1)", ECT1, ECT1, Some(ECT1)),
        ("outer ECT(1), inner ECT(0)", ECT1, ECT0, Some(ECT0)),
        ("outer ECT(1), inner CE", ECT1, CE, Some(CE)),
        ("outer ECT(0), inner not-ECT", ECT0, NOT_ECT, Some(NOT_ECT)),
        ("outer ECT(0), inner ECT(1)", ECT0, ECT1, Some(ECT1)),
        ("outer ECT(0), inner ECT(0)", ECT0, ECT0, Some(ECT0)),
        ("outer ECT(0), inner CE", ECT0, CE, Some(CE)),
        ("outer CE, inner not-ECT", CE, NOT_ECT, None),
        ("outer CE, inner ECT(1)", CE, ECT1, Some(CE)),
        ("outer CE, inner ECT(0)", CE, ECT0, Some(CE)),
        ("outer CE, inner CE", CE, CE, Some(CE)),
    ]
    .into_iter()
    .flat_map(|(name, outer, inner, after)| {
        let end4 = |protocol, payload| with_class4(to4(protocol, payload), outer);
        let end6 = |next, payload| with_class6(to6(next, payload), outer);
        let in4 = |ecn| with_class4(udp4(VIP4), DSCP | ecn);
        let in6 = |ecn| with_class6(udp6(VIP6), DSCP | ecn);
        let row = |tunnel, end: Vec<u8>, inside: &dyn Fn(u8) -> Vec<u8>| {
            let name = format!("{tunnel}, {name}");
            let before = frame(&[], &join(&[&end, &inside(inner)]));
            match after {
                None => untouched(&name, Stripping::Congested, before),
                Some(ecn) => Case { name, frame: before, gets: Stripping::Stripped, out: frame(&[], &inside(ecn)) },
            }
        };
        [
            row("4in4", end4(IN4, 28), &in4),
            row("6in4", end4(IN6, 48), &in6),
            row("4in6", end6(IN4, 28), &in4),
            row("6in6", end6(IN6, 48), &in6),
        ]
    })
    .collect()
}

/// DSCP 46 (expedited forwarding), where a class has it.
const DSCP: u8 = 46 << 2;

/// Sets the class of an IPv4 header and makes its checksum right.
fn with_class4(packet: Vec<u8>, class: u8) -> Vec<u8> {
    let packet = set(packet, 1, &[class]);
    let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let checksum = !((sum >> 16) + (sum & 0xffff)) as u16;
    set(packet, 10, &checksum.to_be_bytes())
}

/// Sets the traffic class of an IPv6 header; the flow label has all bits set.
fn with_class6(packet: Vec<u8>, class: u8) -> Vec<u8> {
    set(packet, 0, &[0x60 | class >> 4, class << 4 | 0xf, 0xff, 0xff])
}

/// Passed or dropped, in any case as it came.
fn untouched(name: &str, gets: Stripping, frame: Vec<u8>) -> Case {
    Case { name: name.into(), out: frame.clone(), frame, gets }
}

/// An IP packet behind an Ethernet header and tags.
fn frame(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let six = packet.first().is_some_and(|first| first >> 4 == 6);
    frame_of(tags, if six { ETHERTYPE6 } else { ETHERTYPE4 }, packet)
}

fn frame_of(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 1];
    for (number, tag) in (100u16..).zip(tags) {
        frame.extend(tag.to_be_bytes());
        frame.extend(number.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The outer header from the balancer to the backend.
fn to4(protocol: u8, payload: u16) -> Vec<u8> {
    ipv4(protocol, BALANCER4, END4, payload)
}

fn to6(next: u8, payload: u16) -> Vec<u8> {
    ipv6(next, BALANCER6, END6, payload)
}

/// 28 bytes: a UDP datagram without data from the client.
fn udp4(destination: Ipv4Addr) -> Vec<u8> {
    join(&[&ipv4(UDP, CLIENT4, destination, 8), &UDP_HEADER])
}

/// 48 bytes: the same, IPv6.
fn udp6(destination: Ipv6Addr) -> Vec<u8> {
    join(&[&ipv6(UDP, CLIENT6, destination, 8), &UDP_HEADER])
}

/// From port 4096 to port 53.
const UDP_HEADER: [u8; 8] = [0x10, 0, 0, 53, 0, 8, 0, 0];

fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: u16) -> Vec<u8> {
    let [high, low] = (20 + payload).to_be_bytes();
    let start = [0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0];
    join(&[&start, &source.octets(), &destination.octets()])
}

fn ipv6(next: u8, source: Ipv6Addr, destination: Ipv6Addr, payload: u16) -> Vec<u8> {
    let [high, low] = payload.to_be_bytes();
    join(&[&[0x60, 0, 0, 0, high, low, next, 64], &source.octets(), &destination.octets()])
}

/// Puts so many bytes of options, all "no operation", behind an IPv4 header.
fn with_options(mut header: Vec<u8>, bytes: u8) -> Vec<u8> {
    header[0] += bytes / 4;
    header[3] += bytes;
    header.extend(vec![1; bytes.into()]);
    header
}

fn set(mut bytes: Vec<u8>, at: usize, to: &[u8]) -> Vec<u8> {
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
