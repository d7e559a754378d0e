//! The figures as a table and as JSON.

use serde_json::{Value, json};

use crate::rows::Row;

/// The table.
pub fn text(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<10} {:<5} {:<5} {:<10} {:>9} {:>8} {:>8} {:>7} {:>6} {:>6}",
        "program", "fwd", "ip", "kind", "flows", "services", "backends", "ns", "+-", "ratio"
    )];
    lines.extend(rows.iter().map(|Row { plan, ns, spread, ratio }| {
        format!(
            "{:<10} {:<5} {:<5} {:<10} {:>9} {:>8} {:>8} {:>7.2} {:>6.2} {:>6.3}",
            plan.program,
            plan.forward.name(),
            plan.family.name(),
            plan.kind.name(),
            plan.flows,
            plan.services,
            plan.backends,
            ns,
            spread,
            ratio
        )
    }));
    lines.join("\n")
}

/// The JSON: every row with every key.
pub fn json(rows: &[Row]) -> Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|Row { plan, ns, spread, ratio }| {
            json!({
                "program": plan.program,
                "forward": plan.forward.name(),
                "family": plan.family.name(),
                "kind": plan.kind.name(),
                "flows": plan.flows,
                "services": plan.services,
                "backends": plan.backends,
                "ns": (ns * 100.0).round() / 100.0,
                "spread": (spread * 100.0).round() / 100.0,
                "ratio": (ratio * 1000.0).round() / 1000.0,
            })
        })
        .collect();
    json!({ "version": 1, "rows": rows })
}
