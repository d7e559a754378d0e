//! What a packet costs in each row.

use std::io::{self, IsTerminal as _};

use anyhow::{Result, ensure};
use lb_common::verdict::Action;

use crate::{
    Arguments,
    frames::{self, Family, Kind},
    measure::{Bench, Contender, Reference, SEGMENT, kernel_action},
    plan::{Plan, label},
    share::Share,
    weir::Weirs,
};

/// One measured row.
pub struct Row {
    pub plan: Plan,
    /// Over the null program, in the run that counts.
    pub ns: f64,
    /// The slowest run less the fastest.
    pub spread: f64,
    /// To the bare encapsulation, in the run that counts.
    pub ratio: f64,
}

impl Row {
    /// Of the runs, the one counts in which null took the least: it says how much of the core was ours, and nothing of the row.
    fn new(plan: Plan, runs: &[Run]) -> Option<Self> {
        let quietest = runs.iter().min_by(|a, b| a.null.total_cmp(&b.null))?;
        let ns = || runs.iter().map(|run| run.this);
        let (low, high) = (ns().fold(f64::MAX, f64::min), ns().fold(f64::MIN, f64::max));
        Some(Row { plan, ns: quietest.this, spread: high - low, ratio: quietest.this / quietest.bare })
    }
}

/// All that was measured, and what is to be said of it: rows that could not be, with the reason, and disturbances.
pub struct Measured {
    pub rows: Vec<Row>,
    pub warnings: Vec<String>,
}

/// Measures rows, each beside the null and the bare encapsulation so that its ratio is of one moment; all rows once, then all
/// once more, so that no row has all its runs while the machine is disturbed. Rows that still had no quiet moment are measured
/// again, as often as all were at most.
pub fn measure_all(plans: Vec<Plan>, arguments: &Arguments) -> Result<Measured> {
    let mut bench = Bench::load(arguments.generator())?;
    let mut weirs = Weirs::default();
    let mut runs: Vec<_> = plans.into_iter().map(|plan| (plan, Vec::new())).collect();
    let (mut left_out, mut core) = (Vec::new(), Share::default());
    let (passes, more, least) =
        if arguments.quick { (1, 0, QUICK_ROUNDS) } else { (arguments.runs, arguments.runs, ROUNDS) };
    for pass in 1..=passes + more {
        let bound = quiet(&runs);
        for (number, (plan, runs)) in (1..).zip(&mut runs) {
            if pass > passes && (runs.is_empty() || least_null(runs) <= bound) {
                continue;
            }
            let passes = passes.max(pass);
            progress(&format!("run {pass} of {passes}, row {number}: {}", label(plan)));
            core.look();
            match measure(&mut bench, &mut weirs, plan, least)? {
                Ok(run) => runs.push(run),
                Err(reason) if pass == 1 => left_out.push(format!("left out: {}: {reason}", label(plan))),
                Err(_) => {}
            }
        }
    }
    progress("");
    let bound = quiet(&runs);
    let disturbed = runs.iter().filter(|(_, runs)| !runs.is_empty() && least_null(runs) > bound);
    let disturbed: Vec<_> = disturbed.map(|(plan, _)| label(plan)).collect();
    let told = (!disturbed.is_empty()).then(|| format!("disturbed in every run: {}", disturbed.join(", ")));
    let warnings = core.warning().into_iter().chain(told).chain(left_out).collect();
    let rows = runs.into_iter().filter_map(|(plan, runs)| Row::new(plan, &runs)).collect();
    Ok(Measured { rows, warnings })
}

/// A run is disturbed if null takes so much longer in it than in the quietest run of any row. Kinds and families differ less.
const DISTURBED: f64 = 1.2;

/// What null takes at most in a run that is not disturbed.
fn quiet(runs: &[(Plan, Vec<Run>)]) -> f64 {
    DISTURBED * runs.iter().map(|(_, runs)| least_null(runs)).fold(f64::INFINITY, f64::min)
}

/// What null took in the quietest run.
fn least_null(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.null).fold(f64::INFINITY, f64::min)
}

/// One line that the next one replaces, where somebody looks on.
pub fn progress(line: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{line}");
    }
}

/// The least rounds of a run.
const ROUNDS: u32 = 128;
/// The same, of a quick one.
const QUICK_ROUNDS: u32 = 16;

/// What a packet costs over the null program, ns, and in front of that.
struct Run {
    this: f64,
    bare: f64,
    null: f64,
}

/// One run; or the reason why there is none.
fn measure(bench: &mut Bench, weirs: &mut Weirs, plan: &Plan, least: u32) -> Result<Result<Run, String>> {
    let traffic = frames::traffic(plan.family, plan.kind, plan.flows, plan.services.max(1));
    let plain = frames::traffic(Family::Ipv4, Kind::Tcp, plan.flows, 1);
    let weir = if plan.program == "weir" { Some(weirs.of(plan)?) } else { None };
    let (program, action) = match (plan.program, weir) {
        (_, Some(weir)) => (weir.program()?, plan.kind.action()),
        ("swap", _) => (bench.reference(Reference::Swap)?, Action::Transmit),
        ("bare_ipip", _) => (bench.reference(Reference::BareIpip)?, Action::Transmit),
        _ => (bench.reference(Reference::Null)?, Action::Transmit),
    };
    let contenders = [
        Contender { program: bench.reference(Reference::Null)?, traffic },
        Contender { program: bench.reference(Reference::BareIpip)?, traffic: plain },
        Contender { program, traffic },
    ];
    bench.prepare(&contenders)?;
    let first = bench.first()?;
    if first != kernel_action(action) {
        return Ok(Err(format!("the program did not {} the first packet (XDP action {first})", action.label())));
    }
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
    Ok(Ok(Run { this: this - null, bare: bare - null, null }))
}
