//! What labs have made, so that it can be removed from wherever the process ends.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{process::run, programs::Passing};

/// Where `ip netns` keeps names.
pub const NAMESPACES: &str = "/run/netns";
/// Where pins are kept.
pub const PINS: &str = "/sys/fs/bpf";
/// Where agents are asked.
const SOCKETS: &str = crate::control::socket::DIRECTORY;

/// What one lab has made.
#[derive(Default)]
pub struct Kept {
    /// Names of namespaces.
    pub namespaces: Vec<String>,
    /// Attached programs, detached by their drop.
    pub programs: Option<Passing>,
}

/// By the labs' prefixes.
static LABS: Mutex<BTreeMap<String, Kept>> = Mutex::new(BTreeMap::new());

/// Begins to look after a lab.
pub fn add(prefix: &str) -> Result<()> {
    let mut labs = labs();
    if labs.contains_key(prefix) {
        bail!("{prefix}: this process has a lab of that name");
    }
    fs::create_dir_all(directory(prefix)).with_context(|| format!("cannot make {}", directory(prefix).display()))?;
    labs.insert(prefix.to_owned(), Kept::default());
    Ok(())
}

/// Makes something while nothing is being removed.
pub fn with<T>(prefix: &str, make: impl FnOnce(&mut Kept) -> Result<T>) -> Result<T> {
    let mut labs = labs();
    make(labs.get_mut(prefix).ok_or_else(|| anyhow!("{prefix}: this lab is gone"))?)
}

/// Removes a lab and everything in it.
pub fn remove(prefix: &str) -> Result<()> {
    let kept = labs().remove(prefix);
    kept.map_or(Ok(()), |kept| tear_down(prefix, kept))
}

/// Where a lab's files are.
pub fn directory(prefix: &str) -> PathBuf {
    std::env::temp_dir().join(prefix)
}

/// Removes what dead processes left.
pub fn sweep() -> Result<()> {
    for namespace in leftovers(Path::new(NAMESPACES)) {
        remove_namespace(&namespace)?;
    }
    for place in [Path::new(PINS), &std::env::temp_dir()] {
        for name in leftovers(place) {
            remove_directory(&place.join(name))?;
        }
    }
    // Agents that were killed left them.
    for name in leftovers(Path::new(SOCKETS)) {
        let _ = fs::remove_file(Path::new(SOCKETS).join(name));
    }
    Ok(())
}

/// From now on SIGINT, SIGTERM and SIGHUP remove all labs before they end the process.
pub fn clean_up_on_signals() -> Result<()> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            let error = wait_for_signal(&ready).err();
            let _ = ready.send(error.map_or(Ok(()), |error| Err(error.to_string())));
        });
        is_ready.recv().unwrap_or_else(|_| Err("its thread ended".into()))
    });
    started.clone().map_err(|error| anyhow!("cannot listen for signals: {error}"))
}

/// Waits for a signal, removes everything and ends the process: returns only if it cannot listen.
fn wait_for_signal(ready: &mpsc::Sender<Result<(), String>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let number = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let _ = ready.send(Ok(()));
        io::Result::Ok(tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hang_up.recv() => SignalKind::hangup(),
        })
    })?;
    // Held to the end: other threads make nothing new.
    let mut labs = labs();
    for (prefix, kept) in std::mem::take(&mut *labs) {
        if let Err(error) = tear_down(&prefix, kept) {
            eprintln!("{prefix}: left behind: {error:#}");
        }
    }
    std::process::exit(128 + number.as_raw_value())
}

fn labs() -> MutexGuard<'static, BTreeMap<String, Kept>> {
    // A panic while it was held leaves what must be removed.
    LABS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tear_down(prefix: &str, kept: Kept) -> Result<()> {
    let Kept { namespaces, programs } = kept;
    drop(programs);
    let removed: Vec<_> = namespaces.iter().map(|namespace| remove_namespace(namespace)).collect();
    for namespace in &namespaces {
        remove_directory(&Path::new(PINS).join(namespace))?;
        // There if an agent was killed.
        let _ = fs::remove_file(Path::new(SOCKETS).join(format!("{namespace}.sock")));
    }
    remove_directory(&directory(prefix))?;
    removed.into_iter().collect()
}

/// Ends what runs in a namespace, or it would live on without a name, and removes it.
fn remove_namespace(name: &str) -> Result<()> {
    let path = Path::new(NAMESPACES).join(name);
    let remove = || {
        for pid in run(Command::new("ip").args(["netns", "pids", name]))?.lines() {
            let pid = pid.trim().parse().with_context(|| format!("`ip netns pids` printed {pid}"))?;
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        run(Command::new("ip").args(["netns", "delete", name])).map(drop)
    };
    // Others sweep too.
    if path.exists() { remove().or_else(|error| if path.exists() { Err(error) } else { Ok(()) }) } else { Ok(()) }
}

fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if path.exists() => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        _ => Ok(()),
    }
}

/// The names in a directory that belong to a process that is no more.
fn leftovers(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| owner(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())).collect()
}

/// The process that a name `weir-PID-...` belongs to.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("weir-")?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_process_are_swept() {
        for (name, expected) in [
            ("weir-4711-demo-client", Some(4711)),
            ("weir-4711-demo", Some(4711)),
            ("weir-4711", None),
            ("weir-demo-client", None),
            ("weir", None),
            ("other-4711-client", None),
        ] {
            assert_eq!(owner(name), expected, "{name}");
        }
    }
}
