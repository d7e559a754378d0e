//! What is said of a run: totals, and a disagreement that can be pasted.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    corpus::{hex, line},
    input::Input,
    judges::{Disagreement, Judges},
    setups::VARIATIONS,
};
use crate::reference::{Action, Judgement, Verdict};

/// How much was judged.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// By the reference and the host.
    pub host: u64,
    /// And by the kernel.
    pub kernel: u64,
    /// What the frames got.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// What else was special about them.
    marks: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Adds a frame that all agree on.
    pub fn add(&mut self, judgement: &Judgement) {
        *self.verdicts.entry(judgement.verdict).or_default() += 1;
        let sent = judgement.interface.is_some();
        let marks = [
            ("ICMP errors sent on", judgement.icmp_error),
            ("with a small MTU", judgement.small_mtu),
            ("later fragments sent on", sent && judgement.later_fragment),
            ("MSS lowered", judgement.mss_lowered),
        ];
        for (name, _) in marks.iter().filter(|(_, is)| *is) {
            *self.marks.entry(name).or_default() += 1;
        }
    }

    /// The table; `elapsed` is what it took.
    pub fn text(&self, elapsed: Duration) -> String {
        let rate = |frames: u64| frames as f64 / elapsed.as_secs_f64().max(0.001);
        let mut text = format!(
            "{} frames by the host ({:.0}/s), {} by the kernel ({:.0}/s), in {:.0} s\n",
            self.host,
            rate(self.host),
            self.kernel,
            rate(self.kernel),
            elapsed.as_secs_f64()
        );
        let all: u64 = self.verdicts.values().sum::<u64>().max(1);
        for (verdict, count) in &self.verdicts {
            text += &format!("  {:<18}{count:>12}  {:5.1} %\n", verdict.label(), 100.0 * *count as f64 / all as f64);
        }
        for (name, count) in &self.marks {
            text += &format!("  {count} {name}\n");
        }
        text
    }
}

/// A disagreement, made small.
pub struct Finding {
    /// What shows it.
    pub input: Input,
    /// What it is.
    pub disagreement: Disagreement,
    /// What the reference says of the last frame, and what must leave.
    pub judged: Option<(Judgement, Vec<u8>)>,
}

impl Finding {
    /// Asks the reference what should have been.
    pub fn new(judges: &mut Judges, frames: Vec<Vec<u8>>, disagreement: Disagreement) -> Self {
        judges.reference.forget();
        let judged = frames.iter().map(|frame| judges.by_reference(frame)).last();
        Finding { input: Input { variation: judges.variation, frames }, disagreement, judged }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setup = VARIATIONS[self.input.variation].setup.name;
        writeln!(f, "disagreement under setup {setup}: {}", self.disagreement)?;
        for frame in &self.input.frames {
            writeln!(f, "frame of {} bytes: {}", frame.len(), hex(frame))?;
        }
        writeln!(f, "line for tests/corpus/frames.txt:\n  {}", line(&self.input))?;
        let (Some((judgement, leaves)), Some(frame)) = (&self.judged, self.input.frames.last()) else { return Ok(()) };
        writeln!(f, "the reference: {judgement:?}\ncase, to be put right if the reference errs:")?;
        let verdict = judgement.verdict;
        write!(f, "  row(\"ROWS\", \"NAME\", crate::fuzz::corpus::unhex(\"{}\").unwrap())", hex(frame))?;
        match verdict.action() {
            Action::Pass | Action::Drop => write!(f, ".gets({verdict:?})"),
            _ => write!(f, ".answered({verdict:?}, crate::fuzz::corpus::unhex(\"{}\").unwrap())", hex(leaves)),
        }
    }
}
