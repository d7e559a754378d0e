//! The rows as a table and as JSON.

use serde_json::{Value, json};

/// What became of a row.
pub struct Row {
    pub fault: &'static str,
    pub sent: u64,
    pub lost: i64,
    pub misrouted: u64,
    pub allowed_lost: u64,
    /// Frames a second while they were sent.
    pub rate: f64,
    /// Frames that a full ring of the rig's own refused: neither sent nor lost by anything under test.
    pub refused: u64,
    /// What else was seen.
    pub note: String,
    /// Why the row failed, beside its figures.
    pub failed: Option<String>,
}

impl Row {
    /// Whether all is as it is allowed to be.
    pub fn is_fine(&self) -> bool {
        self.failed.is_none() && self.misrouted == 0 && (0..=self.allowed_lost as i64).contains(&self.lost)
    }
}

/// Something that takes time or room, and how much it may take.
pub struct Figure {
    pub id: &'static str,
    pub unit: &'static str,
    pub value: f64,
    pub allowed: f64,
}

/// All that was found out.
pub struct Report {
    pub machine: String,
    pub rows: Vec<Row>,
    pub figures: Vec<Figure>,
}

impl Report {
    /// Whether no row and no figure exceeds what is allowed.
    pub fn is_fine(&self) -> bool {
        self.rows.iter().all(Row::is_fine) && self.figures.iter().all(Figure::is_fine)
    }

    /// The tables.
    pub fn text(&self) -> String {
        let mut lines = vec![self.machine.clone(), String::new()];
        lines.push(format!(
            "{:<20} {:>11} {:>9} {:>9} {:>12} {:>10} {:>8}  {}",
            "fault", "sent", "lost", "misrouted", "allowed lost", "packets/s", "refused", ""
        ));
        lines.extend(self.rows.iter().map(row));
        if !self.figures.is_empty() {
            lines.extend([String::new(), format!("{:<20} {:>9} {:>9}", "figure", "is", "allowed")]);
            lines.extend(self.figures.iter().map(figure));
        }
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
    }

    /// The JSON: every row with every key.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "fault": row.fault,
                "sent": row.sent,
                "lost": row.lost,
                "misrouted": row.misrouted,
                "allowed_lost": row.allowed_lost,
            })
        };
        let figure = |figure: &Figure| {
            json!({
                "id": figure.id,
                "unit": figure.unit,
                "value": (figure.value * 100.0).round() / 100.0,
                "allowed": figure.allowed,
            })
        };
        let failures: Vec<_> =
            self.rows.iter().filter_map(|row| Some(format!("{}: {}", row.fault, row.failed.as_ref()?))).collect();
        json!({
            "version": 1,
            "machine": self.machine,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "failures": failures,
        })
    }
}

impl Figure {
    fn is_fine(&self) -> bool {
        self.value <= self.allowed
    }
}

/// One line of the table.
pub fn row(row: &Row) -> String {
    let Row { fault, sent, lost, misrouted, allowed_lost, rate, refused, note, failed } = row;
    let end = match failed {
        Some(failed) => format!("FAILED: {failed}"),
        None if !row.is_fine() => format!("FAILED {note}"),
        None => note.clone(),
    };
    format!("{fault:<20} {sent:>11} {lost:>9} {misrouted:>9} {allowed_lost:>12} {rate:>10.0} {refused:>8}  {end}")
}

fn figure(figure: &Figure) -> String {
    let Figure { id, unit, value, allowed } = figure;
    let end = if figure.is_fine() { "" } else { "  FAILED" };
    format!("{id:<20} {value:>9.1} {allowed:>9.0} {unit}{end}")
}
