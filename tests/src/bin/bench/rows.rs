//! What is measured, in which tables.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use aya::programs::ProgramFd;
use lb_common::{
    abi::{self, NextHop, mac_bits},
    verdict::Action,
};
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
    pub plan: Plan,
    /// Over the null program, the median of all runs.
    pub ns: f64,
    /// The slowest run less the fastest.
    pub spread: f64,
    /// To the bare encapsulation, the median of all runs.
    pub ratio: f64,
}

impl Row {
    fn new(plan: Plan, runs: &[Run]) -> Self {
        let ns = || runs.iter().map(|run| run.this);
        let (low, high) = (ns().fold(f64::MAX, f64::min), ns().fold(f64::MIN, f64::max));
        let ratio = median(runs.iter().map(|run| run.this / run.bare).collect());
        Row { plan, ns: median(ns().collect()), spread: high - low, ratio }
    }
}

/// A row to be measured.
#[derive(Clone, Copy)]
pub struct Plan {
    pub program: &'static str,
    pub forward: Forward,
    pub family: Family,
    pub kind: Kind,
    pub flows: u32,
    pub services: u32,
    pub backends: u32,
}

/// Measures what is wanted, each row beside the null and the bare encapsulation so that its ratio is of one moment; all
/// rows once, then all once more, so that no row has all its runs while the machine is disturbed.
pub fn measure_all(arguments: &Arguments) -> Result<Vec<Row>> {
    let mut bench = Bench::load(arguments.barrier)?;
    let mut weirs = Vec::new();
    let plans = wanted(&arguments.only);
    let mut rows: Vec<_> = plans.iter().map(|_| Vec::new()).collect();
    let (runs, least) = if arguments.quick { (1, QUICK_ROUNDS) } else { (arguments.runs, ROUNDS) };
    for _ in 0..runs {
        for (plan, runs) in plans.iter().zip(&mut rows) {
            runs.push(measure(&mut bench, &mut weirs, plan, least)?);
        }
    }
    Ok(plans.into_iter().zip(rows).map(|(plan, runs)| Row::new(plan, &runs)).collect())
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
    // One service and 100 backends have been above.
    plans.extend(STEPS[1..].iter().map(|services| Plan { services: *services, ..base }));
    plans.extend(STEPS.map(|backends| Plan { backends, ..base }));
    plans
}

/// The least rounds of a run.
const ROUNDS: u32 = 128;
/// The same, of a quick one.
const QUICK_ROUNDS: u32 = 16;

/// What a packet costs over the null program, ns.
struct Run {
    this: f64,
    bare: f64,
}

fn measure(bench: &mut Bench, weirs: &mut Vec<Weir>, plan: &Plan, least: u32) -> Result<Run> {
    let traffic = frames::traffic(plan.family, plan.kind, plan.flows, plan.services.max(1));
    let plain = frames::traffic(Family::Ipv4, Kind::Tcp, plan.flows, 1);
    let weir = if plan.program == "weir" { Some(Weir::configured(weirs, plan)?) } else { None };
    let (program, action) = match (plan.program, weir) {
        (_, Some(weir)) => (weir.program()?, plan.kind.action()),
        ("swap", _) => (bench.reference(Reference::Swap)?, Action::Transmit),
        ("bare_ipip", _) => (bench.reference(Reference::BareIpip)?, Action::Transmit),
        _ => (bench.reference(Reference::Null)?, Action::Transmit),
    };
    let contenders = [
        Contender { program: bench.reference(Reference::Null)?, traffic, action: Action::Transmit },
        Contender { program: bench.reference(Reference::BareIpip)?, traffic: plain, action: Action::Transmit },
        Contender { program, traffic, action },
    ];
    bench.prepare(&contenders)?;
    let rounds = plan.flows.div_ceil(SEGMENT).max(least);
    let (before, [null, bare, this]) = loop {
        let before = weir.map(|weir| weir.seen(action)).transpose()?;
        if let Some(times) = bench.run(rounds)? {
            break (before, times);
        }
    };
    if let (Some(weir), Some(before)) = (weir, before) {
        let (seen, sent) = (weir.seen(action)? - before, u64::from(rounds * SEGMENT));
        ensure!(seen == sent, "{}: {seen} of {sent} packets ended by {}", label(plan), action.label());
    }
    Ok(Run { this: this - null, bare: bare - null })
}

