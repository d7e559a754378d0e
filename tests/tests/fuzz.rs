//! Three judges agree: the specification written a second time, the path on the host, the program in the kernel. Needs root.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use tests::{
    fuzz::{
        campaign::{BATCH, Campaign},
        corpus,
        judges::Judges,
        report::Finding,
        shrink::shrink,
    },
    reference::{Reference, Setup},
};

/// What runs every time; `cargo xtask fuzz` takes others.
const SEED: u64 = 0x5eed;
const FRAMES: usize = 300_000;

fn campaign(seed: u64) -> Campaign {
    Campaign::new(seed, true).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn cases_and_corpus_whole_and_at_every_length() {
    let mut campaign = campaign(SEED);
    let begin = Instant::now();
    for input in [corpus::of_cases(), corpus::checked_in()].concat() {
        campaign.run_input(&input).unwrap_or_else(|finding| panic!("{finding}"));
        campaign.run_truncated(&input).unwrap_or_else(|finding| panic!("{finding}"));
    }
    println!("{}", campaign.totals.text(begin.elapsed()));
}

#[test]
fn a_fixed_seed() {
    let mut campaign = campaign(SEED);
    let begin = Instant::now();
    for _ in 0..FRAMES / BATCH {
        campaign.run_batch().unwrap_or_else(|finding| panic!("{finding}"));
    }
    println!("{}", campaign.totals.text(begin.elapsed()));
}

/// Judges that agree on everything would prove nothing.
#[test]
fn a_judge_that_errs_is_found() {
    let mut judges = Judges::on_host(0);
    let wrong = Setup { pass_bad_flags: true, ..judges.reference.setup().clone() };
    judges.reference = Reference::new(wrong);
    let frame = corpus::of_cases().into_iter().find(|input| judges.disagreement(&input.frames).is_some());
    let frames = frame.expect("some case has such flags").frames;
    let small = shrink(&frames, 10_000, |frames| judges.disagreement(frames).is_some());
    assert!(small.len() == 1 && small[0].len() < 60, "{small:02x?}");
    let disagreement = judges.disagreement(&small).unwrap();
    let said = Finding::new(&mut judges, small, disagreement).to_string();
    for part in ["bad_flags\" on the host", "setup standard", "\n  standard 0", ".answered(Forwarded, "] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// The reference would repeat the mistakes of what it used.
#[test]
fn the_reference_stands_alone() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reference");
    let files: Vec<PathBuf> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for foreign in ["lb_common", "lb_userspace", "crate::", "super::super"] {
            assert!(!text.contains(foreign), "{}: {foreign}", file.display());
        }
    }
}
