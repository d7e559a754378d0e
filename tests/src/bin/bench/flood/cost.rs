//! What a flood packet costs, in CPU time, net of the generator's own.
//!
//! The generator fills a CPU. The kernel runs the receiving side of a veth, and the filter in it, on the CPU that sent, before the
//! next batch is made: so the time that so many packets take, less the time that making them takes, is what they cost.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    Arguments,
    filter::Filter,
    stand::{Cpus, Discarding, Stand, pin},
};
use crate::{
    measure::{median, undisturbed},
    rows::progress,
};

/// What one flood packet costs behind a filter.
pub struct Cost {
    pub filter: Filter,
    /// ns, net of making the packet: the veth's share, the filter's, and where it does not drop, all that follows.
    pub ns: f64,
    /// How far the runs lie apart, ns.
    pub spread: f64,
    /// Packets that arrived and packets that the filter dropped, of all runs.
    pub arrived: u64,
    pub dropped: u64,
}

/// All of them, and what they are compared with, ns.
pub struct Costs {
    /// Making a packet.
    pub making: f64,
    /// Dropping it in the driver by a program that does nothing else.
    pub discarding: f64,
    pub of: Vec<Cost>,
}

/// Packets sent at a time, before the next one's turn.
const PACKETS: u32 = 1 << 15;
const TURNS: usize = 12;
const QUICK_TURNS: usize = 4;

/// Measures all in turns, on one CPU.
pub fn measure(arguments: &Arguments, cpus: Cpus) -> Result<Costs> {
    let (runs, turns) = if arguments.quick { (1, QUICK_TURNS) } else { (arguments.runs, TURNS) };
    let mut discarding = Discarding::new()?;
    let mut stands = Vec::new();
    for filter in arguments.filters() {
        stands.push(Stand::new(filter, &format!("cost-{}", filter.name()), cpus)?);
    }
    let before = stands.iter().map(Stand::fate).collect::<Result<Vec<_>>>()?;
    // After all that is to run elsewhere has begun.
    pin(0, cpus.flooding)?;
    // Per run: making, discarding, then each filter.
    let mut results: Vec<Vec<f64>> = vec![Vec::new(); 2 + stands.len()];
    for run in 1..=runs {
        let mut times: Vec<Vec<u64>> = vec![Vec::new(); results.len()];
        for turn in 1..=turns {
            progress(&format!("cost: run {run} of {runs}, turn {turn} of {turns}"));
            times[0].push(nanoseconds(discarding.flood.send_nothing(PACKETS)?));
            times[1].push(nanoseconds(discarding.flood.send_at_once(PACKETS)?));
            for (stand, times) in stands.iter_mut().zip(&mut times[2..]) {
                times.push(nanoseconds(stand.flood.send_at_once(PACKETS)?));
            }
        }
        for (results, times) in results.iter_mut().zip(times) {
            results.push(undisturbed(times, 4) / f64::from(PACKETS));
        }
    }
    progress("");
    let net = |results: &[f64], making: &[f64]| -> Vec<f64> {
        results.iter().zip(making).map(|(all, making)| all - making).collect()
    };
    let (making, discarded, filtered) = (&results[0], &results[1], &results[2..]);
    let mut of = Vec::new();
    for ((stand, before), results) in stands.iter().zip(before).zip(filtered) {
        let filter = stand.filter;
        let fate = stand.fate()?.since(before);
        let (arrived, dropped) = (fate.arrived(), fate.dropped);
        let name = filter.name();
        ensure!(fate.lost_in_ring * 100 < fate.made, "{name}: {} of {} lost in the ring", fate.lost_in_ring, fate.made);
        if filter.drops() {
            ensure!(dropped * 100 > arrived * 99, "{name}: of {arrived} packets that arrived, dropped only {dropped}");
        }
        let costs = net(results, making);
        let most = costs.iter().copied().fold(f64::MIN, f64::max);
        let least = costs.iter().copied().fold(f64::MAX, f64::min);
        of.push(Cost { filter, ns: median(costs), spread: most - least, arrived, dropped });
    }
    Ok(Costs { making: median(making.clone()), discarding: median(net(discarded, making)), of })
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}
