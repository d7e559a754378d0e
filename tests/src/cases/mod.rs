//! The table of packets: what goes in, the verdict, what comes out. A row of the list of conformance has one case or
//! more here.
//!
//! Rule 0: only a VIP's packets are ever judged, dropped or changed. What is passed or dropped leaves as it came.

mod ethernet;
mod fragments;
mod icmp;
mod ipv4;
mod ipv6;
mod mss;
mod neighbour;
mod reset;
mod syn;
mod tcp;
mod tunnel;
mod udp;

use std::{borrow::Cow, net::IpAddr};

use lb_common::{filter::Syn, verdict::Verdict};

use crate::{
    frames::Packet,
    setup::{STANDARD, Setup},
};

/// One packet and what it gets.
pub struct Case {
    /// Numbers of the rows that it stands for.
    pub rows: &'static str,
    /// What is special about it.
    pub name: Cow<'static, str>,
    /// The configuration.
    pub setup: &'static Setup,
    /// What came in before, and left something behind.
    pub before: Vec<Vec<u8>>,
    /// What comes in.
    pub frame: Vec<u8>,
    /// Bytes of room before the frame, if that matters.
    pub headroom: Option<usize>,
    /// Bytes that the first buffer holds, if it is not as many as possible.
    pub first_buffer: Option<usize>,
    /// Why the kernel's test run cannot take it, if so.
    pub host_only: Option<&'static str>,
    /// What it gets.
    pub verdict: Verdict,
    /// The packet that is sent on, if it is another than came.
    pub changed: Option<Vec<u8>>,
    /// What leaves.
    pub output: Output,
    /// The VIP entry that counts it, as the configuration writes it.
    pub vip: Option<String>,
    /// The backends of which one was chosen; none if it did not come to that.
    pub backends: Vec<IpAddr>,
    /// All packets of this name reach the same backend.
    pub flow: Option<&'static str>,
    /// The kind of SYN that is counted.
    pub syn: Option<Syn>,
    /// What else is counted.
    pub marks: Marks,
}

/// What is counted of a packet that is sent on, besides that it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// It is an ICMP error.
    pub icmp_error: bool,
    /// It names an MTU that no link may have.
    pub small_mtu: bool,
    /// Its MSS was lowered.
    pub mss_lowered: bool,
    /// It matches a signature, but its source is never dropped.
    pub syn_allowed: bool,
}

/// What leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The frame as it came.
    Untouched,
    /// This frame.
    Frame(Vec<u8>),
    /// The frame with the MACs of the way to the backend.
    Rewritten,
    /// The same, and an outer header of the backend's family in front of the packet.
    Tunnelled,
}

/// Every area with its cases.
pub fn areas() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("Ethernet and VLAN", ethernet::cases()),
        ("ARP and neighbour discovery", neighbour::cases()),
        ("IPv4", ipv4::cases()),
        ("IPv6", ipv6::cases()),
        ("Fragments", fragments::cases()),
        ("TCP", tcp::cases()),
        ("SYN filter", syn::cases()),
        ("MSS", mss::cases()),
        ("UDP", udp::cases()),
        ("ICMP and ICMPv6", icmp::cases()),
        ("Backends, tunnels and size", tunnel::cases()),
        ("Resets", reset::cases()),
    ]
}

/// The cases of all areas.
pub fn all() -> Vec<Case> {
    areas().into_iter().flat_map(|(_, cases)| cases).collect()
}

/// The cases of one area.
pub fn area(name: &str) -> Vec<Case> {
    areas().into_iter().find(|(area, _)| *area == name).unwrap_or_else(|| panic!("{name}: no such area")).1
}

/// What goes into a case: a packet, or a frame that is none.
struct Input {
    frame: Vec<u8>,
    vip: Option<String>,
}

impl From<Packet> for Input {
    fn from(packet: Packet) -> Self {
        Input { frame: packet.frame(), vip: Some(packet.vip().to_owned()) }
    }
}

impl From<Vec<u8>> for Input {
    fn from(frame: Vec<u8>) -> Self {
        Input { frame, vip: None }
    }
}

/// A case that wants its end said.
struct Row {
    case: Case,
    vip: Option<String>,
}

fn row(rows: &'static str, name: impl Into<Cow<'static, str>>, input: impl Into<Input>) -> Row {
    let Input { frame, vip } = input.into();
    let case = Case {
        rows,
        name: name.into(),
        setup: &STANDARD,
        before: Vec::new(),
        frame,
        headroom: None,
        first_buffer: None,
        host_only: None,
        verdict: Verdict::NotReady,
        changed: None,
        output: Output::Untouched,
        vip: None,
        backends: Vec::new(),
        flow: None,
        syn: None,
        marks: Marks::default(),
    };
    Row { case, vip }
}

