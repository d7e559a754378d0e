//! What is measured, in which tables.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use aya::programs::ProgramFd;
use lb_common::abi::{self, NextHop, mac_bits};
use lb_userspace::{
    config,
    datapath::{self, Attachment, Loaded, Pins, requirements::Kernel},
    plan::{NodeAddresses, plan},
};

use crate::{
    Arguments,
    frames::{self, Family, Kind},
    measure::{Bench, Contender, Reference, SEGMENT, median},
};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// How Weir forwards in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forward {
    L2,
    Ipip,
    Ip6,
}

impl Forward {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Forward::L2 => "l2",
            Forward::Ipip => "ipip",
            Forward::Ip6 => "ip6",
        }
    }
}

/// One measured row.
pub struct Row {
    pub program: &'static str,
    pub forward: Forward,
    pub family: Family,
    pub kind: Kind,
    pub flows: u32,
    pub services: u32,
    pub backends: u32,
    /// Over the null program.
    pub ns: f64,
    /// The slowest run less the fastest.
    pub spread: f64,
    pub ratio: f64,
}

/// A row to be measured.
#[derive(Clone, Copy)]
struct Plan {
    program: &'static str,
    forward: Forward,
    family: Family,
    kind: Kind,
    flows: u32,
    services: u32,
    backends: u32,
}

/// Measures what is wanted, each row beside the null and the bare encapsulation so that its ratio is of one moment.
pub fn measure_all(arguments: &Arguments) -> Result<Vec<Row>> {
    let mut bench = Bench::load(arguments.barrier)?;
    let mut weir = None;
    wanted(&arguments.only).iter().map(|plan| measure(&mut bench, &mut weir, plan, arguments)).collect()
}

/// The rows with these words, one after the other, in their label, and the null and the bare encapsulation at as many flows.
fn wanted(only: &str) -> Vec<Plan> {
    let words: Vec<_> = only.split_whitespace().collect();
    let all = plans();
    let named = |plan: &Plan| {
        let label = label(plan);
        let label: Vec<_> = label.split(' ').collect();
        words.is_empty() || label.windows(words.len()).any(|part| part == words)
    };
    let flows: Vec<_> = all.iter().filter(|plan| named(plan)).map(|plan| plan.flows).collect();
    let compared = |plan: &Plan| matches!(plan.program, "null" | "bare_ipip") && flows.contains(&plan.flows);
    all.into_iter().filter(|plan| named(plan) || compared(plan)).collect()
}

fn label(plan: &Plan) -> String {
    let Plan { program, forward, family, kind, flows, services, backends } = plan;
    let (forward, family, kind) = (forward.name(), family.name(), kind.name());
    format!("{program} {forward} {family} {kind} {flows} {services} {backends}")
}

const FLOWS: [u32; 3] = [1, 1_000_000, 16_000_000];
const STEPS: [u32; 4] = [1, 64, 1024, 4096];

fn plans() -> Vec<Plan> {
    let base = Plan {
        program: "weir",
        forward: Forward::L2,
        family: Family::Ipv4,
        kind: Kind::Tcp,
        flows: FLOWS[2],
        services: 1,
        backends: 100,
    };
    let mut plans = Vec::new();
    for program in ["null", "swap", "bare_ipip"] {
        plans.extend(FLOWS.map(|flows| Plan { program, flows, services: 0, backends: 0, ..base }));
    }
    for forward in [Forward::L2, Forward::Ipip, Forward::Ip6] {
        for family in [Family::Ipv4, Family::Ipv6] {
            for kind in [Kind::Tcp, Kind::FloodSyn, Kind::NotVip, Kind::Udp] {
                if forward == Forward::L2 || matches!(kind, Kind::Tcp | Kind::Udp) {
                    plans.extend(FLOWS.map(|flows| Plan { forward, family, kind, flows, ..base }));
                }
            }
        }
    }
    plans.extend(STEPS.map(|services| Plan { services, ..base }));
    plans.extend(STEPS.map(|backends| Plan { backends, ..base }));
    plans
}

/// Rounds of a quick run, and the least of a real one.
const ROUNDS: [u32; 2] = [4, 24];

