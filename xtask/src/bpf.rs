//! Building the programs for the kernel: one object for each binary of lb-ebpf.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    command::{output, workspace},
    linker, setup,
    toolchain::{BPF_TARGET, Core, Rustc},
};

/// Builds them all and leaves each as NAME.o where lb-userspace looks for it.
pub fn build() -> Result<()> {
    let rustc = setup::bpf_compiler()?;
    let linker = linker::ensure(&rustc)?;
    let target = workspace().join("target/bpf");
    let messages = output(&mut command(&rustc, &linker, &target)?)?;
    let names = executables(&messages);
    ensure!(!names.is_empty(), "lb-ebpf: has no binary");
    publish(&names, &target.join(BPF_TARGET).join("bpf"), &objects())
}

/// Where the objects go; lb-userspace/build.rs looks in the same place.
fn objects() -> PathBuf {
    env::var_os("WEIR_OBJECTS").map(PathBuf::from).unwrap_or_else(|| workspace().join("target/bpf-objects"))
}

fn command(rustc: &Rustc, linker: &Path, target: &Path) -> Result<Command> {
    let features = output(Command::new(&rustc.path).args(["--print", "target-features", "--target", BPF_TARGET]))?;
    let mut command = Command::new(rustc.cargo());
    // What describes the toolchain and the flags that run us does not hold for this one.
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    for name in ["LD_LIBRARY_PATH", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    command
        .current_dir(workspace())
        .env("RUSTC", &rustc.path)
        .env("RUSTC_BOOTSTRAP", "1") // aya-ebpf uses inline assembly for BPF, and so does -Z build-std
        .env("RUSTFLAGS", flags(&features))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .args(["build", "--package", "lb-ebpf", "--profile", "bpf", "--target", BPF_TARGET, "--target-dir"])
        .arg(target)
        .arg("--message-format=json-render-diagnostics");
    if rustc.core == Some(Core::Source) {
        command.args(["-Z", "build-std=core"]);
    }
    Ok(command)
}

/// The compiler's flags, given the features of the target that it knows.
fn flags(features: &str) -> String {
    let mut flags = "-C debuginfo=2 -C link-arg=--btf -C target-cpu=v3".to_owned();
    let misaligned = "allows-misaligned-mem-access"; // since LLVM 22
    if features.lines().any(|line| line.split_whitespace().next() == Some(misaligned)) {
        // Told to the linker, which generates the code: told to rustc, each crate warns that it is unstable.
        flags += &format!(" -C link-arg=--cpu-features=+{misaligned}");
    }
    flags
}

/// The names of the binaries that cargo says it built.
fn executables(messages: &str) -> Vec<&str> {
    messages.lines().filter_map(executable).collect()
}

fn executable(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once(r#""executable":""#)?;
    let (path, _) = rest.split_once('"')?;
    path.rsplit('/').next()
}

/// Copies the objects, and removes those of binaries that are no more.
fn publish(names: &[&str], from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("{}: cannot be made", to.display()))?;
    for name in names {
        let object = fs::read(from.join(name)).with_context(|| format!("{}/{name}: cannot be read", from.display()))?;
        let path = to.join(name).with_extension("o");
        write_if_changed(&path, &object).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    for entry in fs::read_dir(to)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "o") && !names.contains(&stem) {
            fs::remove_file(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// Leaves an unchanged file alone, so that what embeds it is not rebuilt; nobody ever sees half of a new one.
fn write_if_changed(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let new = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&new, content)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_a_feature_only_to_who_knows_it() {
        let old = "Features supported by rustc for this target:\n    alu32    - x.\n";
        let new = "    allows-misaligned-mem-access      - Allows misaligned memory access.\n    alu32   - x.\n";
        assert_eq!(flags(old), "-C debuginfo=2 -C link-arg=--btf -C target-cpu=v3");
        assert!(flags(new).ends_with(" -C link-arg=--cpu-features=+allows-misaligned-mem-access"));
    }

    #[test]
    fn reads_the_binaries_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"aya_ebpf"},"executable":null,"fresh":true}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"weir"},"executable":"/a b/target/bpf/weir","fresh":true}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executables(messages), ["weir"]);
    }

    #[test]
    fn publishes_what_changed_and_removes_what_is_gone() {
        let directory = env::temp_dir().join(format!("weir-xtask-{}", std::process::id()));
        let (from, to) = (directory.join("from"), directory.join("to"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(from.join("weir"), "new").unwrap();
        fs::write(from.join("backend"), "same").unwrap();
        for (name, content) in [("weir.o", "old"), ("backend.o", "same"), ("gone.o", "x"), ("note.txt", "kept")] {
            fs::write(to.join(name), content).unwrap();
        }
        let untouched = |name: &str| fs::metadata(to.join(name)).unwrap().modified().unwrap();
        let before = untouched("backend.o");
        publish(&["weir", "backend"], &from, &to).unwrap();
        let mut names: Vec<_> = fs::read_dir(&to).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["backend.o", "note.txt", "weir.o"]);
        assert_eq!(fs::read(to.join("weir.o")).unwrap(), b"new");
        assert_eq!(untouched("backend.o"), before);
        fs::remove_dir_all(&directory).unwrap();
    }
}
