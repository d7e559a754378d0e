//! The figures as a table and as JSON.

use serde_json::{Value, json};

use crate::rows::Row;

/// The table.
pub fn text(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<10} {:<5} {:<5} {:<10} {:>9} {:>8} {:>8} {:>7} {:>6} {:>6}",
        "program", "fwd", "ip", "kind", "flows", "services", "backends", "ns", "+-", "ratio"
    )];
    lines.extend(rows.iter().map(|row| {
        format!(
            "{:<10} {:<5} {:<5} {:<10} {:>9} {:>8} {:>8} {:>7.2} {:>6.2} {:>6.3}",
            row.program,
            row.forward.name(),
            row.family.name(),
            row.kind.name(),
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
                "forward": row.forward.name(),
                "family": row.family.name(),
                "kind": row.kind.name(),
                "flows": row.flows,
                "services": row.services,
                "backends": row.backends,
                "ns": (row.ns * 100.0).round() / 100.0,
                "spread": (row.spread * 100.0).round() / 100.0,
                "ratio": (row.ratio * 1000.0).round() / 1000.0,
            })
        })
        .collect();
    json!({ "version": 1, "rows": rows })
}
