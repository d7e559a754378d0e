//! The figures as tables and as JSON.

use serde_json::{Value, json};

use crate::{beside::Beside, end_to_end::EndToEnd, plan::Plan, rows::Row, size::Size};

/// All that a bench found out.
pub struct Report {
    /// What it was run on.
    pub machine: String,
    /// What whoever reads the figures should know.
    pub warnings: Vec<String>,
    pub rows: Vec<Row>,
    pub end_to_end: Vec<EndToEnd>,
    /// Whole packets beside fragments, if that was wanted.
    pub beside: Option<Beside>,
    pub size: Vec<Size>,
}

impl Report {
    /// The tables.
    pub fn text(&self) -> String {
        let mut parts = vec![self.machine.clone()];
        parts.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        let mut table = |head: String, lines: Vec<String>| {
            if !lines.is_empty() {
                parts.extend([String::new(), head]);
                parts.extend(lines);
            }
        };
        let head = format!(
            "{:<10} {:<5} {:<5} {:<10} {:>9} {:>8} {:>8}",
            "program", "fwd", "ip", "kind", "flows", "services", "backends"
        );
        table(format!("{head} {:>7} {:>6} {:>6}", "ns", "+-", "ratio"), self.rows.iter().map(row).collect());
        table(
            format!("{head} {:>11} {:>11} {:>6}", "packets/s", "reflector", "ratio"),
            self.end_to_end.iter().map(end_to_end).collect(),
        );
        let beside = self.beside.iter().map(|Beside { alone, beside, fragments }| {
            format!(
                "whole packets of one service: {alone:.2} ns alone, {beside:.2} ns beside {fragments} first fragments, ratio {:.3}",
                beside / alone
            )
        });
        table("beside fragments".into(), beside.collect());
        let head =
            format!("{:<14} {:>20} {:>18} {:>13}", "size", "verified (instrs)", "translated (bytes)", "jited (bytes)");
        table(head, self.size.iter().map(size).collect());
        parts.join("\n")
    }

    /// The JSON: every row with every key.
    pub fn json(&self) -> Value {
        json!({
            "version": 1,
            "machine": self.machine,
            "warnings": self.warnings,
            "rows": self.rows.iter().map(row_json).collect::<Vec<_>>(),
            "end_to_end": self.end_to_end.iter().map(end_to_end_json).collect::<Vec<_>>(),
            "beside_fragments": self.beside.as_ref().map(|Beside { alone, beside, fragments }| {
                json!({ "alone_ns": alone, "beside_ns": beside, "ratio": beside / alone, "fragments": fragments })
            }),
            "size": self.size.iter().map(size_json).collect::<Vec<_>>(),
        })
    }
}

fn row(Row { plan, ns, spread, ratio }: &Row) -> String {
    format!("{} {ns:>7.2} {spread:>6.2} {ratio:>6.3}", columns(plan))
}

fn end_to_end(EndToEnd { plan, weir, reflector, ratio }: &EndToEnd) -> String {
    format!("{} {weir:>11.0} {reflector:>11.0} {ratio:>6.3}", columns(plan))
}

fn columns(plan: &Plan) -> String {
    let Plan { program, forward, family, kind, flows, services, backends } = plan;
    let (forward, family, kind) = (forward.name(), family.name(), kind.name());
    format!("{program:<10} {forward:<5} {family:<5} {kind:<10} {flows:>9} {services:>8} {backends:>8}")
}

fn size(Size { program, verified, translated, jited }: &Size) -> String {
    let known = |number: &Option<u32>| number.map_or("?".to_owned(), |number| number.to_string());
    format!("{program:<14} {:>20} {:>18} {jited:>13}", known(verified), known(translated))
}

fn row_json(Row { plan, ns, spread, ratio }: &Row) -> Value {
    let mut json = plan_json(plan);
    json["program"] = plan.program.into();
    json["ns"] = rounded(*ns, 100.0);
    json["spread"] = rounded(*spread, 100.0);
    json["ratio"] = rounded(*ratio, 1000.0);
    json
}

fn end_to_end_json(EndToEnd { plan, weir, reflector, ratio }: &EndToEnd) -> Value {
    let mut json = plan_json(plan);
    json["packets_per_second"] = rounded(*weir, 1.0);
    json["reflector_packets_per_second"] = rounded(*reflector, 1.0);
    json["ratio"] = rounded(*ratio, 1000.0);
    json
}

fn plan_json(plan: &Plan) -> Value {
    json!({
        "forward": plan.forward.name(),
        "family": plan.family.name(),
        "kind": plan.kind.name(),
        "flows": plan.flows,
        "services": plan.services,
        "backends": plan.backends,
    })
}

fn size_json(Size { program, verified, translated, jited }: &Size) -> Value {
    json!({
        "program": program,
        "verified_instructions": verified,
        "translated_bytes": translated,
        "jited_bytes": jited,
    })
}

fn rounded(number: f64, parts: f64) -> Value {
    ((number * parts).round() / parts).into()
}
