//! Removing what dead runs left: network namespaces and pins named `weir-PID-…` whose process is no more.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::command::{self, as_root, is_root, output};

/// Where `ip netns` keeps names.
const NAMESPACES: &str = "/run/netns";
/// Where pins are kept.
const PINS: &str = "/sys/fs/bpf";

/// Removes them; through sudo where we are not root.
pub fn run() -> Result<()> {
    if !is_root() {
        let us = std::env::current_exe().context("cannot find out where this program lies")?;
        return command::run(as_root(us)?.arg("sweep"));
    }
    for name in leftovers(NAMESPACES) {
        remove_namespace(&name).with_context(|| format!("namespace {name}: cannot be removed"))?;
    }
    for name in leftovers(PINS) {
        let path = Path::new(PINS).join(&name);
        fs::remove_dir_all(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
    }
    Ok(())
}

/// Kills a process, and says whether there was one that we may kill.
pub fn kill(process: u32) -> bool {
    signal::kill(Pid::from_raw(process as i32), Signal::SIGKILL).is_ok()
}

/// The processes whose parent is this one.
pub fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent_of = |id: &u32| parent_in(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?);
    ids.filter(|id| parent_of(id) == Some(parent)).collect()
}

/// The names in a directory that belong to a dead process.
fn leftovers(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| owner(name).is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists())).collect()
}

/// The process that a name `weir-PID-…` belongs to.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("weir-")?.split_once('-')?.0.parse().ok()
}

/// Ends what still runs in a namespace, or it would live on without a name.
fn remove_namespace(name: &str) -> Result<()> {
    for process in output(Command::new("ip").args(["netns", "pids", name]))?.lines() {
        kill(process.parse().with_context(|| format!("`ip netns pids` printed {process}"))?);
    }
    command::run(Command::new("ip").args(["netns", "delete", name]))
}

/// The parent's id in /proc/PID/stat: two fields after the name, which stands in parentheses and may hold anything.
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn only_names_with_a_process_are_ours() {
        for (name, expected) in [
            ("weir-4711-client", Some(4711)),
            ("weir-4711-a-b", Some(4711)),
            ("weir-4711", None),
            ("weir-demo-client", None),
            ("weir", None),
            ("other-4711-client", None),
        ] {
            assert_eq!(owner(name), expected, "{name}");
        }
    }

    #[test]
    fn finds_what_the_dead_left() {
        let mut dead = Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let directory = std::env::temp_dir().join(format!("weir-sweep-{}", process::id()));
        let left = format!("weir-{}-left", dead.id());
        for name in [&left, &format!("weir-{}-alive", process::id()), "else"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        assert_eq!(leftovers(directory.to_str().unwrap()), [left]);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn finds_children() {
        assert_eq!(parent_in("42 (a) b) S 7 42 42 0"), Some(7));
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children_of(process::id()).contains(&child.id()));
        kill(child.id());
        child.wait().unwrap();
    }
}
