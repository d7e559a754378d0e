//! Where programs, maps and links are kept in the BPF file system, so that they outlive the agent.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

/// Where pins live unless told otherwise.
pub const DEFAULT: &str = "/sys/fs/bpf/weir";
/// Where those of the second program live: one host may be balancer and backend.
pub const DEFAULT_BACKEND: &str = "/sys/fs/bpf/weir-backend";

/// Where the system's BPF file system belongs.
const BPFFS: &str = "/sys/fs/bpf";
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

/// The directories of one instance.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// Held by the one agent of an instance.
pub struct Lock(#[allow(dead_code, reason = "held for its drop")] Flock<fs::File>);

impl Pins {
    /// The pins under a directory, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Pins { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The maps in use.
    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// The maps of a start that is under way.
    pub fn next_tables(&self) -> PathBuf {
        self.root.join("next-tables")
    }

    /// The programs in use.
    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// The programs of a start that is under way.
    pub fn next_programs(&self) -> PathBuf {
        self.root.join("next-programs")
    }

    /// The program that steers checks.
    pub fn steering(&self) -> PathBuf {
        self.root.join("steering")
    }

    /// All links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The link of an interface.
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(pin_name(interface))
    }

    /// The interfaces that have a pinned link, in order of their names.
    pub fn linked(&self) -> Vec<String> {
        let entries = fs::read_dir(self.links()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| interface_name(&entry.file_name().to_string_lossy())).collect();
        names.sort();
        names
    }

    /// Makes the directory, on a BPF file system: the usual one is mounted if nobody has, others must be there.
    pub fn prepare(&self) -> Result<()> {
        let root = &self.root;
        let there = root.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
        if !is_bpffs(there) {
            ensure!(
                root.starts_with(BPFFS),
                "{}: not on a BPF file system: choose a place below {BPFFS}, or mount one (mount -t bpf bpf DIRECTORY)",
                root.display()
            );
            mount_once(Path::new(BPFFS))?;
        }
        for directory in [root.clone(), self.links()] {
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        Ok(())
    }

    /// Takes the instance for this process; an error names the process that has it.
    pub fn lock(&self) -> Result<Lock> {
        let directory = fs::File::open(&self.root).with_context(|| format!("cannot open {}", self.root.display()))?;
        let found = directory.metadata()?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let holder = lock_holder(&found).map_or("another process".into(), |pid| format!("pid {pid}"));
                bail!(
                    "{}: in use by {holder}: stop that agent first, or give this one pins of its own with --pins",
                    self.root.display()
                )
            }
            Err((_, errno)) => bail!("cannot lock {}: {errno}", self.root.display()),
        }
    }

    /// The process that has taken the instance, if one has.
    pub fn holder(&self) -> Option<u32> {
        lock_holder(&fs::metadata(&self.root).ok()?)
    }

    /// Removes what a start that did not finish left behind.
    pub fn clear_next(&self) -> Result<()> {
        remove(&self.next_tables())?;
        remove(&self.next_programs())
    }

    /// Puts what a start made in the place of what was in use. Done again after an interruption, it does the rest.
    pub fn promote(&self) -> Result<()> {
        // The programs last: as long as they lie beside, it is seen that something is to be done.
        for (next, current) in [(self.next_tables(), self.tables()), (self.next_programs(), self.programs())] {
            if !next.exists() {
                continue;
            }
            remove(&current)?;
            fs::rename(&next, &current)
                .with_context(|| format!("cannot rename {} to {}", next.display(), current.display()))?;
        }
        Ok(())
    }

    /// Removes the directories if nothing is in them, after a start that failed.
    pub fn remove_empty(&self) {
        for directory in [self.links(), self.root.clone()] {
            // Not empty means in use.
            let _ = fs::remove_dir(directory);
        }
    }

    /// Removes everything of this instance, and nothing else that may lie there; what no pin holds any more, the kernel
    /// frees.
    pub fn remove(&self) -> Result<()> {
        self.clear_next()?;
        for directory in [self.links(), self.tables(), self.programs(), self.steering()] {
            remove(&directory)?;
        }
        self.remove_empty();
        Ok(())
    }
}

/// What the program for questions is pinned as, beside those of interfaces.
pub const EXPLAIN: &str = "explain";

/// What the program of an interface is pinned as.
pub fn program_name(interface: &str) -> String {
    format!("on:{}", pin_name(interface))
}

/// The interface whose program is pinned by this name.
pub fn program_interface(pin: &str) -> Option<String> {
    pin.strip_prefix("on:").map(interface_name)
}

/// What tells that the queueing discipline clsact of an interface is weir's.
pub fn clsact_name(interface: &str) -> String {
    format!("clsact:{}", pin_name(interface))
}

/// What the map is pinned as by which an interface's program finds the one for packets that are not plain.
pub fn paths_name(interface: &str) -> String {
    format!("paths:{}", pin_name(interface))
}

/// The BPF file system allows no dots, interfaces no colons.
fn pin_name(interface: &str) -> String {
    interface.replace('.', ":")
}

fn interface_name(pin: &str) -> String {
    pin.replace(':', ".")
}

/// Removes a directory and what is in it, if it is there.
fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn is_bpffs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|found| found.filesystem_type().0 == BPFFS_MAGIC)
}

/// Mounts unless somebody has: of two that start at once, one mounts, or the pins of the other would vanish below.
fn mount_once(directory: &Path) -> Result<()> {
    let place = fs::File::open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
    let _lock = Flock::lock(place, FlockArg::LockExclusive)
        .map_err(|(_, errno)| anyhow!("cannot lock {}: {errno}", directory.display()))?;
    if is_bpffs(directory) { Ok(()) } else { mount(directory) }
}

fn mount(directory: &Path) -> Result<()> {
    use nix::mount::{MsFlags, mount};
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), directory, Some("bpf"), flags, Some("mode=0700")).with_context(|| {
        format!("cannot mount a BPF file system on {} (choose another place with --pins)", directory.display())
    })
}

/// Who holds the lock on a directory, from /proc/locks: `1: FLOCK ADVISORY WRITE 1234 00:1c:5678 0 EOF`, where the device is in
/// hexadecimal and the inode is not.
fn lock_holder(directory: &fs::Metadata) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let (device, inode) = (directory.dev(), directory.ino());
    let place = format!("{:02x}:{:02x}:{inode}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let held = fields.get(1) == Some(&"FLOCK") && *fields.get(5)? == place;
        held.then(|| fields.get(4)?.parse().ok())?
    })
}
