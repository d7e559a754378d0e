//! Packets a second over veth: out by one end of a pair, through a program on the other, back, and counted. One pair's program
//! is Weir, the other's only reflects; they take turns. Everything happens on one CPU: the kernel runs the receiving side of a
//! veth where the sending side was.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, TestRun as _, TestRunAttrs, TestRunOptions,
    maps::{Array, MapData},
    programs::XdpMode,
};
use lb_common::abi::{BENCH_FRAME, BenchTraffic};
use lb_userspace::{
    datapath::Plain,
    lab::{Host, Lab},
};

use crate::{
    Arguments,
    frames::{self, Family, Kind},
    measure::{load_object, program, undisturbed},
    plan::{Forward, Plan, label},
    rows::progress,
    weir::{Pinned, Weir},
};

/// Weir and the reflector, over the same kind of wire.
pub struct EndToEnd {
    pub plan: Plan,
    /// Packets a second, in the run in which the reflector was fastest.
    pub weir: f64,
    pub reflector: f64,
    /// Of the two.
    pub ratio: f64,
}

/// Packets sent at a time, before the other's turn.
const PACKETS: u32 = 1 << 16;
/// Turns of each in a run.
const TURNS: usize = 32;
const QUICK_TURNS: usize = 8;

/// What there is to measure.
pub fn plans() -> Vec<Plan> {
    let plan = |(forward, family)| Plan {
        program: "end_to_end",
        forward,
        family,
        kind: Kind::Tcp,
        flows: 1_000_000,
        services: 1,
        backends: 100,
    };
    let ways = [Forward::L2, Forward::Ipip, Forward::Ip6].map(|way| [(way, Family::Ipv4), (way, Family::Ipv6)]);
    ways.concat().into_iter().map(plan).collect()
}

/// Measures them, each over wires of its own; all once, then all once more.
pub fn measure_all(plans: Vec<Plan>, arguments: &Arguments) -> Result<Vec<EndToEnd>> {
    let (passes, turns) = if arguments.quick { (1, QUICK_TURNS) } else { (arguments.runs, TURNS) };
    let wires = |(number, plan)| Ok((plan, Wires::new(&plan, number, arguments)?, Vec::new()));
    let mut measured = (0..).zip(plans).map(wires).collect::<Result<Vec<_>>>()?;
    for pass in 1..=passes {
        for (plan, wires, runs) in &mut measured {
            progress(&format!("run {pass} of {passes}: {}", label(plan)));
            runs.push(wires.run(turns)?);
        }
    }
    progress("");
    let quietest = |(plan, _, runs): (Plan, Wires, Vec<[f64; 2]>)| {
        let [weir, reflector] = runs.into_iter().max_by(|a, b| a[1].total_cmp(&b[1]))?;
        Some(EndToEnd { plan, weir, reflector, ratio: weir / reflector })
    };
    Ok(measured.into_iter().filter_map(quietest).collect())
}

/// Two veth pairs, `near0` and `far0` with Weir, `near1` and `far1` with the reflector.
struct Wires {
    host: Host,
    object: Ebpf,
    arrived: Array<MapData, u64>,
    contexts: [[u8; 24]; 2],
    _weir: Pinned,
    _lab: Lab,
}

impl Wires {
    fn new(plan: &Plan, number: u32, arguments: &Arguments) -> Result<Self> {
        let lab = Lab::new(&format!("bench{number}"))?;
        let host = lab.host("wires")?;
        // What the stack sends of its own accord may make another CPU receive, which then goes on as long as there is more.
        host.set("net/ipv6/conf/default/disable_ipv6", 1)?;
        for number in 0..2 {
            let mac = lb_userspace::links::mac_text(frames::OUR_MAC);
            host.ip(&format!("link add near{number} type veth peer name far{number} address {mac}"))?;
            for end in ["near", "far"] {
                host.ip(&format!("link set {end}{number} up"))?;
            }
        }
        let mut object = load_object(arguments.generator())?;
        for (name, interfaces) in [("arrive", vec!["near0", "near1"]), ("swap", vec!["far1"]), ("send", vec!["idle"])] {
            if name == "send" {
                // The kernel takes 20 ms to make a program ready that is attached nowhere, in every turn.
                host.ip("link add idle type veth peer name idle-peer")?;
            }
            let program = program(&mut object, name)?;
            program.load()?;
            for interface in interfaces {
                let index = host.index(interface)?;
                host.within(|| Ok(program.attach_to_if_index(index, XdpMode::Driver)?))?;
            }
        }
        let weir = Weir::load(plan, &format!("wires{number}"), "far0", host.index("far0")?)?;
        let weir = host.within(|| weir.attach())?;
        let mut traffic = Array::<_, Plain<BenchTraffic>>::try_from(object.take_map("TRAFFIC").context("no TRAFFIC")?)?;
        traffic.set(0, Plain(frames::traffic(plan.family, plan.kind, plan.flows, 1)), 0)?;
        let arrived = Array::try_from(object.take_map("ARRIVED").context("no ARRIVED")?)?;
        let contexts = [context(host.index("near0")?), context(host.index("near1")?)];
        Ok(Wires { host, object, arrived, contexts, _weir: weir, _lab: lab })
    }

    /// So many turns of each; packets a second by Weir and by the reflector.
    fn run(&mut self, turns: usize) -> Result<[f64; 2]> {
        let Wires { host, object, arrived, contexts, .. } = self;
        let send = program(object, "send")?;
        let turn = |context: &[u8; 24]| {
            let frame = [0; BENCH_FRAME];
            let options = TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(context),
                repeat: PACKETS,
                attrs: TestRunAttrs::new().xdp_live_frames(0),
                ..TestRunOptions::default()
            };
            let before = arrived.get(&0, 0)?;
            let begin = Instant::now();
            send.test_run(options).context("the kernel did not send frames")?;
            let time = begin.elapsed().as_nanos() as u64;
            let lost = u64::from(PACKETS) - (arrived.get(&0, 0)? - before).min(u64::from(PACKETS));
            ensure!(lost < u64::from(PACKETS) / 100, "{lost} of {PACKETS} packets did not come back");
            Ok(time)
        };
        let times = host.within(|| {
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..turns {
                for (times, context) in times.iter_mut().zip(contexts.iter()) {
                    times.push(turn(context)?);
                }
            }
            Ok(times)
        })?;
        Ok(times.map(|times| f64::from(PACKETS) * 1e9 / undisturbed(times, 4)))
    }
}

/// A `struct xdp_md` that says how long the frame is and by which interface it came.
fn context(interface: u32) -> [u8; 24] {
    let (data, data_meta, queue, egress) = (0, 0, 0, 0);
    let words: [u32; 6] = [data, BENCH_FRAME as u32, data_meta, interface, queue, egress];
    let mut bytes = [0; 24];
    for (word, bytes) in words.iter().zip(bytes.chunks_mut(4)) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}
