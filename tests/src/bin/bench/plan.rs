//! Which rows there are, and what they are called.

use crate::frames::{Family, Kind};

/// How Weir forwards in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forward {
    L2,
    Ipip,
    Ip6,
}

impl Forward {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Forward::L2 => "l2",
            Forward::Ipip => "ipip",
            Forward::Ip6 => "ip6",
        }
    }
}

/// A row to be measured.
#[derive(Clone, Copy)]
pub struct Plan {
    pub program: &'static str,
    pub forward: Forward,
    pub family: Family,
    pub kind: Kind,
    pub flows: u32,
    pub services: u32,
    pub backends: u32,
}

/// Which rows are wanted: those with these words, one after the other, in their label.
pub struct Only<'a>(Vec<&'a str>);

impl<'a> Only<'a> {
    /// No word wants everything.
    pub fn new(words: &'a str) -> Self {
        Only(words.split_whitespace().collect())
    }

    pub fn wants(&self, label: &str) -> bool {
        let label: Vec<_> = label.split(' ').collect();
        self.0.is_empty() || label.windows(self.0.len()).any(|part| part == self.0)
    }

    pub fn of(&self, mut plans: Vec<Plan>) -> Vec<Plan> {
        plans.retain(|plan| self.wants(&label(plan)));
        plans
    }

    /// The same, and the null and the bare encapsulation at as many flows.
    pub fn with_references(&self, mut plans: Vec<Plan>) -> Vec<Plan> {
        let flows: Vec<_> = self.of(plans.clone()).iter().map(|plan| plan.flows).collect();
        let compared = |plan: &Plan| matches!(plan.program, "null" | "bare_ipip") && flows.contains(&plan.flows);
        plans.retain(|plan| self.wants(&label(plan)) || compared(plan));
        plans
    }
}

/// What a row is called, as its columns read.
pub fn label(plan: &Plan) -> String {
    let Plan { program, forward, family, kind, flows, services, backends } = plan;
    let (forward, family, kind) = (forward.name(), family.name(), kind.name());
    format!("{program} {forward} {family} {kind} {flows} {services} {backends}")
}

const FLOWS: [u32; 3] = [1, 1_000_000, 16_000_000];
const STEPS: [u32; 4] = [1, 64, 1024, 4096];

/// All rows of the first table.
pub fn plans() -> Vec<Plan> {
    let base = Plan {
        program: "weir",
        forward: Forward::L2,
        family: Family::Ipv4,
        kind: Kind::Tcp,
        flows: FLOWS[2],
        services: 1,
        backends: 100,
    };
    let mut plans = Vec::new();
    for program in ["null", "swap", "bare_ipip"] {
        plans.extend(FLOWS.map(|flows| Plan { program, flows, services: 0, backends: 0, ..base }));
    }
    for forward in [Forward::L2, Forward::Ipip, Forward::Ip6] {
        for family in [Family::Ipv4, Family::Ipv6] {
            for kind in [Kind::Tcp, Kind::FloodSyn, Kind::NotVip, Kind::IcmpError, Kind::Udp, Kind::Fragment] {
                if forward == Forward::L2 || matches!(kind, Kind::Tcp | Kind::Udp) {
                    plans.extend(FLOWS.map(|flows| Plan { forward, family, kind, flows, ..base }));
                }
            }
        }
    }
    // One service and 100 backends have been above.
    plans.extend(STEPS[1..].iter().map(|services| Plan { services: *services, ..base }));
    plans.push(Plan { services: STEPS[3], family: Family::Ipv6, ..base });
    plans.extend(STEPS.map(|backends| Plan { backends, ..base }));
    plans
}
