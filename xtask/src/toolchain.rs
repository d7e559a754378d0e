//! Finding Rust toolchains: the one that runs us, and one that can compile for the kernel.
//!
//! A compiler can do that in one of two ways. Some distributions package `core` prebuilt for BPF; for the others
//! cargo compiles it from the sources that rustup calls `rust-src`. Nothing is installed here.

use std::{
    env, fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::command::output;

/// What the programs for the kernel are compiled for.
pub const BPF_TARGET: &str = "bpfel-unknown-none";

/// The oldest Rust that compiles this workspace.
const MINIMUM: &str = env!("CARGO_PKG_RUST_VERSION");

/// A Rust compiler and what came with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rustc {
    /// The compiler itself, never one of rustup's proxies.
    pub path: PathBuf,
    /// What it says of itself.
    pub version: Version,
    /// Where its libraries and its sister programs lie.
    pub sysroot: PathBuf,
    /// Where `core` for BPF comes from, if it can be had.
    pub core: Option<Core>,
}

/// The two ways to `core` for BPF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Core {
    /// It is there.
    Prebuilt,
    /// Its sources are there.
    Source,
}

/// What `rustc -vV` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// As in `1.97.0-nightly`.
    pub release: String,
    /// The target it runs on.
    pub host: String,
    /// The major version of its LLVM.
    pub llvm: u32,
}

/// The cargo that runs us.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").unwrap_or("cargo".into()).into()
}

/// The compiler of the toolchain that runs us.
pub fn running() -> Result<Rustc> {
    let beside = cargo().with_file_name("rustc");
    let path = if beside.is_file() { beside } else { env::var_os("RUSTC").unwrap_or("rustc".into()).into() };
    probe(&path)
}

/// Every compiler that might do for the kernel, best guesses first: those tried, up to the first with a prebuilt
/// `core`. Their LLVM must be one of `llvm`, or they are unfit.
pub fn for_bpf(llvm: &RangeInclusive<u32>) -> Vec<Result<Rustc>> {
    let mut tried = Vec::new();
    for path in candidates() {
        let rustc = probe(&path);
        let best = rustc.as_ref().is_ok_and(|rustc| rustc.unfit(llvm).is_none() && rustc.core == Some(Core::Prebuilt));
        tried.push(rustc);
        if best {
            break;
        }
    }
    tried
}

/// The compiler to use for the kernel: a prebuilt `core` before sources, then in the order given.
pub fn choose<'a>(tried: &'a [Result<Rustc>], llvm: &RangeInclusive<u32>) -> Option<&'a Rustc> {
    let fit = || tried.iter().flatten().filter(|rustc| rustc.unfit(llvm).is_none());
    fit().find(|rustc| rustc.core == Some(Core::Prebuilt)).or_else(|| fit().next())
}

/// Why none of the compilers does, one line each.
pub fn reasons(tried: &[Result<Rustc>], llvm: &RangeInclusive<u32>) -> String {
    let line = |rustc: &Result<Rustc>| match rustc {
        Err(error) => format!("  {error:#}\n"),
        Ok(rustc) => {
            let reason = rustc.unfit(llvm).unwrap_or("fits".to_owned());
            format!("  {} ({}): {reason}\n", rustc.path.display(), rustc.version.release)
        }
    };
    tried.iter().map(line).collect()
}

impl Rustc {
    /// The cargo that belongs to it, else the one that runs us.
    pub fn cargo(&self) -> PathBuf {
        self.tool("cargo").unwrap_or_else(cargo)
    }

    /// A program that came with it.
    pub fn tool(&self, name: &str) -> Option<PathBuf> {
        Some(self.sysroot.join("bin").join(name)).filter(|path| path.is_file())
    }

    /// What rustup calls its toolchain, if it is rustup's.
    pub fn rustup_name(&self) -> Option<&str> {
        let under_toolchains = self.sysroot.parent()?.file_name()? == "toolchains";
        self.sysroot.file_name()?.to_str().filter(|_| under_toolchains)
    }

    /// Why it cannot compile for the kernel.
    fn unfit(&self, llvm: &RangeInclusive<u32>) -> Option<String> {
        if !llvm.contains(&self.version.llvm) {
            return Some(format!("has LLVM {}, not one of {llvm:?}", self.version.llvm));
        }
        if !self.version.at_least(MINIMUM) {
            return Some(format!("older than {MINIMUM}"));
        }
        let neither =
            || format!("has neither lib/rustlib/{BPF_TARGET} nor lib/rustlib/src in {}", self.sysroot.display());
        self.core.is_none().then(neither)
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
        Some(Version { release: field("release: ")?.to_owned(), host: field("host: ")?.to_owned(), llvm })
    }

    fn at_least(&self, minimum: &str) -> bool {
        let parts =
            |version: &str| version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok()).collect::<Vec<_>>();
        parts(&self.release) >= parts(minimum)
    }
}

/// The compilers worth a look: the user's choice alone, else ours, the system's and all of rustup's.
fn candidates() -> Vec<PathBuf> {
    if let Some(chosen) = env::var_os("WEIR_BPF_RUSTC") {
        return vec![chosen.into()];
    }
    let running = running().map(|rustc| rustc.path).ok();
    let mut candidates = Vec::new();
    for path in running.into_iter().chain([PathBuf::from("/usr/bin/rustc")]).chain(rustup_compilers()) {
        if !candidates.contains(&path) {
            candidates.push(path);
        }
    }
    candidates
}

