//! The short form of `cargo xtask faults`: every row holds, and what it prints for programs stays what was promised.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, process::Command};

use lb_userspace::{datapath::requirements::Kernel, lab::LIVE_FRAMES_KERNEL};
use serde_json::Value;

const FAULTS: [&str; 18] = [
    "reload_same",
    "reload_other",
    "kill",
    "kill_apply",
    "upgrade",
    "backend_removed",
    "backend_added",
    "reweighted",
    "drained",
    "broken_file",
    "full_maps",
    "interface_flap",
    "interface_recreated",
    "foreign_program",
    "two_agents",
    "neighbour_lost",
    "socket_abuse",
    "thousand_services",
];

const KEYS: [&str; 5] = ["fault", "sent", "lost", "misrouted", "allowed_lost"];

#[test]
fn every_row_holds() {
    if Kernel::running().unwrap() < LIVE_FRAMES_KERNEL {
        eprintln!("left out: needs kernel 5.18");
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_faults")).args(["--short", "-o", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let json: Value = serde_json::from_slice(&output.stdout).expect(&said);
    assert!(output.status.success(), "{json:#}\n{said}");
    assert_eq!((&json["version"], &json["failures"]), (&1.into(), &Value::Array(Vec::new())));
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["fault"].as_str().unwrap()).collect::<Vec<_>>(), FAULTS);
    for row in rows {
        assert_eq!(row.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(KEYS));
        let number = |key: &str| row[key].as_u64().expect("a number that is not negative");
        assert!(number("sent") >= 100_000, "{row}");
        assert!(number("lost") <= number("allowed_lost") && number("misrouted") == 0, "{row}");
        // A row that cuts the wire shows that what is lost is seen.
        let cut = ["interface_flap", "foreign_program", "neighbour_lost"].contains(&row["fault"].as_str().unwrap());
        assert_eq!(number("lost") > 0, cut || row["fault"] == "interface_recreated" && number("lost") > 0, "{row}");
    }
}

#[test]
fn a_row_that_does_not_exist_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_faults")).args(["--only", "nonsense"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--only nonsense") && said.contains("reload_same"), "{said}");
}
