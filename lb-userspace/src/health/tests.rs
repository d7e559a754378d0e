//! What results mean, and what follows from them: tables of results against what becomes of a backend.

use std::{net::IpAddr, time::Duration};

use lb_common::ring::WHOLE;
use proptest::prelude::*;

use super::{
    Health, Key, What,
    probe::{Outcome, Reason, ReasonKind},
    probes,
};
use crate::config::{self, Config, SeenState};

/// Ten backends and these lines.
fn config(lines: &str) -> Config {
    let text = format!(
        "interface = \"eth0\"\n[service.web]\nvip = [\"192.0.2.10:80\", \"192.0.2.11:80\"]\nbackends = \"10.0.0.11-20\"\n{lines}\n"
    );
    config::parse("weir.toml", &text).unwrap_or_else(|error| panic!("{error}"))
}

const TCP: &str = r#"check = { via = "backend" }"#;

fn backend(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn down() -> Outcome {
    Outcome::Down(Reason::new(ReasonKind::Refused, "connect: refused"))
}

fn up() -> Outcome {
    Outcome::Up { weight: None }
}

/// Health with its configuration, and a clock that is turned by hand.
struct Judge {
    config: Config,
    health: Health,
    now_ms: u64,
}

impl Judge {
    fn new(lines: &str) -> Self {
        let (config, mut health) = (config(lines), Health::default());
        health.fit(&config, 0);
        Judge { config, health, now_ms: 1_000_000 }
    }

    fn run(&mut self, last: u8, run: usize, outcome: &Outcome) -> Option<What> {
        let check = &self.config.services["web"].health.checks[0];
        let key = Key { service: "web".to_owned(), backend: backend(last), run };
        self.health.judge(&key, check, outcome, self.now_ms).map(|change| change.what)
    }

    /// Results in a row, `+` and `-`; returns after which of them the backend changed, with the way.
    fn results(&mut self, last: u8, results: &str) -> Vec<(usize, char)> {
        let mut changes = Vec::new();
        for (at, result) in results.chars().enumerate() {
            match self.run(last, 0, &if result == '+' { up() } else { down() }) {
                Some(What::Up) => changes.push((at, '+')),
                Some(What::Down(reason)) => {
                    assert_eq!(reason.text, "connect: refused");
                    changes.push((at, '-'));
                }
                Some(What::Weight(_)) => panic!("nobody gave a weight"),
                None => {}
            }
        }
        changes
    }

    fn shown(&self) -> Config {
        self.health.apply(self.config.clone(), self.now_ms)
    }

    /// Parts of all backends in the tables, by last octet.
    fn parts(&self) -> Vec<(u8, u32)> {
        let last = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let config = self.shown();
        let backends = config.services["web"].backends.iter();
        backends.map(|backend| (last(backend.address), backend.part)).filter(|(_, part)| *part > 0).collect()
    }

    fn all_down(&mut self) {
        for last in 11..=20 {
            self.results(last, "---");
        }
    }
}

/// The service's lines, results in a row, and after which of them the backend changes, with the way.
type Row = (&'static str, &'static str, &'static [(usize, char)]);

#[test]
fn a_backend_falls_and_rises_by_results_in_a_row() {
    let rows: &[Row] = &[
        (TCP, "++++", &[]),
        (TCP, "--+--+--+", &[]),
        (TCP, "---", &[(2, '-')]),
        (TCP, "----------", &[(2, '-')]),
        (TCP, "---+-++", &[(2, '-'), (6, '+')]),
        (r#"check = { via = "backend", rise = 1, fall = 1 }"#, "-+", &[(0, '-'), (1, '+')]),
        (r#"check = { via = "backend", start = "down" }"#, "-+-++", &[(4, '+')]),
    ];
    for (lines, results, expected) in rows {
        assert_eq!(&Judge::new(lines).results(11, results), expected, "{lines} {results}");
    }
}

#[test]
fn whoever_flaps_needs_twice_the_successes_each_time() {
    let mut judge = Judge::new(r#"check = { via = "backend", rise = 2, fall = 1 }"#);
    assert_eq!(judge.results(11, "-++"), [(0, '-'), (2, '+')]);
    assert_eq!(judge.results(11, "-++++"), [(0, '-'), (4, '+')]);
    assert_eq!(judge.results(11, "-++++++++"), [(0, '-'), (8, '+')]);
    // Five quiet minutes later it is as any other.
    judge.now_ms += 300_000;
    assert_eq!(judge.results(11, "-++"), [(0, '-'), (2, '+')]);
}

#[test]
fn every_check_and_every_address_must_pass() {
    // Two VIP addresses, so two runs of the one check.
    let mut judge = Judge::new(r#"check = "tcp""#);
    assert_eq!(probes(&judge.config).len(), 20);
    for _ in 0..3 {
        judge.run(11, 1, &down());
    }
    assert!(!judge.health.is_up("web", backend(11)));
    assert!((0..9).all(|_| judge.run(11, 0, &up()).is_none()));
    assert_eq!(judge.run(11, 1, &up()), None);
    assert_eq!(judge.run(11, 1, &up()), Some(What::Up));
}

#[test]
fn who_is_down_has_no_slots_and_says_why() {
    let mut judge = Judge::new(TCP);
    judge.results(13, "---");
    let parts = judge.parts();
    assert_eq!(parts.len(), 9);
    assert!(parts.iter().all(|(last, part)| *last != 13 && *part == WHOLE));
    let shown = judge.shown();
    let seen = &shown.services["web"].seen[&backend(13)];
    assert_eq!((seen.state, seen.since_ms), (SeenState::Down, 1_000_000));
    assert_eq!(seen.reason.as_deref(), Some("connect: refused"));
}

#[test]
fn a_slow_start_goes_up_in_equal_steps_to_the_whole() {
    let mut judge = Judge::new("check = { via = \"backend\" }\nslow_start = \"4s\"");
    judge.results(11, "---++");
    let mut parts = Vec::new();
    let begin = judge.now_ms;
    for _ in 0..5 {
        parts.push(judge.parts()[0].1);
        match judge.health.next_step_ms(&judge.config, judge.now_ms) {
            Some(next) => judge.now_ms = next,
            None => break,
        }
    }
    let step = |n: u32| WHOLE * n / 5;
    assert_eq!(parts, [step(1), step(2), step(3), step(4), WHOLE]);
    assert_eq!(judge.now_ms, begin + 4_000);
    assert_eq!(judge.health.next_step_ms(&judge.config, judge.now_ms), None);
}

#[test]
fn where_all_come_back_together_somebody_takes_all_slots() {
    let mut judge = Judge::new("check = { via = \"backend\" }\nslow_start = \"1m\"");
    judge.all_down();
    (11..=20).for_each(|last| drop(judge.results(last, "++")));
    assert!(judge.parts().iter().all(|(_, part)| *part == WHOLE));
}

#[test]
fn nobody_left_is_as_the_service_says() {
    let rows: &[(&str, &[u8])] = &[
        ("", &[11, 12, 13, 14, 15, 16, 17, 18, 19, 20]),
        ("on_empty = \"last\"", &[11, 12, 13, 14, 15, 16, 17, 18, 19, 20]),
        ("on_empty = \"drop\"", &[]),
        ("sorry = [\"10.0.0.98\", \"10.0.0.99\"]", &[98, 99]),
    ];
    for (lines, expected) in rows {
        let mut judge = Judge::new(&format!("{TCP}\n{lines}"));
        assert_eq!(judge.parts().len(), 10, "{lines}");
        judge.all_down();
        let have: Vec<u8> = judge.parts().into_iter().map(|(last, _)| last).collect();
        assert_eq!(&have, expected, "{lines}");
        // One is enough to end that.
        judge.results(14, "++");
        assert_eq!(judge.parts(), [(14, WHOLE)], "{lines}");
    }
}

#[test]
fn the_last_are_those_of_the_tables() {
    let mut judge = Judge::new(TCP);
    (11..=18).for_each(|last| drop(judge.results(last, "---")));
    let shown = judge.health.clone();
    judge.health.in_effect(&shown);
    judge.results(19, "---");
    judge.results(20, "---");
    assert_eq!(judge.parts(), [(19, WHOLE), (20, WHOLE)]);
    assert_eq!(judge.shown().services["web"].seen[&backend(19)].state, SeenState::Kept);
    assert_eq!(judge.shown().services["web"].seen[&backend(11)].state, SeenState::Down);
}

#[test]
fn below_quorum_an_address_is_withdrawn() {
    let text = |quorum: &str, required: &str| {
        format!(
            "interface = \"eth0\"\n[service.web]\nvip = \"192.0.2.10:80\"\nbackends = \"10.0.0.11-12\"\ncheck = {{ via = \"backend\" }}\n\
             {quorum}\n{required}\n[service.other]\nvip = [\"192.0.2.10:81\", \"192.0.2.12:81\"]\nbackends = \"10.0.0.30\"\n"
        )
    };
    // The other service of the address has no quorum, so it is never below it.
    let rows = [("quorum = 2", "", 0), ("quorum = 2", "required = true", 1), ("", "required = true", 0), ("", "", 0)];
    for (quorum, required, expected) in rows {
        let config = config::parse("weir.toml", &text(quorum, required)).unwrap();
        let mut judge = Judge { config, health: Health::default(), now_ms: 1 };
        judge.health.fit(&judge.config, 0);
        assert!(judge.shown().withdrawn.is_empty());
        judge.results(11, "---");
        assert_eq!(judge.shown().withdrawn.len(), expected, "{quorum} {required}");
        judge.results(11, "++");
        assert!(judge.shown().withdrawn.is_empty());
    }
}

#[test]
fn a_command_gives_weights() {
    let mut judge = Judge::new("check = { command = \"/bin/true\", dynamic_weight = true }");
    let weight = |judge: &Judge| judge.shown().services["web"].backends[0].weight;
    assert_eq!(judge.run(11, 0, &Outcome::Up { weight: Some(98) }), Some(What::Weight(98)));
    assert_eq!(weight(&judge), 98);
    assert_eq!(judge.run(11, 0, &Outcome::Keep), None);
    assert_eq!(weight(&judge), 98);
    assert_eq!(judge.run(11, 0, &Outcome::Up { weight: Some(0) }), Some(What::Weight(0)));
    assert_eq!(weight(&judge), 0);
}

#[test]
fn a_reload_and_a_restart_change_nobody() {
    let mut judge = Judge::new(TCP);
    judge.results(12, "---");
    judge.results(13, "--");
    let directory = std::env::temp_dir().join(format!("weir-{}-health", std::process::id()));
    super::file::save(&directory, &judge.health).unwrap();
    let mut restarted = super::file::load(&directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(restarted, judge.health);
    restarted.fit(&judge.config, 5_000_000);
    assert_eq!(restarted, judge.health);
    // Another check, and one more: who was down is down by both.
    let other = config(r#"check = [{ via = "backend" }, { http = "/", via = "backend" }]"#);
    restarted.fit(&other, 5_000_000);
    assert!((11..=20).all(|last| restarted.is_up("web", backend(last)) == (last != 12)));
}

#[test]
fn first_runs_are_spread_and_the_same_each_time() {
    let all = probes(&config(TCP));
    let offsets: Vec<Duration> = all.iter().map(super::Probe::offset).collect();
    assert!(offsets.iter().all(|offset| *offset < Duration::from_secs(2)));
    let distinct: std::collections::BTreeSet<_> = offsets.iter().collect();
    assert_eq!(distinct.len(), 10);
    assert_eq!(offsets, probes(&config(TCP)).iter().map(super::Probe::offset).collect::<Vec<_>>());
}

proptest! {
    /// However results come, no ring is without owners unless the service wants that, and nobody's part is more than the whole.
    #[test]
    fn a_service_that_keeps_the_last_always_has_somebody(results in prop::collection::vec((11u8..=20, any::<bool>(), 0u64..9_000), 0..400)) {
        let mut judge = Judge::new("check = { via = \"backend\", rise = 1, fall = 2 }\nslow_start = \"20s\"");
        for (last, good, later) in results {
            judge.now_ms += later;
            if judge.run(last, 0, &if good { up() } else { down() }).is_some() {
                let shown = judge.health.clone();
                judge.health.in_effect(&shown);
            }
            let parts = judge.parts();
            prop_assert!(!parts.is_empty());
            prop_assert!(parts.iter().all(|(_, part)| *part <= WHOLE));
            prop_assert!(parts.iter().any(|(_, part)| *part == WHOLE));
            if let Some(next) = judge.health.next_step_ms(&judge.config, judge.now_ms) {
                prop_assert!(next > judge.now_ms);
            }
        }
    }

    /// Who is down had `fall` failures in a row and since then not enough successes; who is up, the other way round.
    #[test]
    fn a_state_follows_from_the_results_alone(results in prop::collection::vec(any::<bool>(), 0..60)) {
        let mut judge = Judge::new(r#"check = { via = "backend", rise = 1, fall = 3 }"#);
        let mut failed = 0;
        for good in results {
            judge.now_ms += 400_000;
            judge.run(11, 0, &if good { up() } else { down() });
            failed = if good { 0 } else { failed + 1 };
            prop_assert_eq!(judge.health.is_up("web", backend(11)), failed < 3);
        }
    }
}
