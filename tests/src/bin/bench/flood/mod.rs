//! `cargo xtask bench flood`: what Weir does with a SYN flood, beside what else operators have for it. In namespaces, in one run.

mod cost;
mod filter;
mod goodput;
mod memory;
mod report;
mod stand;

use anyhow::{Context, Result};
use clap::Args;

use self::{
    filter::Filter,
    report::Report,
    stand::{Cpus, pin},
};
use crate::Output;

/// Compares filters under a SYN flood.
///
/// Weir in the driver and in the stack, nftables at ingress and at raw prerouting, the iptables rule that operators used, no filter,
/// and no filter but a stack that tracks connections. Three tables: CPU time a packet, net of making it; requests answered by
/// nginx behind each, as the flood rises; memory before, during and after. docs/flood.md says how to read them. Takes about ten
/// minutes and two CPUs, as root.
#[derive(Args)]
pub struct Arguments {
    /// How to print: text is three tables, json {"version":1,"cost":{…},"goodput":[…],"memory":[…]}
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Runs of each cost, and of each step of the flood; their medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How long clients ask at each step of the flood, seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Packets of the flood that memory is looked at for (100000000 takes minutes); filters without Weir get at most 2 million
    #[arg(long, default_value_t = 2_000_000)]
    packets: u64,
    /// Only these filters
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = named)]
    only: Vec<Filter>,
    /// Only these tables
    #[arg(long, value_delimiter = ',', value_enum)]
    tables: Vec<Table>,
    /// Short runs and few steps: for trying, not for figures
    #[arg(long)]
    quick: bool,
    /// Write the tables into docs/flood.md
    #[arg(long, conflicts_with_all = ["quick", "only", "tables"])]
    write_docs: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    Cost,
    Goodput,
    Memory,
}

impl Arguments {
    fn filters(&self) -> Vec<Filter> {
        Filter::ALL.into_iter().filter(|filter| self.only.is_empty() || self.only.contains(filter)).collect()
    }

    fn wants(&self, table: Table) -> bool {
        self.tables.is_empty() || self.tables.contains(&table)
    }

    fn packets(&self) -> u64 {
        if self.quick { self.packets.min(400_000) } else { self.packets }
    }
}

fn named(name: &str) -> Result<Filter, String> {
    let names = || Filter::ALL.map(Filter::name).join(", ");
    Filter::ALL.into_iter().find(|filter| filter.name() == name).ok_or_else(|| format!("not one of {}", names()))
}

/// Measures what is wanted and prints it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let machine = tests::machine::describe("BPF_PROG_TEST_RUN on one CPU")?;
    let load = tests::machine::Load::now()?;
    let cpus = Cpus::choose()?;
    let tools = tools()?;
    // On a thread of its own, as it stays where it is pinned.
    let cost = || {
        std::thread::scope(|scope| {
            let measured = scope.spawn(|| cost::measure(arguments, cpus)).join();
            measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    };
    pin(0, cpus.served)?;
    // First: what the others leave behind is freed later, and would be seen to go.
    let memory = if arguments.wants(Table::Memory) { memory::measure(arguments, cpus)? } else { Vec::new() };
    let report = Report {
        cost: arguments.wants(Table::Cost).then(cost).transpose()?,
        goodput: if arguments.wants(Table::Goodput) { goodput::measure(arguments, cpus)? } else { Vec::new() },
        memory,
        warnings: load.warning_since()?.into_iter().collect(),
        machine: format!("{machine}, {tools}"),
    };
    if arguments.write_docs {
        tests::docs::write("flood.md", &report.text())?;
    }
    match arguments.output {
        Output::Text => println!("{}", report.text()),
        Output::Json => println!("{:#}", report.json()),
    }
    Ok(())
}

/// What is compared with, by its version.
fn tools() -> Result<String> {
    let version = |program: &str, option: &str| -> Result<String> {
        let printed = std::process::Command::new(program).arg(option).output();
        let printed = printed.with_context(|| format!("cannot run {program}: `cargo xtask setup` installs it"))?;
        let both = [printed.stdout, printed.stderr].concat();
        Ok(String::from_utf8_lossy(&both).lines().next().unwrap_or_default().trim().to_owned())
    };
    let nginx = version("nginx", "-v")?;
    let nginx = nginx.rsplit(": ").next().unwrap_or_default().to_owned();
    let wrk = version("wrk", "-v")?;
    let wrk = wrk.split(" [").next().unwrap_or_default().to_owned();
    Ok(format!("{}, {}, {nginx}, {wrk}", version("iptables", "-V")?, version("nft", "-v")?))
}
