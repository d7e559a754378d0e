//! One of ten backends changes: only flows of slots that `weir plan` announced may move.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lb_userspace::lab::wait_until;

use super::Seen;
use crate::rig::{FIRST_BACKEND, PATIENCE, Rig, SERVICE, config, ten, web};

/// Ten backends of one weight, but for one.
fn ten_but(changed: u8, weight: Option<u16>) -> String {
    config(&web(|place| if place == changed { weight } else { (place <= 10).then_some(1) }))
}

/// Removed, and put back.
pub fn removed(rig: &mut Rig) -> Result<Seen> {
    there_and_back(rig, |number| ((number % 10) as u8 + 1, None))
}

/// An eleventh comes, and goes.
pub fn added(rig: &mut Rig) -> Result<Seen> {
    there_and_back(rig, |_| (11, Some(1)))
}

/// Gets another weight, and the old one back.
pub fn reweighted(rig: &mut Rig) -> Result<Seen> {
    there_and_back(rig, |number| ((number % 10) as u8 + 1, Some(2 + number as u16 % 5)))
}

/// Reloads that change a backend, to this weight or none, and change it back.
fn there_and_back(rig: &mut Rig, change: impl Fn(u64) -> (u8, Option<u16>)) -> Result<Seen> {
    let times = rig.scale.twenty;
    let mut moved = 0;
    for number in 0..times {
        let (place, weight) = change(number);
        for text in [ten_but(place, weight), ten()] {
            let announced = Announced::of(rig, &text, place)?;
            rig.write(&text)?;
            rig.reload("live after")?;
            moved += announced.check(rig, place)?;
        }
        rig.pace(number + 1, times, rig.scale.frames)?;
    }
    Ok(Seen::nothing_lost(format!("{} changes, {moved} slots moved as announced", 2 * times)))
}

/// Drained in steps, and put back.
pub fn drained(rig: &mut Rig) -> Result<Seen> {
    let times = (rig.scale.twenty / 5).max(1);
    let mut moved = 0;
    for number in 0..times {
        let place = (number % 10) as u8 + 1;
        let address = format!("10.1.0.{}", FIRST_BACKEND + place);
        // In the end it is as if its weight were 0.
        let announced = Announced::of(rig, &ten_but(place, Some(0)), place)?;
        rig.verb(&["drain", SERVICE, &address, "--over", "1s"])?;
        let drained = || rig.tables().is_ok_and(|tables| !tables.slots.contains(&place));
        wait_until("the end of the drain", PATIENCE, drained)?;
        moved += announced.check(rig, place)?;
        rig.verb(&["revert"])?;
        rig.phase()?;
        rig.pace(number + 1, times, rig.scale.frames)?;
    }
    Ok(Seen::nothing_lost(format!("{times} drains over 1 s, {moved} slots moved as announced")))
}

/// What `weir plan` says of a change, and what ran before it.
struct Announced {
    moved: u64,
    before: Vec<u8>,
}

impl Announced {
    /// Asks for what a file would change; it must be one backend of the service, and no slot among others.
    fn of(rig: &Rig, text: &str, place: u8) -> Result<Self> {
        let file = rig.balancer.directory().join("planned.toml");
        std::fs::write(&file, text)?;
        let output = rig.weir(&["plan", path(&file)?, "--state", path(&rig.balancer.directory())?, "-o", "json"])?;
        ensure!(output.status.code() == Some(4), "weir plan: {}", String::from_utf8_lossy(&output.stderr).trim());
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let services = plan["plan"]["services"].as_array().context("no services in the plan")?;
        ensure!(services.len() == 1 && services[0]["service"] == SERVICE, "more than one service changes: {plan}");
        let (slots, backends) = (&services[0]["slots"], &services[0]["backends"]);
        let address = format!("10.1.0.{}", FIRST_BACKEND + place);
        ensure!(slots["among_unchanged"] == 0 && backends[0]["backend"] == *address, "others move: {plan}");
        ensure!(backends.as_array().is_some_and(|backends| backends.len() == 1), "other backends change: {plan}");
        Ok(Announced { moved: slots["moved"].as_u64().context("no number of slots")?, before: rig.tables()?.slots })
    }

    /// Whether exactly those slots have moved by now, all of them from or to the backend, and begins a phase in which all flows
    /// must be where they belong now. Returns how many have moved.
    fn check(&self, rig: &mut Rig, place: u8) -> Result<u64> {
        let after = rig.tables()?.slots;
        let moved: Vec<_> = self.before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        ensure!(moved.len() as u64 == self.moved, "{} slots moved, {} were announced", moved.len(), self.moved);
        ensure!(moved.iter().all(|(before, after)| **before == place || **after == place), "slots moved among others");
        rig.phase()?;
        Ok(self.moved)
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}