/// Weir, loaded with the tables of a row and attached to nothing.
struct Weir {
    configuration: Configuration,
    loaded: Loaded,
    pins: Pins,
}

impl Weir {
    /// The one loaded with the tables that a row wants; loads it if there is none.
    fn configured<'a>(loaded: &'a mut Vec<Weir>, plan: &Plan) -> Result<&'a Weir> {
        let configuration = Configuration::of(plan);
        let found = loaded.iter().position(|weir| weir.configuration == configuration);
        let index = match found {
            Some(index) => index,
            None => {
                loaded.push(Weir::load(configuration, loaded.len())?);
                loaded.len() - 1
            }
        };
        Ok(&loaded[index])
    }

    fn load(configuration: Configuration, number: usize) -> Result<Self> {
        let config = config::parse("bench", &configuration.text())?;
        let node =
            NodeAddresses { v4: Some([192, 0, 2, 1].into()), v6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()) };
        let tables = plan(&config, node)?;
        let entry = abi::Interface { mac: mac_bits(frames::OUR_MAC), index: 1, ..abi::Interface::default() };
        let pins = Pins::new(format!("/sys/fs/bpf/weir-{}-bench{number}", std::process::id()));
        pins.prepare()?;
        let interface = Attachment { name: "bench".into(), entry, xdp: None };
        let loaded = datapath::load(&pins, Kernel::running()?, &tables, vec![interface])?;
        for id in 0..tables.backends.len() as u16 {
            let mac = [2, 0, 0, 1, (id >> 8) as u8, id as u8];
            loaded.datapath().set_next_hop(id, NextHop::resolved(mac), 0, 1500);
        }
        Ok(Weir { configuration, loaded, pins })
    }

    /// Packets that ended by this action so far.
    fn seen(&self, action: Action) -> Result<u64> {
        let verdicts = self.loaded.datapath().verdicts()?;
        let of_action = verdicts.iter().filter(|(verdict, _)| verdict.action() == action);
        Ok(of_action.flat_map(|(_, packets)| packets).sum())
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

/// What differs between the configurations of rows.
#[derive(PartialEq, Eq)]
struct Configuration {
    forward: Forward,
    family: Family,
    port: &'static str,
    services: u32,
    backends: u32,
}

impl Configuration {
    fn of(plan: &Plan) -> Self {
        let Plan { forward, family, services, backends, .. } = *plan;
        let port = if plan.kind == Kind::Udp { "53/udp" } else { "80" };
        Configuration { forward, family, port, services, backends }
    }

    fn text(&self) -> String {
        let Configuration { forward, family, port, services, backends } = self;
        let method = if *forward == Forward::L2 { "l2" } else { "ipip" };
        let backend = |i: u32| match forward {
            Forward::L2 | Forward::Ipip => format!("\"10.200.{}.{}\"", i >> 8, i & 255),
            Forward::Ip6 => format!("\"2001:db8:b::{i:x}\""),
        };
        let backends = (1..=*backends).map(backend).collect::<Vec<_>>().join(", ");
        let mut text = "interface = \"bench\"\n".to_owned();
        for service in 0..*services {
            let (high, low) = (1 + (service >> 8), service & 255);
            let vip = match family {
                Family::Ipv4 => format!("172.16.{high}.{low}:{port}"),
                Family::Ipv6 => format!("[2001:db8::ac10:{:x}]:{port}", high << 8 | low),
            };
            // Writing into a string cannot fail.
            let _ = write!(
                text,
                "[service.s{service}]\nvip = \"{vip}\"\nbackends = [{backends}]\nforward = \"{method}\"\nsyn = \"drop\"\n"
            );
        }
        text
    }
}
