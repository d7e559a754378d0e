//! The file is read again.

use anyhow::Result;

use super::{Seen, ten_and};
use crate::rig::Rig;

/// Of an unchanged file.
pub fn same(rig: &mut Rig) -> Result<Seen> {
    let times = rig.scale.hundred;
    for number in 0..times {
        rig.reload("nothing changes")?;
        rig.pace(number + 1, times, rig.scale.reload_frames)?;
    }
    Ok(Seen::nothing_lost(format!("{times} reloads")))
}

/// With another service besides the one that is watched, which shares two backends with it.
pub fn with_other() -> String {
    with_other_of(1)
}

/// The same, one backend of it with a weight.
pub fn with_other_of(weight: u64) -> String {
    ten_and(&format!("[service.other]\nvip = \"10.1.0.101:80\"\nbackends = [\"10.1.0.11*{weight}\", \"10.1.0.12\"]\n"))
}

/// Of a file in which that other service has changed.
pub fn other(rig: &mut Rig) -> Result<Seen> {
    let times = rig.scale.hundred;
    for number in 0..times {
        rig.write(&with_other_of(2 + number % 7))?;
        rig.reload("changed: 1;")?;
        rig.pace(number + 1, times, rig.scale.reload_frames)?;
    }
    Ok(Seen::nothing_lost(format!("{times} reloads")))
}
