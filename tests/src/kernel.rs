//! The programs in the kernel: the same tables in their maps, frames by `BPF_PROG_TEST_RUN`, counters to read.

use anyhow::{Result, ensure};
use aya::{
    TestRun as _, TestRunOptions,
    maps::{Array, Map, MapData},
    programs::Xdp,
};
use lb_common::{
    abi::{Explanation, Forwarded},
    verdict::{Action, Verdict},
};
use lb_userspace::datapath::{
    Attachment, Loaded, Pins, VipCounts, load,
    requirements::{self, FRAGS_KERNEL, Kernel as Version},
};

use crate::{
    cases::Case,
    counted::{self, Counted},
    host::FIRST_BUFFER,
    setup::{INTERFACES, Setup, World},
};

/// From here on the kernel lets metadata take so much of the headroom that a tunnel's header finds none.
pub const LITTLE_ROOM_KERNEL: Version = Version(6, 10);
/// From here on a test run may say where the first buffer ends.
pub const SHORT_BUFFER_KERNEL: Version = Version(6, 18);
/// What the kernel keeps of the headroom for itself, and so the room that a frame has without metadata.
const ROOM: usize = 256 - 40;

/// Which of the balancer's two programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// For frames in one buffer.
    Weir,
    /// For all.
    WeirFrags,
}

/// A setup in the kernel, attached nowhere. Its pins go with it.
pub struct Kernel {
    loaded: Loaded,
    pins: Pins,
    vips: Vec<(u16, String)>,
    backends: u16,
    /// The running one.
    pub version: Version,
}

impl Kernel {
    /// Loads a program and the tables of a setup; an error is a sentence with the way out.
    pub fn load(setup: &Setup, world: &World, program: Program) -> Result<Self> {
        let version = requirements::check()?;
        let name = format!("weir-{}-{}-{program:?}-{:?}", std::process::id(), setup.name, std::thread::current().id());
        let pins = Guard(Pins::new(format!("/sys/fs/bpf/{}", name.replace(['(', ')', '.'], ""))));
        pins.0.prepare()?;
        let interface = |((name, _), entry): (&(&str, _), &lb_common::abi::Interface)| Attachment {
            name: (*name).to_owned(),
            entry: *entry,
            xdp: None,
        };
        let interfaces = INTERFACES.iter().zip(&world.interfaces).map(interface).collect();
        // The loader takes the program without frags where the kernel knows no other.
        let wanted = if program == Program::Weir { Version(5, 10) } else { version };
        let loaded = load(&pins.0, wanted, &world.tables, interfaces)?;
        let vips = (0..).zip(world.vips.iter().cloned()).collect();
        Ok(Kernel { loaded, pins: pins.keep(), vips, backends: world.tables.backends.len() as u16, version })
    }

    /// What the running kernel's test run lacks for a case, if something.
    pub fn lacks(&self, case: &Case) -> Option<&'static str> {
        if case.frame.len() > FIRST_BUFFER && self.version < FRAGS_KERNEL {
            return Some("knows no frames in several buffers");
        }
        if case.headroom.is_some() && self.version < LITTLE_ROOM_KERNEL {
            return Some("leaves every frame room");
        }
        (case.first_buffer.is_some() && self.version < SHORT_BUFFER_KERNEL).then_some("fills the first buffer")
    }

    /// Runs a case. Returns the kernel's action and the frame as it left.
    pub fn run(&self, case: &Case) -> Result<(u32, Vec<u8>)> {
        if case.headroom.is_none() && case.first_buffer.is_none() {
            return self.run_frame(&case.frame);
        }
        // Metadata takes the room that the frame shall not have.
        let metadata = case.headroom.map_or(0, |room| ROOM - room);
        let input = [&vec![0; metadata], &case.frame[..]].concat();
        let first_buffer = metadata + case.first_buffer.unwrap_or(case.frame.len());
        // A `struct xdp_md`: data and data_end come first, as offsets.
        let context = [metadata as u32, first_buffer as u32, 0, 0, 0, 0].map(u32::to_ne_bytes).concat();
        let mut out = vec![0; input.len() + 256];
        let options = TestRunOptions {
            data_in: Some(&input),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = self.program()?.test_run(options)?;
        ensure!(result.data_size_out as usize >= metadata, "{} bytes came back", result.data_size_out);
        Ok((result.return_value, out[metadata..result.data_size_out as usize].to_vec()))
    }

    /// Runs a frame.
    pub fn run_frame(&self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        self.loaded.run(frame)
    }

    /// Which half of the tables is live.
    pub fn half(&self) -> u32 {
        self.loaded.datapath().half()
    }

    /// How many instructions the verifier processed for the program, if the kernel tells.
    pub fn verified_instructions(&self) -> Option<u32> {
        self.loaded.verified_instructions
    }

    /// The program, for runs of other kinds.
    pub fn program(&self) -> Result<&Xdp> {
        self.loaded.program()
    }

    /// What `weir_explain` says of a frame, and the frame as it would leave. It takes frames in one buffer: `None`
    /// of a longer one.
    pub fn explain(&self, frame: &[u8]) -> Result<Option<(Explanation, Vec<u8>)>> {
        (frame.len() <= FIRST_BUFFER).then(|| self.loaded.explain(frame)).transpose()
    }

    /// Forgets what fragments left in these places.
    pub fn forget(&self, places: &[u32]) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let map = MapData::from_pin(self.pins.next_tables().join("FRAGMENTS"))?;
        let mut fragments = Array::<_, u64>::try_from(Map::Array(map))?;
        places.iter().try_for_each(|place| Ok(fragments.set(*place, 0, 0)?))
    }

    /// All counters, summed over CPUs.
    pub fn counters(&self) -> Result<Counted> {
        let datapath = self.loaded.datapath();
        let verdicts = datapath.verdicts()?.into_iter().map(|(verdict, cpus)| (verdict.label(), cpus.iter().sum()));
        let mut counted = Counted { verdicts: verdicts.collect(), ..Counted::default() };
        for (id, vip) in &self.vips {
            let sum = datapath.vip_counts(*id)?.into_iter().fold(VipCounts::default(), counted::add_vip);
            counted.vips.insert(vip.clone(), sum);
        }
        for id in 0..self.backends {
            let sum = datapath.backend_counts(id)?.into_iter().fold(Forwarded::default(), counted::add_backend);
            counted.backends.insert(id.into(), sum);
        }
        Ok(counted)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.pins.remove();
    }
}

/// Removes pins of a load that fails.
struct Guard(Pins);

impl Guard {
    fn keep(self) -> Pins {
        let pins = self.0.clone();
        std::mem::forget(self);
        pins
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

/// The kernel's action for a verdict.
pub fn action(verdict: Verdict) -> u32 {
    const XDP_DROP: u32 = 1;
    const XDP_PASS: u32 = 2;
    const XDP_TX: u32 = 3;
    const XDP_REDIRECT: u32 = 4;
    match verdict.action() {
        Action::Drop => XDP_DROP,
        Action::Pass => XDP_PASS,
        Action::Transmit => XDP_TX,
        Action::Redirect => XDP_REDIRECT,
    }
}
