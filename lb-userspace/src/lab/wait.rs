//! Waiting for what happens elsewhere.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Waits until a condition holds; an error names it.
pub fn wait_until(what: &str, at_most: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, at_most, || holds().then_some(()))
}

/// Waits until there is a value; an error names it.
pub fn wait_for<T>(what: &str, at_most: Duration, mut value: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + at_most;
    loop {
        if let Some(value) = value() {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {} s in vain: {what}", at_most.as_secs());
        }
        thread::sleep(STEP);
    }
}