impl Row {
    fn under(mut self, setup: &'static Setup) -> Self {
        self.case.setup = setup;
        self
    }

    fn after(mut self, packets: &[&Packet]) -> Self {
        self.case.before = packets.iter().map(|packet| packet.frame()).collect();
        self
    }

    fn headroom(mut self, bytes: usize) -> Self {
        self.case.headroom = Some(bytes);
        self
    }

    fn first_buffer(mut self, bytes: usize) -> Self {
        self.case.first_buffer = Some(bytes);
        self
    }

    fn host_only(mut self, why: &'static str) -> Self {
        self.case.host_only = Some(why);
        self
    }

    /// Passed or dropped before a service had it: only the verdict is counted.
    fn gets(self, verdict: Verdict) -> Case {
        Case { verdict, ..self.case }
    }

    /// Dropped or passed on account of the service that the packet is addressed to.
    fn gets_from_service(self, verdict: Verdict) -> Case {
        assert!(self.vip.is_some(), "{}: name the service", self.case.name);
        Case { verdict, vip: self.vip, ..self.case }
    }

    /// Answered by this frame.
    fn answered(self, verdict: Verdict, frame: Vec<u8>) -> Case {
        Case { verdict, output: Output::Frame(frame), ..self.case }
    }

    /// Too long for the way to this backend: answered by this frame.
    fn told(self, frame: Vec<u8>, backend: &str) -> Case {
        let vip = self.vip.clone();
        Case { vip, ..self.answered(Verdict::TooBigAnswered, frame) }.chose(&[backend])
    }

    /// Answered by this frame, for want of a backend.
    fn reset(self, frame: Vec<u8>) -> Case {
        let vip = self.vip.clone();
        Case { vip, ..self.answered(Verdict::Reset, frame) }
    }

    /// Sent to the backend by L2.
    fn reaches(self, backend: &str) -> Case {
        self.sent(Output::Rewritten, &[backend])
    }

    /// Sent to the backend in a tunnel.
    fn reaches_by_tunnel(self, backend: &str) -> Case {
        self.sent(Output::Tunnelled, &[backend])
    }

    /// Sent to one of the backends by L2, always the same for this flow.
    fn reaches_one_of(self, backends: &[&str], flow: &'static str) -> Case {
        Case { flow: Some(flow), ..self.sent(Output::Rewritten, backends) }
    }

    fn sent(self, output: Output, backends: &[&str]) -> Case {
        assert!(self.vip.is_some(), "{}: name the service", self.case.name);
        let case = Case { verdict: Verdict::Forwarded, output, vip: self.vip, ..self.case };
        case.chose(backends)
    }
}

impl Case {
    /// Counted by another VIP entry than the packet is addressed to.
    fn of(self, vip: &str) -> Self {
        Case { vip: Some(vip.to_owned()), ..self }
    }

    fn syn(self, syn: Syn) -> Self {
        Case { syn: Some(syn), ..self }
    }

    fn icmp_error(mut self) -> Self {
        self.marks.icmp_error = true;
        self
    }

    fn allowed(mut self) -> Self {
        self.marks.syn_allowed = true;
        self
    }

    fn small_mtu(mut self) -> Self {
        self.marks.small_mtu = true;
        self
    }

    /// Sent on as this packet, in which the MSS is lower.
    fn lowered(mut self, packet: &Packet) -> Self {
        self.marks.mss_lowered = true;
        Case { changed: Some(packet.frame()), ..self }
    }

    /// By another interface than it came in by.
    fn redirected(self) -> Self {
        Case { verdict: Verdict::Redirected, ..self }
    }

    fn chose(self, backends: &[&str]) -> Self {
        Case { backends: backends.iter().map(|backend| backend.parse().unwrap()).collect(), ..self }
    }

    /// What is sent on, but for MACs and outer headers.
    pub fn sent_on(&self) -> &[u8] {
        self.changed.as_ref().unwrap_or(&self.frame)
    }

    /// Whether more about it is special than its bytes: room, or buffers.
    pub fn is_shaped(&self) -> bool {
        self.headroom.is_some() || self.first_buffer.is_some()
    }

    /// How messages call it.
    pub fn title(&self) -> String {
        format!("row {}, {} ({})", self.rows.replace(' ', " and "), self.name, self.setup.name)
    }
}
