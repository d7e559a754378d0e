//! Ten backends under new connections, one of which dies and comes back.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_userspace::lab::{Host, Lab, set_up_backend, start_nginx};
use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Figure, weir};
use crate::rows::progress;

const BACKENDS: usize = 10;
/// The one that dies.
const DEAD: usize = 3;
const EVERY_MS: u64 = 500;
const TIMEOUT_MS: u64 = 250;
const FALL: u64 = 2;
const SLOW_MS: u64 = 10_000;
/// A connection that takes so long has failed.
const PATIENCE: Duration = Duration::from_secs(1);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 100);
/// Clients at a time; each has ports of its own.
const CLIENTS: u32 = 20;
const FIRST_PORT: u16 = 20_000;

/// A connection.
struct Tried {
    begin: Instant,
    end: Instant,
    port: u16,
    /// Who answered.
    answer: Option<usize>,
}

pub fn measure(rate: u32) -> Result<Vec<Figure>> {
    progress("checks: a backend dies");
    let lab = Lab::new("killed")?;
    let switch = lab.switch("switch")?;
    let (balancer, client) = (lab.host("balancer")?, lab.host("client")?);
    balancer.plug(&switch, "eth0", &["10.1.0.1/24"])?;
    client.plug(&switch, "eth0", &["10.1.0.9/24"])?;
    balancer.let_xdp_transmit(&switch, "eth0")?;
    let file = balancer.directory().join("weir.toml");
    fs::write(&file, configuration())?;
    let mut servers = Vec::new();
    for number in 0..BACKENDS {
        let backend = lab.host(&format!("backend{number}"))?;
        backend.plug(&switch, "eth0", &[&format!("10.1.0.{}/24", 11 + number)])?;
        set_up_backend(&backend, &weir()?, &file, &["web"])?;
        servers.push((start_nginx(&backend, &format!("{number}\n"))?, backend));
    }
    let mut command = balancer.command(weir()?);
    command.arg("--pins").arg(balancer.pins()).args(["run", "--config"]).arg(&file);
    command.arg("--state").arg(balancer.directory());
    let mut agent = balancer.spawn("weir", &mut command)?;
    agent.wait_to_say("services: ", PATIENCE * 30)?;

    let end = AtomicBool::new(false);
    let (tried, killed, back) = thread::scope(|scope| -> Result<_> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn({
                    let (client, end) = (&client, &end);
                    move || ask(client, number, rate, end)
                })
            })
            .collect();
        let mut happens = || -> Result<(Instant, Instant)> {
            sleep(Duration::from_secs(6));
            let killed = Instant::now();
            servers[DEAD].0.signal(Signal::SIGKILL)?;
            sleep(Duration::from_secs(5));
            let (server, backend) = &mut servers[DEAD];
            server.wait(PATIENCE)?;
            *server = start_nginx(backend, &format!("{DEAD}\n"))?;
            let back = Instant::now();
            sleep(Duration::from_millis(SLOW_MS + 5_000));
            Ok((killed, back))
        };
        let happened = happens();
        end.store(true, Ordering::Relaxed);
        let mut tried = Vec::new();
        for client in clients {
            tried.extend(client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        let (killed, back) = happened?;
        Ok((tried, killed, back))
    })?;
    agent.stop(PATIENCE * 10)?;
    progress("");
    figures(&tried, killed, back)
}

fn configuration() -> String {
    format!(
        "interface = \"eth0\"\nhash_key = \"000102030405060708090a0b0c0d0e0f\"\n\n\
         [service.web]\nvip = \"{VIP}:80\"\nbackends = \"10.1.0.11-20\"\nslots = 4096\nslow_start = \"{}s\"\n\
         check = {{ http = \"/\", every = \"{EVERY_MS}ms\", timeout = \"{TIMEOUT_MS}ms\", fall = {FALL}, rise = 2 }}\n",
        SLOW_MS / 1_000
    )
}

