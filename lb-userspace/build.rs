//! Finds the programs for the kernel, which `cargo xtask build` leaves as NAME.o in one directory, and hands that
//! directory to the code that embeds them.

use std::{env, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    println!("cargo:rerun-if-env-changed=WEIR_OBJECTS");
    // Asked for now and not when this was compiled: a target directory may be moved.
    let package = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    let directory = env::var("WEIR_OBJECTS").unwrap_or_else(|_| format!("{package}/../target/bpf-objects"));
    println!("cargo:rerun-if-changed={directory}");
    if !Path::new(&directory).join("weir.o").is_file() {
        eprintln!("the XDP object is not built ({directory}/weir.o): run `cargo xtask build`");
        return ExitCode::FAILURE;
    }
    let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
    for object in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "o")) {
        println!("cargo:rerun-if-changed={}", object.display());
    }
    println!("cargo:rustc-env=WEIR_OBJECTS={directory}");
    ExitCode::SUCCESS
}
