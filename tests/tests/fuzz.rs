//! Three judges agree: the specification written a second time, the path on the host, the program in the kernel. Needs root.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use tests::fuzz::{
    campaign::{BATCH, Campaign},
    corpus,
};

/// What runs every time; `cargo xtask fuzz` takes others.
const SEED: u64 = 0x5eed;
const FRAMES: usize = 150_000;

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
