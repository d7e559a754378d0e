//! `cargo xtask`: builds, runs, tests and lints Weir. This file holds the command line; each task has its own.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use command::as_root;

mod apt;
mod bpf;
mod command;
mod deb;
mod fuzz;
mod linker;
mod lint;
mod setup;
mod sweep;
mod test;
mod toolchain;
mod tools;
mod trial;
mod userspace;

/// Builds, runs, tests and lints Weir.
///
/// Every task first installs what it lacks (see `setup`), so `cargo xtask demo` works in a fresh clone.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install all that building, demo, test, fuzz and lint need; quick when nothing is missing
    Setup,
    /// Build the programs for the kernel and, with them inside, target/debug/weir
    Build {
        /// Optimise fully, for installing: target/release/weir
        #[arg(long)]
        release: bool,
    },
    /// Build, then run `weir ARGS`
    Run {
        /// What weir gets, exactly as given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<String>,
    },
    /// Build, then run `weir demo` (as root, through sudo where needed)
    Demo {
        /// What `weir demo` gets, exactly as given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<String>,
    },
    /// Build, then run all tests (as root, through sudo where needed)
    Test {
        /// What `cargo test` gets, exactly as given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<String>,
    },
    /// Build, then measure what a packet costs, or with `flood` compare filters under a SYN flood, or with `checks` what checking
    /// costs (as root, through sudo where needed); `bench --help` lists the options
    #[command(disable_help_flag = true)]
    Bench {
        /// What the bench gets, exactly as given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<String>,
    },
    /// Build, then show what becomes of packets when something changes or breaks (as root, through sudo where needed);
    /// `faults --help` lists the options
    #[command(disable_help_flag = true)]
    Faults {
        /// What the faults get, exactly as given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<String>,
    },
    /// Build, then compare the path with the specification written a second time, on frames that nobody thought of: on the
    /// host, guided by coverage, and in the kernel (as root, through sudo where needed)
    Fuzz {
        /// How long
        #[arg(long, default_value_t = 5.0, value_name = "N")]
        minutes: f64,
        /// What the frames follow from; another every time unless given, and printed
        #[arg(long, value_name = "S")]
        seed: Option<u64>,
        /// Leave out the kernel, and so the need to be root
        #[arg(long)]
        host_only: bool,
    },
    /// Build the Debian package
    Deb {
        /// Then try it in a fresh Debian: install, run as a service, upgrade, purge (as root, through sudo where needed)
        #[arg(long)]
        test: bool,
    },
    /// Try a package
    #[command(hide = true)]
    Trial {
        /// The package
        package: PathBuf,
    },
    /// Check formatting, clippy's lints, the documentation and the licences of dependencies
    Lint,
    /// Remove the namespaces and pins that dead test runs left (`test` does so itself)
    Sweep,
}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Setup => setup::all(),
        Task::Build { release } => {
            let weir = userspace::build(release)?;
            eprintln!("built {}", relative(&weir));
            Ok(())
        }
        Task::Run { arguments } => {
            let weir = userspace::build(false)?;
            command::exec(Command::new(weir).args(arguments))
        }
        Task::Demo { arguments } => {
            setup::programs()?;
            let weir = userspace::build(false)?;
            command::exec(as_root(weir)?.arg("demo").args(arguments))
        }
        Task::Test { arguments } => test::run(&arguments),
        Task::Bench { arguments } => {
            setup::programs()?;
            let of_checks = arguments.first().is_some_and(|part| part == "checks");
            command::exec(as_root(userspace::bench(of_checks)?)?.args(arguments))
        }
        Task::Faults { arguments } => {
            setup::programs()?;
            command::exec(as_root(userspace::faults()?)?.args(arguments))
        }
        Task::Fuzz { minutes, seed, host_only } => fuzz::run(minutes, seed, host_only),
        Task::Deb { test } => {
            let package = deb::build()?;
            eprintln!("built {}", relative(&package));
            if test { trial::run_on(&package) } else { Ok(()) }
        }
        Task::Trial { package } => trial::run_on(&package),
        Task::Lint => lint::run(),
        Task::Sweep => sweep::run(),
    }
}

/// The path as seen from the workspace, where that is shorter.
fn relative(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(command::workspace()).unwrap_or(path).display()
}
