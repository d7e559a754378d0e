//! The binary `weir`: what was typed, done, and how it ended.

use std::{collections::BTreeSet, io::IsTerminal, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lb_userspace::{
    agent,
    backend::{self, Asked, Decapsulation, Needs},
    cli::{self, Cli, Command, Format, Output, Switch},
    config::{self, Config, ConfigError},
    datapath::{self, Access, DEFAULT_BACKEND_PINS, DEFAULT_PINS, Datapath, Pins, backend::Decapsulator},
    demo,
    explain::{self, Question},
    links::{self, Mode},
    log, manual, next_hops, offloads, overrides,
    plan::{
        self, Allocation, DescribedService, Description, NodeAddresses, RingCache,
        diff::{Changes, Running},
    },
    show::{self, Columns, Network},
    stats::Stats,
};
use serde_json::json;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            report(&error, cli.output);
            ExitCode::from(if error.is::<ConfigError>() { 3 } else { 1 })
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let pins = Pins::new(cli.pins.as_deref().unwrap_or(DEFAULT_PINS.as_ref()));
    let done = match &cli.command {
        Command::Run(options) => run_agent(&pins, options),
        Command::Check { file } => check(file, cli.output),
        Command::Plan { file, from, state } => return plan(&pins, cli.output, file, from.as_deref(), state),
        Command::Status => status(&pins, cli.output),
        Command::Ls { service, stats, rate } => list(&pins, cli.output, service.as_deref(), *stats, *rate),
        Command::Stats { per_cpu, watch } => stats(&pins, cli.output, *per_cpu, *watch),
        Command::Explain { source, vip } => {
            let question = Question { source: *source, vip: vip.address, udp: vip.udp };
            let answer = explain::explain(&open(&pins)?, question)?;
            print(cli.output, || show::explain_text(&question, &answer), || show::json_text(&answer))
        }
        Command::Announce { state } => announce(&pins, cli.output, *state == Switch::On),
        Command::Detach => {
            // An agent that went on would look after nothing.
            let _lock = pins.root().exists().then(|| pins.lock()).transpose()?;
            for interface in datapath::detach(&pins)? {
                println!("{interface}: detached");
            }
            Ok(())
        }
        Command::Backend(verb) => backend(cli, verb),
        Command::Demo => demo::run(),
        Command::Completions { shell } => {
            let script = || manual::completions(*shell);
            print(cli.output, script, || show::json_text(json!({ "script": script() })))
        }
        Command::Man { directory } => manual::write(directory),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn open(pins: &Pins) -> Result<Datapath> {
    Datapath::open(pins, Access::Read)
}

/// Prints one of two forms. A reader that has gone away is no error, and nothing is left to do.
fn print(output: Output, text: impl FnOnce() -> String, json: impl FnOnce() -> String) -> Result<()> {
    use std::io::Write;
    let out = if output == Output::Json { json() } else { text() };
    match writeln!(std::io::stdout(), "{out}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.context("cannot write to standard output"),
    }
}

fn run_agent(pins: &Pins, options: &cli::Run) -> Result<()> {
    log::start(options.log)?;
    let mode = options.mode.map(mode);
    let cli::Run { config, state, detach_on_exit, force, .. } = options.clone();
    let options = agent::Options { config, state, mode, detach_on_exit, force };
    let (_handle, requests) = agent::command::channel();
    runtime()?.block_on(agent::run(pins, &options, requests))
}

fn mode(mode: cli::Mode) -> Mode {
    match mode {
        cli::Mode::Native => Mode::Native,
        cli::Mode::Generic => Mode::Generic,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

fn check(file: &Path, output: Output) -> Result<()> {
    let config = config::load(file)?;
    let color = std::io::stderr().is_terminal();
    if output == Output::Text {
        for warning in &config.warnings {
            eprintln!("{}", warning.render(color));
        }
    }
    let text = || {
        let mut lines = vec![format!("{}: valid, services: {}", file.display(), config.services.len())];
        if config.files.len() > 1 {
            lines.extend(config.files.iter().map(|file| format!("  {}: services: {}", file.file, file.services)));
        }
        lines.join("\n")
    };
    let warnings: Vec<_> = config.warnings.iter().map(config::Diagnostic::to_json).collect();
    let json = json!({ "valid": true, "services": config.services.len(), "files": config.files, "warnings": warnings });
    print(output, text, || show::json_text(json))
}

/// `weir plan`: against what runs, or against another file.
fn plan(pins: &Pins, output: Output, file: &Path, from: Option<&Path>, state: &Path) -> Result<ExitCode> {
    let config = config::load(file)?;
    let (changes, notes) = match from {
        Some(from) => (between_files(&config::load(from)?, &config)?, Vec::new()),
        None => {
            let datapath = open(pins)?;
            let overrides = overrides::file::load(&state.join(overrides::file::NAME))?;
            let (effective, notes) = overrides.apply(&config, overrides::now_ms());
            (against_running(&datapath, &effective)?, notes)
        }
    };
    if output == Output::Text {
        notes.iter().for_each(|note| eprintln!("{note}"));
    }
    let json = || json!({ "changes": !changes.is_empty(), "plan": changes, "notes": notes });
    print(output, || show::changes::text(&changes), || show::json_text(json()))?;
    Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(4) })
}

fn against_running(datapath: &Datapath, config: &Config) -> Result<Changes> {
    let description = datapath.description()?;
    let links = links::list()?;
    let node = agent::node_addresses(links.iter().filter(|link| config.interfaces.contains(&link.name)));
    let allocation = Allocation::of(&description, datapath.arena())?;
    let tables = plan::plan_next(config, node, Some(&allocation), &RingCache::default())?;
    let ring = |service: &DescribedService| datapath.ring(service);
    let (settings, arena) = (datapath.settings(), datapath.arena());
    let running = Running { description: &description, settings: &settings, arena, ring: &ring };
    let changes = plan::diff::diff(&running, &tables);
    ensure!(datapath.description()? == description, "the tables were changed meanwhile: try again");
    Ok(changes)
}

fn between_files(from: &Config, to: &Config) -> Result<Changes> {
    // The same on both sides, whatever it is: only tunnels without a source of their own take it.
    let node = NodeAddresses { v4: Some([192, 0, 2, 1].into()), v6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()) };
    let before = plan::plan(from, node)?;
    let after = plan::plan(to, node)?;
    Ok(plan::diff::diff_tables(&before, &after))
}

fn status(pins: &Pins, output: Output) -> Result<()> {
    let datapath = open(pins)?;
    let description = datapath.description()?;
    let stats = Stats::read(&datapath, &description)?;
    let place = pins.root().display().to_string();
    let network = network(&datapath, &description)?;
    let status = show::status(&datapath, &description, &stats, &network, pins.holder(), place);
    print(output, || show::status_text(&status), || show::json_text(&status))
}

/// What the kernel says of the network. Routes are looked up where their answer could matter alone: there may be
/// thousands of backends.
fn network(datapath: &Datapath, description: &Description) -> Result<Network> {
    let links = links::list()?;
    let entries = datapath.interfaces();
    let mut network = Network::default();
    let mut routes_matter = false;
    for link in links.iter().filter(|link| entries.iter().any(|entry| entry.index == link.index)) {
        let found = offloads::read(link.index);
        routes_matter |= found.as_ref().is_ok_and(|found| offloads::may_strip(link, *found, &links));
        network.offloads.insert(link.index, found.map_err(|error| format!("{error:#}")));
    }
    if routes_matter {
        let backends = description.services.iter().flat_map(|service| service.backends.iter());
        let addresses: BTreeSet<_> = backends.map(|backend| backend.address).collect();
        network.ways = next_hops::interfaces_to(&Vec::from_iter(addresses))?;
    }
    Ok(Network { links, ..network })
}

fn list(pins: &Pins, output: Output, only: Option<&str>, with_stats: bool, with_rate: bool) -> Result<()> {
    let datapath = open(pins)?;
    let description = datapath.description()?;
    if let Some(only) = only {
        let names: Vec<_> = description.services.iter().map(|service| service.name.as_str()).collect();
        ensure!(names.contains(&only), "service {only:?}: no such service (have: {})", names.join(", "));
    }
    let columns = match (with_stats, with_rate) {
        (true, _) => Columns::Stats,
        (_, true) => Columns::Rate,
        _ => Columns::Plain,
    };
    let stats = match columns {
        Columns::Plain => None,
        Columns::Stats => Some(Stats::read(&datapath, &description)?),
        Columns::Rate => {
            let before = Stats::read(&datapath, &description)?;
            std::thread::sleep(Duration::from_secs(1));
            Some(Stats::read(&datapath, &description)?.since(&before))
        }
    };
    let listed = show::list(&datapath, &description, stats, only);
    print(output, || show::list_text(&listed, columns), || show::json_text(json!({ "services": listed })))
}

fn stats(pins: &Pins, output: Output, per_cpu: bool, watch: Option<u64>) -> Result<()> {
    loop {
        // Opened anew each time: a restart of the agent may replace the tables.
        let datapath = open(pins)?;
        let stats = Stats::read(&datapath, &datapath.description()?)?;
        if watch.is_some() && output == Output::Text && std::io::stdout().is_terminal() {
            print!("\x1b[2J\x1b[H");
        }
        print(output, || show::stats_text(&stats, per_cpu), || show::json_text(&stats))?;
        let Some(seconds) = watch else { return Ok(()) };
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

fn announce(pins: &Pins, output: Output, on: bool) -> Result<()> {
    let datapath = Datapath::open(pins, Access::Write)?;
    let description = datapath.description()?;
    ensure!(
        !on || description.announce != "none",
        "announce = \"none\" in the running configuration: set \"arp\" or \"manual\" there first"
    );
    datapath.set_announce(on);
    if on {
        let links = links::list()?;
        let vips = description.vip_addresses()?;
        let entries = datapath.interfaces();
        let attached = links.iter().filter(|link| entries.iter().any(|entry| entry.index == link.index));
        // All at once: each takes its time, and one that cannot must not keep the others waiting.
        let said = attached.map(|link| lb_userspace::announce::announce(link, &vips));
        let said = runtime()?.block_on(async { futures_util::future::join_all(said).await });
        said.into_iter().collect::<Result<Vec<_>>>()?;
    }
    let text = || format!("VIPs are {}announced", if on { "" } else { "no longer " });
    print(output, text, || show::json_text(json!({ "announce": on })))
}

fn backend(cli: &Cli, verb: &cli::Backend) -> Result<()> {
    let pins = Pins::new(cli.pins.as_deref().unwrap_or(DEFAULT_BACKEND_PINS.as_ref()));
    match verb {
        cli::Backend::Setup(options) => setup_backend(cli, &pins, options),
        cli::Backend::Run { interface, vip, mode: wanted, once } => {
            log::start(None)?;
            let (interface, vips, mode) = (interface.clone(), vip.iter().copied().collect(), wanted.map(mode));
            let options = backend::run::Options { interface, vips, mode, once: *once };
            match runtime()?.block_on(backend::run::run(&pins, &options))? {
                Some(counts) => print_strippings(cli.output, &counts),
                None => Ok(()),
            }
        }
        cli::Backend::Stats => print_strippings(cli.output, &Decapsulator::open(&pins)?.counts()?),
        cli::Backend::Stop => {
            for interface in datapath::backend::stop(&pins)? {
                println!("{interface}: detached");
            }
            Ok(())
        }
    }
}

fn print_strippings(output: Output, counts: &backend::run::Counts) -> Result<()> {
    print(output, || show::strippings_text(counts), || show::json_text(show::strippings_json(counts)))
}

fn setup_backend(cli: &Cli, pins: &Pins, options: &cli::Setup) -> Result<()> {
    let asked = Asked {
        config: options.config.clone(),
        services: options.services.clone(),
        backend: options.backend,
        interface: options.interface.clone(),
        decapsulation: match options.decapsulation {
            cli::Decapsulation::Weir => Decapsulation::Weir,
            cli::Decapsulation::Kernel => Decapsulation::Kernel,
        },
        path_mtu: options.path_mtu,
        pins: cli.pins.clone(),
    };
    let needs = Needs::new(&config::load(&options.config)?, &asked)?;
    if options.check {
        return check_backend(cli.output, pins, &needs);
    }
    let json = || show::json_text(backend::json::object(&needs));
    match options.format {
        Format::Shell => print(cli.output, || backend::shell::script(&needs), json),
        Format::Networkd => {
            let text = backend::networkd::text(&needs)?;
            print(cli.output, || text, json)
        }
        Format::Json => print(Output::Json, String::new, json),
    }
}

fn check_backend(output: Output, pins: &Pins, needs: &Needs) -> Result<()> {
    let findings = backend::check::judge(needs, &backend::host::gather(needs, pins)?);
    let missing = findings.iter().filter(|finding| !finding.ok).count();
    let json = || show::json_text(json!({ "ok": missing == 0, "needs": findings }));
    print(output, || backend::check::text(&findings), json)?;
    ensure!(missing == 0, "{missing} of {} needs are not met", findings.len());
    Ok(())
}

/// Prints an error: a configuration's in full, others on one line.
fn report(error: &anyhow::Error, output: Output) {
    let config = error.downcast_ref::<ConfigError>();
    log::print_error(&match (output, config) {
        (Output::Json, Some(config)) => {
            show::json_text(json!({ "error": "invalid configuration", "diagnostics": config.to_json() }))
        }
        (Output::Json, None) => show::json_text(json!({ "error": format!("{error:#}") })),
        (Output::Text, Some(config)) => config.render(std::io::stderr().is_terminal()),
        (Output::Text, None) => format!("weir: {error:#}"),
    });
}
