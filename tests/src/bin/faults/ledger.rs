//! What was sent against what arrived, flow by flow: pure.

use lb_common::abi::{STREAM_FLOWS, STREAM_PLACES};

/// How many flows there are.
pub const FLOWS: usize = STREAM_FLOWS as usize;
/// How many places frames may arrive at; at 0 are those that were for nobody.
pub const PLACES: usize = STREAM_PLACES as usize;

/// The place that each flow belongs to; 0 is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owners(pub Vec<u8>);

/// Counters at a moment when nothing is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Frames sent so far, in turns of all flows.
    pub sent: u64,
    /// Frames that arrived, by place and flow.
    pub arrived: Vec<Vec<u64>>,
}

impl Snapshot {
    fn sent_of(&self, flow: usize) -> u64 {
        let (turns, rest) = (self.sent / FLOWS as u64, self.sent % FLOWS as u64);
        turns + u64::from((flow as u64) < rest)
    }
}

/// The sums of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    pub sent: u64,
    /// Frames that arrived nowhere; below 0, some arrived twice.
    pub lost: i64,
    /// Frames that arrived where their flow did not belong.
    pub misrouted: u64,
}

/// Adds up phases, in each of which flows may be at one place, or at either of two.
pub struct Ledger {
    last: Snapshot,
    pub sums: Sums,
}

impl Ledger {
    /// Begins at a moment.
    pub fn new(begin: Snapshot) -> Self {
        Ledger { last: begin, sums: Sums::default() }
    }

    /// A phase ends, in which flows were to be where they were before something, or where they were after it.
    pub fn close(&mut self, now: Snapshot, before: &Owners, after: &Owners) {
        for flow in 0..FLOWS {
            let sent = now.sent_of(flow) - self.last.sent_of(flow);
            let right = [usize::from(before.0[flow]), usize::from(after.0[flow])];
            let mut arrived = 0;
            for place in 0..PLACES {
                let here = now.arrived[place][flow] - self.last.arrived[place][flow];
                arrived += here;
                if place == 0 || !right.contains(&place) {
                    self.sums.misrouted += here;
                }
            }
            self.sums.sent += sent;
            self.sums.lost += sent as i64 - arrived as i64;
        }
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Snapshot {
        Snapshot { sent: 0, arrived: vec![vec![0; FLOWS]; PLACES] }
    }

    fn all_at(place: u8) -> Owners {
        Owners(vec![place; FLOWS])
    }

    #[test]
    fn what_arrives_elsewhere_is_misrouted_and_what_does_not_is_lost() {
        let mut ledger = Ledger::new(nothing());
        let mut now = nothing();
        now.sent = FLOWS as u64 + 3;
        now.arrived[1] = vec![1; FLOWS];
        now.arrived[2][0] = 1;
        ledger.close(now.clone(), &all_at(1), &all_at(1));
        assert_eq!(ledger.sums, Sums { sent: FLOWS as u64 + 3, lost: 2, misrouted: 1 });
        // From here on either will do, but not none.
        now.sent += 2;
        now.arrived[2][3] += 1;
        now.arrived[0][4] += 1;
        ledger.close(now, &all_at(1), &all_at(2));
        assert_eq!(ledger.sums, Sums { sent: FLOWS as u64 + 5, lost: 2, misrouted: 2 });
    }
}
