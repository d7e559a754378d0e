//! What to go back to unless it is confirmed, and until when: kept in a file too, for an agent may end meanwhile.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{config::Texts, overrides::now_ms};

/// The file's name beside the overrides.
const NAME: &str = "unconfirmed.json";
/// The format's version, raised whenever an older weir would misread it.
const VERSION: u64 = 1;

/// Something that was applied to be confirmed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pending {
    version: u64,
    /// Until then, by the wall clock.
    pub until_ms: u64,
    file: PathBuf,
    texts: Arc<Texts>,
}

impl Pending {
    /// A file and its texts are what to go back to.
    pub fn new(until_ms: u64, file: PathBuf, texts: Arc<Texts>) -> Self {
        Pending { version: VERSION, until_ms, file, texts }
    }

    /// What was saved.
    pub fn load(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(NAME);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(|| format!("{}: cannot be read", path.display()))?,
        };
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let damaged = || format!("{}: not weir's: remove it, then what is in the configuration runs", path.display());
        let Version { version } = serde_json::from_slice(&bytes).with_context(damaged)?;
        ensure!(
            version <= VERSION,
            "{}: written by a newer weir (version {version}, this one knows {VERSION}), nothing was changed: use that weir, or \
             move the file away",
            path.display()
        );
        Ok(Some(serde_json::from_slice(&bytes).with_context(damaged)?))
    }

    /// Replaces the file, whole or not at all.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let (path, next) = (directory.join(NAME), directory.join(format!("{NAME}.next")));
        let write = || {
            fs::create_dir_all(directory)?;
            let mut file = File::create(&next)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&next, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes the file.
    pub fn forget(directory: &Path) -> Result<()> {
        let path = directory.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The time for confirming has passed.
    pub fn is_over(&self) -> bool {
        self.until_ms <= now_ms()
    }

    /// The same until another time.
    pub fn again_at(self, until_ms: u64) -> Self {
        Pending { until_ms, ..self }
    }

    /// The file to go back to.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What stood in it and its parts.
    pub fn texts(&self) -> &Texts {
        &self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_and_forgotten() {
        let directory = std::env::temp_dir().join(format!("weir-{}-pending", std::process::id()));
        assert_eq!(Pending::load(&directory).unwrap(), None);
        let texts = Arc::new(vec![("weir.toml".to_owned(), "interface = \"eth0\"".to_owned())]);
        let pending = Pending::new(now_ms() + 60_000, "weir.toml".into(), texts);
        pending.save(&directory).unwrap();
        assert_eq!(Pending::load(&directory).unwrap(), Some(pending.clone()));
        assert!(!pending.is_over() && pending.clone().again_at(1).is_over());
        Pending { version: VERSION + 1, ..pending }.save(&directory).unwrap();
        assert!(Pending::load(&directory).unwrap_err().to_string().contains("a newer weir"));
        Pending::forget(&directory).unwrap();
        assert_eq!(Pending::load(&directory).unwrap(), None);
        fs::remove_dir_all(&directory).unwrap();
    }
}
