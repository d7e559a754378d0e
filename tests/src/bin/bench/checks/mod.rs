//! `cargo xtask bench checks`: what checking costs, and what clients see of a backend that dies. In namespaces, with real servers.

mod killed;
mod many;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tests::{docs, machine};

use self::many::Forward;
use crate::Output;

/// Measures checks.
///
/// Many: an agent that checks thousands of backends by the VIP, through tunnels: its CPU time, its memory, how late its checks are,
/// and what a new agent makes of them after a SIGKILL. Killed: ten backends under new connections, one of which dies and comes
/// back. docs/health.md says how to read them. Takes about three minutes and two CPUs, as root. Exits 1 where a figure is above
/// what is allowed.
#[derive(Args)]
pub struct Arguments {
    /// How to print: text is a table, json {"version":1,"figures":[…]}
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Backends that are checked, every 2 s
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    backends: u32,
    /// How long CPU time is counted, and how long lateness is looked at, seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(4..))]
    seconds: u32,
    /// New connections a second beside the backend that dies
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..))]
    connections: u32,
    /// Only these parts
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Write the table into docs/health.md
    #[arg(long, conflicts_with = "only")]
    write_docs: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Many,
    Killed,
}

/// The binary as it is installed, built into the directory beside the bench's.
fn weir() -> Result<PathBuf> {
    let bench = std::env::current_exe()?;
    let target = bench.ancestors().nth(2).context("the bench lies in no profile's directory")?;
    let weir = target.join("release/weir");
    ensure!(weir.exists(), "{}: not there: run `cargo xtask bench checks`", weir.display());
    Ok(weir)
}

/// What was measured, and the most that it may be.
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub value: f64,
    pub most: Option<f64>,
}

impl Figure {
    fn new(name: impl Into<String>, unit: &'static str, value: f64, most: impl Into<Option<f64>>) -> Self {
        Figure { name: name.into(), unit, value, most: most.into() }
    }

    fn is_fine(&self) -> bool {
        self.most.is_none_or(|most| self.value <= most)
    }

    fn line(&self) -> String {
        let most = self.most.map_or(String::new(), |most| format!("{most:>10.1}"));
        let over = if self.is_fine() { "" } else { "  over" };
        format!("{:<69} {:>10.1} {most:>10} {}{over}", self.name, self.value, self.unit)
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "unit": self.unit, "value": self.value, "most": self.most })
    }
}

/// Measures what is wanted and prints it; whether all is within what is allowed.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let machine = machine::describe("network namespaces")?;
    let wants = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut figures = Vec::new();
    if wants(Part::Many) {
        for forward in [Forward::Ipip, Forward::L2] {
            figures.extend(many::measure(forward, arguments.backends, arguments.seconds)?);
        }
    }
    if wants(Part::Killed) {
        figures.extend(killed::measure(arguments.connections)?);
    }
    let head = format!("{:<69} {:>10} {:>10}", "", "value", "at most");
    let lines = [machine.clone(), head].into_iter().chain(figures.iter().map(Figure::line));
    let text = lines.collect::<Vec<_>>().join("\n");
    if arguments.write_docs {
        docs::write("health.md", &text)?;
    }
    match arguments.output {
        Output::Text => println!("{text}"),
        Output::Json => {
            let figures: Vec<_> = figures.iter().map(Figure::json).collect();
            println!("{:#}", json!({ "version": 1, "machine": machine, "figures": figures }));
        }
    }
    Ok(figures.iter().all(Figure::is_fine))
}
