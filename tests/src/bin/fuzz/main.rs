//! `cargo xtask fuzz`: frames for three judges, for as long as one likes.

mod guided;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use tests::fuzz::{
    campaign::{Campaign, inputs_of},
    report::Finding,
};

use crate::guided::Guided;

/// Compares the path with the specification written a second time: on the host, guided by coverage, and in the kernel
#[derive(Parser)]
#[command(bin_name = "cargo xtask fuzz")]
struct Arguments {
    /// How long
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// What all frames follow from; printed, so that a run can be had again
    #[arg(long, default_value_t = fastrand::u64(..))]
    seed: u64,
    /// Leave out the kernel
    #[arg(long)]
    host_only: bool,
    /// The program with libFuzzer inside; without it nothing is guided by coverage
    #[arg(long, hide = true)]
    guided: Option<PathBuf>,
    /// Where libFuzzer keeps inputs that reach new branches
    #[arg(long, default_value = "target/fuzz/corpus")]
    corpus: PathBuf,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    println!("seed {}", arguments.seed);
    let mut campaign = Campaign::new(arguments.seed, !arguments.host_only)?;
    let begin = Instant::now();
    let time = Duration::try_from_secs_f64(60.0 * arguments.minutes)?;
    let guided = match &arguments.guided {
        Some(program) => Some(Guided::start(program, &arguments.corpus, time, arguments.seed)?),
        None => None,
    };
    let found = run(&mut campaign, begin + time, guided.as_ref().map(|_| &arguments.corpus));
    let guided = guided.map(Guided::end).transpose()?;
    print!("{}", campaign.totals.text(begin.elapsed()));
    if let Some(guided) = &guided {
        println!("{}", guided.text(begin.elapsed()));
    }
    if let Err(finding) = found? {
        println!("{finding}");
        return Ok(ExitCode::FAILURE);
    }
    if guided.is_some_and(|guided| guided.failed) {
        return Ok(ExitCode::FAILURE);
    }
    println!("no disagreement");
    Ok(ExitCode::SUCCESS)
}

/// Batches of new frames, and now and then what libFuzzer found, so that the kernel gets it too.
fn run(campaign: &mut Campaign, end: Instant, corpus: Option<&PathBuf>) -> Result<Result<(), Box<Finding>>> {
    let mut known = BTreeSet::new();
    let mut batches = 0u64;
    while Instant::now() < end {
        if let Err(finding) = campaign.run_batch() {
            return Ok(Err(finding));
        }
        batches += 1;
        if let (Some(corpus), true) = (corpus, batches.is_multiple_of(100)) {
            for input in inputs_of(corpus, &mut known)? {
                if let Err(finding) = campaign.run_input(&input) {
                    return Ok(Err(finding));
                }
            }
        }
    }
    Ok(Ok(()))
}
