//! `cargo xtask bench`: what a packet costs, in ns over a null program and as ratios to the barest encapsulation.

mod beside;
mod checks;
mod end_to_end;
mod flood;
mod frames;
mod measure;
mod plan;
mod report;
mod rows;
mod share;
mod size;
mod weir;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use lb_userspace::{
    datapath::requirements::{FRAGS_KERNEL, Kernel},
    lab::{LIVE_FRAMES_KERNEL, Lab},
};
use measure::Generator;
use report::Report;
use rows::Measured;
use tests::{docs, machine};

/// Measures what a packet costs.
///
/// Three tables: ns a packet over a program that does nothing, and as ratios to the barest encapsulation; packets a second from
/// end to end over veth, against a program that only reflects; how long the programs are. docs/benchmarks.md says how to read
/// them. Takes about six minutes, up to twice that where the machine is disturbed, of one CPU, as root.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// How to print: text is three tables, json {"version":1,"rows":[…]} with the other tables beside the rows
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Runs of each row; the one counts that was disturbed least, going by the program it is compared with
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only rows with these words in their label, such as "weir l2 ipv4 tcp 16000000"; null and bare_ipip come along
    #[arg(long, default_value = "")]
    only: String,
    /// One short run of each row: for trying, not for figures
    #[arg(long)]
    quick: bool,
    /// Write the tables into docs/benchmarks.md
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    write_docs: bool,
    /// Let what the generator wrote leave the store buffer before a program reads it
    #[arg(long, default_value_t = measure::BARRIER, action = clap::ArgAction::Set)]
    barrier: bool,
    /// Put the head of every frame back, also where no program has moved it, so that null pays for it too
    #[arg(long, default_value_t = measure::ALWAYS_RESTORE, action = clap::ArgAction::Set)]
    always_restore: bool,
}

/// What else can be measured.
#[derive(Subcommand)]
enum Other {
    Flood(flood::Arguments),
    Checks(checks::Arguments),
}

impl Arguments {
    fn generator(&self) -> Generator {
        Generator { barrier: self.barrier, always_restore: self.always_restore }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let kernel = Kernel::running()?;
    // Programs that a tail call joins must agree about frames in several buffers; the second table wants live frames.
    ensure!(kernel >= FRAGS_KERNEL && kernel >= LIVE_FRAMES_KERNEL, "kernel {kernel}: the bench needs 5.18 or newer");
    match &arguments.other {
        Some(Other::Flood(arguments)) => {
            flood::run(arguments)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Other::Checks(arguments)) => {
            return Ok(if checks::run(arguments)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        None => {}
    }
    let machine = machine::describe("BPF_PROG_TEST_RUN on one CPU")?;
    let load = machine::Load::now()?;
    let report = measure(machine, &arguments)?;
    let report = Report { warnings: load.warning_since()?.into_iter().chain(report.warnings).collect(), ..report };
    if arguments.write_docs {
        docs::write("benchmarks.md", &report.text())?;
    }
    match arguments.output {
        Output::Text => println!("{}", report.text()),
        Output::Json => println!("{:#}", report.json()),
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(machine: String, arguments: &Arguments) -> Result<Report> {
    let only = plan::Only::new(&arguments.only);
    let wires = only.of(end_to_end::plans());
    if !wires.is_empty() {
        // Before minutes are spent on the other tables.
        Lab::check()?;
    }
    measure::take_one_cpu()?;
    let Measured { rows, warnings } = rows::measure_all(only.with_references(plan::plans()), arguments)?;
    let end_to_end = end_to_end::measure_all(wires, arguments)?;
    let beside = only.wants(beside::LABEL).then(|| beside::measure(arguments)).transpose()?;
    let size = size::measure(|label| only.wants(label))?;
    Ok(Report { machine, warnings, rows, end_to_end, beside, size })
}
