//! The use statements of this crate point one way, so that a reader can say what a module may not know.

use std::{fs, path::Path};

/// From the bottom to the top: a module may use only those above it in this list.
const LAYERS: [&[&str]; 15] = [
    &["netlink", "clock", "pcapng"],
    &["links"],
    &["next_hops", "announce", "offloads", "steering"],
    &["config"],
    &["overrides"],
    &["health"],
    &["plan"],
    &["datapath"],
    &["stats", "explain", "report", "capture"],
    &["show", "metrics"],
    &["readings"],
    &["stop", "service", "notify"],
    &["agent"],
    &["control"],
    &["backend", "lab", "demo", "cli", "log", "manual", "out", "verbs"],
];

#[test]
fn use_statements_point_one_way() {
    let mut faults = Vec::new();
    for (level, modules) in LAYERS.iter().enumerate() {
        for module in *modules {
            for (file, text) in sources(module) {
                faults.extend(
                    uses(&text).filter(|used| !allowed(level, module, used)).map(|used| format!("{file} uses {used}")),
                );
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

fn allowed(level: usize, module: &str, used: &str) -> bool {
    used == module || level + 1 == LAYERS.len() || LAYERS[..level].iter().any(|lower| lower.contains(&used))
}

/// The modules of this crate that a source names.
fn uses(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    code.match_indices("crate::").flat_map(|(at, _)| {
        let rest = &code[at + "crate::".len()..];
        let named = match rest.strip_prefix('{') {
            Some(list) => list.split("};").next().unwrap_or(list),
            None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(rest),
        };
        LAYERS
            .iter()
            .flat_map(|layer| layer.iter().copied())
            .filter(|module| named.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *module))
            .collect::<Vec<_>>()
    })
}

/// The files of a module, those of its children too.
fn sources(module: &str) -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![directory.join(format!("{module}.rs")), directory.join(module)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path());
            open.extend(entries.filter(|path| !path.ends_with("tests") && !path.ends_with("tests.rs")));
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push((path.display().to_string(), text));
        }
    }
    found
}

#[test]
fn uses_are_found_in_every_form() {
    let text = "use crate::links;\nuse crate::{\n    plan::{self, Tables},\n    stats,\n};\nlet x = crate::show::y();\n#[cfg(test)]\nuse crate::agent;";
    assert_eq!(uses(text).collect::<Vec<_>>(), ["links", "plan", "stats", "show"]);
}

#[test]
fn every_module_has_a_layer() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("lib.rs");
    let declared =
        lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    for module in declared {
        assert!(LAYERS.iter().any(|layer| layer.contains(&module)), "{module}: in no layer");
        assert!(!sources(module).is_empty(), "{module}: no file");
    }
}