/// Connects at a steady pace, each time by the next of some ports, so that the same flows come again.
fn ask(host: &Host, number: u32, rate: u32, end: &AtomicBool) -> Result<Vec<Tried>> {
    host.within(|| {
        let ports = (2 * rate / CLIENTS).min(1_000) as u16;
        let first = FIRST_PORT + number as u16 * 1_000;
        let pause = Duration::from_secs(1) * CLIENTS / rate;
        let (begin, mut tried) = (Instant::now() + pause * number / CLIENTS, Vec::new());
        while !end.load(Ordering::Relaxed) {
            let due = begin + pause * tried.len() as u32;
            sleep(due.saturating_duration_since(Instant::now()));
            let (port, begin) = (first + tried.len() as u16 % ports, Instant::now());
            let answer = connect(port);
            tried.push(Tried { begin, end: Instant::now(), port, answer: answer.ok() });
        }
        Ok(tried)
    })
}

/// Asks from a port; says who answered. The connection ends by a reset, so that the port is free at once.
fn connect(port: u16) -> Result<usize> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.connect_timeout(&SocketAddr::from((VIP, 80)).into(), PATIENCE)?;
    let mut stream = std::net::TcpStream::from(socket);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut part = [0; 1_024];
    while !answer.ends_with(b"\n") || answer.ends_with(b"\r\n") {
        let length = stream.read(&mut part)?;
        ensure!(length > 0, "no answer");
        answer.extend(&part[..length]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.lines().last().and_then(|number| number.parse().ok()).with_context(|| format!("{text}: no backend's name"))
}

fn figures(tried: &[Tried], killed: Instant, back: Instant) -> Result<Vec<Figure>> {
    // Who had each flow before.
    let mut owners: BTreeMap<u16, usize> = BTreeMap::new();
    for one in tried.iter().filter(|one| one.end < killed) {
        if let Some(answer) = one.answer {
            ensure!(*owners.entry(one.port).or_insert(answer) == answer, "port {}: had two backends", one.port);
        }
    }
    let owner = |one: &&Tried| owners.get(&one.port).copied();
    let after: Vec<&Tried> = tried.iter().filter(|one| one.begin >= killed).collect();
    let failed: Vec<&Tried> = after.iter().filter(|one| one.answer.is_none()).copied().collect();
    let early = tried.iter().filter(|one| one.end < killed && one.answer.is_none()).count();
    let last = failed.iter().map(|one| one.begin - killed).max().unwrap_or_default();
    let of_others = after.iter().filter(|one| owner(one).is_some_and(|owner| owner != DEAD));
    let (moved, others_failed) = of_others.fold((0, 0), |(moved, failed), one| match one.answer {
        Some(answer) => (moved + u32::from(Some(answer) != owner(one)), failed),
        None => (moved, failed + 1),
    });
    let span = tried.iter().map(|one| one.begin).max().context("nobody connected")?
        - tried.iter().map(|one| one.begin).min().context("nobody connected")?;
    // Of its own flows, how many it has again: by the second.
    let mine: Vec<&&Tried> = after.iter().filter(|one| owner(one) == Some(DEAD) && one.begin >= back).collect();
    let share = |second: u64| {
        let within = |one: &&&&Tried| (one.begin - back).as_secs() == second;
        let all = mine.iter().filter(within).count();
        let again = mine.iter().filter(within).filter(|one| one.answer == Some(DEAD)).count();
        100.0 * again as f64 / all.max(1) as f64
    };
    let whole =
        mine.iter().filter(|one| one.answer != Some(DEAD)).map(|one| one.begin - back).max().unwrap_or_default();
    let bound = (FALL * EVERY_MS + TIMEOUT_MS) as f64;
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let name = |what: &str| format!("one of ten killed: {what}");
    Ok(vec![
        Figure::new(name("new connections"), "a second", tried.len() as f64 / span.as_secs_f64(), None),
        Figure::new(name("the last failure after"), "ms", ms(last), bound),
        Figure::new(name("failed connections to it"), "", (failed.len() - others_failed as usize) as f64, None),
        Figure::new(name("failed connections to others, and before"), "", (others_failed as usize + early) as f64, 0.0),
        Figure::new(name("connections of others that moved"), "", moved.into(), 0.0),
        Figure::new(name("back: its own flows after 3 s"), "%", share(3), None),
        Figure::new(name("back: its own flows after 6 s"), "%", share(6), None),
        Figure::new(name("back: its own flows after 9 s"), "%", share(9), None),
        Figure::new(name("back: all of them after"), "ms", ms(whole), None),
    ])
}
