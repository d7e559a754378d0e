//! `cargo xtask bench`: what a packet costs, in ns over a null program and as ratios to the barest encapsulation.

mod end_to_end;
mod frames;
mod machine;
mod measure;
mod plan;
mod report;
mod rows;
mod size;
mod weir;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use lb_userspace::{datapath::requirements::Kernel, lab::LIVE_FRAMES_KERNEL};
use report::Report;
use rows::Measured;

/// Measures what a packet costs
#[derive(Parser)]
struct Arguments {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Runs of each row, of which the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only rows with these words in their label, such as "weir l2 ipv4 tcp 16000000"; null and bare_ipip come along
    #[arg(long, default_value = "")]
    only: String,
    /// One short run of each row: for trying, not for figures
    #[arg(long)]
    quick: bool,
    /// Let what the generator wrote leave the store buffer before a program reads it
    #[arg(long, default_value_t = measure::BARRIER, action = clap::ArgAction::Set)]
    barrier: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let machine = machine::describe()?;
    let load = machine::Load::now()?;
    let report = measure(machine, &arguments)?;
    let report = Report { warnings: load.warning_since()?.into_iter().chain(report.warnings).collect(), ..report };
    match arguments.output {
        Output::Text => println!("{}", report.text()),
        Output::Json => println!("{:#}", report.json()),
    }
    Ok(())
}

fn measure(machine: String, arguments: &Arguments) -> Result<Report> {
    let only = plan::Only::new(&arguments.only);
    measure::take_one_cpu()?;
    let Measured { rows, left_out } = rows::measure_all(only.with_references(plan::plans()), arguments)?;
    let over_veth = only.of(end_to_end::plans());
    let (end_to_end, refused) = if over_veth.is_empty() || Kernel::running()? >= LIVE_FRAMES_KERNEL {
        (end_to_end::measure_all(over_veth, arguments)?, None)
    } else {
        (Vec::new(), Some("end to end: needs kernel 5.18, which sends what a program is tried on".to_owned()))
    };
    let warnings = left_out.into_iter().map(|row| format!("left out: {row}")).chain(refused).collect();
    let size = size::measure(|label| only.wants(label))?;
    Ok(Report { machine, warnings, rows, end_to_end, size })
}
