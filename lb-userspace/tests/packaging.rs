//! What the package brings: configurations that are valid, a manual page for every verb, completion that knows them all.

#![allow(missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use clap::CommandFactory;
use lb_userspace::{cli::Cli, config};

#[test]
fn the_packaged_configuration_is_valid_but_for_its_key() {
    let config = config::load(&here("packaging/weir.toml")).unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(config::Diagnostic::one_line).collect();
    assert!(matches!(&warnings[..], [only] if only.contains("hash_key is the public default")), "{warnings:?}");
}

#[test]
fn the_example_is_valid() {
    let config = config::load(&here("../examples/weir.toml")).unwrap();
    assert!(config.warnings.is_empty());
    assert!(config.services.len() > 1);
}

#[test]
fn every_verb_has_a_page() {
    let directory = std::env::temp_dir().join(format!("weir-{}-manual", std::process::id()));
    let output = weir(&["man", directory.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let written: BTreeSet<_> =
        fs::read_dir(&directory).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    let mut expected = BTreeSet::from(["weir.8".to_owned()]);
    pages(&Cli::command(), "weir", &mut expected);
    assert_eq!(written, expected);
    for page in ["weir-run.8", "weir-backend-setup.8"] {
        let text = fs::read_to_string(directory.join(page)).unwrap();
        assert!(text.contains(r"\fB\-\-config\fR"), "{page}: {text}");
    }
    fs::remove_dir_all(&directory).unwrap();
}

/// The pages of the verbs below one, as far as help shows them.
fn pages(command: &clap::Command, name: &str, expected: &mut BTreeSet<String>) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = format!("{name}-{}", verb.get_name());
        pages(verb, &name, expected);
        expected.insert(format!("{name}.8"));
    }
}

#[test]
fn completion_knows_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let output = weir(&["completions", shell]);
        assert!(output.status.success(), "{output:?}");
        let script = String::from_utf8(output.stdout).unwrap();
        for verb in Cli::command().get_subcommands() {
            assert!(verb.is_hide_set() || script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
        }
    }
}

#[test]
fn the_packages_version_is_the_programs() {
    let changelog = fs::read_to_string(here("packaging/changelog")).unwrap();
    let newest = changelog.lines().next().unwrap();
    assert!(newest.starts_with(concat!("weir (", env!("CARGO_PKG_VERSION"), "-1) ")), "{newest}");
}

fn here(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("weir runs")
}
