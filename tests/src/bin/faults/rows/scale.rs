//! A thousand services: how long changes take until packets meet them, and how much memory the agent has then.

use std::{
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lb_userspace::datapath::{Access, Datapath, Pins};

use super::{Seen, ten_and};
use crate::{
    report::Figure,
    rig::{Rig, backend_interface},
};

/// Services that share a set.
const SHARING: usize = 20;
const BACKENDS: usize = 100;
/// A backend of every set.
const COMMON: usize = 75;

/// Allowed: ms for the whole, for one set, for all sets; MB.
const WHOLE_MS: f64 = 2_000.0;
const ONE_MS: f64 = 20.0;
const ALL_MS: f64 = 500.0;
const RESIDENT_MB: f64 = 150.0;

/// Beside the service that is watched, so many, twenty to a set, each set shifted by one; the backend of all sets has a weight, and so
/// has the first of the first set.
fn services(count: usize, first: u16, common: u16) -> String {
    let count_of_sets = count.div_ceil(SHARING);
    let set = |number: usize| {
        let backend = |n: usize| match (number, n) {
            (0, 0) => format!("\"10.1.4.1*{first}\""),
            (_, COMMON) => format!("\"10.1.4.{}*{common}\"", n + 1),
            _ => format!("\"10.1.4.{}\"", n + 1),
        };
        (number..number + BACKENDS).map(backend).collect::<Vec<_>>().join(", ")
    };
    let sets: Vec<_> = (0..count_of_sets).map(set).collect();
    let service = |n: usize| {
        format!(
            "[service.s{n:03}]\nvip = \"10.3.{}.{}:80\"\nbackends = [{}]\n",
            n / 250,
            n % 250 + 1,
            sets[n % count_of_sets]
        )
    };
    // Room for two of everything: the agent starts with little.
    format!("arena = 8388608\n{}", ten_and(&(0..count).map(service).collect::<String>()))
}

/// One service, in an arena that has room for a thousand.
pub fn little() -> String {
    format!("arena = 8388608\n{}", ten_and(""))
}

/// All of it comes, changes by one backend in one set, then in all sets.
pub fn thousand_services(rig: &mut Rig) -> Result<Seen> {
    rig.balancer.ip("addr add 10.1.4.254/24 dev eth0")?;
    let count = rig.scale.services;
    let sets = count.div_ceil(SHARING);
    for n in 1..sets + BACKENDS {
        rig.backends.ip(&format!("addr add 10.1.4.{n}/32 dev {}", backend_interface(11)))?;
    }
    let tables = Datapath::open(&Pins::new(rig.balancer.pins()), Access::Read)?;
    let whole = apply(rig, &tables, &services(count, 1, 1))?;
    let times = rig.scale.twenty as u16;
    let mut one = Vec::new();
    for number in 0..times {
        one.push(live_after(rig, &tables, &["weight", "s000", "10.1.4.1", &format!("{}", 2 + number)])?);
        rig.pace(u64::from(number) + 1, u64::from(times), rig.scale.frames)?;
    }
    rig.verb(&["revert"])?;
    let mut all = Vec::new();
    for number in 0..times.div_ceil(4) {
        all.push(apply(rig, &tables, &services(count, 1, 2 + number))?);
    }
    let figure = |id, value, allowed| Figure { id, unit: "ms", value, allowed };
    let figures = vec![
        figure("apply_whole", whole, WHOLE_MS),
        figure("apply_one", median(one), ONE_MS),
        figure("apply_all", median(all), ALL_MS),
        Figure { id: "resident", unit: "MB", value: rig.resident_mb()?, allowed: RESIDENT_MB },
    ];
    Ok(Seen { note: format!("{count} services over {sets} sets of {BACKENDS}"), figures, ..Seen::default() })
}

/// Applies a file; milliseconds from the command line's start until packets met it.
fn apply(rig: &Rig, tables: &Datapath, text: &str) -> Result<f64> {
    let file = rig.write(text)?;
    live_after(rig, tables, &["apply", file.to_str().unwrap_or_default()])
}

/// Milliseconds from the start of a command until the other half of the tables is live.
fn live_after(rig: &Rig, tables: &Datapath, arguments: &[&str]) -> Result<f64> {
    let before = tables.half();
    let mut command = rig.command(arguments)?;
    let begin = Instant::now();
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut live = None;
    while running.try_wait()?.is_none() {
        if live.is_none() && tables.half() != before {
            live = Some(begin.elapsed());
        }
        thread::sleep(Duration::from_micros(100));
    }
    let live = live.or_else(|| (tables.half() != before).then(|| begin.elapsed()));
    let said = || {
        String::from_utf8_lossy(&running.wait_with_output().map(|output| output.stderr).unwrap_or_default())
            .into_owned()
    };
    let live = live.with_context(|| format!("weir {}: nothing went live: {}", arguments.join(" "), said()))?;
    Ok(live.as_secs_f64() * 1_000.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
