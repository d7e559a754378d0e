//! What the bench prints for programs stays what was promised. No figure is judged here.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lb_userspace::{datapath::requirements::Kernel, lab::LIVE_FRAMES_KERNEL};
use serde_json::Value;

/// Key by key: what a value must be.
type Keys = &'static [(&'static str, fn(&Value) -> bool)];

const ROW: Keys = &[
    ("program", |value| one_of(value, &["weir", "null", "swap", "bare_ipip"])),
    ("forward", |value| one_of(value, &["l2", "ipip", "ip6"])),
    ("family", |value| one_of(value, &["ipv4", "ipv6"])),
    ("kind", |value| one_of(value, &["tcp", "udp", "flood_syn", "not_vip", "icmp_error", "fragment"])),
    ("flows", Value::is_u64),
    ("services", Value::is_u64),
    ("backends", Value::is_u64),
    ("ns", Value::is_f64),
    ("ratio", Value::is_f64),
    ("spread", Value::is_f64),
];

const END_TO_END: Keys = &[
    ("forward", |value| one_of(value, &["l2", "ipip", "ip6"])),
    ("family", |value| one_of(value, &["ipv4", "ipv6"])),
    ("kind", |value| one_of(value, &["tcp"])),
    ("flows", Value::is_u64),
    ("services", Value::is_u64),
    ("backends", Value::is_u64),
    ("packets_per_second", Value::is_f64),
    ("reflector_packets_per_second", Value::is_f64),
    ("ratio", Value::is_f64),
];

const SIZE: Keys = &[
    ("program", |value| one_of(value, &["weir", "weir_frags", "weir_explain", "weir_backend"])),
    ("verified_instructions", |value| value.is_u64() || value.is_null()),
    ("translated_bytes", |value| value.is_u64() || value.is_null()),
    ("jited_bytes", Value::is_u64),
];

const FLOOD_COST: Keys = &[
    ("filter", Value::is_string),
    ("ns", Value::is_f64),
    ("spread", Value::is_f64),
    ("packets_per_core_second", Value::is_f64),
    ("arrived", Value::is_u64),
    ("dropped", Value::is_u64),
];

fn one_of(value: &Value, allowed: &[&str]) -> bool {
    value.as_str().is_some_and(|value| allowed.contains(&value))
}

/// Two at a time would disturb each other: both stay on the same CPU.
fn turn() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bench's JSON of a quick run; none where the kernel is too old for it.
fn bench(only: &str) -> Option<Value> {
    if Kernel::running().unwrap() < LIVE_FRAMES_KERNEL {
        eprintln!("left out: needs kernel 5.18");
        return None;
    }
    let _turn = turn();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    let output = command.args(["--quick", "-o", "json", "--only", only]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["version"], 1);
    assert!(json["machine"].is_string());
    let keys: BTreeSet<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        BTreeSet::from(["version", "machine", "warnings", "rows", "end_to_end", "beside_fragments", "size"])
    );
    Some(json)
}

fn check(table: &Value, keys: Keys) -> &[Value] {
    let rows = table.as_array().unwrap();
    for row in rows {
        let found: BTreeSet<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(found, keys.iter().map(|(key, _)| *key).collect());
        for (key, right) in keys {
            assert!(right(&row[key]), "{key}: {}", row[key]);
        }
    }
    rows
}

fn column<'a>(rows: &'a [Value], key: &str) -> Vec<&'a Value> {
    rows.iter().map(|row| &row[key]).collect()
}

#[test]
fn a_row_comes_with_what_it_is_compared_to() {
    let Some(json) = bench("weir ip6 ipv4 udp 1000000 1 100") else { return };
    assert!(json["end_to_end"].as_array().unwrap().is_empty() && json["size"].as_array().unwrap().is_empty());
    let rows = check(&json["rows"], ROW);
    assert_eq!(column(rows, "program"), ["null", "bare_ipip", "weir"]);
    assert_eq!(column(rows, "flows"), [1_000_000, 1_000_000, 1_000_000]);
    assert_eq!(column(rows, "services"), [0, 0, 1]);
    assert_eq!(column(rows, "backends"), [0, 0, 100]);
    assert_eq!([&rows[2]["forward"], &rows[2]["family"], &rows[2]["kind"]], ["ip6", "ipv4", "udp"]);
}

