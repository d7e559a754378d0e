//! What whole packets cost beside a flood of fragments, each the first of another datagram.

use anyhow::{Context as _, Result, ensure};

use crate::{
    Arguments,
    frames::{self, Family, Kind},
    measure::{Bench, Contender, Reference, SEGMENT},
    plan::{Forward, Plan},
    weir::Weirs,
};

/// Whole packets alone and beside the flood, ns over the null program.
pub struct Beside {
    pub alone: f64,
    pub beside: f64,
    /// Fragments in a run, each the first of a datagram of its own.
    pub fragments: u32,
}

/// What the report calls it.
pub const LABEL: &str = "beside_fragments";

/// Fragments of TCP go the whole way and leave their ports behind; they and whole packets of other flows of the same service take
/// turns of so many packets as a segment has, so that the whole ones find the caches as the fragments left them.
pub fn measure(arguments: &Arguments) -> Result<Beside> {
    const FLOWS: u32 = 1_000_000;
    let mut bench = Bench::load(arguments.generator())?;
    let mut weirs = Weirs::default();
    let plan = Plan {
        program: "weir",
        forward: Forward::L2,
        family: Family::Ipv4,
        kind: Kind::Tcp,
        flows: FLOWS,
        services: 1,
        backends: 100,
    };
    let weir = weirs.of(&plan)?.program()?;
    let null = bench.reference(Reference::Null)?;
    let whole = frames::traffic(Family::Ipv4, Kind::Tcp, FLOWS, 1);
    let fragments = frames::traffic(Family::Ipv4, Kind::FirstFragment, FLOWS, 1);
    let rounds = FLOWS.div_ceil(SEGMENT);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..if arguments.quick { 1 } else { arguments.runs } {
        for (traffic, costs) in [(whole, &mut alone), (fragments, &mut beside)] {
            let contenders = [
                Contender { program: null.try_clone()?, traffic: whole },
                Contender { program: weir.try_clone()?, traffic },
                Contender { program: weir.try_clone()?, traffic: whole },
            ];
            bench.prepare(&contenders)?;
            let [null, _, this] = loop {
                if let Some(times) = bench.run(rounds)? {
                    break times;
                }
            };
            costs.push([null, this - null]);
        }
    }
    ensure!(rounds * SEGMENT >= FLOWS, "{rounds} rounds do not visit {FLOWS} datagrams");
    // As for rows: null says which run was disturbed least.
    let quietest = |costs: Vec<[f64; 2]>| costs.into_iter().min_by(|a, b| a[0].total_cmp(&b[0])).map(|[_, cost]| cost);
    let (alone, beside) = quietest(alone).zip(quietest(beside)).context("no run")?;
    Ok(Beside { alone, beside, fragments: FLOWS })
}
