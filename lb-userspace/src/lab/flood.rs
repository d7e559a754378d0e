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
};
use etherparse::PacketBuilder;
use lb_common::abi::Address;

use super::{Host, programs::program};
use crate::datapath::{TRAFFIC_OBJECT, requirements::Kernel};

/// From here on the kernel sends what a program is tried on.
pub const LIVE_FRAMES_KERNEL: Kernel = Kernel(5, 18);

/// Frames sent at once: a veth's ring holds 256, and others use it too.
const BATCH: u64 = 64;
/// How long a batch may take to arrive before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// SYNs with window 0 and without options, from scattered sources.
pub struct Flood {
    host: Host,
    object: Ebpf,
    frame: Vec<u8>,
    /// A `struct xdp_md` that says how long the frame is and which interface it came by.
    context: [u8; 24],
    made: Array<MapData, u64>,
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
        program(&mut object, "flood")?.load()?;
        let made = Array::try_from(object.take_map("MADE").context("no map MADE in the object")?)?;
        let frame = frame(host.mac(interface)?, to, source)?;
        let context = context(frame.len() as u32, host.index(interface)?);
        Ok(Flood { host: host.clone(), object, frame, context, made })
    }

    /// Sends so many, a batch at a time: the next once `arrived`, which counts at the other end, has seen the last, or
    /// has not for a while. Returns how many were made.
    pub fn send(&mut self, packets: u64, mut arrived: impl FnMut() -> u64) -> Result<u64> {
        let before = self.made()?;
        let mut left = packets;
        while left > 0 {
            let batch = left.min(BATCH);
            let seen = arrived();
            self.send_batch(batch as u32)?;
            // A batch that does not arrive is lost: the caller sees that from his count.
            let end = Instant::now() + PATIENCE;
            while arrived() < seen + batch && Instant::now() < end {
                thread::yield_now();
            }
            left -= batch;
        }
        Ok(self.made()? - before)
    }

    fn send_batch(&mut self, packets: u32) -> Result<()> {
        let Flood { host, object, frame, context, .. } = self;
        host.within(|| {
            let options = TestRunOptions {
                data_in: Some(frame),
                ctx_in: Some(context),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(packets),
                ..TestRunOptions::default()
            };
            program(object, "flood")?.test_run(options).context("the kernel did not send the flood's frames")?;
            Ok(())
        })
    }

    fn made(&self) -> Result<u64> {
        Ok(self.made.get(&0, 0)?)
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
