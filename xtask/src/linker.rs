//! bpf-linker: it turns the compiler's output into an object that the kernel loads.
//!
//! It must read the bitcode of exactly that compiler, so it is linked to the LLVM library that the compiler itself
//! loads: the versions cannot differ, and no LLVM development package is needed.

use std::{
    env, fs,
    ops::RangeInclusive,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    command::{output, run},
    toolchain::Rustc,
    tools::{self, works},
};

const VERSION: &str = "0.13.0";
/// The major versions of LLVM that this bpf-linker can be built for.
const LLVM: RangeInclusive<u32> = 21..=23;

/// The major versions of LLVM that a compiler may have: any, if the user brings the linker.
pub fn llvm() -> RangeInclusive<u32> {
    if env::var_os("WEIR_BPF_LINKER").is_some() { 0..=u32::MAX } else { LLVM }
}

/// The bpf-linker for this compiler, built if it is missing: `WEIR_BPF_LINKER`, else one among our tools.
pub fn ensure(rustc: &Rustc) -> Result<PathBuf> {
    if let Some(chosen) = env::var_os("WEIR_BPF_LINKER").map(PathBuf::from) {
        ensure!(works(&chosen), "WEIR_BPF_LINKER={}: does not run", chosen.display());
        return Ok(chosen);
    }
    let llvm = rustc.version.llvm;
    let loaded = output(Command::new("ldd").arg(&rustc.path))?;
    let library = llvm_library(&loaded).with_context(|| {
        let rustc = rustc.path.display();
        format!("{rustc}: has LLVM {llvm} inside: install a bpf-linker for that and name it in WEIR_BPF_LINKER")
    })?;
    let directory = tools::directory()?.join(directory_name(llvm, library.name));
    let linker = directory.join("bin/bpf-linker");
    if !works(&linker) {
        install(&directory, llvm, &library)?;
    }
    Ok(linker)
}

/// The shared library that holds a compiler's LLVM.
#[derive(PartialEq, Eq, Debug)]
struct Library<'a> {
    /// The name it is loaded by.
    name: &'a str,
    path: &'a Path,
}

fn llvm_library(ldd: &str) -> Option<Library<'_>> {
    let (name, rest) =
        ldd.lines().find_map(|line| line.trim().split_once(" => ").filter(|l| l.0.starts_with("libLLVM")))?;
    Some(Library { name, path: Path::new(rest.rsplit_once(" (")?.0) })
}

/// `libLLVM.so.22.1` is the system's; rustup's carry the toolchain in their name.
fn directory_name(llvm: u32, library: &str) -> String {
    let toolchain = library.split_once("-rust-").map(|(_, release)| format!("-rust-{release}")).unwrap_or_default();
    format!("bpf-linker-{VERSION}-llvm{llvm}{toolchain}")
}

fn install(directory: &Path, llvm: u32, library: &Library) -> Result<()> {
    eprintln!("building bpf-linker {VERSION} for LLVM {llvm} (about a minute, once)");
    // `-lLLVM` finds the first name when it is linked, the loader finds the second when it runs.
    let links = directory.join("lib");
    fs::create_dir_all(&links).with_context(|| format!("{}: cannot be made", links.display()))?;
    for name in ["libLLVM.so", library.name] {
        let link = links.join(name);
        let _ = fs::remove_file(&link);
        symlink(library.path, &link).with_context(|| format!("{}: cannot be made", link.display()))?;
    }
    run(tools::install("bpf-linker", VERSION, directory)
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .env("LLVM_PREFIX", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_library_among_those_loaded() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffc)\n\
            \tlibrustc_driver-1.so => /x/lib/librustc_driver-1.so (0x0000)\n\
            \tlibLLVM.so.22.1-rust-1.97.0-nightly => /x y/bin/../lib/libLLVM.so.22.1-rust-1.97.0-nightly (0x00007f)\n";
        let path = Path::new("/x y/bin/../lib/libLLVM.so.22.1-rust-1.97.0-nightly");
        assert_eq!(llvm_library(ldd), Some(Library { name: "libLLVM.so.22.1-rust-1.97.0-nightly", path }));
        assert_eq!(llvm_library("\tstatically linked\n"), None);
    }

    #[test]
    fn toolchains_of_rustup_have_directories_of_their_own() {
        for (library, expected) in [
            ("libLLVM.so.22.1", "bpf-linker-0.13.0-llvm22"),
            ("libLLVM-22.so", "bpf-linker-0.13.0-llvm22"),
            ("libLLVM.so.22.1-rust-1.95.0-stable", "bpf-linker-0.13.0-llvm22-rust-1.95.0-stable"),
        ] {
            assert_eq!(directory_name(22, library), expected);
        }
    }
}
