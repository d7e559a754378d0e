//! `weir capture`: what is wanted, in words, and the samples that come of it, as pcapng.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use lb_common::{
    abi::{self, SAMPLE_BYTES, Sample, VIP_ENTRIES},
    verdict::{Action, Verdict},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use crate::{
    datapath::{Access, Capturing, Datapath, LEASE, Lost, Pins},
    pcapng,
    plan::Description,
};

/// Which packets, and how many.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Of these verdicts, or of these actions (pass, drop, transmit, redirect); all if empty.
    pub verdicts: Vec<String>,
    /// Of this service; all, and those without one, if none.
    pub service: Option<String>,
    /// No more than so many.
    pub count: Option<u64>,
}

/// How a capture ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Packets written.
    pub captured: u64,
    /// Packets that were wanted as well.
    pub lost: Lost,
    /// For how long nothing was sampled, because nobody asked anew.
    pub missed: Duration,
}

/// How often the lease is renewed, and services are looked at anew.
const RENEW: Duration = Duration::from_secs(1);
/// How long nothing may come before it is looked whether to go on, milliseconds.
const LOOK_MS: u16 = 200;
/// Samples that are taken before that.
const BATCH: usize = 256;

/// A capture that has begun.
pub struct Session {
    pins: Pins,
    wanted: Wanted,
    verdicts: u32,
    capturing: Capturing,
    description: Description,
    /// What the wall clock is ahead of the kernel's monotonic one.
    ahead_ns: u64,
}

impl Session {
    /// Begins; an error names what is not there.
    pub fn open(pins: &Pins, wanted: Wanted) -> Result<Session> {
        let verdicts = verdicts(&wanted.verdicts)?;
        let description = Datapath::open(pins, Access::Read)?.description()?;
        let capturing = Capturing::open(pins)?;
        let clock = |clock| Ok::<_, nix::Error>(Duration::from(clock_gettime(clock)?).as_nanos() as u64);
        let ahead_ns = clock(ClockId::CLOCK_REALTIME)?.saturating_sub(clock(ClockId::CLOCK_MONOTONIC)?);
        let mut session = Session { pins: pins.clone(), wanted, verdicts, capturing, description, ahead_ns };
        session.ask()?;
        Ok(session)
    }

    /// Writes what comes until there are enough, or until it shall stop.
    pub fn run(mut self, out: &mut dyn Write, stop: &dyn Fn() -> bool) -> Result<Summary> {
        let mut summary = Summary::default();
        let enough = self.wanted.count.unwrap_or(u64::MAX);
        let application = concat!("weir ", env!("CARGO_PKG_VERSION"));
        pcapng::begin(out, application, &self.description.interfaces, SAMPLE_BYTES as u32)?;
        out.flush()?;
        let mut renewed = Instant::now();
        while summary.captured < enough && !stop() {
            if renewed.elapsed() >= RENEW {
                summary.missed += renewed.elapsed().saturating_sub(LEASE);
                self.renew(&mut summary)?;
                renewed = Instant::now();
            }
            for _ in 0..BATCH {
                let Some(sample) = self.capturing.take().filter(|_| summary.captured < enough) else { break };
                self.write(out, &sample)?;
                summary.captured += 1;
            }
            out.flush()?;
            if summary.captured < enough {
                let mut wait = [PollFd::new(self.capturing.readable(), PollFlags::POLLIN)];
                match poll(&mut wait, PollTimeout::from(LOOK_MS)) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(errno) => bail!("cannot wait for samples: {errno}"),
                }
            }
        }
        summary.lost = sum(summary.lost, self.capturing.lost()?);
        self.end(out, &summary)?;
        Ok(summary)
    }

    /// Goes on asking; after a restart of the agent that replaced the programs, the new ones.
    fn renew(&mut self, summary: &mut Summary) -> Result<()> {
        if !self.capturing.is_current() {
            summary.lost = sum(summary.lost, self.capturing.lost()?);
            bail!("{}: the programs were replaced or detached: capture again", self.pins.root().display());
        }
        self.description = Datapath::open(&self.pins, Access::Read)?.description()?;
        self.ask()
    }

    fn ask(&mut self) -> Result<()> {
        let mut capture =
            abi::Capture { until_ns: 0, verdicts: self.verdicts, any_vip: 1, vips: [0; VIP_ENTRIES as usize / 64] };
        if let Some(name) = &self.wanted.service {
            let services = &self.description.services;
            let service = services.iter().find(|service| service.name == *name).ok_or_else(|| {
                let have: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
                anyhow!("service {name:?}: no such service (have: {})", have.join(", "))
            })?;
            capture.any_vip = 0;
            for vip in &service.vips {
                capture.vips[usize::from(vip.id) / 64 % capture.vips.len()] |= 1 << (vip.id % 64);
            }
        }
        self.capturing.want(capture)
    }

    fn write(&self, out: &mut dyn Write, sample: &Sample) -> io::Result<()> {
        let known = Verdict::from_number(sample.verdict);
        let comment = known.map_or_else(|| "unknown verdict".to_owned(), |verdict| self.comment(sample, verdict));
        let packet = pcapng::Packet {
            interface: sample.interface,
            time_ns: sample.time_ns + self.ahead_ns,
            length: sample.length,
            bytes: &sample.bytes[..(sample.captured as usize).min(SAMPLE_BYTES)],
            action: known.map_or(0, |verdict| action(verdict.action())),
            comment: &comment,
        };
        pcapng::packet(out, &packet)
    }

    /// The verdict's word and why, the service and the backend.
    fn comment(&self, sample: &Sample, verdict: Verdict) -> String {
        let mut comment = format!("{}: {}", verdict.label(), verdict.why());
        let services = &self.description.services;
        let has_vip = |vip: &crate::plan::DescribedVip| u32::from(vip.id) == sample.vip;
        let service = services.iter().find(|service| service.vips.iter().any(has_vip));
        if let Some(service) = service {
            comment += &format!("; service {}", service.name);
            let backend = service.backends.iter().find(|backend| u32::from(backend.id) == sample.backend);
            comment += &backend.map(|backend| format!("; backend {}", backend.address)).unwrap_or_default();
        }
        comment
    }

    fn end(&self, out: &mut dyn Write, summary: &Summary) -> Result<()> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?).as_nanos() as u64;
        let Lost { over_budget, ring_full } = summary.lost;
        // Of all interfaces together: the programs do not count them apart.
        pcapng::statistics(out, 0, now, over_budget + ring_full, &summary.text())?;
        Ok(out.flush()?)
    }
}

