//! The file that keeps health over a restart, so that no backend changes because an agent does. Unlike what operators said, it can
//! be found out anew: what cannot be read is left alone, with a word in the log.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Health;

/// Its name beside the overrides.
pub const NAME: &str = "health.json";
/// The format's version, raised whenever an older weir would misread it.
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u64,
    #[serde(flatten)]
    health: Health,
}

/// Reads what was saved: nothing where there is no file. An error is no reason not to start.
pub fn load(directory: &Path) -> Result<Health> {
    let path = directory.join(NAME);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Health::default()),
        bytes => bytes.with_context(|| format!("{}: cannot read which backends work", path.display()))?,
    };
    let fault = || format!("{}: does not say which backends work, they are checked anew", path.display());
    let stored: Stored = serde_json::from_slice(&bytes).with_context(fault)?;
    if stored.version != VERSION {
        anyhow::bail!("{}: of version {}, this weir knows {VERSION}", fault(), stored.version);
    }
    Ok(stored.health)
}

/// Replaces the file, whole or not at all. It is not waited for until the disk has it.
pub fn save(directory: &Path, health: &Health) -> Result<()> {
    let (path, next) = (directory.join(NAME), directory.join(format!("{NAME}.next")));
    let write = || {
        fs::create_dir_all(directory)?;
        let bytes = serde_json::to_vec(&Stored { version: VERSION, health: health.clone() })?;
        File::create(&next)?.write_all(&bytes)?;
        fs::rename(&next, &path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
