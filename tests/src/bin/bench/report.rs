//! The figures as a table and as JSON.

use serde_json::{Value, json};

use crate::{
    frames::{Family, Kind},
    rows::{Forward, Row},
};

/// The table.
pub fn text(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<10} {:<5} {:<5} {:<10} {:>9} {:>8} {:>8} {:>7} {:>6} {:>6}",
        "program", "fwd", "ip", "kind", "flows", "services", "backends", "ns", "+-", "ratio"
    )];
    lines.extend(rows.iter().map(|row| {
        format!(
            "{:<10} {:<5} {:<5} {:<10} {:>9} {:>8} {:>8} {:>7.1} {:>6.1} {:>6.2}",
            row.program,
            forward(row.forward),
            family(row.family),
            kind(row.kind),
            row.flows,
            row.services,
            row.backends,
            row.ns,
            row.spread,
            row.ratio
        )
    }));
    lines.join("\n")
}

/// The JSON: every row with every key.
pub fn json(rows: &[Row]) -> Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "program": row.program,
                "forward": forward(row.forward),
                "family": family(row.family),
                "kind": kind(row.kind),
                "flows": row.flows,
                "services": row.services,
                "backends": row.backends,
                "ns": (row.ns * 10.0).round() / 10.0,
                "spread": (row.spread * 10.0).round() / 10.0,
                "ratio": (row.ratio * 1000.0).round() / 1000.0,
            })
        })
        .collect();
    json!({ "version": 1, "rows": rows })
}

fn forward(forward: Forward) -> &'static str {
    match forward {
        Forward::L2 => "l2",
        Forward::Ipip => "ipip",
        Forward::Ip6 => "ip6",
    }
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Tcp => "tcp",
        Kind::Udp => "udp",
        Kind::FloodSyn => "flood_syn",
        Kind::NotVip => "not_vip",
    }
}
