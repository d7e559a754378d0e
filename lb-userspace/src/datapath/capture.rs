//! Samples of packets: asking the programs for them, one at a time for an instance, and taking them out of the ring.

use std::{
    fs,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use lb_common::abi::{Capture, Live, Sample, Sampler};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    time::{ClockId, clock_gettime},
};
use serde::Serialize;

use super::{Access, Pins, Plain, mapped::Mapped, open_map};

/// For how long the programs go on sampling for somebody who has died.
pub const LEASE: Duration = Duration::from_secs(3);

/// Samples that were wanted and not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Lost {
    /// There was no budget left for them.
    pub over_budget: u64,
    /// Whoever captures had not made room for them.
    pub ring_full: u64,
}

impl Lost {
    /// Since the tables were made.
    pub fn ever(pins: &Pins) -> Result<Self> {
        Self::of(&sampler(pins)?)
    }

    fn of(sampler: &PerCpuArray<MapData, Plain<Sampler>>) -> Result<Self> {
        Ok(sampler.get(&0, 0)?.iter().fold(Lost::default(), |sum, Plain(one)| Lost {
            over_budget: sum.over_budget + one.over_budget,
            ring_full: sum.ring_full + one.ring_full,
        }))
    }
}

fn sampler(pins: &Pins) -> Result<PerCpuArray<MapData, Plain<Sampler>>> {
    Ok(PerCpuArray::try_from(Map::PerCpuArray(open_map(&pins.tables(), "SAMPLER")?))?)
}

/// The programs sample as long as this lives and is renewed.
pub struct Capturing {
    pins: Pins,
    /// Which map of that name this is: a new agent may have replaced it.
    inode: u64,
    events: RingBuf<MapData>,
    capture: Mapped<Capture>,
    live: Mapped<Live>,
    sampler: PerCpuArray<MapData, Plain<Sampler>>,
    before: Lost,
    _lock: Flock<fs::File>,
}

impl Capturing {
    /// Takes the place of who captures, of which an instance has one.
    pub fn open(pins: &Pins) -> Result<Self> {
        // First, because it says best what is wrong with pins that cannot be opened.
        super::Datapath::open(pins, Access::Read)?;
        let directory = pins.links();
        let lock = fs::File::open(&directory).with_context(|| format!("cannot open {}", directory.display()))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => {
                anyhow!("{}: somebody captures already: one at a time, end that first", pins.root().display())
            }
            errno => anyhow!("cannot lock {}: {errno}", directory.display()),
        })?;
        let path = pins.tables().join("EVENTS");
        ensure!(
            path.exists(),
            "{}: the programs here take no samples: restart the agent, so that it replaces them",
            pins.root().display()
        );
        let map = |name: &str| open_map(&pins.tables(), name);
        let mut capturing = Capturing {
            pins: pins.clone(),
            inode: fs::metadata(&path)?.ino(),
            events: RingBuf::try_from(Map::RingBuf(map("EVENTS")?))?,
            capture: Mapped::new(&map("CAPTURE")?, Access::Write)?,
            live: Mapped::new(&map("LIVE")?, Access::Write)?,
            sampler: sampler(pins)?,
            before: Lost::default(),
            _lock: lock,
        };
        capturing.before = Lost::of(&capturing.sampler)?;
        // What somebody who died had asked for.
        capturing.listen(0);
        while capturing.events.next().is_some() {}
        Ok(capturing)
    }

    /// Asks for packets, or goes on asking; to be done again within seconds. `until_ns` of what is wanted is set here.
    pub fn want(&mut self, wanted: Capture) -> Result<()> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        // Packets may see half of it: who asks first asks before anybody listens, who asks anew changes little.
        self.capture.set(0, Capture { until_ns: (now + LEASE).as_nanos() as u64, ..wanted });
        self.listen(1);
        Ok(())
    }

    /// Whether the maps are still those that packets meet.
    pub fn is_current(&self) -> bool {
        fs::metadata(self.pins.tables().join("EVENTS")).is_ok_and(|found| found.ino() == self.inode)
    }

    /// The next sample, if there is one.
    pub fn take(&mut self) -> Option<Sample> {
        loop {
            let record = self.events.next()?;
            if record.len() >= size_of::<Sample>() {
                // SAFETY: as many bytes are there, of which any are a sample.
                return Some(unsafe { record.as_ptr().cast::<Sample>().read_unaligned() });
            }
        }
    }

    /// What becomes readable when there is a sample.
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Samples lost since the start.
    pub fn lost(&self) -> Result<Lost> {
        let now = Lost::of(&self.sampler)?;
        Ok(Lost {
            over_budget: now.over_budget.saturating_sub(self.before.over_budget),
            ring_full: now.ring_full.saturating_sub(self.before.ring_full),
        })
    }

    fn listen(&self, listening: u64) {
        // Nobody else writes this word but the programs, which only clear it.
        write!(self.live, listening, listening);
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        self.listen(0);
    }
}
