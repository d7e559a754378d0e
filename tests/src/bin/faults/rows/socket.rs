//! The control socket under clients that mean no good.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use lb_userspace::control::socket::default_path;

use super::Seen;
use crate::rig::Rig;

/// Connections that are opened and never used.
const IDLE: usize = 1_000;
/// A body of a gigabyte, of which as much is sent as is taken.
const GIGABYTE: usize = 1 << 30;
/// How much an agent may have grown by all of it, MB.
const GROWTH: f64 = 32.0;

/// Garbage, idle connections by the thousand, a gigabyte.
pub fn abuse(rig: &mut Rig) -> Result<Seen> {
    let socket = default_path(&rig.balancer.pins());
    let (times, before) = (rig.scale.twenty, rig.resident_mb()?);
    let mut taken = 0;
    for number in 0..times {
        for garbage in [&b"\0\xff\xfe garbage \r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", &[b'A'; 100_000]] {
            let answer = send(&socket, garbage)?;
            ensure!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "garbage was answered by {answer}");
        }
        let idle = (0..IDLE).map(|_| UnixStream::connect(&socket)).collect::<Result<Vec<_>, _>>();
        let idle = idle.context("an idle connection")?;
        // Others are served meanwhile.
        let status = send(&socket, b"GET /v1/status HTTP/1.1\r\nHost: weir\r\n\r\n")?;
        ensure!(status.starts_with("HTTP/1.1 200"), "status beside idle connections: {status}");
        rig.verb(&["weight", "web", "10.1.0.11", "1"])?;
        taken = taken.max(pour(&socket)?);
        drop(idle);
        rig.pace(number + 1, times, rig.scale.frames)?;
    }
    let growth = rig.resident_mb()? - before;
    ensure!(growth < GROWTH, "the agent has grown by {growth:.1} MB");
    ensure!(rig.agent.is_alive(), "the agent has ended: {}", rig.agent.said());
    Ok(Seen::nothing_lost(format!("{times} times; of a gigabyte {taken} kB were taken, grown by {growth:.1} MB")))
}

/// Sends something and returns what is answered.
fn send(socket: &Path, request: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    if let Err(error) = stream.write_all(request) {
        ensure!(error.kind() == ErrorKind::BrokenPipe, "cannot ask: {error}");
    }
    stream.shutdown(std::net::Shutdown::Write).ok();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error).context("no answer"),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

/// Sends a body of a gigabyte until it is refused; kilobytes that were taken.
fn pour(socket: &Path) -> Result<usize> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    stream
        .write_all(format!("POST /v1/apply HTTP/1.1\r\nHost: weir\r\nContent-Length: {GIGABYTE}\r\n\r\n").as_bytes())?;
    let piece = [b' '; 1 << 16];
    let mut taken = 0;
    while taken < GIGABYTE {
        match stream.write(&piece) {
            Ok(bytes) => taken += bytes,
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(error) => return Err(error).context("a body of a gigabyte is neither taken nor refused"),
        }
    }
    ensure!(taken < GIGABYTE, "a body of a gigabyte was taken");
    Ok(taken >> 10)
}

impl Rig {
    /// What the agent has in memory, MB, without the kernel's maps.
    pub fn resident_mb(&self) -> Result<f64> {
        let smaps = fs::read_to_string(format!("/proc/{}/smaps", self.agent.pid())).context("the agent's memory")?;
        let mut kilobytes = 0_u64;
        let mut is_map = false;
        for line in smaps.lines() {
            let first = line.split_whitespace().next().unwrap_or_default();
            if !first.ends_with(':') {
                is_map = line.contains("bpf-map");
            } else if first == "Rss:" && !is_map {
                let number = line.split_whitespace().nth(1).context("a line without a number")?;
                kilobytes += number.parse::<u64>()?;
            }
        }
        Ok(kilobytes as f64 / 1024.0)
    }
}
