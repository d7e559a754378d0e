//! Man pages and shell completion, both from what clap knows.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;

/// What makes a shell complete our command line.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes a page for the program and for every verb, as NAME.8.
pub fn write(directory: &Path) -> Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let written =
        write_pages(&command, directory).with_context(|| format!("cannot write to {}", directory.display()))?;
    written.iter().for_each(|page| println!("{}", page.display()));
    Ok(())
}

fn write_pages(command: &Command, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let source = concat!("weir ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).section("8").source(source).manual("Weir");
    let mut written = vec![page.generate_to(directory)?];
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        written.extend(write_pages(verb, directory)?);
    }
    Ok(written)
}