/// The compilers that rustup installed, in the order of their toolchains' names.
fn rustup_compilers() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let Some(home) = home.or_else(|| Some(env::home_dir()?.join(".rustup"))) else { return Vec::new() };
    let toolchains = fs::read_dir(home.join("toolchains")).into_iter().flatten().flatten();
    let mut compilers: Vec<_> = toolchains.map(|toolchain| toolchain.path().join("bin/rustc")).collect();
    compilers.retain(|path| path.is_file());
    compilers.sort();
    compilers
}

fn probe(path: &Path) -> Result<Rustc> {
    ensure!(!path.is_absolute() || path.exists(), "{}: not there", path.display());
    let sysroot = PathBuf::from(output(Command::new(path).args(["--print", "sysroot"]))?.trim_end());
    let beside = sysroot.join("bin/rustc");
    let path = if beside.is_file() { beside } else { path.to_owned() };
    let text = output(Command::new(&path).arg("-vV"))?;
    let version = Version::parse(&text).with_context(|| format!("{} -vV says nothing of LLVM", path.display()))?;
    let rustlib = sysroot.join("lib/rustlib");
    let core = if rustlib.join(BPF_TARGET).join("lib").is_dir() {
        Some(Core::Prebuilt)
    } else {
        rustlib.join("src/rust/library/core").is_dir().then_some(Core::Source)
    };
    Ok(Rustc { path, version, sysroot, core })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    const NIGHTLY: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";

    fn rustc(path: &str, release: &str, core: Option<Core>) -> Result<Rustc> {
        let version = Version { release: release.to_owned(), host: "x86_64-unknown-linux-gnu".to_owned(), llvm: 22 };
        Ok(Rustc { path: path.into(), version, sysroot: "/sysroot".into(), core })
    }

    #[test]
    fn reads_what_rustc_says_of_itself() {
        let version = Version::parse(NIGHTLY).unwrap();
        assert_eq!(version.release, "1.97.0-nightly");
        assert_eq!(version.host, "x86_64-unknown-linux-gnu");
        assert_eq!(version.llvm, 22);
        assert_eq!(Version::parse("rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\n"), None);
    }

    #[test]
    fn compares_versions_by_number() {
        for (release, minimum, expected) in [
            ("1.95.0", "1.95", true),
            ("1.100.0", "1.95", true),
            ("2.0.0", "1.95", true),
            ("1.97.0-nightly", "1.95", true),
            ("1.94.1", "1.95", false),
            ("1.63.0", "1.95", false),
        ] {
            let version = Version { release: release.to_owned(), host: String::new(), llvm: 22 };
            assert_eq!(version.at_least(minimum), expected, "{release} at least {minimum}");
        }
    }

    #[test]
    fn a_prebuilt_core_comes_before_sources() {
        let tried = [
            Err(anyhow!("`/opt/rustc` did not start")),
            rustc("/first", "1.95.0", Some(Core::Source)),
            rustc("/second", "1.96.0", Some(Core::Prebuilt)),
            rustc("/third", "1.96.0", Some(Core::Prebuilt)),
        ];
        assert_eq!(choose(&tried, &(21..=23)).unwrap().path, Path::new("/second"));
        assert_eq!(choose(&tried[..2], &(21..=23)).unwrap().path, Path::new("/first"));
        assert_eq!(choose(&tried[..1], &(21..=23)), None);
    }

    #[test]
    fn an_llvm_that_no_linker_reads_never_does() {
        let tried = [rustc("/first", "1.96.0", Some(Core::Prebuilt)), rustc("/second", "1.95.0", None)];
        assert_eq!(choose(&tried, &(23..=24)), None);
        assert!(reasons(&tried, &(23..=24)).starts_with("  /first (1.96.0): has LLVM 22, not one of 23..=24\n"));
    }

    #[test]
    fn an_old_compiler_never_does() {
        let tried = [
            rustc("/usr/bin/rustc", "1.85.0", Some(Core::Prebuilt)),
            rustc("/home/x/rustc", "1.99.0", None),
            Err(anyhow!("`rustc` did not start")),
        ];
        assert_eq!(choose(&tried, &(21..=23)), None);
        let expected = format!(
            "  /usr/bin/rustc (1.85.0): older than {MINIMUM}\n  \
             /home/x/rustc (1.99.0): has neither lib/rustlib/bpfel-unknown-none nor lib/rustlib/src in /sysroot\n  \
             `rustc` did not start\n"
        );
        assert_eq!(reasons(&tried, &(21..=23)), expected);
    }

    #[test]
    fn knows_the_toolchains_of_rustup() {
        let mut rustc = rustc("/rustc", "1.95.0", None).unwrap();
        assert_eq!(rustc.rustup_name(), None);
        rustc.sysroot = "/home/x/.rustup/toolchains/stable-x86_64-unknown-linux-gnu".into();
        assert_eq!(rustc.rustup_name(), Some("stable-x86_64-unknown-linux-gnu"));
    }
}
