//! What a case says must happen, against what did.

use std::{collections::BTreeMap, net::IpAddr};

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header};
use lb_common::verdict::Verdict;

use crate::{
    cases::{Case, Output},
    frames::Mac,
    setup::{Family, INTERFACES, NODE, PREFIXES, Way, World, way},
};

/// What became of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its verdict.
    pub verdict: Verdict,
    /// The VIP entry that it met.
    pub vip: Option<String>,
    /// The backend that was chosen, and the tunnel to it.
    pub backend: Option<(IpAddr, Option<Family>)>,
    /// The flow's hash.
    pub hash: u32,
    /// The frame as it left.
    pub frame: Vec<u8>,
}

/// Which backend each flow reached, so that it is the same the next time.
#[derive(Default)]
pub struct Flows(BTreeMap<&'static str, IpAddr>);

/// Whether a case got what it says; if not, what differs.
pub fn check(case: &Case, seen: &Seen, flows: &mut Flows) -> Result<(), String> {
    same("verdict", &seen.verdict.label(), &case.verdict.label())?;
    same("VIP", &seen.vip, &case.vip)?;
    let backend = seen.backend.map(|(address, _)| address);
    if backend.is_none_or(|backend| !case.backends.contains(&backend))
        && (backend.is_some() || !case.backends.is_empty())
    {
        return Err(format!("backend: {backend:?}, not of {:?}", case.backends));
    }
    if let (Some(flow), Some(backend)) = (case.flow, backend) {
        let earlier = *flows.0.entry(flow).or_insert(backend);
        same(&format!("backend of flow {flow}"), &backend, &earlier)?;
    }
    let frame = output(case, seen);
    if seen.frame != frame { Err(format!("frame:\n{}", diff(&seen.frame, &frame))) } else { Ok(()) }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what}: {seen:?}, not {expected:?}")) }
}

/// The frame that must leave, given the backend that was chosen and, for what varies by flow, the hash.
fn output(case: &Case, seen: &Seen) -> Vec<u8> {
    let to = || seen.backend.expect("the backend was checked before").0;
    match &case.output {
        Output::Untouched => case.frame.clone(),
        Output::Frame(frame) => frame.clone(),
        Output::Rewritten => with_macs(case.sent_on(), to()),
        Output::Tunnelled => with_macs(&in_tunnel(case, to(), seen.hash), to()),
    }
}

fn with_macs(frame: &[u8], backend: IpAddr) -> Vec<u8> {
    let Way::Via(hop) = way(backend) else { panic!("{backend}: nothing can be sent there") };
    let source: Mac = INTERFACES[hop.interface as usize].1;
    [&hop.mac, &source, &frame[12..]].concat()
}

fn in_tunnel(case: &Case, backend: IpAddr, hash: u32) -> Vec<u8> {
    let frame = case.sent_on();
    let (l3, inner) = ip_packet(frame);
    let is_v4 = inner[0] >> 4 == 4;
    let first_words = u32::from_be_bytes([inner[0], inner[1], inner[2], inner[3]]);
    let (class, label) = if is_v4 { (inner[1], 0) } else { ((first_words >> 20) as u8, first_words & 0xf_ffff) };
    let protocol = IpNumber(if is_v4 { 4 } else { 41 });
    let varied = hash.to_le_bytes();
    let prefixes = std::ptr::eq(case.setup, &PREFIXES);
    let (kind, outer) = match backend {
        IpAddr::V4(backend) => {
            let source = if prefixes { [10, 255, varied[2], varied[3]] } else { NODE.v4.unwrap().octets() };
            let mut ip = Ipv4Header::new(inner.len() as u16, 64, protocol, source, backend.octets()).expect("it fits");
            (ip.dscp, ip.ecn) = ((class >> 2).try_into().unwrap(), (class & 3).try_into().unwrap());
            ip.dont_fragment = true;
            ip.header_checksum = ip.calc_header_checksum();
            (0x0800u16, ip.to_bytes().to_vec())
        }
        IpAddr::V6(backend) => {
            let mut source = NODE.v6.unwrap().octets();
            if prefixes {
                source = "2001:db8:ffff::".parse::<std::net::Ipv6Addr>().unwrap().octets();
                source[12..].copy_from_slice(&varied);
            }
            let label = if label == 0 { hash & 0xf_ffff } else { label };
            let ip = Ipv6Header {
                traffic_class: class,
                flow_label: Ipv6FlowLabel::try_new(label).unwrap(),
                payload_length: inner.len() as u16,
                next_header: protocol,
                hop_limit: 64,
                source,
                destination: backend.octets(),
            };
            (0x86dd, ip.to_bytes().to_vec())
        }
    };
    [&frame[..l3 - 2], &kind.to_be_bytes(), &outer, &frame[l3..]].concat()
}

/// Where the IP packet of a good frame begins, and the packet itself without padding.
pub fn ip_packet(frame: &[u8]) -> (usize, &[u8]) {
    let mut l3 = 14;
    while matches!(frame[l3 - 2..l3], [0x81, 0x00] | [0x88, 0xa8]) {
        l3 += 4;
    }
    let word = |offset: usize| u16::from_be_bytes([frame[l3 + offset], frame[l3 + offset + 1]]) as usize;
    let length = if frame[l3] >> 4 == 4 { word(2) } else { 40 + word(4) };
    (l3, &frame[l3..l3 + length])
}

/// The names of what was chosen.
pub fn chosen(world: &World, vip: u32, backend: u32) -> (Option<String>, Option<(IpAddr, Option<Family>)>) {
    let vip = (vip != u32::MAX).then(|| world.vips[vip as usize].clone());
    (vip, (backend != u32::MAX).then(|| world.backend(backend)))
}

/// Two frames side by side, 16 bytes a line; lines that differ are marked.
pub fn diff(seen: &[u8], expected: &[u8]) -> String {
    let line = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..).unwrap_or_default();
        bytes.iter().take(16).map(|byte| format!("{byte:02x} ")).collect::<String>()
    };
    let mut text =
        format!("    {:4}   {:48}   expected ({} bytes)\n", "", format!("seen ({} bytes)", seen.len()), expected.len());
    let lines = (0..seen.len().max(expected.len())).step_by(16);
    let lines = lines.map(|at| (at, line(seen, at), line(expected, at)));
    // Of a long frame only what differs.
    let long = seen.len().max(expected.len()) > 512;
    for (at, seen, expected) in lines.filter(|(_, seen, expected)| !long || seen != expected).take(64) {
        let mark = if seen == expected { ' ' } else { '!' };
        text += &format!("  {mark} {at:4x}   {seen:48}   {expected}\n");
    }
    text
}
