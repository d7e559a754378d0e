//! The three judges of a frame, and what they disagree on.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use anyhow::Result;
use lb_common::{
    balance::{NONE, Outcome},
    filter::Syn,
};

use super::{
    setups::VARIATIONS,
    tally::{Tally, kind_of},
};
use crate::{
    counted::Counted,
    expect::diff,
    host::{FIRST_BUFFER, Frame, HEADROOM, Host},
    kernel::{Kernel, Program, action},
    reference::{self, Judgement, Reference},
};

/// The shortest frame that the kernel's test run takes.
const ETHERNET_HEADER: usize = 14;
/// The longest frame that is worth it.
pub const LONGEST: usize = 9_100;

/// What two of the judges see differently.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disagreement(pub String);

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The judges of one setup.
pub struct Judges {
    /// Number of the variation.
    pub variation: usize,
    /// The specification.
    pub reference: Reference,
    /// The path on the host.
    pub host: Host,
    kernel: Option<InKernel>,
    /// Where the reference's frame is built.
    expected: Vec<u8>,
    /// Frames that the host has judged.
    pub host_frames: u64,
    /// Frames that the kernel has judged.
    pub kernel_frames: u64,
}

struct InKernel {
    kernel: Kernel,
    /// What the counters must have moved by since they were last compared.
    tally: Tally,
    before: Counted,
}

impl Judges {
    /// The reference and the host.
    pub fn on_host(variation: usize) -> Self {
        let (world, setup) = VARIATIONS[variation].worlds();
        Judges {
            variation,
            reference: Reference::new(setup),
            host: Host::new(world),
            kernel: None,
            expected: Vec::new(),
            host_frames: 0,
            kernel_frames: 0,
        }
    }

    /// All three. Needs root.
    pub fn with_kernel(variation: usize) -> Result<Self> {
        let judges = Self::on_host(variation);
        let kernel = Kernel::load(&VARIATIONS[variation].setup, &judges.host.world, Program::WeirFrags)?;
        let before = kernel.counters()?;
        Ok(Judges { kernel: Some(InKernel { kernel, tally: Tally::default(), before }), ..judges })
    }

    /// Forgets what earlier frames left behind.
    pub fn forget(&mut self) -> Result<()> {
        let places = self.reference.forget();
        self.host.forget(&places);
        self.kernel.as_ref().map_or(Ok(()), |kernel| kernel.kernel.forget(&places))
    }

    /// Judges a frame by all. What they agree on is returned.
    pub fn judge(&mut self, frame: &[u8]) -> Result<Judgement, Disagreement> {
        let judgement = self.reference.judge(given(frame), &mut self.expected);
        let mut on_host = Frame::new(frame, HEADROOM, FIRST_BUFFER);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.host.outcome(&mut on_host)))
            .map_err(|panic| Disagreement(format!("the host panicked: {}", message(&*panic))))?;
        self.host_frames += 1;
        let left = on_host.bytes();
        self.compare(&judgement, &outcome, &left)?;
        let taken = (ETHERNET_HEADER..=LONGEST).contains(&frame.len());
        if let Some(kernel) = self.kernel.as_mut().filter(|_| taken) {
            self.kernel_frames += 1;
            let (seen, left_kernel) =
                kernel.kernel.run_frame(frame).map_err(|error| Disagreement(format!("the kernel: {error:#}")))?;
            if seen != action(outcome.verdict) {
                let label = outcome.verdict.label();
                return Err(Disagreement(format!("the kernel's action {seen}, on the host {label}")));
            }
            if left_kernel != left {
                return Err(Disagreement(format!(
                    "seen in the kernel, expected by the host:\n{}",
                    diff(&left_kernel, &left)
                )));
            }
            kernel.tally.add(&judgement, &self.host.world.vips);
        }
        Ok(judgement)
    }

    /// Takes the kernel's counters as they are now for the beginning.
    pub fn begin_counting(&mut self) -> Result<()> {
        if let Some(kernel) = &mut self.kernel {
            kernel.tally.take();
            kernel.before = kernel.kernel.counters()?;
        }
        Ok(())
    }

    /// What is wrong with frames that come after one another, from a table of fragments that is empty.
    pub fn disagreement(&mut self, frames: &[Vec<u8>]) -> Option<Disagreement> {
        if let Err(error) = self.forget().and_then(|()| self.begin_counting()) {
            return Some(Disagreement(format!("the kernel: {error:#}")));
        }
        let judged = frames.iter().try_for_each(|frame| self.judge(frame).map(drop));
        judged.and_then(|()| self.compare_counters()).err()
    }

    /// Whether the kernel has counted what all frames since the last time should have moved.
    pub fn compare_counters(&mut self) -> Result<(), Disagreement> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let after = kernel.kernel.counters().map_err(|error| Disagreement(format!("the kernel: {error:#}")))?;
        let moved = after.since(&kernel.before);
        let expected = kernel.tally.take();
        kernel.before = after;
        if moved == expected {
            return Ok(());
        }
        let mut text = String::from("counters:\n");
        for (label, count) in &moved.verdicts {
            let wanted = expected.verdicts.get(label).copied().unwrap_or_default();
            if *count != wanted {
                text += &format!("  {label}: {count}, expected {wanted}\n");
            }
        }
        text += &format!("  seen {:?} {:?}\n", moved.vips, moved.backends);
        text += &format!("  expected {:?} {:?}", expected.vips, expected.backends);
        Err(Disagreement(text))
    }

    fn compare(&self, judgement: &Judgement, outcome: &Outcome, left: &[u8]) -> Result<(), Disagreement> {
        let number = |number: u32| (number != NONE).then_some(number as usize);
        same("verdict", outcome.verdict.label(), judgement.verdict.label())?;
        same("service", number(outcome.vip), judgement.service)?;
        same("hash", outcome.hash, judgement.hash)?;
        same("slot", number(outcome.slot), judgement.slot)?;
        same("backend", number(outcome.backend), judgement.backend)?;
        same("SYN", Syn::from_number(outcome.syn), judgement.syn.map(kind_of))?;
        same("allowed SYN", outcome.marks & Outcome::SYN_ALLOWED != 0, judgement.syn_allowed)?;
        if let Some(interface) = judgement.interface {
            same("interface", outcome.redirect, self.host.world.interfaces[interface].index)?;
            same("bytes", u64::from(outcome.bytes), judgement.bytes)?;
            same("ICMP error", outcome.marks & Outcome::ICMP_ERROR != 0, judgement.icmp_error)?;
            same("lowered MSS", outcome.marks & Outcome::MSS_LOWERED != 0, judgement.mss_lowered)?;
            same("small MTU", outcome.marks & Outcome::SMALL_MTU != 0, judgement.small_mtu)?;
        }
        if left == self.expected {
            return Ok(());
        }
        Err(Disagreement(format!("seen on the host, expected by the reference:\n{}", diff(left, &self.expected))))
    }

    /// What the reference alone says, and what must leave.
    pub fn by_reference(&mut self, frame: &[u8]) -> (Judgement, Vec<u8>) {
        let judgement = self.reference.judge(given(frame), &mut self.expected);
        (judgement, self.expected.clone())
    }
}

fn message(panic: &dyn Any) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("not in words")
}

fn given(bytes: &[u8]) -> reference::Frame<'_> {
    reference::Frame { bytes, readable: FIRST_BUFFER, headroom: HEADROOM }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, host: T, reference: T) -> Result<(), Disagreement> {
    if host == reference {
        return Ok(());
    }
    Err(Disagreement(format!("{what}: {host:?} on the host, {reference:?} by the reference")))
}
