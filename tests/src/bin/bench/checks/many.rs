//! One agent that checks thousands of backends. A host with as many addresses stands for all of them: behind tunnels, so that the way
//! there is one neighbour, and on the link, so that each is one.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    io::{Read, Write as _},
    net::TcpStream,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_userspace::lab::{Host, Lab, Running, set_up_backend, start_nginx, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Figure, weir};
use crate::rows::progress;

const VIP: &str = "10.3.0.100";
const EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// Until what a start does besides is over.
const SETTLE: Duration = Duration::from_secs(6);
/// Allowed: of one core, of memory, and of the interval.
const CPU_PERCENT: f64 = 15.0;
const MEMORY_MB: f64 = 200.0;
const LATE_PERCENT: f64 = 10.0;

/// What all checks have done, by the agent's metrics.
#[derive(Default)]
struct Checks {
    runs: f64,
    failures: f64,
    /// The latest of the last runs, seconds.
    late: f64,
}

/// How packets go to the backends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    L2,
    Ipip,
}

impl Forward {
    fn name(self) -> &'static str {
        match self {
            Forward::L2 => "l2",
            Forward::Ipip => "ipip",
        }
    }
}

pub fn measure(forward: Forward, count: u32, seconds: u32) -> Result<Vec<Figure>> {
    progress(&format!("checks: {count} backends, {}", forward.name()));
    let lab = Lab::new("checks")?;
    let switch = lab.switch("switch")?;
    let (balancer, backends) = (lab.host("balancer")?, lab.host("backends")?);
    balancer.plug(&switch, "eth0", &["10.1.0.1/24"])?;
    backends.plug(&switch, "eth0", &["10.1.0.11/24"])?;
    let (way, interface) = match forward {
        Forward::L2 => ("dev eth0", "eth0"),
        Forward::Ipip => ("via 10.1.0.11", "lo"),
    };
    balancer.ip(&format!("route add 10.2.0.0/16 {way}"))?;
    let file = balancer.directory().join("weir.toml");
    fs::write(&file, configuration(forward, count))?;
    give_addresses(&backends, interface, count)?;
    set_up_backend(&backends, &weir()?, &file, &["web"])?;
    let _nginx = start_nginx(&backends, "well\n")?;
    let mut agent = start(&balancer)?;
    sleep(SETTLE);

    let span = Duration::from_secs(seconds.into());
    let before = checks(&balancer)?;
    let (cpu, begin) = (cpu_seconds(agent.pid())?, Instant::now());
    sleep(span);
    let cpu = (cpu_seconds(agent.pid())? - cpu) / begin.elapsed().as_secs_f64();
    let after = checks(&balancer)?;
    let due = f64::from(count) * begin.elapsed().as_secs_f64() / EVERY.as_secs_f64();
    let ran = (after.runs - before.runs) / due;
    // Each check is looked at once between two of its runs.
    let mut late = after.late;
    for _ in 0..seconds / EVERY.as_secs() as u32 {
        sleep(EVERY);
        late = late.max(checks(&balancer)?.late);
    }
    let memory = resident_mb(agent.pid())?;
    let scrape = Instant::now();
    let failed = checks(&balancer)?.failures;
    let scrape = scrape.elapsed();

    let known = states(&balancer)?;
    let up = known.values().filter(|health| health["state"] == "up").count();
    ensure!(up == count as usize, "{up} of {count} backends are up: {}", agent.said());
    progress("checks: another agent");
    agent.signal(Signal::SIGKILL)?;
    agent.wait(PATIENCE)?;
    agent = start(&balancer)?;
    let at_once = changed(&known, &states(&balancer)?);
    sleep(SETTLE);
    let later = changed(&known, &states(&balancer)?);
    agent.stop(PATIENCE)?;
    progress("");
    let named = |what: &str| format!("{count} backends ({}) every {} s: {what}", forward.name(), EVERY.as_secs());
    Ok(vec![
        Figure::new(named("CPU time"), "% of one core", 100.0 * cpu, CPU_PERCENT),
        Figure::new(named("memory, at most"), "MB", memory, MEMORY_MB),
        Figure::new(named("runs of those due"), "%", 100.0 * ran, None),
        Figure::new(named("failures"), "", failed, 0.0),
        Figure::new(named("the latest"), "% of 2 s", 100.0 * late / EVERY.as_secs_f64(), LATE_PERCENT),
        Figure::new(named("a scrape of the metrics"), "ms", scrape.as_secs_f64() * 1e3, None),
        Figure::new(named("changed by SIGKILL and restart"), "backends", at_once.max(later) as f64, 0.0),
    ])
}

