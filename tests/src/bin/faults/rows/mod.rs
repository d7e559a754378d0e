//! The rows: what happens under the stream in each, and how many frames that may cost.

mod backends;
mod links;
mod refused;
mod reload;
mod restart;
mod scale;
mod socket;

use anyhow::Result;

use crate::{
    ledger::Sums,
    report::{Figure, Row},
    rig::{Rig, Scale, config, ten, web},
};

/// A row.
pub struct Fault {
    pub fault: &'static str,
    /// What the balancer begins with.
    config: fn() -> String,
    /// What happens.
    body: fn(&mut Rig) -> Result<Seen>,
}

/// What a row allows, and what it saw besides frames.
#[derive(Default)]
pub struct Seen {
    pub allowed_lost: u64,
    pub note: String,
    pub figures: Vec<Figure>,
}

impl Seen {
    /// Nothing may be lost.
    fn nothing_lost(note: impl Into<String>) -> Seen {
        Seen { note: note.into(), ..Seen::default() }
    }
}

/// All rows, in the order of the table.
pub const ALL: &[Fault] = &[
    Fault { fault: "reload_same", config: ten, body: reload::same },
    Fault { fault: "reload_other", config: reload::with_other, body: reload::other },
    Fault { fault: "kill", config: ten, body: restart::kill },
    Fault { fault: "kill_apply", config: reload::with_other, body: restart::kill_apply },
    Fault { fault: "upgrade", config: ten, body: restart::upgrade },
    Fault { fault: "backend_removed", config: ten, body: backends::removed },
    Fault { fault: "backend_added", config: ten, body: backends::added },
    Fault { fault: "reweighted", config: ten, body: backends::reweighted },
    Fault { fault: "drained", config: ten, body: backends::drained },
    Fault { fault: "broken_file", config: ten, body: refused::broken_file },
    Fault { fault: "full_maps", config: refused::small_arena, body: refused::full_maps },
    Fault { fault: "interface_flap", config: ten, body: links::flap },
    Fault { fault: "interface_recreated", config: ten, body: links::recreated },
    Fault { fault: "foreign_program", config: ten, body: refused::foreign_program },
    Fault { fault: "two_agents", config: ten, body: refused::two_agents },
    Fault { fault: "neighbour_lost", config: ten, body: links::neighbour },
    Fault { fault: "socket_abuse", config: ten, body: socket::abuse },
    Fault { fault: "thousand_services", config: scale::little, body: scale::thousand_services },
];

/// Frames a second that a row must have been under.
const RATE: f64 = 500_000.0;

/// Runs a row; an error is part of what it returns.
pub fn run(fault: &Fault, scale: Scale, demand_rate: bool) -> (Row, Vec<Figure>) {
    let mut row = Row {
        fault: fault.fault,
        sent: 0,
        lost: 0,
        misrouted: 0,
        allowed_lost: 0,
        rate: 0.0,
        refused: 0,
        note: String::new(),
        failed: None,
    };
    match under_stream(fault, scale, &mut row) {
        Ok(seen) => {
            (row.allowed_lost, row.note) = (seen.allowed_lost, seen.note);
            if demand_rate && row.rate < RATE {
                row.failed = Some(format!("{:.0} packets/s are too few to show anything", row.rate));
            }
            (row, seen.figures)
        }
        Err(error) => {
            row.failed = Some(format!("{error:#}"));
            (row, Vec::new())
        }
    }
}

fn under_stream(fault: &Fault, scale: Scale, row: &mut Row) -> Result<Seen> {
    let mut rig = Rig::new(fault.fault, &(fault.config)(), scale)?;
    let seen = (fault.body)(&mut rig);
    let (Sums { sent, lost, misrouted }, refused) = rig.end()?;
    (row.sent, row.lost, row.misrouted, row.refused) = (sent, lost, misrouted, refused);
    row.rate = sent as f64 / rig.wire.sending().as_secs_f64();
    seen
}

/// Ten backends, and another service of this text.
fn ten_and(other: &str) -> String {
    config(&(web(|place| (place <= 10).then_some(1)) + other))
}
