//! Which backends work, and how their checks go.

use anyhow::Result;

use super::{
    flag,
    page::{Labels, Page},
};
use crate::{config::SeenState, health::Checked, plan::Description};

/// Of services that are checked; others have none of this.
pub fn page(page: &mut Page, description: &Description, checks: &[Checked]) -> Result<()> {
    backends(page, description);
    quorum(page, description)?;
    let labels = |check: &Checked| {
        let backend = check.backend.to_string();
        Labels::of(&[("service", &check.service), ("backend", &backend), ("check", check.check), ("vip", &check.vip)])
    };
    let of = |value: fn(&Checked) -> f64| checks.iter().map(move |check| (labels(check), value(check)));
    page.gauge("weir_check_up", "Whether the check counts as passed.", of(|check| flag(check.up)));
    let help = "How long the last run of the check took.";
    page.gauge("weir_check_duration_seconds", help, of(|check| check.duration.as_secs_f64()));
    let help = "How long after its time the last run of the check began.";
    page.gauge("weir_check_late_seconds", help, of(|check| check.late.as_secs_f64()));
    page.counter("weir_check_runs_total", "Runs of the check.", of(|check| check.runs as f64));
    page.counter("weir_check_failures_total", "Runs of the check that failed.", of(|check| check.failed as f64));
    let help = "How often the backend came or went by the check.";
    page.counter("weir_check_changes_total", help, of(|check| check.changes as f64));
    let failed = checks.iter().filter_map(|check| {
        let (backend, kind) = (check.backend.to_string(), check.last_error?.label());
        let pairs =
            [("service", &check.service[..]), ("backend", &backend), ("check", check.check), ("vip", &check.vip)];
        // Whether the last run is the one that failed so.
        Some((Labels::of(&[&pairs[..], &[("error", kind)]].concat()), flag(check.reason.is_some())))
    });
    let help = "What the check's last failure was: 1 while it lasts, 0 when it is over.";
    page.gauge("weir_check_last_error", help, failed);
    Ok(())
}

fn backends(page: &mut Page, description: &Description) {
    let mut known = Vec::new();
    for service in &description.services {
        for backend in service.backends.iter() {
            let Some(seen) = &backend.health else { continue };
            let labels = Labels::of(&[("service", &service.name), ("backend", &backend.address.to_string())]);
            known.push((labels, flag(matches!(seen.state, SeenState::Up | SeenState::Slow))));
        }
    }
    page.gauge("weir_backend_up", "Whether the backend passes its checks; none where it has none.", known);
}

fn quorum(page: &mut Page, description: &Description) -> Result<()> {
    let below = description
        .services
        .iter()
        .map(|service| (Labels::of(&[("service", &service.name)]), flag(service.below_quorum.is_some())));
    page.gauge("weir_service_below_quorum", "Whether fewer backends take traffic than the quorum.", below);
    let withdrawn = description.vip_addresses()?.into_iter().map(|address| {
        let is = description.withdrawn.contains(&address);
        (Labels::of(&[("address", &address.to_string())]), flag(is))
    });
    let help = "Whether the address is not announced, because too few backends work.";
    page.gauge("weir_address_withdrawn", help, withdrawn);
    Ok(())
}
