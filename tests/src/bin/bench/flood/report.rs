//! The figures of the flood as tables and as JSON.

use serde_json::{Value, json};

use super::{
    cost::{Cost, Costs},
    filter::Filter,
    goodput::{Goodput, Step},
    memory::{Memory, Occupied},
};

/// All that was measured.
pub struct Report {
    pub machine: String,
    pub warnings: Vec<String>,
    pub cost: Option<Costs>,
    pub goodput: Vec<Goodput>,
    pub memory: Vec<Memory>,
}

impl Report {
    /// The tables.
    pub fn text(&self) -> String {
        let mut lines = vec![self.machine.clone()];
        lines.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        if let Some(costs) = &self.cost {
            lines.extend(cost_lines(costs));
        }
        if !self.goodput.is_empty() {
            lines.extend(goodput_lines(&self.goodput));
        }
        if !self.memory.is_empty() {
            lines.extend(memory_lines(&self.memory));
        }
        lines.join("\n")
    }

    /// The JSON: every row with every key.
    pub fn json(&self) -> Value {
        json!({
            "version": 1,
            "machine": self.machine,
            "warnings": self.warnings,
            "cost": self.cost.as_ref().map(cost_json),
            "goodput": self.goodput.iter().map(|goodput| goodput_json(goodput, halved_behind_iptables(&self.goodput))).collect::<Vec<_>>(),
            "memory": self.memory.iter().map(memory_json).collect::<Vec<_>>(),
        })
    }
}

fn cost_lines(costs: &Costs) -> Vec<String> {
    let Costs { making, discarding, of } = costs;
    let mut lines = vec![
        String::new(),
        format!("CPU time a flood packet, net of making it ({making:.0} ns)"),
        format!("{:<14} {:>8} {:>6} {:>14} {:>14} {:>12}", "filter", "ns", "+-", "a core and s", "arrived", "dropped"),
        format!("{:<14} {discarding:>8.0} {:>6} {:>14.0}", "(bare drop)", "", 1e9 / discarding),
    ];
    lines.extend(of.iter().map(|Cost { filter, ns, spread, arrived, dropped }| {
        let (name, rate) = (filter.name(), 1e9 / ns);
        format!("{name:<14} {ns:>8.0} {spread:>6.0} {rate:>14.0} {arrived:>14} {dropped:>12}")
    }));
    lines
}

fn goodput_lines(all: &[Goodput]) -> Vec<String> {
    let mut lines = vec![String::new(), "requests answered a second, by flood packets a second".to_owned()];
    let columns = all.iter().map(|goodput| format!(" {:>13}", goodput.filter.name())).collect::<String>();
    lines.push(format!("{:>10}{columns}", "flood"));
    let row = |index: usize, cell: &dyn Fn(&Step) -> String| {
        all.iter()
            .filter_map(|goodput| goodput.steps.get(index))
            .map(|step| format!(" {:>13}", cell(step)))
            .collect::<String>()
    };
    let steps = || all.first().into_iter().flat_map(|goodput| goodput.steps.iter().enumerate());
    let label = |step: &Step| step.wanted.map_or("the most".to_owned(), |rate| format!("{rate:.0}"));
    for (index, step) in steps() {
        lines.push(format!("{:>10}{}", label(step), row(index, &|step| format!("{:.0}", step.requests))));
    }
    let halved = |goodput: &Goodput| goodput.halved().map_or("never".to_owned(), |step| format!("{:.0}", step.made));
    let halved = all.iter().map(|goodput| format!(" {:>13}", halved(goodput))).collect::<String>();
    lines.push(format!("{:>10}{halved}", "halved at"));
    if let Some(step) = halved_behind_iptables(all) {
        let kept = |goodput: &Goodput| goodput.kept(step).map_or(String::new(), |kept| format!("{kept:.2}"));
        let kept = all.iter().map(|goodput| format!(" {:>13}", kept(goodput))).collect::<String>();
        lines.push(format!("{:>10}{kept}", "kept then"));
    }
    lines.extend([String::new(), "flood packets made a second; lost in the veth's ring, and dropped by the filter, of all made; clients' packets lost in the ring".to_owned()]);
    lines.push(format!("{:>10}{columns}", "flood"));
    for (index, step) in steps().filter(|(_, step)| step.wanted != Some(0.0)) {
        lines.push(format!("{:>10}{}", label(step), row(index, &|step| format!("{:.0}", step.made))));
        let parts = |step: &Step| format!("{:.0}% {:.0}%", step.lost_in_ring * 100.0, step.dropped * 100.0);
        lines.push(format!("{:>10}{}", "", row(index, &parts)));
        lines.push(format!("{:>10}{}", "", row(index, &|step| step.clients_lost.to_string())));
    }
    lines
}

