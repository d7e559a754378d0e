//! Trying the Debian package in a fresh Debian of its own: installed, checked and purged in a chroot; then with systemd as
//! the first process, in namespaces that end with it: started, reloaded, killed, stuck, upgraded, purged.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    command::{self, as_root, find, is_root, output, run, succeeds, workspace},
    setup, sweep,
};

/// Longer than anything here takes; only a failing trial waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the service may do, as in /proc/PID/status: CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON and CAP_BPF.
const CAPABILITIES: &str = "000000c000003000";
/// Where a package lies inside.
const PACKAGE: &str = "/weir.deb";

/// Tries a package; through sudo where we are not root.
pub fn run_on(package: &Path) -> Result<()> {
    if !is_root() {
        let us = std::env::current_exe().context("cannot find out where this program lies")?;
        return run(as_root(us)?.arg("trial").arg(package));
    }
    setup::trial_programs()?;
    if find("lintian").is_some() {
        step("lintian");
        run(Command::new("lintian").args(["--allow-root", "--fail-on=error,warning"]).arg(package))?;
    } else {
        step("lintian is not here (Debian's package lintian): left out");
    }
    let debian = Debian::bootstrap()?;
    fs::copy(package, debian.path(PACKAGE)).context("cannot copy the package")?;
    install_and_purge(&debian)?;
    step("installing systemd");
    debian.output(&["apt-get", "update", "--quiet"])?;
    debian.output(&["apt-get", "install", "--yes", "--no-install-recommends", "systemd"])?;
    debian.output(&["apt-get", "install", "--yes", PACKAGE])?;
    let booted = debian.boot()?;
    let tried = hardened(&booted)
        .and_then(|()| served(&booted))
        .and_then(|()| survived(&booted))
        .and_then(|()| upgraded_and_purged(&booted));
    if tried.is_err() {
        eprintln!("{}", booted.output(&["journalctl", "--quiet", "--no-pager", "--unit=weir"]).unwrap_or_default());
    }
    tried?;
    step("all is well");
    Ok(())
}

fn step(what: &str) {
    eprintln!("trial: {what}");
}

/// What a package of a Debian without systemd has to do.
fn install_and_purge(debian: &Debian) -> Result<()> {
    step("installing, checking and purging in a chroot");
    let before = debian.paths()?;
    debian.output(&["apt-get", "install", "--yes", PACKAGE])?;
    let said = debian.output(&["weir", "check", "/etc/weir/weir.toml"])?;
    ensure!(said.contains("valid, services: 1"), "`weir check` said {said}");
    let owned = debian.output(&["stat", "--format=%a %U %G", "/etc/weir/weir.toml"])?;
    ensure!(owned.trim() == "640 root weir", "/etc/weir/weir.toml is {owned}");
    for verb in ["weir", "weir-run", "weir-check", "weir-backend-setup", "weir-completions"] {
        ensure!(debian.path(&format!("/usr/share/man/man8/{verb}.8.gz")).is_file(), "{verb}.8: not there");
    }
    debian.output(&["apt-get", "purge", "--yes", "weir"])?;
    let left: Vec<_> = debian.paths()?.difference(&before).cloned().collect();
    ensure!(left.is_empty(), "a purge left {}", left.join(", "));
    ensure!(!fs::read_to_string(debian.path("/etc/group"))?.contains("weir:"), "a purge left the group");
    Ok(())
}

/// What systemd thinks of the unit.
fn hardened(booted: &Booted) -> Result<()> {
    let unit = "/usr/lib/systemd/system/weir.service";
    let said = booted.output(&["sh", "-c", &format!("systemd-analyze verify --man=no {unit} 2>&1")])?;
    ensure!(said.is_empty(), "`systemd-analyze verify` said {said}");
    let security = booted.output(&["systemd-analyze", "security", "--no-pager", "--offline=yes", unit])?;
    step(security.lines().last().unwrap_or_default().trim_start_matches(['→', ' ']));
    Ok(())
}