fn measure(bench: &mut Bench, weir: &mut Option<Weir>, plan: &Plan, arguments: &Arguments) -> Result<Row> {
    let traffic = frames::traffic(plan.family, plan.kind, plan.flows, plan.services.max(1));
    let plain = frames::traffic(Family::Ipv4, Kind::Tcp, plan.flows, 1);
    let (program, action) = match plan.program {
        "null" => (bench.reference(Reference::Null)?, XDP_TX),
        "swap" => (bench.reference(Reference::Swap)?, XDP_TX),
        "bare_ipip" => (bench.reference(Reference::BareIpip)?, XDP_TX),
        _ => (Weir::configured(weir, plan)?.program()?, action(plan.kind)),
    };
    let contenders = [
        Contender { program: bench.reference(Reference::Null)?, traffic, action: XDP_TX },
        Contender { program: bench.reference(Reference::BareIpip)?, traffic: plain, action: XDP_TX },
        Contender { program, traffic, action },
    ];
    bench.prepare(&contenders)?;
    let rounds = if arguments.quick { ROUNDS[0] } else { plan.flows.div_ceil(SEGMENT).max(ROUNDS[1]) };
    let (mut ns, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        let rounds = bench.run(rounds)?;
        let bare = median(rounds.iter().map(|[null, bare, _]| bare - null).collect());
        let this = median(rounds.iter().map(|[null, _, this]| this - null).collect());
        ns.push(this);
        ratios.push(this / bare);
    }
    let (low, high) = ns.iter().fold((f64::MAX, f64::MIN), |(low, high), ns| (low.min(*ns), high.max(*ns)));
    let Plan { program, forward, family, kind, flows, services, backends } = *plan;
    Ok(Row {
        program,
        forward,
        family,
        kind,
        flows,
        services,
        backends,
        ns: median(ns),
        spread: high - low,
        ratio: median(ratios),
    })
}

fn action(kind: Kind) -> u32 {
    match kind {
        Kind::Tcp | Kind::Udp => XDP_TX,
        Kind::FloodSyn => XDP_DROP,
        Kind::NotVip => XDP_PASS,
    }
}

/// Weir, loaded with the tables of a row and attached to nothing.
struct Weir {
    configuration: String,
    loaded: Loaded,
    pins: Pins,
}

impl Weir {
    /// The one that is loaded, or if the row wants another configuration a new one in its place.
    fn configured<'a>(loaded: &'a mut Option<Weir>, plan: &Plan) -> Result<&'a Weir> {
        let configuration = configuration(plan);
        if loaded.as_ref().is_none_or(|weir| weir.configuration != configuration) {
            *loaded = None;
            *loaded = Some(Weir::load(configuration)?);
        }
        loaded.as_ref().context("was loaded above")
    }

    fn load(configuration: String) -> Result<Self> {
        let config = config::parse("bench", &configuration)?;
        let node =
            NodeAddresses { v4: Some([192, 0, 2, 1].into()), v6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()) };
        let tables = plan(&config, node)?;
        let entry = abi::Interface { mac: mac_bits(frames::OUR_MAC), index: 1, ..abi::Interface::default() };
        let pins = Pins::new(format!("/sys/fs/bpf/weir-{}-bench", std::process::id()));
        pins.prepare()?;
        let interface = Attachment { name: "bench".into(), entry, xdp: None };
        let loaded = datapath::load(&pins, Kernel::running()?, &tables, vec![interface])?;
        for id in 0..tables.backends.len() as u16 {
            let mac = [2, 0, 0, 1, (id >> 8) as u8, id as u8];
            loaded.datapath().set_next_hop(id, NextHop::resolved(mac), 0, 1500);
        }
        Ok(Weir { configuration, loaded, pins })
    }

    fn program(&self) -> Result<ProgramFd> {
        Ok(self.loaded.program()?.fd()?.try_clone()?)
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.pins.remove();
    }
}

fn configuration(plan: &Plan) -> String {
    let Plan { forward, services, backends, .. } = plan;
    let method = if *forward == Forward::L2 { "l2" } else { "ipip" };
    let backend = |i: u32| match forward {
        Forward::L2 | Forward::Ipip => format!("\"10.200.{}.{}\"", i >> 8, i & 255),
        Forward::Ip6 => format!("\"2001:db8:b::{i:x}\""),
    };
    let backends: Vec<_> = (1..=(*backends).max(1)).map(backend).collect();
    let mut text = "interface = \"bench\"\n".to_owned();
    for service in 0..(*services).max(1) {
        let (high, low) = (1 + (service >> 8), service & 255);
        let port = if plan.kind == Kind::Udp { "53/udp" } else { "80" };
        let vip = match plan.family {
            Family::Ipv4 => format!("172.16.{high}.{low}:{port}"),
            Family::Ipv6 => format!("[2001:db8::ac10:{:x}]:{port}", high << 8 | low),
        };
        let backends = backends.join(", ");
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "[service.s{service}]\nvip = \"{vip}\"\nbackends = [{backends}]\nforward = \"{method}\"\nsyn = \"drop\"\n"
        );
    }
    text
}
