//! The file that keeps overrides over a restart.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Overrides;

/// Where it is unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/weir";
/// Its name there.
pub const NAME: &str = "overrides.json";

/// The format's version, raised whenever an older weir would misread it.
const VERSION: u64 = 1;
/// The largest file that is read: sixty-five thousand overrides are about half of it.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u64,
    #[serde(flatten)]
    overrides: Overrides,
}

/// Reads what was saved; nothing was said where there is no file.
pub fn load(path: &Path) -> Result<Overrides> {
    let Some(bytes) = read(path)? else { return Ok(Overrides::default()) };
    match parse(&bytes) {
        Ok(overrides) => Ok(overrides),
        Err(Fault::Newer(version)) => Err(newer(path, version)),
        Err(Fault::Damaged(reason)) => {
            let copy = beside(path, ".damaged");
            let kept = fs::write(&copy, &bytes).map(|()| format!("a copy is kept as {}", copy.display()));
            let kept = kept.unwrap_or_else(|error| format!("no copy could be made: {error}"));
            bail!(
                "{}: not weir's overrides ({reason}); {kept}: mend the file, or remove it and say anew what it said",
                path.display()
            )
        }
    }
}

/// Replaces the file, whole or not at all.
pub fn save(path: &Path, overrides: &Overrides) -> Result<()> {
    if let Some(bytes) = read(path)?
        && let Err(Fault::Newer(version)) = parse(&bytes)
    {
        return Err(newer(path, version));
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let next = beside(path, ".next");
    let saved = write(&next, overrides).and_then(|()| {
        fs::rename(&next, path)?;
        // The name too is on the disk only now.
        File::open(directory)?.sync_all()
    });
    saved.with_context(|| format!("cannot write {}", path.display()))
}

fn write(path: &Path, overrides: &Overrides) -> io::Result<()> {
    let stored = Stored { version: VERSION, overrides: overrides.clone() };
    let mut file = File::create(path)?;
    serde_json::to_writer_pretty(&mut file, &stored)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(anyhow!("{}: cannot read the overrides: {error}", path.display())),
    }
    ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "{}: larger than {} MiB, not weir's overrides: remove it and say anew what it said",
        path.display(),
        MAX_BYTES >> 20
    );
    Ok(Some(bytes))
}

enum Fault {
    Newer(u64),
    Damaged(String),
}

/// The version is looked at before anything else: of a newer form nothing is known.
fn parse(bytes: &[u8]) -> Result<Overrides, Fault> {
    let damaged = |reason: String| Fault::Damaged(reason);
    let value: Value = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    let version = value.get("version").and_then(Value::as_u64).ok_or_else(|| damaged("no version".to_owned()))?;
    if version > VERSION {
        return Err(Fault::Newer(version));
    }
    let stored: Stored = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    if stored.version != VERSION || !stored.overrides.is_valid() {
        return Err(damaged("a number out of range".to_owned()));
    }
    Ok(stored.overrides)
}

fn newer(path: &Path, version: u64) -> anyhow::Error {
    anyhow!(
        "{}: written by a newer weir (version {version}, this one knows {VERSION}), nothing was changed: use that weir, or \
         move the file away",
        path.display()
    )
}

/// A file with an ending more.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
