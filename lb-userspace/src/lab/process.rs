//! Programs that a lab runs: to their end, or until they are dropped.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::wait::wait_for;

/// Runs a command to its end and returns what it printed; an error quotes the command and what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", quote(command)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}` failed ({}): {}", quote(command), output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where a program lies, looked for as a shell does.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

fn quote(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A program that runs; killed when dropped.
pub struct Running {
    child: Child,
    command: String,
    log: PathBuf,
}

impl Running {
    /// Starts it, with all that it prints going to a file.
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Running> {
        let quoted = quote(command);
        let file = fs::File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot run `{quoted}`"))?;
        Ok(Running { child, command: quoted, log: log.to_owned() })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn said(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until it has printed `text`; an error quotes what it did print.
    pub fn wait_to_say(&mut self, text: &str, at_most: Duration) -> Result<()> {
        let waited = wait_for("", at_most, || {
            // In this order: what it said before it ended counts.
            let ended = self.child.try_wait().ok().flatten();
            if self.said().contains(text) { Some(Ok(())) } else { ended.map(Err) }
        });
        let how = match waited {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) => format!("ended ({status})"),
            Err(_) => format!("has run for {} s", at_most.as_secs()),
        };
        anyhow::bail!("`{}` {how} without saying {text:?}: {}", self.command, self.said().trim())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal)
            .with_context(|| format!("cannot send {signal} to `{}`", self.command))
    }

    /// Waits for its end.
    pub fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let what = format!("the end of `{}`", self.command);
        wait_for(&what, at_most, || self.child.try_wait().transpose())?.context(what)
    }

    /// Asks it to end by SIGTERM and waits for that.
    pub fn stop(&mut self, at_most: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(at_most)
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