/// The service starts with the configuration of the package, inside its sandbox, and its pins are seen outside.
fn served(booted: &Booted) -> Result<()> {
    step("starting and reloading the service");
    ensure!(booted.show("ActiveState")? == "inactive", "it runs without being asked to");
    booted.output(&["systemctl", "enable", "--now", "weir"])?;
    ensure!(booted.show("StatusText")?.starts_with("services: 1"), "{}", booted.show("StatusText")?);
    let pid = booted.show("MainPID")?;
    let status = booted.output(&["cat", &format!("/proc/{pid}/status")])?;
    for line in
        [&format!("CapEff:\t{CAPABILITIES}"), &format!("CapBnd:\t{CAPABILITIES}"), "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        ensure!(status.contains(line), "/proc/{pid}/status lacks {line}: {status}");
    }
    ensure!(booted.status()?.contains(&format!("running, pid {pid}")), "{}", booted.status()?);
    let logged = booted.output(&["journalctl", "--quiet", "--unit=weir", "--priority=warning", "--output=cat"])?;
    ensure!(logged.contains("hash_key is the public default"), "the journal has no warning: {logged}");
    ensure!(!logged.contains("attached in native mode"), "the journal takes everything for a warning: {logged}");

    booted.output(&["systemctl", "reload", "weir"])?;
    ensure!(booted.show("MainPID")? == pid, "a reload ended the agent");
    booted.output(&["sh", "-c", "echo broken >> /etc/weir/weir.toml"])?;
    ensure!(!booted.succeeds(&["systemctl", "reload", "weir"]), "a broken file was reloaded");
    ensure!(booted.show("ActiveState")? == "active", "a broken file ended the agent");
    booted.output(&["sed", "-i", "/^broken$/d", "/etc/weir/weir.toml"])?;
    Ok(())
}

/// An agent that dies or is stuck is replaced; meanwhile, and when it is stopped, the program stays attached.
fn survived(booted: &Booted) -> Result<()> {
    let drop_in = "mkdir --parents /run/systemd/system/weir.service.d && \
                   printf '[Service]\\nWatchdogSec=2s\\nRestartSec=100ms\\n' > /run/systemd/system/weir.service.d/quick.conf";
    booted.output(&["sh", "-c", drop_in])?;
    booted.output(&["systemctl", "daemon-reload"])?;
    for (what, signal) in [("killing", "KILL"), ("stopping the loop of", "STOP")] {
        step(&format!("{what} the agent"));
        booted.output(&["systemctl", "restart", "weir"])?;
        let pid = booted.show("MainPID")?;
        booted.output(&["systemctl", "kill", "--kill-whom=main", &format!("--signal={signal}"), "weir"])?;
        booted.wait_for("another agent", || {
            Ok(booted.show("ActiveState")? == "active" && booted.show("MainPID")? != pid)
        })?;
    }
    let logged = booted.output(&["journalctl", "--quiet", "--unit=weir", "--output=cat"])?;
    ensure!(logged.contains("Watchdog timeout"), "no word of the watchdog: {logged}");
    step("stopping the service");
    booted.output(&["systemctl", "stop", "weir"])?;
    ensure!(booted.is_attached()?, "stopping the service ended the forwarding");
    booted.output(&["systemctl", "start", "weir"])?;
    Ok(())
}

/// An upgrade restarts the agent and leaves the program attached; a purge leaves nothing.
fn upgraded_and_purged(booted: &Booted) -> Result<()> {
    step("upgrading and purging");
    let pid = booted.show("MainPID")?;
    booted.output(&["apt-get", "install", "--yes", "--reinstall", PACKAGE])?;
    ensure!(
        booted.show("ActiveState")? == "active" && booted.show("MainPID")? != pid,
        "an upgrade starts no new agent"
    );
    ensure!(booted.is_attached()?, "an upgrade ended the forwarding");
    booted.output(&["apt-get", "purge", "--yes", "weir"])?;
    ensure!(!booted.is_attached()?, "a purge left the program attached");
    for path in ["/sys/fs/bpf/weir", "/run/weir", "/var/lib/weir", "/etc/weir"] {
        ensure!(!booted.succeeds(&["test", "-e", path]), "a purge left {path}");
    }
    Ok(())
}

/// A Debian in a directory, removed when dropped.
struct Debian {
    root: PathBuf,
}

impl Debian {
    /// The release and the mirror of this host: what was built here needs its libraries.
    fn bootstrap() -> Result<Debian> {
        let release = fs::read_to_string("/etc/os-release").context("/etc/os-release: cannot be read")?;
        let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        let codename = codename.context("/etc/os-release names no VERSION_CODENAME: no Debian")?;
        let format = ["indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"];
        let sources = output(Command::new("apt-get").args(format))?;
        let mirror = mirror(&sources, codename).with_context(|| format!("apt has no source for {codename}"))?;
        // Whoever sweeps can tell whose it is.
        let root = std::env::temp_dir().join(format!("weir-{}-trial", std::process::id()));
        fs::create_dir_all(&root).with_context(|| format!("{}: cannot be made", root.display()))?;
        let debian = Debian { root };
        step(&format!("debootstrap of {codename}"));
        let mut debootstrap = Command::new(find("debootstrap").context("debootstrap: not found")?);
        quietly(debootstrap.args(["--variant=minbase", codename]).arg(&debian.root).arg(mirror))?;
        Ok(debian)
    }

