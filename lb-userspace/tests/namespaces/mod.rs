//! Network namespaces of a test's own, and threads inside them. Dropped, they are gone.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// A network namespace; loopback is up, and IPv6 addresses are usable at once.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new(tag: &str) -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root: it makes network namespaces to run the kernel's routing and ARP in"
        );
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace { name: format!("weir-{}-{count}{tag}", std::process::id()) };
        run("ip", &format!("netns add {}", namespace.name));
        namespace.ip("link set lo up");
        for which in ["all", "default"] {
            namespace.set(&format!("net/ipv6/conf/{which}/accept_dad"), "0");
        }
        namespace
    }

    /// Runs `ip` in it.
    pub fn ip(&self, arguments: &str) -> String {
        run("ip", &format!("-n {} {arguments}", self.name))
    }

    /// Runs many `ip` commands in it at once.
    pub fn ip_batch(&self, commands: &str) {
        let path = std::env::temp_dir().join(format!("{}.batch", self.name));
        std::fs::write(&path, commands).unwrap();
        let output = Command::new("ip").args(["-n", &self.name, "-batch"]).arg(&path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(output.status.success(), "ip -batch: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sets a file below /proc/sys in it.
    pub fn set(&self, path: &str, value: &str) {
        self.within(|| std::fs::write(format!("/proc/sys/{path}"), value).unwrap());
    }

    /// Runs a future on a runtime of its own, on a thread inside; a panic goes on here.
    pub fn run<T: Send>(&self, body: impl AsyncFnOnce() -> T + Send) -> T {
        self.within(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body()))
    }

    /// Starts tcpdump on eth0 and waits until it listens; it ends after so many packets.
    pub fn capture(&self, packets: u32, filter: &str) -> Capture {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.name, "tcpdump", "-i", "eth0", "-n", "-e", "-v", "-l", "-c"])
            .args([&packets.to_string(), filter])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("listening on")), "tcpdump does not listen");
        // What it says at the end has nobody to read it, but must not break it.
        thread::spawn(move || said.for_each(drop));
        Capture(child)
    }

    /// Runs something on a thread inside; a panic goes on here.
    pub fn within<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(File::open(format!("/run/netns/{}", self.name)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            body()
        };
        let ended = thread::scope(|scope| scope.spawn(inside).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let gone = Command::new("ip").args(["netns", "del", &self.name]).status();
        if !gone.is_ok_and(|status| status.success()) {
            eprintln!("network namespace {} is left behind", self.name);
        }
    }
}

/// A running tcpdump.
pub struct Capture(Child);

impl Capture {
    /// What it saw, once it has seen enough.
    pub fn text(mut self) -> String {
        let text = std::io::read_to_string(self.0.stdout.take().unwrap()).unwrap();
        self.0.wait().unwrap();
        text
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It is dead already unless the test failed.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
