//! Network namespaces for the demo and the tests: hosts on switches, programs in them, and nothing of it left behind.
//!
//! A [`Lab`] is gone when it is dropped, when its process panics, and on SIGINT, SIGTERM and SIGHUP; what a killed process
//! left is removed by the next one. All names begin with `weir-PID-NAME`, where NAME is the lab's.

mod backend;
mod flood;
mod nginx;
mod process;
mod programs;
mod registry;
mod servers;
mod tap;
mod wait;

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::{Ebpf, EbpfLoader, programs::XdpMode};
use nix::sched::{CloneFlags, setns};
use serde::Deserialize;

pub use self::{
    backend::set_up_backend,
    flood::{Flood, LIVE_FRAMES_KERNEL},
    nginx::start_nginx,
    process::{Running, find, run},
    servers::{Echo, Http},
    tap::{Seen, Sender, Tap, Way},
    wait::{wait_for, wait_until},
};
use crate::{datapath::TRAFFIC_OBJECT, links::mac_text};

/// A network of namespaces.
pub struct Lab {
    prefix: String,
}

/// A host: a network namespace. Only a name; the lab owns it.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    /// What all names of the lab begin with.
    lab: String,
}

/// A switch: a namespace that holds a bridge.
#[derive(Clone, Debug)]
pub struct Switch {
    host: Host,
    mtu: u32,
}

/// What an interface has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// Both directions of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct Traffic {
    /// Received.
    pub rx: Counters,
    /// Sent.
    pub tx: Counters,
}

impl Lab {
    /// An empty network, after removing what dead processes left of theirs.
    pub fn new(name: &str) -> Result<Lab> {
        Self::check()?;
        registry::clean_up_on_signals()?;
        Self::sweep()?;
        let lab = Lab { prefix: format!("weir-{}-{name}", std::process::id()) };
        registry::add(&lab.prefix)?;
        Ok(lab)
    }

    /// Whether there can be one here.
    pub fn check() -> Result<()> {
        ensure!(nix::unistd::geteuid().is_root(), "network namespaces can only be made by root: use sudo");
        for program in ["ip", "nsenter", "ethtool"] {
            ensure!(find(program).is_some(), "{program}: not found (apt install iproute2 util-linux ethtool)");
        }
        Ok(())
    }

    /// Removes the namespaces, pins and files of processes that are no more.
    pub fn sweep() -> Result<()> {
        registry::sweep()
    }

    /// A host without interfaces but loopback.
    pub fn host(&self, name: &str) -> Result<Host> {
        let host = Host { name: name.to_owned(), lab: self.prefix.clone() };
        registry::with(&self.prefix, |kept| {
            // Known before it is there: a failure half way is cleaned up too.
            kept.namespaces.push(host.namespace());
            run(Command::new("ip").args(["netns", "add", &host.namespace()]))
        })?;
        fs::create_dir_all(host.directory())?;
        // Addresses are usable at once, and answers may come from where no route leads back.
        host.set("net/ipv6/conf/all/accept_dad", 0)?;
        host.set("net/ipv6/conf/default/accept_dad", 0)?;
        host.set("net/ipv6/conf/default/router_solicitations", 0)?;
        host.set("net/ipv4/conf/all/rp_filter", 0)?;
        host.set("net/ipv4/conf/default/rp_filter", 0)?;
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// A switch whose links take IP packets of 1,500 bytes.
    pub fn switch(&self, name: &str) -> Result<Switch> {
        self.switch_of_mtu(name, 1_500)
    }

    /// A switch whose links take IP packets of `mtu` bytes.
    pub fn switch_of_mtu(&self, name: &str, mtu: u32) -> Result<Switch> {
        let host = self.host(name)?;
        host.ip(&format!("link add {BRIDGE} mtu {mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"))?;
        host.ip(&format!("link set {BRIDGE} up"))?;
        Ok(Switch { host, mtu })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = registry::remove(&self.prefix) {
            eprintln!("{}: left behind: {error:#}", self.prefix);
        }
    }
}

/// Where a host's namespace can be opened, as long as it is there.
pub fn namespace_path(host: &Host) -> PathBuf {
    Path::new(registry::NAMESPACES).join(host.namespace())
}

/// The switch's own interface.
const BRIDGE: &str = "bridge";

impl Switch {
    /// The namespace.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The name of the port that a host's interface is plugged into.
    pub fn port(&self, host: &Host, interface: &str) -> String {
        format!("{}-{interface}", host.name)
    }
}

impl Host {
    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace's name.
    pub fn namespace(&self) -> String {
        format!("{}-{}", self.lab, self.name)
    }

    /// A directory for its files.
    pub fn directory(&self) -> PathBuf {
        registry::directory(&self.lab).join(&self.name)
    }

    /// Where an instance in it may keep its pins.
    pub fn pins(&self) -> PathBuf {
        Path::new(registry::PINS).join(self.namespace())
    }

