//! A program's exit code, as keepalived's MISC_CHECK has it: 0 works, 1 does not, and from 2 on a weight if the check says so.

use std::{
    io,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command as Process, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Semaphore,
};

use super::{Outcome, Reason, ReasonKind, Target, deadline::Deadline};
use crate::config::Command;

/// As many run at once at most; others wait for their turn.
const AT_ONCE: usize = 32;
static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// Runs it.
pub async fn probe(command: &Command, target: &Target, timeout: Duration) -> Outcome {
    // Waiting for a turn is no fault of the backend's: the time begins with it. Turns come, since each run ends in its time.
    let Ok(_turn) = TURNS.acquire().await else { return Outcome::Keep };
    match run(command, target, Deadline::after(timeout)).await {
        Ok(status) => judge(command, status),
        Err(reason) => Outcome::Down(reason),
    }
}

async fn run(command: &Command, target: &Target, deadline: Deadline) -> Result<ExitStatus, Reason> {
    let fault = |error: io::Error| {
        let program = command.argv.first().map_or("", String::as_str);
        Reason::new(ReasonKind::Local, format!("command: {program}: {error}"))
    };
    let mut running = Running::start(command, target).map_err(fault)?;
    match deadline.until(running.ended()).await {
        Some(ended) => {
            ended.map_err(fault)?;
            running.reap().map_err(fault)
        }
        None => Err(deadline.over("command")),
    }
}

fn judge(command: &Command, status: ExitStatus) -> Outcome {
    let down = |words: String| Outcome::Down(Reason::new(ReasonKind::Command, format!("command: {words}")));
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Keep,
        (Some(code @ 2..=255), _) if command.dynamic_weight => Outcome::Up { weight: Some(code as u16 - 2) },
        (Some(code), _) => down(format!("exit code {code}")),
        (None, signal) => {
            let signal = signal.and_then(|number| Signal::try_from(number).ok());
            down(format!("ended by {}", signal.map_or("a signal", Signal::as_str)))
        }
    }
}

/// A program with all that it starts, in a process group of its own; dropped, the whole group is killed.
struct Running {
    child: Child,
    /// Readable once the program has ended.
    ended: AsyncFd<OwnedFd>,
    reaped: bool,
}

impl Running {
    fn start(command: &Command, target: &Target) -> io::Result<Self> {
        let (program, arguments) = command.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut process = Process::new(program);
        process
            .args(arguments)
            .env("WEIR_SERVICE", &target.service)
            .env("WEIR_VIP", target.vip.address.to_string())
            .env("WEIR_PORT", target.vip.port.map(|port| port.to_string()).unwrap_or_default())
            .env("WEIR_PROTOCOL", target.vip.protocol.to_string())
            .env("WEIR_BACKEND", target.backend.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = process.spawn()?;
        match watch(&child) {
            Ok(ended) => Ok(Running { child, ended, reaped: false }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    async fn ended(&self) -> io::Result<()> {
        self.ended.readable().await.map(|_| ())
    }

    /// Kills what the program has left running, and takes its exit code. In this order: until then no other group can have
    /// its number.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        self.reaped = true;
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            // Killed, it ends at once.
            let _ = self.reap();
        }
    }
}

/// A descriptor of a process.
fn watch(child: &Child) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: a system call that takes numbers alone.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id() as libc::pid_t, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(result as i32) };
    // SAFETY: it is owned by what is returned, and nothing takes or closes it before.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(dynamic_weight: bool) -> Command {
        Command { argv: Vec::new(), dynamic_weight }
    }

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn exit_codes_mean_what_keepalived_has_them_mean() {
        let down = |outcome: Outcome| match outcome {
            Outcome::Down(reason) => reason.text,
            other => panic!("{other:?}"),
        };
        let weight = |weight| Outcome::Up { weight: Some(weight) };
        assert_eq!(judge(&command(true), exit(0)), Outcome::Keep);
        assert_eq!(judge(&command(false), exit(0)), Outcome::Keep);
        assert_eq!(down(judge(&command(true), exit(1))), "command: exit code 1");
        assert_eq!(judge(&command(true), exit(2)), weight(0));
        assert_eq!(judge(&command(true), exit(255)), weight(253));
        assert_eq!(down(judge(&command(false), exit(2))), "command: exit code 2");
        assert_eq!(down(judge(&command(true), ExitStatus::from_raw(9))), "command: ended by SIGKILL");
    }
}
