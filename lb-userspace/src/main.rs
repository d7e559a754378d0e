//! The binary `weir`: what was typed, done, and how it ended.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use lb_userspace::{
    agent,
    backend::{self, Asked, Decapsulation, Needs},
    capture,
    cli::{self, Cli, Command, Format, Output, Switch},
    config::{self, Config, ConfigError},
    control::{
        self, Control, Form,
        client::{self, Question, Said},
    },
    datapath::{self, Access, DEFAULT_BACKEND_PINS, DEFAULT_PINS, Datapath, Denied, Pins, backend::Decapsulator},
    demo,
    health::{self, Health},
    links::{self, Mode},
    log, manual, metrics,
    out::{self, Out, stopped},
    overrides,
    plan::{
        self, Allocation, DescribedService, NodeAddresses, RingCache,
        diff::{Changes, Running},
    },
    readings::{self, Reading},
    show::{self, Columns},
    verbs,
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
    match (run_here(cli), verbs::question(&cli.command)) {
        (Ok(Some(code)), _) => Ok(code),
        (Ok(None), Some(question)) => ask(cli, &question),
        (Ok(None), None) => Ok(ExitCode::SUCCESS),
        // Pins are root's; the agent answers others too.
        (Err(error), Some(question)) if error.is::<Denied>() => {
            ask(cli, &question).map_err(|no_agent| anyhow!("{error}, or ask an agent: {no_agent:#}"))
        }
        (Err(error), _) => Err(error),
    }
}

fn pins(cli: &Cli) -> Pins {
    Pins::new(cli.pins.as_deref().unwrap_or(DEFAULT_PINS.as_ref()))
}

