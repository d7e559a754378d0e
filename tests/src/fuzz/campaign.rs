//! A run over many frames that follow from a seed.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use fastrand::Rng;

use super::{
    corpus, generate,
    input::Input,
    judges::Judges,
    mutate,
    report::{Finding, Totals},
    setups::{Names, VARIATIONS},
    shrink::shrink,
};

/// Frames between two looks at the counters.
pub const BATCH: usize = 1_000;
/// How often a disagreement is tried again to make it smaller.
const TRIES: usize = 20_000;

/// Judges of every setup, and what frames are made of.
pub struct Campaign {
    judges: Vec<Judges>,
    names: Vec<Names>,
    /// To be damaged.
    bases: Vec<Vec<u8>>,
    rng: Rng,
    /// So far.
    pub totals: Totals,
}

impl Campaign {
    /// Prepares; with the kernel it needs root.
    pub fn new(seed: u64, with_kernel: bool) -> Result<Self> {
        let numbers = 0..VARIATIONS.len();
        let judges: Vec<_> = numbers
            .map(|number| if with_kernel { Judges::with_kernel(number) } else { Ok(Judges::on_host(number)) })
            .collect::<Result<_>>()?;
        let names = judges.iter().map(|judges| Names::new(judges.reference.setup())).collect();
        let bases = [corpus::of_cases(), corpus::checked_in()].concat().into_iter().flat_map(|input| input.frames);
        Ok(Campaign { judges, names, bases: bases.collect(), rng: Rng::with_seed(seed), totals: Totals::default() })
    }

    /// Judges frames that are given: those of one setup, one after another.
    pub fn run_input(&mut self, input: &Input) -> Result<(), Box<Finding>> {
        self.judge(input.variation, &input.frames)
    }

    /// Judges one frame at all of its lengths.
    pub fn run_truncated(&mut self, input: &Input) -> Result<(), Box<Finding>> {
        let whole = input.frames.last().cloned().unwrap_or_default();
        // Of a long frame the end matters less.
        let lengths = (0..whole.len()).filter(|length| *length < 400 || length.is_multiple_of(97));
        let frames: Vec<_> = lengths.map(|length| whole[..length].to_vec()).collect();
        frames.chunks(BATCH).try_for_each(|frames| self.judge(input.variation, frames))
    }

    /// Judges a batch of new frames under one of the setups.
    pub fn run_batch(&mut self) -> Result<(), Box<Finding>> {
        // The first setup has something of everything.
        let variation = if self.rng.bool() { 0 } else { self.rng.usize(..VARIATIONS.len()) };
        let frames: Vec<_> = (0..BATCH).map(|_| self.frame(variation)).collect();
        self.judge(variation, &frames)
    }

    fn frame(&mut self, variation: usize) -> Vec<u8> {
        let Campaign { rng, names, bases, .. } = self;
        let names = &names[variation];
        let base = |rng: &mut Rng| bases[rng.usize(..bases.len())].clone();
        let mut frame = match rng.u8(..20) {
            0 if rng.bool() => return (0..rng.usize(..200)).map(|_| rng.u8(..)).collect(),
            0..9 => return generate::frame(rng, names),
            9..13 => generate::frame(rng, names),
            _ => base(rng),
        };
        let other = base(rng);
        mutate::damage(rng, names, &mut frame, &other);
        frame
    }

    fn judge(&mut self, variation: usize, frames: &[Vec<u8>]) -> Result<(), Box<Finding>> {
        let judges = &mut self.judges[variation];
        let before = (judges.host_frames, judges.kernel_frames);
        if judges.forget().is_err() {
            return Err(self.find(variation, frames));
        }
        for (number, frame) in frames.iter().enumerate() {
            match judges.judge(frame) {
                Ok(judgement) => self.totals.add(&judgement),
                Err(_) => return Err(self.find(variation, &frames[..=number])),
            }
        }
        let judges = &mut self.judges[variation];
        self.totals.host += judges.host_frames - before.0;
        self.totals.kernel += judges.kernel_frames - before.1;
        judges.compare_counters().map_err(|_| self.find(variation, frames))
    }

    /// Makes what failed small.
    fn find(&mut self, variation: usize, frames: &[Vec<u8>]) -> Box<Finding> {
        let judges = &mut self.judges[variation];
        // Panics of the path are expected here, and one report of them is enough.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let small = shrink(frames, TRIES, |frames| judges.disagreement(frames).is_some());
        std::panic::set_hook(hook);
        let again = judges.disagreement(&small);
        let disagreement = again.unwrap_or_else(|| {
            super::judges::Disagreement("seen once, and not again: something outside the frames differs".into())
        });
        Box::new(Finding::new(judges, small, disagreement))
    }
}

/// Inputs of a directory in which libFuzzer keeps them, without those that are known already.
pub fn inputs_of(directory: &Path, known: &mut std::collections::BTreeSet<std::ffi::OsString>) -> Result<Vec<Input>> {
    let entries = fs::read_dir(directory).with_context(|| format!("{}: cannot be read", directory.display()))?;
    let mut inputs = Vec::new();
    for entry in entries {
        let entry = entry?;
        if known.insert(entry.file_name()) {
            // It may have been replaced by a smaller one meanwhile.
            inputs.extend(fs::read(entry.path()).ok().map(|bytes| Input::from_bytes(&bytes)));
        }
    }
    Ok(inputs)
}
