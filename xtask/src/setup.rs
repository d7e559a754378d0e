//! What building, demo, tests and lint need: found by looking, installed where apt or rustup can, else named.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    apt,
    command::{find, run},
    linker,
    toolchain::{self, BPF_TARGET, Rustc},
    tools,
};

/// The programs that the demo and the tests run, and the Debian packages that carry them.
const PROGRAMS: [(&str, &str); 27] = [
    ("ip", "iproute2"),
    ("nginx", "nginx-light"),
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("tcpdump", "tcpdump"),
    ("arping", "iputils-arping"),
    ("hping3", "hping3"),
    ("bpftool", "bpftool"),
    ("nft", "nftables"),
    ("sysctl", "procps"),
    ("nsenter", "util-linux"),
    ("ndisc6", "ndisc6"),
    ("ncat", "ncat"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("dnsmasq", "dnsmasq-base"),
    ("vsftpd", "vsftpd"),
    ("aiosmtpd", "python3-aiosmtpd"),
    ("redis-server", "redis-server"),
    ("wrk", "wrk"),
    ("conntrack", "conntrack"),
    ("iptables", "iptables"),
    ("tshark", "tshark"),
    ("openssl", "openssl"),
    ("tcptraceroute", "tcptraceroute"),
    ("scamper", "scamper"),
];

/// The programs that building the Debian package takes, and those that trying it takes.
const PACKAGERS: [(&str, &str); 1] = [("dpkg-shlibdeps", "dpkg-dev")];
const TRIAL_PROGRAMS: [(&str, &str); 4] =
    [("debootstrap", "debootstrap"), ("ip", "iproute2"), ("unshare", "util-linux"), ("mount", "mount")];
/// What libFuzzer is compiled with.
const COMPILERS: [(&str, &str); 1] = [("c++", "g++")];

const CARGO_DENY: &str = "0.20.2";
const CARGO_DEB: &str = "3.8.0";

/// The packages that hold a prebuilt `core` for BPF and the compiler it belongs to; which of them a Debian has
/// depends on its age.
const BPF_PACKAGES: [[&str; 2]; 2] = [["rustc-web", "libstd-rust-web-dev-bpf"], ["rustc", "libstd-rust-dev-bpf"]];

type Install = fn() -> Result<()>;

/// Everything.
pub fn all() -> Result<()> {
    linker::ensure(&bpf_compiler()?)?;
    programs()?;
    compilers()?;
    lint_tools()?;
    Ok(())
}

/// The compiler for the kernel's programs; where none will do, `core` for BPF is installed first.
pub fn bpf_compiler() -> Result<Rustc> {
    let ways = [("1, Debian", install_prebuilt_core as Install), ("2, rustup", install_core_sources)];
    let may_install = env::var_os("WEIR_BPF_RUSTC").is_none();
    let llvm = linker::llvm();
    let mut tried = toolchain::for_bpf(&llvm);
    let mut failures = String::new();
    for (way, install) in ways {
        if toolchain::choose(&tried, &llvm).is_none() && may_install {
            match install() {
                Ok(()) => tried = toolchain::for_bpf(&llvm),
                Err(error) => failures += &format!("  way {way}: {error:#}\n"),
            }
        }
    }
    let reasons = || anyhow!(no_compiler(&(toolchain::reasons(&tried, &llvm) + &failures)));
    toolchain::choose(&tried, &llvm).cloned().ok_or_else(reasons)
}

/// The programs that the demo and the tests run.
pub fn programs() -> Result<()> {
    ensure_programs(&PROGRAMS, "the demo and the tests need")
}

/// The programs that trying the Debian package takes.
pub fn trial_programs() -> Result<()> {
    ensure_programs(&TRIAL_PROGRAMS, "trying the package needs")
}

/// cargo-deb, and what it runs.
pub fn cargo_deb() -> Result<PathBuf> {
    ensure_programs(&PACKAGERS, "the package needs")?;
    cargo_tool("cargo-deb", CARGO_DEB)
}

/// The compilers that the fuzzer takes besides Rust's.
pub fn compilers() -> Result<()> {
    ensure_programs(&COMPILERS, "the fuzzer needs")
}

/// Installs those of the programs that are missing; an error says who needs them.
fn ensure_programs(programs: &[(&str, &str)], who: &str) -> Result<()> {
    let missing = || programs.iter().filter(|(program, _)| find(program).is_none()).collect::<Vec<_>>();
    let before = missing();
    if before.is_empty() {
        return Ok(());
    }
    let installed = apt::install(&before.iter().map(|(_, package)| *package).collect::<Vec<_>>());
    let after = missing();
    if after.is_empty() {
        return Ok(());
    }
    let names = after.iter().map(|(program, package)| format!("{program} (Debian's package {package})"));
    let names = names.collect::<Vec<_>>().join(", ");
    let why = installed.err().unwrap_or(anyhow!("apt did not bring it"));
    Err(why).context(format!("{who} {names}: install what is missing"))
}

/// The tools that `lint` runs.
pub struct LintTools {
    /// The toolchain whose cargo-fmt and cargo-clippy are used.
    pub rustc: Rustc,
    /// cargo-deny.
    pub deny: PathBuf,
}

/// The tools that `lint` runs.
pub fn lint_tools() -> Result<LintTools> {
    let rustc = toolchain::running()?;
    let missing = || ["cargo-fmt", "rustfmt", "cargo-clippy"].into_iter().find(|name| rustc.tool(name).is_none());
    if missing().is_some() {
        install_formatter_and_clippy(&rustc)?;
    }
    if let Some(name) = missing() {
        bail!("{}: has no {name} beside it: install rustfmt and clippy for this toolchain", rustc.path.display());
    }
    Ok(LintTools { rustc, deny: cargo_tool("cargo-deny", CARGO_DENY)? })
}

fn install_prebuilt_core() -> Result<()> {
    for packages in BPF_PACKAGES {
        if apt::offers(packages[1])? {
            return apt::install(&packages);
        }
    }
    bail!("apt has no package {}", BPF_PACKAGES[0][1])
}

fn install_core_sources() -> Result<()> {
    let mut command = Command::new(find("rustup").context("no rustup here")?);
    command.args(["component", "add", "rust-src"]);
    if let Ok(rustc) = toolchain::running()
        && let Some(name) = rustc.rustup_name()
    {
        command.args(["--toolchain", name]);
    }
    run(&mut command)
}

fn no_compiler(failures: &str) -> String {
    format!(
        "no Rust compiler here can compile for {BPF_TARGET}; tried:\n{failures}\
         Do one of:\n  \
         1. on Debian: apt-get update && apt-get install {}\n  \
         2. with rustup: rustup component add rust-src\n  \
         or name a compiler that has either in WEIR_BPF_RUSTC",
        BPF_PACKAGES[0].join(" ")
    )
}

fn install_formatter_and_clippy(rustc: &Rustc) -> Result<()> {
    if let Some(toolchain) = rustc.rustup_name() {
        let command = ["component", "add", "--toolchain", toolchain, "rustfmt", "clippy"];
        return run(Command::new("rustup").args(command));
    }
    let owner = rustc.path.to_str().and_then(apt::owner).unwrap_or_default();
    apt::install(if owner == "rustc-web" { &["rustfmt-web", "rust-web-clippy"] } else { &["rustfmt", "rust-clippy"] })
}

/// A tool of cargo's, built if it is missing.
fn cargo_tool(name: &str, version: &str) -> Result<PathBuf> {
    let directory = tools::directory()?.join(format!("{name}-{version}"));
    let tool = directory.join("bin").join(name);
    if !tools::works(&tool) {
        eprintln!("building {name} {version} (a minute or two, once)");
        run(&mut tools::install(name, version, &directory))?;
    }
    Ok(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_tried_and_what_to_do() {
        let message = no_compiler("  /usr/bin/rustc (1.85.0): older than 1.95\n  way 2, rustup: no rustup here\n");
        let expected = "no Rust compiler here can compile for bpfel-unknown-none; tried:
  /usr/bin/rustc (1.85.0): older than 1.95
  way 2, rustup: no rustup here
Do one of:
  1. on Debian: apt-get update && apt-get install rustc-web libstd-rust-web-dev-bpf
  2. with rustup: rustup component add rust-src
  or name a compiler that has either in WEIR_BPF_RUSTC";
        assert_eq!(message, expected);
    }
}