/// What needs no agent. None of a verb that does.
fn run_here(cli: &Cli) -> Result<Option<ExitCode>> {
    let pins = pins(cli);
    let done = match &cli.command {
        Command::Run(options) => run_agent(cli, &pins, options),
        Command::Check { file } => check(file, cli.output),
        Command::Plan { file, from, state } => {
            return plan(&pins, cli.output, file, from.as_deref(), state).map(Some);
        }
        Command::Apply { .. }
        | Command::Confirm
        | Command::Add { .. }
        | Command::Rm { .. }
        | Command::Weight { .. }
        | Command::Drain { .. }
        | Command::Maint { .. }
        | Command::Ready { .. }
        | Command::Revert { .. }
        | Command::Events { .. } => return Ok(None),
        Command::Status => read(cli, &pins, Reading::Status),
        Command::Ls { service, stats, rate } => {
            let columns = match (stats, rate) {
                (true, _) => Columns::Stats,
                (_, true) => Columns::Rate,
                _ => Columns::Plain,
            };
            read(cli, &pins, Reading::Services { only: service.clone(), columns })
        }
        Command::Stats { per_cpu, watch } => stats(cli, &pins, *per_cpu, *watch),
        Command::Explain { source, vip } => {
            read(cli, &pins, Reading::Explain { source: *source, vip: vip.address, udp: vip.udp })
        }
        Command::Capture { write, verdict, service, count } => {
            // Before a file is made: whoever may not read the pins asks the agent.
            let session = capture::Session::open(&pins, verbs::wanted(verdict, service, count))?;
            let mut out = Out::open(write)?;
            let ended = session.run(&mut out, &stopped).map_err(|error| out.unwritable(error))?;
            eprintln!("{}", ended.text());
            Ok(())
        }
        // An agent announces what is its own, and remembers who asked.
        Command::Announce { .. } if pins.holder().is_some() => return Ok(None),
        Command::Announce { state } => announce(&pins, cli.output, *state == Switch::On),
        Command::Syn { state } => syn(&pins, cli.output, *state == cli::Filter::Off),
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
    done.map(|()| Some(ExitCode::SUCCESS))
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

fn run_agent(cli: &Cli, pins: &Pins, options: &cli::Run) -> Result<()> {
    log::start(options.log)?;
    let mode = options.mode.map(mode);
    let cli::Run { config, state, detach_on_exit, force, .. } = options.clone();
    let options = agent::Options { config, state, mode, detach_on_exit, force };
    let (handle, requests) = agent::command::channel();
    let (ends, sockets) = agent::Ends::new(requests)?;
    let report = ends.report.clone();
    let open = || {
        let (read, scraped, known, told) = (pins.clone(), pins.clone(), report.clone(), report.clone());
        let captured = pins.clone();
        let readers = control::Readers {
            capture: Arc::new(move |wanted| capture::Session::open(&captured, wanted)),
            tables: Arc::new(move |reading| readings::read(&read, reading, || Some(known.whole()))),
            metrics: (sockets, Arc::new(move || metrics::read(&scraped, &told.read(), &told.checks()))),
            report,
        };
        Control::start(&socket(cli), handle, readers, &std::path::absolute(&options.config)?)
    };
    runtime()?.block_on(agent::run(pins, &options, ends, open))
}

/// Where the agent is asked.
fn socket(cli: &Cli) -> PathBuf {
    cli.socket.clone().unwrap_or_else(|| control::socket::default_path(pins(cli).root()))
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
    warn_of(&config, output);
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

fn warn_of(config: &Config, output: Output) {
    let color = std::io::stderr().is_terminal();
    for warning in config.warnings.iter().filter(|_| output == Output::Text) {
        eprintln!("{}", warning.render(color));
    }
}

/// `weir plan`: against what runs, or against another file.
fn plan(pins: &Pins, output: Output, file: &Path, from: Option<&Path>, state: &Path) -> Result<ExitCode> {
    let config = config::load(file)?;
    let (changes, notes) = match from {
        Some(from) => (between_files(config::load(from)?, config)?, Vec::new()),
        None => {
            let datapath = open(pins)?;
            let overrides = overrides::file::load(&state.join(overrides::file::NAME))?;
            let now_ms = overrides::now_ms();
            let (effective, notes) = overrides.apply(&config, now_ms);
            let mut health = health::file::load(state)?;
            health.fit(&effective, now_ms);
            (against_running(&datapath, &health.apply(effective, now_ms))?, notes)
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

fn between_files(from: Config, to: Config) -> Result<Changes> {
    // The same on both sides, whatever it is: only tunnels without a source of their own take it.
    let node = NodeAddresses { v4: Some([192, 0, 2, 1].into()), v6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()) };
    let all_work = |config: Config| Health::default().apply(config, 0);
    let before = plan::plan(&all_work(from), node)?;
    let after = plan::plan(&all_work(to), node)?;
    Ok(plan::diff::diff_tables(&before, &after))
}

/// A reading verb, from the tables; what only the agent knows, it is asked.
fn read(cli: &Cli, pins: &Pins, reading: Reading) -> Result<()> {
    let report = || {
        let said = runtime().ok()?.block_on(client::ask(&socket(cli), &Question::get("/v1/agent"), Form::Json)).ok()?;
        control::agent_report(&said.body).ok()
    };
    let page = readings::read(pins, reading, report)?;
    print(cli.output, || page.text, || show::json_text(page.json))
}

fn stats(cli: &Cli, pins: &Pins, per_cpu: bool, watch: Option<u64>) -> Result<()> {
    // Opened anew each time: a restart of the agent may replace the tables.
    again(watch, cli.output, || read(cli, pins, Reading::Stats { per_cpu }))
}

/// Once, or every so many seconds.
fn again(watch: Option<u64>, output: Output, mut show: impl FnMut() -> Result<()>) -> Result<()> {
    loop {
        if watch.is_some() && output == Output::Text && std::io::stdout().is_terminal() {
            print!("\x1b[2J\x1b[H");
        }
        show()?;
        let Some(seconds) = watch else { return Ok(()) };
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

/// A verb of which the agent does the work.
fn ask(cli: &Cli, question: &Question) -> Result<ExitCode> {
    if let Command::Apply { file: Some(file), .. } = &cli.command {
        // Faults are shown here, with their places and in colour, before anybody is asked.
        warn_of(&config::load(file)?, cli.output);
    }
    let socket = socket(cli);
    let form = if cli.output == Output::Json { Form::Json } else { Form::Text };
    let runtime = runtime()?;
    let ask = |form| runtime.block_on(client::ask(&socket, question, form));
    match &cli.command {
        Command::Capture { .. } | Command::Events { follow: true } => {
            let mut to = match &cli.command {
                Command::Capture { write, .. } => Out::open(write)?,
                _ => Out::terminal()?,
            };
            let follows = matches!(cli.command, Command::Events { .. });
            let end = Question::post("/v1/capture/end", json!({}));
            let until = (&stopped as &dyn Fn() -> bool, (!follows).then_some(&end));
            let streamed = runtime.block_on(client::stream(&socket, question, form, &mut to, until));
            match streamed {
                // As of every verb that prints.
                Err(error) if follows && out::is_gone(&error) => Ok(ExitCode::SUCCESS),
                Err(error) => Err(to.unwritable(error)),
                Ok(Some(refused)) => print_said(cli.output, refused),
                Ok(None) if follows && !stopped() => bail!("{}: the agent has ended", socket.display()),
                Ok(None) => Ok(ExitCode::SUCCESS),
            }
        }
        Command::Stats { watch, .. } => {
            let show = || ask(form).and_then(|said| print_said(cli.output, said)).map(drop);
            again(*watch, cli.output, show).map(|()| ExitCode::SUCCESS)
        }
        _ => print_said(cli.output, ask(form)?),
    }
}

/// Prints what the agent says, as if it were our own.
fn print_said(output: Output, said: Said) -> Result<ExitCode> {
    match (said.ok, output) {
        (true, _) if said.body.is_empty() => {}
        (true, _) => print(output, || said.body.clone(), || said.body.clone())?,
        // A configuration's faults stand for themselves.
        (false, Output::Text) if said.exit != 3 => log::print_error(&format!("weir: {}", said.body)),
        (false, _) => log::print_error(&said.body),
    }
    Ok(ExitCode::from(said.exit))
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
    print(output, || show::announce_text(on), || show::json_text(json!({ "announce": on })))
}

fn syn(pins: &Pins, output: Output, off: bool) -> Result<()> {
    Datapath::open(pins, Access::Write)?.set_syn_off(off);
    print(output, || show::syn_text(off), || show::json_text(json!({ "syn_off": off })))
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