    /// A path inside, as seen from outside.
    fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// Runs a command inside and returns what it printed.
    fn output(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(arguments);
        quietly(command.envs([("DEBIAN_FRONTEND", "noninteractive"), ("LC_ALL", "C.UTF-8"), ("PATH", PATH)]))
    }

    /// Every path but those where apt and dpkg keep books.
    fn paths(&self) -> Result<BTreeSet<String>> {
        let find = "find / -xdev -path /var/lib/dpkg -prune -o -path /var/lib/apt -prune -o -path /var/cache -prune -o \
                    -path /var/log -prune -o -path '/etc/g*-' -prune -o -print";
        Ok(self.output(&["sh", "-c", find])?.lines().map(str::to_owned).collect())
    }

    /// Starts systemd in it and returns once all is up.
    fn boot(&self) -> Result<Booted> {
        step("booting");
        let booted = UnixDatagram::bind(self.path("/booted")).context("cannot listen for the end of the boot")?;
        booted.set_read_timeout(Some(PATIENCE))?;
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child", "sh"])
            .arg(workspace().join("xtask/boot.sh"))
            .arg(&self.root)
            .stdin(Stdio::null())
            .stderr(fs::File::create(self.path("/boot.log"))?);
        let unshare = command.spawn().with_context(|| format!("`{}` did not start", command::quote(&command)))?;
        let mut guard = Booted { unshare, init: 0 };
        let mut message = [0; 4096];
        loop {
            let said = || fs::read_to_string(self.path("/boot.log")).unwrap_or_default();
            let length = booted.recv(&mut message).with_context(|| format!("systemd is not up: {}", said()))?;
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                break;
            }
        }
        guard.init = *sweep::children_of(guard.unshare.id()).first().context("systemd ended")?;
        Ok(guard)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            eprintln!("{}: left behind: {error}", self.root.display());
        }
    }
}

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A running Debian; ended when dropped, with all that runs in it.
struct Booted {
    unshare: Child,
    /// Its first process.
    init: u32,
}

impl Booted {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init)).args(["--all", "env", "-i", "LC_ALL=C.UTF-8"]);
        command.arg(format!("PATH={PATH}")).arg("DEBIAN_FRONTEND=noninteractive").args(arguments);
        command
    }

    /// Runs a command inside and returns what it printed.
    fn output(&self, arguments: &[&str]) -> Result<String> {
        quietly(&mut self.command(arguments))
    }

    fn succeeds(&self, arguments: &[&str]) -> bool {
        succeeds(&mut self.command(arguments))
    }

    /// A property of the service.
    fn show(&self, property: &str) -> Result<String> {
        Ok(self.output(&["systemctl", "show", "--value", &format!("--property={property}"), "weir"])?.trim().to_owned())
    }

    /// What `weir status` prints, outside of the service's sandbox.
    fn status(&self) -> Result<String> {
        self.output(&["weir", "status"])
    }

    /// Whether an XDP program is on the interface.
    fn is_attached(&self) -> Result<bool> {
        let target = format!("--target={}", self.init);
        // The host's `ip`: there is none inside.
        Ok(output(Command::new("nsenter").args([&target, "--net", "ip", "link", "show", "eth0"]))?.contains("xdp"))
    }

    fn wait_for(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if holds()? {
                return Ok(());
            }
            // systemd tells nobody without D-Bus.
            sleep(Duration::from_millis(50));
        }
        bail!("waited {} s for {what}", PATIENCE.as_secs())
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // With the first process all others end, and only then unshare; without it, unshare ends its child.
        if self.init == 0 || !sweep::kill(self.init) {
            let _ = self.unshare.kill();
        }
        let _ = self.unshare.wait();
    }
}

/// Runs a command whose words count only if it fails.
fn quietly(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("`{}` did not start", command::quote(command)))?;
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    let said = || format!("{printed}{}", String::from_utf8_lossy(&done.stderr));
    command::check(command, done.status).with_context(said)?;
    Ok(printed)
}

/// The first repository of a release, from lines of a codename and an address.
fn mirror<'a>(sources: &'a str, codename: &str) -> Option<&'a str> {
    sources
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(name, _)| *name == codename))
        .map(|(_, address)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_releases_own() {
        let sources = "bookworm-updates http://a.example/debian/\nbookworm http://b.example/debian/\n";
        assert_eq!(mirror(sources, "bookworm"), Some("http://b.example/debian/"));
        assert_eq!(mirror(sources, "trixie"), None);
    }
}