    /// Joins a switch by an interface with these addresses, each with its prefix length.
    pub fn plug(&self, switch: &Switch, interface: &str, addresses: &[&str]) -> Result<()> {
        let (port, mtu) = (switch.port(self, interface), switch.mtu);
        let there = &switch.host;
        ensure!(port.len() <= 15, "port {port:?}: longer than the 15 characters of an interface's name");
        self.ip(&format!(
            "link add {interface} mtu {mtu} type veth peer name {port} mtu {mtu} netns {}",
            there.namespace()
        ))?;
        // Else frames arrive whose checksums nobody has filled in.
        self.output("ethtool", &["-K", interface, "tx", "off"])?;
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.ip(&format!("addr add {address} dev {interface} {nodad}"))?;
        }
        there.ip(&format!("link set {port} master {BRIDGE} up"))?;
        self.ip(&format!("link set {interface} up"))?;
        Ok(())
    }

    /// Lets frames that an XDP program transmits by this interface reach the switch: a veth delivers them only to a peer
    /// that has a program itself.
    pub fn let_xdp_transmit(&self, switch: &Switch, interface: &str) -> Result<()> {
        switch.host.attach_pass(&switch.port(self, interface))
    }

    /// Attaches a program that passes everything, natively, for as long as the lab lives.
    pub fn attach_pass(&self, interface: &str) -> Result<()> {
        let index = self.index(interface)?;
        registry::with(&self.lab, |kept| {
            let programs = kept.programs.get_or_insert_with(programs::Passing::default);
            self.within(|| programs.attach(index))
        })
        .with_context(|| format!("{}: cannot attach a program to {interface}", self.name))
    }

    /// Forwards packets between its interfaces.
    pub fn route_packets(&self) -> Result<()> {
        self.set("net/ipv4/ip_forward", 1)?;
        self.set("net/ipv6/conf/all/forwarding", 1)
    }

    /// Attaches a program of those that make traffic, natively; it is there until the object is dropped.
    pub fn attach_traffic(&self, interface: &str, name: &str) -> Result<Ebpf> {
        let index = self.index(interface)?;
        let mut object = EbpfLoader::new().load(TRAFFIC_OBJECT)?;
        let program = programs::program(&mut object, name)?;
        program.load()?;
        self.within(|| Ok(program.attach_to_if_index(index, XdpMode::Driver)?))?;
        Ok(object)
    }

    /// Runs `ip` in it.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.namespace()]).args(arguments.split_whitespace()))
    }

    /// Sets a file below /proc/sys in it.
    pub fn set(&self, path: &str, value: impl ToString) -> Result<()> {
        let value = value.to_string();
        self.within(|| {
            fs::write(Path::new("/proc/sys").join(path), &value)
                .with_context(|| format!("{}: cannot set {path} to {value}", self.name))
        })
    }

    /// A command to be run in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace())).arg(program);
        command
    }

    /// Runs a program in it to its end, which must be a good one, and returns what it printed.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments))
    }

    /// Starts a command that was made by [`Host::command`]; it is killed when the value is dropped. `label` names the
    /// file that its output goes to.
    pub fn spawn(&self, label: &str, command: &mut Command) -> Result<Running> {
        registry::with(&self.lab, |_| Running::start(command, &self.directory().join(format!("{label}.log"))))
    }

    /// Runs a function on a thread inside; a panic goes on here.
    pub fn within<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = namespace_path(self);
        let inside = || {
            let namespace = fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            setns(namespace, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", path.display()))?;
            body()
        };
        let ended = thread::scope(|scope| scope.spawn(inside).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The MAC of an interface.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        self.within(|| Ok(crate::links::find(interface)?.mac))
    }

    /// The kernel's index of an interface.
    pub fn index(&self, interface: &str) -> Result<u32> {
        self.within(|| Ok(crate::links::find(interface)?.index))
    }

    /// What an interface has counted.
    pub fn traffic(&self, interface: &str) -> Result<Traffic> {
        #[derive(Deserialize)]
        struct Shown {
            stats64: Traffic,
        }
        let json = self.ip(&format!("-j -s link show dev {interface}"))?;
        let shown: Vec<Shown> = serde_json::from_str(&json).with_context(|| format!("`ip -j` printed {json}"))?;
        Ok(shown.first().ok_or_else(|| anyhow!("`ip -j` printed nothing"))?.stats64)
    }

    /// The MAC that it has found for an address, if any; `None` also if it has given up.
    pub fn neighbour(&self, address: IpAddr) -> Result<Option<String>> {
        let shown = self.ip(&format!("neigh show to {address}"))?;
        let mut words = shown.split_whitespace().skip_while(|word| *word != "lladdr");
        Ok(words.nth(1).map(str::to_owned))
    }

    /// Changes the MAC of an interface and tells the link.
    pub fn change_mac(&self, interface: &str, mac: [u8; 6]) -> Result<()> {
        // The kernel then announces what it has, once the change is made.
        self.set(&format!("net/ipv4/conf/{interface}/arp_notify"), 1)?;
        self.set(&format!("net/ipv6/conf/{interface}/ndisc_notify"), 1)?;
        self.ip(&format!("link set {interface} address {}", mac_text(mac)))?;
        if self.mac(interface)? != mac {
            bail!("{}: {interface} did not take the MAC {}", self.name, mac_text(mac));
        }
        Ok(())
    }
}
