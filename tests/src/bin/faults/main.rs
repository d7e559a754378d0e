//! `cargo xtask faults`: what becomes of packets when something changes or breaks, row by row.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ledger;
mod owners;
mod report;
mod rig;
mod rows;
mod wire;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use lb_userspace::{datapath::requirements::Kernel, lab::LIVE_FRAMES_KERNEL};
use report::Report;
use rig::Scale;
use tests::{docs, machine};

/// Shows what becomes of packets when something changes or breaks.
///
/// Every row sends numbered flows through a balancer of its own, at least half a million packets a second, counts at each backend
/// what arrived of which flow, and compares that with what the tables announce. docs/faults.md says how to read the table. Exits 1
/// where a row exceeds what it is allowed.
#[derive(Parser)]
#[command(name = "cargo xtask faults", bin_name = "cargo xtask faults")]
struct Arguments {
    /// How to print: text is a table, json {"version":1,"rows":[…]}
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Only these rows
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    only: Vec<String>,
    /// Fewer repetitions and packets, seconds a row, and no rate demanded: what `cargo xtask test` runs
    #[arg(long)]
    short: bool,
    /// Write the table into docs/faults.md
    #[arg(long, conflicts_with_all = ["short", "only"])]
    write_docs: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let kernel = Kernel::running()?;
    ensure!(kernel >= LIVE_FRAMES_KERNEL, "kernel {kernel}: faults need 5.18 or newer, which sends live frames");
    let known: Vec<_> = rows::ALL.iter().map(|row| row.fault).collect();
    for name in &arguments.only {
        ensure!(known.contains(&name.as_str()), "--only {name}: no such row; there are {}", known.join(", "));
    }
    let scale = if arguments.short { Scale::SHORT } else { Scale::WHOLE };
    let mut report =
        Report { machine: machine::describe("live frames of 64 bytes")?, rows: Vec::new(), figures: Vec::new() };
    for fault in
        rows::ALL.iter().filter(|row| arguments.only.is_empty() || arguments.only.iter().any(|name| name == row.fault))
    {
        let (row, figures) = rows::run(fault, scale, !arguments.short);
        if arguments.output == Output::Text {
            eprintln!("{}", report::row(&row));
        }
        report.rows.push(row);
        // A time is no figure where the build is not the one that is installed, or others work beside.
        report.figures.extend(figures.into_iter().filter(|_| !arguments.short));
    }
    if arguments.write_docs {
        docs::write("faults.md", &report.text())?;
    }
    match arguments.output {
        Output::Text => println!("{}", report.text()),
        Output::Json => println!("{:#}", report.json()),
    }
    Ok(if report.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
