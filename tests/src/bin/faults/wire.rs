//! The stream: a thread that has the kernel send numbered frames without a pause, and what is known of them.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::{
    TestRun as _, TestRunAttrs, TestRunOptions,
    programs::{ProgramError, Xdp},
};
use etherparse::PacketBuilder;
use lb_common::abi::{Arrivals, STREAM_FRAME, STREAM_NETWORK, Stream};
use lb_userspace::{
    datapath::Mapped,
    lab::{Host, wait_for},
};

use crate::{
    ledger::{FLOWS, PLACES, Snapshot},
    rig::PORT,
};

/// Frames that are tried to be sent at a time, some milliseconds' worth.
const CHUNK: u32 = 4_096;
/// How long is waited where frames are under way that do not arrive: whoever is to take them may want this very CPU.
const REST: Duration = Duration::from_micros(100);
/// How long frames may be under way before they count as lost.
const LONGEST_WAY: Duration = Duration::from_millis(500);
/// How long is waited for frames before more are sent, where none may be lost.
const PATIENT: Duration = Duration::from_millis(200);
/// The same where many are lost for a while: the stream must go on as fast.
const IMPATIENT: Duration = Duration::from_micros(200);

/// A stream that goes on until it is dropped.
pub struct Wire {
    shared: Arc<Shared>,
    stream: Mapped<Stream>,
    arrivals: Mapped<Arrivals>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    wanted: Wanted,
    /// The sending thread stands still.
    still: bool,
    /// The kernel's index of the interface that is sent by.
    interface: u32,
    /// How long the kernel has been sending.
    sending: Duration,
    failed: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Run,
    Hold,
    End,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// A stream in a host by one of its interfaces, to a MAC and a VIP. It begins held.
    pub fn new(
        (send, [stream, theirs], arrivals): (Xdp, [Mapped<Stream>; 2], Mapped<Arrivals>),
        host: &Host,
        interface: u32,
        to: ([u8; 6], [u8; 4]),
    ) -> Result<Wire> {
        let patience_ns = PATIENT.as_nanos() as u32;
        stream.set(0, Stream { frame: frame(to)?, patience_ns, ..Stream::default() });
        let state = State { wanted: Wanted::Hold, still: false, interface, sending: Duration::ZERO, failed: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (host, reports) = (host.clone(), Arc::clone(&shared));
        let thread = thread::spawn(move || {
            // The thread inside takes them along.
            let (send, stream, within) = (send, theirs, Arc::clone(&reports));
            let ended = host.within(move || generate(&send, &stream, &within));
            let mut state = reports.state();
            state.still = true;
            state.failed = ended.err().map(|error| format!("{error:#}"));
            reports.changed.notify_all();
        });
        Ok(Wire { shared, stream, arrivals, thread: Some(thread) })
    }

    /// Lets it flow.
    pub fn resume(&self) {
        let mut state = self.shared.state();
        state.wanted = Wanted::Run;
        state.still = false;
        self.shared.changed.notify_all();
    }

    /// Stops it, waits until nothing is under way, and counts.
    pub fn hold(&self) -> Result<Snapshot> {
        {
            let mut state = self.shared.state();
            state.wanted = Wanted::Hold;
            self.shared.changed.notify_all();
            while !state.still {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if let Some(failed) = &state.failed {
                bail!("the stream ended: {failed}");
            }
        }
        let sent = self.sent();
        // What is lost does not come.
        let _ = wait_for("", LONGEST_WAY, || (self.arrived() >= sent).then_some(()));
        Ok(Snapshot { sent, arrived: (0..PLACES).map(|place| self.arrived_at(place)).collect() })
    }

    /// From now on many are lost, and the stream is to go on all the same; or none any more.
    pub fn expect_losses(&self, losses: bool) {
        let patience = if losses { IMPATIENT } else { PATIENT };
        let stream: *mut Stream = self.stream.at_mut(0);
        // SAFETY: `at_mut` points to the mapped element; the word is aligned, and the program reads it whole.
        unsafe { (&raw mut (*stream).patience_ns).write_volatile(patience.as_nanos() as u32) }
    }

    /// Its interface has another index now.
    pub fn send_by(&self, interface: u32) {
        self.shared.state().interface = interface;
    }

    /// Frames sent so far.
    pub fn sent(&self) -> u64 {
        sent_of(&self.stream)
    }

    /// How long the kernel has been sending.
    pub fn sending(&self) -> Duration {
        self.shared.state().sending
    }

    /// Waits until so many were sent.
    pub fn wait_for(&self, sent: u64) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(300);
        while self.sent() < sent {
            if let Some(failed) = &self.shared.state().failed {
                bail!("the stream ended: {failed}");
            }
            ensure!(Instant::now() < end, "the stream does not flow: {} frames sent", self.sent());
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Frames that have arrived anywhere.
    fn arrived(&self) -> u64 {
        (0..PLACES).map(|place| self.total_at(place)).sum()
    }

    /// Frames that have arrived at a place.
    pub fn total_at(&self, place: usize) -> u64 {
        let arrivals: *const Arrivals = self.arrivals.at(place as u32);
        // SAFETY: `at` points to a mapped element; the word is aligned and only grows.
        unsafe { (&raw const (*arrivals).total).read_volatile() }
    }

    fn arrived_at(&self, place: usize) -> Vec<u64> {
        let arrivals: *const Arrivals = self.arrivals.at(place as u32);
        // SAFETY: as above, and indexing the array inside checks the index.
        (0..FLOWS).map(|flow| unsafe { (&raw const (*arrivals).flows[flow]).read_volatile() }).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.state().wanted = Wanted::End;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sent_of(stream: &Mapped<Stream>) -> u64 {
    let stream: *const Stream = stream.at(0);
    // SAFETY: `at` points to the mapped element; the word is aligned and only grows.
    unsafe { (&raw const (*stream).sent).read_volatile() }
}

/// Sends until told to end, in the namespace of the calling thread.
fn generate(send: &Xdp, stream: &Mapped<Stream>, shared: &Shared) -> Result<()> {
    let mut sent = 0;
    loop {
        let interface = {
            let mut state = shared.state();
            while state.wanted == Wanted::Hold {
                state.still = true;
                shared.changed.notify_all();
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.wanted == Wanted::End {
                return Ok(());
            }
            state.interface
        };
        let begin = Instant::now();
        match send_chunk(send, interface) {
            Ok(()) => {
                let now = sent_of(stream);
                if now - sent < u64::from(CHUNK) / 2 {
                    thread::sleep(REST);
                }
                sent = now;
                shared.state().sending += begin.elapsed();
            }
            // The interface is gone: there is no wire to send by until it is back.
            Err(error) if is(&error, libc::ENODEV) => thread::sleep(Duration::from_millis(1)),
            Err(error) if is(&error, libc::EINTR) => {}
            Err(error) => return Err(anyhow!(error).context("the kernel did not send frames")),
        }
    }
}

fn send_chunk(send: &Xdp, interface: u32) -> Result<(), ProgramError> {
    let frame = [0; STREAM_FRAME];
    let context = context(interface);
    let options = TestRunOptions {
        data_in: Some(&frame),
        ctx_in: Some(&context),
        repeat: CHUNK,
        attrs: TestRunAttrs::new().xdp_live_frames(0),
        ..TestRunOptions::default()
    };
    send.test_run(options).map(drop)
}

fn is(error: &ProgramError, number: i32) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(number))
}

/// A `struct xdp_md` that says how long the frame is and by which interface it came.
fn context(interface: u32) -> [u8; 24] {
    let (data, data_meta, queue, egress) = (0, 0, 0, 0);
    let words: [u32; 6] = [data, STREAM_FRAME as u32, data_meta, interface, queue, egress];
    let mut bytes = [0; 24];
    for (word, bytes) in words.iter().zip(bytes.chunks_mut(4)) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// The frame of flow 0. Where the program puts what makes up for the flow's number, it is that of 0.
fn frame((mac, vip): ([u8; 6], [u8; 4])) -> Result<[u64; STREAM_FRAME / 8]> {
    let source = [STREAM_NETWORK[0], STREAM_NETWORK[1], 0, 0];
    let mut ip = etherparse::Ipv4Header::new(20, 64, etherparse::IpNumber::TCP, source, vip)?;
    ip.identification = 0xffff;
    let header = etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
    let builder =
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0xfe], mac).ip(header).tcp(SOURCE_PORT, PORT, 0xffff, 1_000).ack(1);
    let mut bytes = Vec::with_capacity(STREAM_FRAME);
    builder.write(&mut bytes, &[])?;
    bytes.resize(STREAM_FRAME, 0);
    let mut words = [0; STREAM_FRAME / 8];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        *word = u64::from_ne_bytes(bytes.try_into()?);
    }
    Ok(words)
}

/// Of every flow.
pub const SOURCE_PORT: u16 = 4_711;

/// Frames that a full ring of a veth refused, of all interfaces of a host.
pub fn refused_by_rings(host: &Host) -> Result<u64> {
    let names =
        host.within(|| Ok(lb_userspace::links::list()?.into_iter().map(|link| link.name).collect::<Vec<_>>()))?;
    let mut refused = 0;
    for name in names {
        // Only a veth has such counters.
        let Ok(text) = host.output("ethtool", &["-S", &name]) else { continue };
        let counters = text.lines().filter_map(|line| line.trim().split_once(": "));
        let errors = counters.filter(|(name, _)| name.contains("xdp_xmit_errors") || name.contains("xdp_tx_errors"));
        for (_, number) in errors {
            refused += number.trim().parse::<u64>().with_context(|| format!("`ethtool -S` printed {number}"))?;
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_right_checksums() {
        let words = frame(([2, 0, 0, 0, 0, 1], [10, 1, 0, 100])).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let sliced = etherparse::SlicedPacket::from_ethernet(&bytes).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("no IPv4") };
        assert_eq!(ip.header().to_header().calc_header_checksum(), ip.header().header_checksum());
        assert_eq!(usize::from(ip.header().total_len()), 40);
    }
}