impl Summary {
    /// One line.
    pub fn text(&self) -> String {
        let Lost { over_budget, ring_full } = self.lost;
        let missed = match self.missed.as_secs() {
            0 => String::new(),
            seconds => format!(", and all for {seconds} s while the reader stood still"),
        };
        format!(
            "captured: {}, lost: {} over the budget of samples, {} while the reader was slow{missed}",
            self.captured, over_budget, ring_full
        )
    }
}

/// The verdicts of these names and actions as a mask; all if there is none.
fn verdicts(names: &[String]) -> Result<u32> {
    let all = || Verdict::ALL.iter().copied();
    let mask =
        |verdicts: &mut dyn Iterator<Item = Verdict>| verdicts.fold(0, |mask, verdict| mask | 1 << verdict as u32);
    if names.is_empty() {
        return Ok(mask(&mut all()));
    }
    names.iter().try_fold(0, |wanted, name| {
        let mut named = all().filter(|verdict| verdict.label() == name || verdict.action().label() == name);
        match mask(&mut named) {
            0 => {
                let have: Vec<_> = all().map(Verdict::label).collect();
                Err(anyhow!(
                    "verdict {name:?}: no such verdict (have: {}; or an action: pass, drop, transmit, redirect)",
                    have.join(", ")
                ))
            }
            named => Ok(wanted | named),
        }
    })
}

/// `XDP_*`.
fn action(action: Action) -> u64 {
    match action {
        Action::Drop => 1,
        Action::Pass => 2,
        Action::Transmit => 3,
        Action::Redirect => 4,
    }
}

fn sum(one: Lost, other: Lost) -> Lost {
    Lost { over_budget: one.over_budget + other.over_budget, ring_full: one.ring_full + other.ring_full }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_named_by_their_words_or_by_actions() {
        let of = |names: &[&str]| verdicts(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            of(&["forwarded", "syn_flood"]).unwrap(),
            1 << Verdict::Forwarded as u32 | 1 << Verdict::SynFlood as u32
        );
        assert_eq!(of(&["redirect"]).unwrap(), 1 << Verdict::Redirected as u32);
        assert_eq!(of(&[]).unwrap().count_ones() as usize, Verdict::COUNT);
        let error = of(&["syn_flod"]).unwrap_err().to_string();
        assert!(error.starts_with("verdict \"syn_flod\": no such verdict (have: not_ip, "), "{error}");
    }
}