/// The address of a backend.
fn address(number: u32) -> String {
    format!("10.2.{}.{}", number / 250, number % 250 + 1)
}

fn configuration(forward: Forward, count: u32) -> String {
    let backends = (0..count).map(|number| format!("\"{}\"", address(number))).collect::<Vec<_>>().join(", ");
    format!(
        "interface = \"eth0\"\nannounce = \"none\"\nhash_key = \"000102030405060708090a0b0c0d0e0f\"\n\n\
         [service.web]\nvip = \"{VIP}:80\"\nbackends = [{backends}]\nforward = \"{}\"\nslots = 65536\n\
         check = {{ tcp = true, every = \"2s\" }}\n",
        forward.name()
    )
}

fn give_addresses(host: &Host, interface: &str, count: u32) -> Result<()> {
    let mut batch = String::new();
    for number in 0..count {
        writeln!(batch, "addr add {}/32 dev {interface}", address(number))?;
    }
    let file = host.directory().join("addresses");
    fs::write(&file, batch)?;
    host.ip(&format!("-batch {}", file.display())).map(drop)
}

fn start(host: &Host) -> Result<Running> {
    let mut command = host.command(weir()?);
    command.arg("--pins").arg(host.pins()).args(["run", "--config"]).arg(host.directory().join("weir.toml"));
    command.arg("--state").arg(host.directory());
    let mut agent = host.spawn("weir", &mut command)?;
    agent.wait_to_say("services: ", PATIENCE)?;
    wait_until("metrics are served", PATIENCE, || checks(host).is_ok())?;
    Ok(agent)
}

/// Seconds that a process has computed.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?;
    // utime and stime, in ticks of 10 ms.
    Ok(fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

/// The most memory that a process ever had.
fn resident_mb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kilobytes.context("/proc/PID/status has no VmHWM")? / 1_024.0)
}

/// Asks the agent for its metrics.
fn checks(host: &Host) -> Result<Checks> {
    let text = host.within(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", 9580))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?;
    let mut checks = Checks::default();
    for line in text.lines() {
        let value = || line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or_default();
        match line.split('{').next() {
            Some("weir_check_runs_total") => checks.runs += value(),
            Some("weir_check_failures_total") => checks.failures += value(),
            Some("weir_check_late_seconds") => checks.late = checks.late.max(value()),
            _ => {}
        }
    }
    Ok(checks)
}

/// What is known of each backend's health.
fn states(host: &Host) -> Result<BTreeMap<String, Value>> {
    let printed = weir().and_then(|weir| {
        let mut command = host.command(weir);
        lb_userspace::lab::run(command.arg("--pins").arg(host.pins()).args(["ls", "-o", "json"]))
    })?;
    let ls: Value = serde_json::from_str(&printed)?;
    let backends = ls["services"][0]["backends"].as_array().context("`weir ls` lists no backends")?;
    let health = |backend: &Value| (backend["address"].to_string(), backend["health"].clone());
    Ok(backends.iter().map(health).collect())
}

/// How many are in another state, or since another time.
fn changed(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> usize {
    before.iter().filter(|(backend, health)| after.get(*backend) != Some(health)).count()
}
