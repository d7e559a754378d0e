//! Text of `weir plan`: like a diff, with + for what comes, - for what goes and ~ for what is another.

use std::fmt::Write as _;

use crate::plan::diff::{
    AddedVip, BackendChange, BackendState, Changes, Kind, Moves, Origin, ServiceChange, SettingChange,
};

/// All changes.
pub fn text(changes: &Changes) -> String {
    if changes.is_empty() {
        return "nothing would change".to_owned();
    }
    let mut lines: Vec<String> = changes.settings.iter().map(setting).collect();
    for service in &changes.services {
        lines.extend(self::service(service));
    }
    lines.join("\n")
}

fn setting(change: &SettingChange) -> String {
    let SettingChange { key, from, to } = change;
    let when = if *key == "arena" { " (with the next `weir run`)" } else { "" };
    format!("~ {key}: {from} -> {to}{when}")
}

fn service(change: &ServiceChange) -> Vec<String> {
    let ServiceChange { service, settings, vips_added, vips_removed, backends, slots, .. } = change;
    let mut lines = Vec::new();
    match change.change {
        Kind::Removed => {
            let ends = if slots.moved > 0 { ", its connections end" } else { "" };
            lines.push(format!("- service {service}{ends}"));
            return lines;
        }
        Kind::Added => lines.push(format!("+ service {service}, backends: {}", backends.len())),
        Kind::Changed => lines.push(format!("~ service {service}")),
    }
    lines.extend(settings.iter().map(|change| format!("  {}", setting(change))));
    lines.extend(vips_removed.iter().map(|vip| format!("  - vip {vip}")));
    lines.extend(vips_added.iter().map(vip));
    if change.change == Kind::Changed {
        lines.extend(backends.iter().map(backend));
        lines.extend((slots.moved > 0).then(|| format!("  {}", moves(slots))));
    }
    lines
}

fn vip(added: &AddedVip) -> String {
    match &added.from {
        None => format!("  + vip {}", added.vip),
        Some(Origin { service, slots }) => {
            format!("  + vip {} from service {service}: {}", added.vip, moves(slots))
        }
    }
}

fn backend(change: &BackendChange) -> String {
    let BackendChange { backend, from, to, gives, takes } = change;
    let mut line = match (from, to) {
        (None, Some(to)) => format!("  + backend {backend}, weight {}", state(to)),
        (Some(_), None) => format!("  - backend {backend}"),
        (Some(from), Some(to)) => format!("  ~ backend {backend}, weight {} -> {}", state(from), state(to)),
        (None, None) => format!("  ~ backend {backend}"),
    };
    for (slots, verb) in [(*gives, "gives"), (*takes, "takes")] {
        if slots > 0 {
            // Writing into a string cannot fail.
            let _ = write!(line, ", {verb} {slots} slots");
        }
    }
    line
}

fn state(state: &BackendState) -> String {
    let said: Vec<&str> = [&state.overridden, &state.health].into_iter().flatten().map(String::as_str).collect();
    if said.is_empty() { state.weight.to_string() } else { format!("{} ({})", state.weight, said.join(", ")) }
}

fn moves(moves: &Moves) -> String {
    let Moves { slots, moved, among_unchanged, rehashed, share } = moves;
    let what = match (rehashed, among_unchanged) {
        (true, _) => "every flow picks its slot anew".to_owned(),
        (false, _) if *moved == 0 => return format!("none of {slots} slots moves"),
        (false, 0) => format!("{moved} of {slots} slots move"),
        (false, among) => {
            format!("{moved} of {slots} slots move, {among} of them between backends that stay as they are")
        }
    };
    format!(
        "{what}: established connections there end ({:.1} % of this service's), until backends can hand packets on",
        100.0 * share
    )
}
