//! A SYN flood, made by the kernel: one frame whose source, port and sequence number a program changes each time.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunAttrs, TestRunOptions,
    maps::{Array, MapData},
    programs::XdpMode,
};
use etherparse::PacketBuilder;
use lb_common::abi::{Address, Pace};
use nix::time::{ClockId, clock_gettime};

use super::{Host, programs::program};
use crate::datapath::{Plain, TRAFFIC_OBJECT, requirements::Kernel};

/// From here on the kernel sends what a program is tried on.
pub const LIVE_FRAMES_KERNEL: Kernel = Kernel(5, 18);

/// Frames sent at a time: a veth's ring holds 256, and others use it too.
const ROUND: u64 = 64;
/// How long a round may take to arrive before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// Interfaces that are never up, in pairs, and the programs on them.
const IDLE: [(&str, &str); 2] = [("idle0", "idle1"), ("idle2", "idle3")];
const PROGRAMS: [(&str, &str); 3] = [("flood", "idle0"), ("paced", "idle1"), ("unsent", "idle2")];
/// Frames that one system call is for at most where they are paced: a few milliseconds of waiting for those due.
const CHUNK: u32 = 1 << 16;
/// Frames that the kernel makes before it lets go of them.
const BATCH: u32 = 64;

/// SYNs with window 0 and without options, from scattered sources.
pub struct Flood {
    host: Host,
    object: Ebpf,
    frame: Vec<u8>,
    /// A `struct xdp_md` that says how long the frame is and which interface it came by.
    context: [u8; 24],
    made: Array<MapData, u64>,
    pace: Array<MapData, Plain<Pace>>,
}

impl Flood {
    /// From a host's interface, whose peer has a program ([`Host::let_xdp_transmit`]) as it has itself
    /// ([`Host::attach_pass`]), to a VIP at a MAC. Of the sources, the bits of `vary` change.
    pub fn new(
        host: &Host,
        interface: &str,
        to: ([u8; 6], SocketAddrV4),
        source: Ipv4Addr,
        vary: Ipv4Addr,
    ) -> Result<Flood> {
        let word = |address: Ipv4Addr| Address::from(address).0[3];
        let mut object = EbpfLoader::new()
            .override_global("SOURCE", &word(source), true)
            .override_global("VARY", &word(vary), true)
            .load(TRAFFIC_OBJECT)?;
        // The kernel takes 20 ms to make a program ready that is attached nowhere, in every round.
        for (one, other) in IDLE {
            host.ip(&format!("link add {one} type veth peer name {other}"))?;
        }
        for (name, idle) in PROGRAMS {
            let program = program(&mut object, name)?;
            program.load()?;
            let idle = host.index(idle)?;
            host.within(|| Ok(program.attach_to_if_index(idle, XdpMode::Driver)?))?;
        }
        let made = Array::try_from(object.take_map("MADE").context("no map MADE in the object")?)?;
        let frame = frame(host.mac(interface)?, to, source)?;
        let context = context(frame.len() as u32, host.index(interface)?);
        let pace = Array::try_from(object.take_map("PACE").context("no map PACE in the object")?)?;
        Ok(Flood { host: host.clone(), object, frame, context, made, pace })
    }

    /// Sends until so many have arrived, by `arrived`, which counts at the other end: a round at a time, the next once all
    /// of the last are there, or have not come for a while. What is lost on the way is made again, up to as many as were
    /// wanted. Returns how many were made.
    pub fn send(&mut self, packets: u64, mut arrived: impl FnMut() -> Result<u64>) -> Result<u64> {
        let (before, start) = (self.made.get(&0, 0)?, arrived()?);
        let (mut made, mut there) = (0, start);
        while there < start + packets && made < 2 * packets {
            let round = (start + packets - there).min(ROUND);
            let all = there + round;
            self.send_round(round as u32)?;
            let end = Instant::now() + PATIENCE;
            loop {
                there = arrived()?;
                if there >= all || Instant::now() >= end {
                    break;
                }
                thread::yield_now();
            }
            made = self.made.get(&0, 0)? - before;
        }
        Ok(made)
    }

    /// How many were made so far.
    pub fn made(&self) -> Result<u64> {
        Ok(self.made.get(&0, 0)?)
    }

    /// Sends at a steady rate, packets a second, or as fast as can be, for some time, which it
    /// returns as it was. What is missed is not made up for.
    pub fn send_at(&mut self, rate: Option<f64>, time: Duration) -> Result<Duration> {
        let interval = rate.map_or(0, |rate| (1e9 / rate * f64::from(1 << Pace::FRACTION)) as u64);
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64;
        self.pace.set(0, Plain(Pace { interval, next: now << Pace::FRACTION }), 0)?;
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.run("paced", CHUNK, BATCH)?;
        }
        Ok(begin.elapsed())
    }

    /// Sends so many as fast as can be; how long that took.
    pub fn send_at_once(&mut self, packets: u32) -> Result<Duration> {
        self.run("flood", packets, BATCH)
    }

    /// Makes so many and sends none; how long that took.
    pub fn send_nothing(&mut self, packets: u32) -> Result<Duration> {
        self.run("unsent", packets, BATCH)
    }

    fn send_round(&mut self, packets: u32) -> Result<()> {
        self.run("flood", packets, packets).map(drop)
    }

    fn run(&mut self, name: &str, packets: u32, batch: u32) -> Result<Duration> {
        let Flood { host, object, frame, context, .. } = self;
        host.within(|| {
            let options = TestRunOptions {
                data_in: Some(frame),
                ctx_in: Some(context),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(batch),
                ..TestRunOptions::default()
            };
            let program = program(object, name)?;
            let begin = Instant::now();
            program.test_run(options).context("the kernel did not send the flood's frames")?;
            Ok(begin.elapsed())
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Gone with the lab at the latest.
        for (one, _) in IDLE {
            let _ = self.host.ip(&format!("link delete {one}"));
        }
    }
}

fn frame(from: [u8; 6], (mac, vip): ([u8; 6], SocketAddrV4), source: Ipv4Addr) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(from, mac)
        .ipv4(source.octets(), vip.ip().octets(), 64)
        .tcp(1024, vip.port(), 0, 0)
        .syn();
    let mut frame = Vec::with_capacity(builder.size(0));
    builder.write(&mut frame, &[])?;
    Ok(frame)
}

fn context(length: u32, interface: u32) -> [u8; 24] {
    let (data, data_meta, queue, egress) = (0, 0, 0, 0);
    let words: [u32; 6] = [data, length, data_meta, interface, queue, egress];
    let mut bytes = [0; 24];
    for (word, bytes) in words.iter().zip(bytes.chunks_mut(4)) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}
