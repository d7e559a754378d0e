//! Agents that die, and others that come after them.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use lb_common::abi::COUNTS_SINCE;
use lb_userspace::datapath::{Access, Datapath, Pins};
use nix::sys::signal::Signal;

use super::{Seen, reload::with_other_of};
use crate::rig::{PATIENCE, Rig, ten};

/// Killed, and started again.
pub fn kill(rig: &mut Rig) -> Result<Seen> {
    let times = rig.scale.twenty;
    for number in 0..times {
        rig.kill()?;
        rig.pace(number + 1, times, rig.scale.frames)?;
        rig.start(&ten(), "goes on in native mode")?;
    }
    Ok(Seen::nothing_lost(format!("{times} kills")))
}

/// Killed at another point of a change each time.
pub fn kill_apply(rig: &mut Rig) -> Result<Seen> {
    let times = rig.scale.twenty;
    let mut live = 0;
    for number in 0..times {
        let weight = 2 + number;
        rig.write(&with_other_of(weight))?;
        rig.agent.signal(Signal::SIGHUP)?;
        // A change takes some 20 ms.
        thread::sleep(Duration::from_millis(30 * number / times));
        rig.kill()?;
        let found = weight_of_other(rig)?;
        ensure!(found == weight || found == weight - 1, "weight {found} is neither the old nor the new one");
        live += u64::from(found == weight);
        rig.pace(number + 1, times, rig.scale.frames)?;
        rig.start(&with_other_of(weight), "goes on in native mode")?;
        ensure!(weight_of_other(rig)? == weight, "the next start did not finish the change");
    }
    Ok(Seen::nothing_lost(format!("{times} kills, {live} of them after the change was live")))
}

fn weight_of_other(rig: &Rig) -> Result<u64> {
    let ls = rig.json(&["ls"])?;
    ls["services"][0]["backends"][0]["weight"].as_u64().context("no weight")
}

/// Stopped, and followed by one whose tables have another layout.
pub fn upgrade(rig: &mut Rig) -> Result<Seen> {
    let times = rig.scale.twenty;
    for number in 0..times {
        rig.agent.stop(PATIENCE)?;
        // What runs says that it is of an older layout, as it would be for a newer weir.
        Datapath::open(&Pins::new(rig.balancer.pins()), Access::Write)?.claim_layout(COUNTS_SINCE);
        rig.start(&ten(), "loaded anew: tables of layout")?;
        rig.pace(number + 1, times, rig.scale.frames)?;
    }
    Ok(Seen::nothing_lost(format!("{times} upgrades")))
}
