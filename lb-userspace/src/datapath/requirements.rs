//! What this host must have before anything is loaded: kernel, capabilities, locked memory.

use std::fs;

use anyhow::{Context, Result, ensure};

/// The oldest kernel that has all the program and the agent use: XDP links (5.9), ring buffers (5.8), mapped arrays (5.5).
pub const OLDEST_KERNEL: Kernel = Kernel(5, 10);
/// From here on frames in several buffers (jumbo frames) reach the program.
pub const FRAGS_KERNEL: Kernel = Kernel(5, 18);
/// From here on reading a per-CPU counter is no call.
pub const INLINED_PER_CPU_KERNEL: Kernel = Kernel(6, 10);

/// A kernel's version, major and minor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Kernel(pub u32, pub u32);

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Kernel {
    /// The running one.
    pub fn running() -> Result<Self> {
        let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
        Self::parse(&release).with_context(|| format!("kernel release {release:?}: no version in it"))
    }

    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Kernel(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// What a newer kernel would add, a sentence each.
    pub fn lacks(self) -> Vec<String> {
        let mut lacks = Vec::new();
        if self < FRAGS_KERNEL {
            lacks.push(format!("kernel {self}: jumbo frames need {FRAGS_KERNEL}"));
        }
        if self < INLINED_PER_CPU_KERNEL {
            lacks.push(format!("kernel {self}: counting is faster from {INLINED_PER_CPU_KERNEL} on"));
        }
        lacks
    }
}

/// Capabilities that loading and attaching need, by their number (`linux/capability.h`).
const CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (CAP_PERFMON, "CAP_PERFMON"), (CAP_BPF, "CAP_BPF")];
const CAP_SYS_ADMIN: u32 = 21;
/// For the verifier to allow what the bounds checks do with pointers.
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Checks all; an error is a sentence with the way out.
pub fn check() -> Result<Kernel> {
    let kernel = Kernel::running()?;
    ensure!(kernel >= OLDEST_KERNEL, "kernel {kernel}: too old, weir needs {OLDEST_KERNEL} or newer");
    let missing = missing_capabilities(&fs::read_to_string("/proc/self/status")?);
    ensure!(missing.is_empty(), "missing {}: run as root (sudo weir ...)", missing.join(", "));
    // Until 5.11 maps are charged to locked memory, whose limit is far too small.
    if kernel < Kernel(5, 11) {
        use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
            .context("cannot raise RLIMIT_MEMLOCK: run as root, or set LimitMEMLOCK=infinity")?;
    }
    Ok(kernel)
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    let has = |capability: u32| effective >> capability & 1 != 0;
    let lacks =
        |capability: u32| !(has(capability) || matches!(capability, CAP_PERFMON | CAP_BPF) && has(CAP_SYS_ADMIN));
    CAPABILITIES.iter().filter(|(number, _)| lacks(*number)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for (release, version) in [
            ("6.18.44-generic", Some(Kernel(6, 18))),
            ("5.10.0-30-amd64", Some(Kernel(5, 10))),
            ("7.0-rc3", Some(Kernel(7, 0))),
            ("linux", None),
            ("", None),
        ] {
            assert_eq!(Kernel::parse(release), version, "{release}");
        }
    }

    #[test]
    fn capabilities() {
        assert!(missing_capabilities("CapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(missing_capabilities("CapEff:\t0000000000000000\n").len(), 4);
        assert!(
            missing_capabilities("CapEff:\t0000000000203000\n").is_empty(),
            "CAP_SYS_ADMIN stands for the two youngest"
        );
        assert_eq!(missing_capabilities(""), ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON", "CAP_BPF"]);
    }
}
