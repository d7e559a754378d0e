//! Tells the crate where the built XDP objects are (temporary until merged)
fn main() {
    let dir = std::env::var("WEIR_OBJECTS")
        .unwrap_or_else(|_| format!("{}/../target/bpf-objects", env!("CARGO_MANIFEST_DIR")));
    println!("cargo:rustc-env=WEIR_OBJECTS={dir}");
    for o in ["weir.o", "backend.o", "traffic.o"] {
        println!("cargo:rerun-if-changed={dir}/{o}");
    }
}