/// The step at which goodput behind the iptables rule has halved.
fn halved_behind_iptables(all: &[Goodput]) -> Option<usize> {
    all.iter().find(|goodput| goodput.filter == Filter::IptablesRaw)?.halved_step()
}

fn memory_lines(all: &[Memory]) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        "memory before, during (the most) and after a flood, kB; behind each filter the stack tracks connections"
            .to_owned(),
        format!(
            "{:<14} {:>11} {:<7} {:>13} {:>10} {:>9} {:>9} {:>11} {:>10}",
            "filter", "packets", "when", "network slab", "all slab", "BPF maps", "agent", "connections", "table full"
        ),
    ];
    for Memory { filter, customers, packets, before, during, after, table_full } in all {
        for (when, occupied) in [("before", before), ("during", during), ("after", after)] {
            let Occupied { network_slab, slab, maps, agent, connections } = occupied;
            let kb = |bytes: &u64| bytes / 1024;
            let (name, packets, full) = match when {
                "before" => (filter.name(), packets.to_string(), String::new()),
                "during" if *customers > 0 => ("  + customers", String::new(), String::new()),
                "after" => ("", String::new(), format!("{table_full} times")),
                _ => ("", String::new(), String::new()),
            };
            lines.push(
                format!(
                    "{name:<14} {packets:>11} {when:<7} {:>13} {:>10} {:>9} {:>9} {connections:>11} {full:>10}",
                    kb(network_slab),
                    kb(slab),
                    kb(maps),
                    kb(agent)
                )
                .trim_end()
                .to_owned(),
            );
        }
    }
    lines
}

fn cost_json(Costs { making, discarding, of }: &Costs) -> Value {
    let rows = of.iter().map(|Cost { filter, ns, spread, arrived, dropped }| {
        json!({
            "filter": filter.name(),
            "ns": tenth(*ns),
            "spread": tenth(*spread),
            "packets_per_core_second": (1e9 / ns).round(),
            "arrived": arrived,
            "dropped": dropped,
        })
    });
    json!({ "making_ns": tenth(*making), "bare_drop_ns": tenth(*discarding), "rows": rows.collect::<Vec<_>>() })
}

fn goodput_json(goodput: &Goodput, iptables_halved: Option<usize>) -> Value {
    let steps = goodput.steps.iter().map(|step| {
        json!({
            "wanted": step.wanted,
            "made_per_second": step.made.round(),
            "lost_in_ring": step.lost_in_ring,
            "dropped": step.dropped,
            "clients_lost_in_ring": step.clients_lost,
            "requests_per_second": tenth(step.requests),
        })
    });
    json!({
        "filter": goodput.filter.name(),
        "halved_at": goodput.halved().map(|step| step.made.round()),
        "kept_where_iptables_halved": iptables_halved.and_then(|step| goodput.kept(step)),
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn memory_json(memory: &Memory) -> Value {
    let at = |occupied: &Occupied| {
        json!({
            "network_slab_bytes": occupied.network_slab,
            "slab_bytes": occupied.slab,
            "map_bytes": occupied.maps,
            "agent_bytes": occupied.agent,
            "connections": occupied.connections,
        })
    };
    json!({
        "filter": memory.filter.name(),
        "customers": memory.customers,
        "packets": memory.packets,
        "before": at(&memory.before),
        "during": at(&memory.during),
        "after": at(&memory.after),
        "table_full_logged": memory.table_full,
    })
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
