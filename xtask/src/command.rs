//! Running other programs: every failure quotes the command that failed, so that it can be pasted and tried.

use std::{
    env,
    ffi::OsStr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
};

use anyhow::{Context, Result, ensure};

/// Runs a command to its end; its output goes where ours goes.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("`{}` did not start", quote(command)))?;
    check(command, status)
}

/// Turns the end of a command into an error if it was a bad one.
pub fn check(command: &Command, status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "`{}` failed: {status}", quote(command));
    Ok(())
}

/// Runs a command to its end and returns what it printed; its errors go where ours go.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, .. } =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("`{}` did not start", quote(command)))?;
    check(command, status)?;
    String::from_utf8(stdout).with_context(|| format!("`{}` printed something other than UTF-8", quote(command)))
}

/// Whether a command runs and ends well; what it prints is nobody's business.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Becomes the command; returns only if that fails.
pub fn exec(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("`{}` did not start", quote(command)))
}

/// A command that will run as root: as it is if we are, else through sudo.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let program = program.as_ref();
    let mut command = Command::new(sudo().with_context(|| format!("`{}` must run as root", program.display()))?);
    command.arg(program);
    Ok(command)
}

/// Where sudo lies.
pub fn sudo() -> Result<PathBuf> {
    ensure!(env::var_os("SUDO_UID").is_none(), "sudo ran us, but not as root");
    find("sudo").context("we are not root, and there is no sudo: run `cargo xtask` as root")
}

/// Whether we are root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Where a program lies: in PATH, or in the directories of root's programs, which a user's PATH often lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// The root of this workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace")
}

/// The command as one would type it, with the variables it sets.
pub fn quote(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = word(value?);
        Some(format!("{}={value}", name.display()))
    });
    let words = [command.get_program()].into_iter().chain(command.get_args()).map(word);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// One word for the shell, quoted where the shell would not take it as it is.
fn word(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_./=+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_needs_it() {
        let mut command = Command::new("cargo");
        command.args(["build", "two words", "it's", ""]).env("RUSTC", "/usr/bin/rustc").env_remove("CARGO");
        assert_eq!(quote(&command), r"RUSTC=/usr/bin/rustc cargo build 'two words' 'it'\''s' ''");
    }

    #[test]
    fn a_failure_quotes_the_command() {
        let error = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 7'` failed: exit status: 7");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("weir-no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "`weir-no-such-program` did not start");
    }
}