/// Every kind of packet ends as its row says, else the row were left out.
#[test]
fn no_kind_is_left_out() {
    let Some(json) = bench("1 1 100") else { return };
    let rows = check(&json["rows"], ROW);
    let left_out: Vec<_> = json["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(left_out.iter().all(|warning| !warning.starts_with("left out")), "{left_out:?}");
    let kinds: BTreeSet<_> = column(rows, "kind").into_iter().filter_map(Value::as_str).collect();
    assert_eq!(kinds, BTreeSet::from(["tcp", "udp", "flood_syn", "not_vip", "icmp_error", "fragment"]));
    assert!(column(rows, "flows").iter().all(|flows| **flows == 1));
}

#[test]
fn end_to_end_every_packet_comes_back() {
    let Some(json) = bench("end_to_end ipip ipv6") else { return };
    assert!(json["rows"].as_array().unwrap().is_empty());
    assert_eq!(check(&json["end_to_end"], END_TO_END).len(), 1);
}

/// That each filter drops the flood, by its own counter, is what the bench itself insists on.
#[test]
fn the_flood_meets_every_filter() {
    if Kernel::running().unwrap() < LIVE_FRAMES_KERNEL {
        eprintln!("left out: needs kernel 5.18");
        return;
    }
    let _turn = turn();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    let output = command.args(["flood", "--quick", "-o", "json", "--tables", "cost"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["version"], 1);
    let rows = check(&json["cost"]["rows"], FLOOD_COST);
    let names = column(rows, "filter");
    assert_eq!(names, ["none", "weir_native", "weir_generic", "nft_ingress", "nft_raw", "iptables_raw", "conntrack"]);
    for row in rows {
        let [arrived, dropped] = ["arrived", "dropped"].map(|key| row[key].as_u64().unwrap());
        let drops = row["filter"] != "none" && row["filter"] != "conntrack";
        assert!(arrived > 100_000, "{row}");
        assert!(if drops { dropped <= arrived && dropped * 100 > arrived * 99 } else { dropped == 0 }, "{row}");
    }
}

/// A stack that tracks connections fills up; behind Weir there is nothing to track, and nothing grows.
#[test]
fn behind_weir_a_flood_leaves_no_trace() {
    if Kernel::running().unwrap() < LIVE_FRAMES_KERNEL {
        eprintln!("left out: needs kernel 5.18");
        return;
    }
    let _turn = turn();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    let only = ["--only", "weir_native,conntrack", "--packets", "100000"];
    let output = command.args(["flood", "-o", "json", "--tables", "memory"]).args(only).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [weir, conntrack] = [0, 1].map(|row| &json["memory"][row]);
    let connections = |row: &Value, when: &str| row[when]["connections"].as_u64().unwrap();
    assert_eq!([&weir["filter"], &conntrack["filter"]], ["weir_native", "conntrack"]);
    assert_eq!(["before", "during", "after"].map(|when| connections(weir, when)), [0, 0, 0], "{weir}");
    assert!(connections(conntrack, "after") > connections(conntrack, "before") + 10_000, "{conntrack}");
    let agent = |when: &str| weir[when]["agent_bytes"].as_u64().unwrap();
    assert!(agent("before") > 0 && agent("after").abs_diff(agent("before")) < 1 << 20, "{weir}");
}

#[test]
fn sizes() {
    let Some(json) = bench("size") else { return };
    let sizes = check(&json["size"], SIZE);
    assert_eq!(column(sizes, "program"), ["weir", "weir_frags", "weir_explain", "weir_backend"]);
}
