//! Running the tests as root, and leaving nothing behind: not on failure, not on Ctrl-C.

use std::{
    process::Command,
    sync::atomic::{AtomicI32, Ordering},
};

use anyhow::{Context, Result};
use nix::{
    libc,
    sys::{
        prctl::set_child_subreaper,
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
        wait::waitpid,
    },
    unistd::Pid,
};

use crate::{
    command::{self, is_root, workspace},
    setup, sweep, toolchain, userspace,
};

/// The process that a signal to us is passed on to; 0 while there is none.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Builds, runs `cargo test ARGUMENTS`, and sweeps.
pub fn run(arguments: &[String]) -> Result<()> {
    setup::programs()?;
    userspace::build(arguments.iter().any(|argument| argument == "--release"))?;
    let mut cargo = Command::new(toolchain::cargo());
    cargo.current_dir(workspace()).arg("test").args(arguments);
    if !is_root() {
        run_tests_by_sudo(&mut cargo)?;
    }
    let tested = run_to_the_end(&mut cargo);
    let swept = sweep::run();
    tested.and(swept)
}

/// Only the tests run as root: what is built should belong to the user.
fn run_tests_by_sudo(cargo: &mut Command) -> Result<()> {
    let sudo = command::sudo()?;
    let host = toolchain::running()?.version.host.to_uppercase().replace('-', "_");
    cargo.env(format!("CARGO_TARGET_{host}_RUNNER"), format!("{} --preserve-env", sudo.display()));
    Ok(())
}

/// Runs a command, passes signals on to it, and returns when nothing that it started is alive.
fn run_to_the_end(command: &mut Command) -> Result<()> {
    set_child_subreaper(true).context("cannot become the parent of orphans")?;
    pass_signals_on()?;
    let mut child = command.spawn().with_context(|| format!("`{}` did not start", command::quote(command)))?;
    CHILD.store(child.id() as i32, Ordering::SeqCst);
    let status = child.wait();
    CHILD.store(0, Ordering::SeqCst);
    end_orphans();
    command::check(command, status?)
}

/// SIGINT and SIGTERM end the tests, not us: we have to sweep.
fn pass_signals_on() -> Result<()> {
    extern "C" fn pass_on(signal: libc::c_int) {
        let child = CHILD.load(Ordering::SeqCst);
        if child != 0 {
            // SAFETY: kill is async-signal-safe and touches no memory of ours.
            unsafe { libc::kill(child, signal) };
        }
    }
    // A handler, unlike SIG_IGN, is not inherited by what we start.
    let action = SigAction::new(SigHandler::Handler(pass_on), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only loads an atomic and calls kill.
        unsafe { sigaction(signal, &action) }.context("cannot catch signals")?;
    }
    Ok(())
}

/// Ends what outlived the command and waits for it: as the reaper of our descendants we inherited it.
fn end_orphans() {
    // Those of root, if we are not, are left to the sweep.
    while sweep::children_of(std::process::id()).into_iter().filter(|orphan| sweep::kill(*orphan)).count() > 0 {
        let _ = waitpid(Pid::from_raw(-1), None);
    }
}
