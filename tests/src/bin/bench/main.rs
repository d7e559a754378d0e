//! `cargo xtask bench`: what a packet costs, in ns over a null program and as ratios to the barest encapsulation.

mod frames;
mod machine;
mod measure;
mod report;
mod rows;

use anyhow::Result;
use clap::{Parser, ValueEnum};

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
    if arguments.output == Output::Text {
        println!("{machine}");
    }
    let measured = rows::measure_all(&arguments)?;
    match arguments.output {
        Output::Text => println!("{}", report::text(&measured)),
        Output::Json => println!("{:#}", report::json(&measured)),
    }
    Ok(())
}
