//! What every row runs on: a balancer with one interface, a switch, backends that count, and the stream that goes through all of it.
//!
//! Frames of the stream go from the switch's end of the balancer's wire to the balancer, and by its program back. There another
//! program hands each to the backend whose MAC it carries, where a third counts it. Everything else, such as ARP, goes through the
//! kernel's bridge. So half a million frames a second fit on one CPU beside an agent.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData},
    programs::{Xdp, XdpMode},
};
use aya_obj::programs::XdpAttachType;
use lb_common::abi::Abi;
use lb_userspace::{
    datapath::{Access, Mapped, Pins},
    lab::{Host, Lab, Running, Switch, wait_for},
    links::mac_text,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    ledger::{Ledger, Owners, Sums},
    owners::Tables,
    wire::{self, Wire},
};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The service whose packets are counted.
pub const SERVICE: &str = "web";
/// Its VIP.
pub const VIP: [u8; 4] = [10, 1, 0, 100];
/// The VIP's port.
pub const PORT: u16 = 80;
/// Backends there may be: the service's ten, and one more.
pub const BACKENDS: u8 = 11;
/// The address of the backend at place 1 is 10.1.0.11.
pub const FIRST_BACKEND: u8 = 10;
/// What rows call the balancer's interface.
const INTERFACE: &str = "eth0";

/// How much a row does.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Of a thing that the whole form does a hundred times.
    pub hundred: u64,
    /// Of a thing that it does twenty times.
    pub twenty: u64,
    /// Frames that a row sends at least.
    pub frames: u64,
    /// Frames that a row about reloads sends at least.
    pub reload_frames: u64,
    /// Services, where there are many.
    pub services: usize,
}

impl Scale {
    /// As the whole form has it.
    pub const WHOLE: Scale =
        Scale { hundred: 100, twenty: 20, frames: 2_000_000, reload_frames: 10_000_000, services: 1_000 };
    /// A few seconds a row.
    pub const SHORT: Scale = Scale { hundred: 5, twenty: 3, frames: 100_000, reload_frames: 200_000, services: 100 };
}

/// Dropped in this order.
pub struct Rig {
    pub wire: Wire,
    pub scale: Scale,
    pub agent: Running,
    ledger: Ledger,
    /// Where flows are to be from the beginning of this phase on.
    owners: Owners,
    object: Ebpf,
    pub switch: Switch,
    pub balancer: Host,
    /// All backends, each by an interface of its own.
    pub backends: Host,
    _lab: Lab,
}

impl Rig {
    /// A balancer that forwards by a configuration, and a stream that flows.
    pub fn new(name: &str, config: &str, scale: Scale) -> Result<Rig> {
        let lab = Lab::new(name)?;
        let switch = lab.switch("switch")?;
        let (balancer, backends) = (lab.host("balancer")?, lab.host("backends")?);
        // Addresses of one network on several interfaces: each answers for its own alone.
        backends.set("net/ipv4/conf/all/arp_ignore", 1)?;
        for host in [switch.host(), &balancer, &backends] {
            host.set("net/ipv6/conf/all/disable_ipv6", 1)?;
            host.set("net/ipv6/conf/default/disable_ipv6", 1)?;
        }
        balancer.plug(&switch, INTERFACE, &["10.1.0.1/24"])?;
        for place in 1..=BACKENDS {
            let address = format!("10.1.0.{}/24", FIRST_BACKEND + place);
            backends.plug(&switch, &backend_interface(place), &[&address])?;
            backends.ip(&format!(
                "link set {} address {}",
                backend_interface(place),
                mac_text(backend_mac(place, 0))
            ))?;
        }
        let mut object = EbpfLoader::new().load(&tests::objects::read("stream")?)?;
        let wire = lay(&mut object, &switch, &balancer, &backends)?;
        let agent = start(&balancer, config, &[])?;
        let mut rig = Rig {
            ledger: Ledger::new(wire.hold()?),
            wire,
            scale,
            agent,
            owners: Owners(Vec::new()),
            object,
            switch,
            balancer,
            backends,
            _lab: lab,
        };
        rig.ready()?;
        rig.owners = rig.owners_now()?;
        rig.wire.resume();
        rig.wire.wait_for(WARM_UP)?;
        Ok(rig)
    }

    /// Ends a phase, in which flows may have been where they were before, or where they are after it.
    pub fn phase(&mut self) -> Result<&Owners> {
        let now = self.wire.hold()?;
        let after = self.owners_now()?;
        self.ledger.close(now, &self.owners, &after);
        self.owners = after;
        self.wire.resume();
        Ok(&self.owners)
    }

    /// Ends the last phase; what became of all frames, and how many a full ring refused, which are not among those lost.
    pub fn end(&mut self) -> Result<(Sums, u64)> {
        self.phase()?;
        let mut sums = self.ledger.sums;
        let hosts = [self.switch.host(), &self.balancer, &self.backends];
        let refused = hosts.into_iter().map(wire::refused_by_rings).sum::<Result<u64>>()?;
        sums.lost -= refused as i64;
        Ok((sums, refused))
    }

    /// Where flows belong at the beginning of this phase.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Where the tables in use say they belong.
    pub fn owners_now(&self) -> Result<Owners> {
        Ok(self.tables()?.owners())
    }

    /// The tables in use.
    pub fn tables(&self) -> Result<Tables> {
        Tables::read(&Pins::new(self.balancer.pins()))
    }

    /// Waits for the share of a row's frames that is due before the number-th of so many steps.
    pub fn pace(&self, number: u64, of: u64, frames: u64) -> Result<()> {
        self.wire.wait_for(WARM_UP + frames * number / of)
    }

    /// Lets so many more frames pass.
    pub fn let_pass(&self, frames: u64) -> Result<()> {
        self.wire.wait_for(self.wire.sent() + frames)
    }

    /// Writes the agent's file.
    pub fn write(&self, config: &str) -> Result<PathBuf> {
        write(&self.balancer, config)
    }

    /// Has the agent read its file again; it must say this of it.
    pub fn reload(&mut self, expected: &str) -> Result<String> {
        let said = |agent: &Running| -> Vec<String> {
            agent.said().lines().filter(|line| line.contains("SIGHUP: ")).map(str::to_owned).collect()
        };
        let before = said(&self.agent).len();
        self.agent.signal(Signal::SIGHUP)?;
        let answer = wait_for("an answer to SIGHUP", PATIENCE, || said(&self.agent).get(before).cloned())?;
        ensure!(answer.contains(expected), "{answer:?} does not say {expected:?}");
        Ok(answer)
    }

    /// Kills the agent.
    pub fn kill(&mut self) -> Result<()> {
        self.agent.signal(Signal::SIGKILL)?;
        self.agent.wait(PATIENCE).map(drop)
    }

    /// Starts another agent in the place of one that has ended; it must say this.
    pub fn start(&mut self, config: &str, expected: &str) -> Result<()> {
        self.agent = start(&self.balancer, config, &[])?;
        self.ready()?;
        let said = self.agent.said();
        ensure!(said.contains(expected), "{said:?} does not say {expected:?}");
        Ok(())
    }

    fn ready(&mut self) -> Result<()> {
        self.agent.wait_to_say("services: ", PATIENCE)
    }

    /// Runs a verb of the command line on the balancer.
    pub fn weir(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments)?.output()?)
    }

    /// A verb of the command line on the balancer.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.balancer.command(weir()?);
        command.arg("--pins").arg(self.balancer.pins()).args(arguments);
        Ok(command)
    }

    /// Runs a verb that must do what it is asked.
    pub fn verb(&self, arguments: &[&str]) -> Result<String> {
        let output = self.weir(arguments)?;
        let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        ensure!(output.status.success(), "weir {}: {}", arguments.join(" "), said());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a reading verb prints, as JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.verb(&[arguments, &["-o", "json"]].concat())?)?)
    }

    /// How often a verdict was given.
    pub fn verdict(&self, name: &str) -> Result<u64> {
        let stats = self.json(&["stats"])?;
        let verdicts = stats["verdicts"].as_array().context("no verdicts")?;
        let verdict = verdicts.iter().find(|verdict| verdict["verdict"] == name).context("no such verdict")?;
        verdict["packets"].as_u64().context("no number")
    }

    /// Makes the balancer's interface again, after it was deleted, on the same wire.
    pub fn plug_again(&mut self) -> Result<()> {
        self.balancer.plug(&self.switch, INTERFACE, &["10.1.0.1/24"])?;
        // The stream goes to this MAC.
        self.balancer.ip(&format!("link set {INTERFACE} address {}", mac_text(BALANCER_MAC)))?;
        let port = port(&self.switch, &self.balancer)?;
        attach(&mut self.object, "switch", self.switch.host(), port)?;
        self.wire.send_by(port);
        Ok(())
    }

    /// From now on frames may be lost; how many were sent before.
    pub fn begin_losses(&self) -> u64 {
        self.wire.expect_losses(true);
        self.wire.sent()
    }

    /// From now on no more; how many were sent meanwhile.
    pub fn end_losses(&self, from: u64) -> u64 {
        let sent = self.wire.sent() - from;
        self.wire.expect_losses(false);
        sent
    }

    /// Waits until frames arrive at every backend of the service again, and says after how long.
    pub fn all_resume(&self, since: Instant) -> Result<Duration> {
        let places = 1..=10_usize;
        let before: Vec<_> = places.clone().map(|place| self.wire.total_at(place)).collect();
        let arrive = || places.clone().zip(&before).all(|(place, before)| self.wire.total_at(place) > *before);
        wait_for("frames that arrive everywhere again", PATIENCE, || arrive().then(|| since.elapsed()))
    }

    /// The kernel's number of the program on the balancer's interface.
    pub fn program(&self) -> Result<u32> {
        let link = self.balancer.within(|| lb_userspace::links::find(INTERFACE))?;
        Ok(link.xdp.with_context(|| format!("no program on {INTERFACE}"))?.program)
    }

    /// Waits until frames arrive at a place again, and says after how long.
    pub fn resumes(&self, place: u8, since: Instant) -> Result<Duration> {
        let before = self.wire.total_at(usize::from(place));
        let arrives = || (self.wire.total_at(usize::from(place)) > before).then(|| since.elapsed());
        wait_for("frames that arrive again", PATIENCE, arrives)
    }
}

/// Frames sent before anything happens.
const WARM_UP: u64 = 20_000;
/// The balancer's MAC.
const BALANCER_MAC: [u8; 6] = [2, 0, 0, 0, 0xff, 1];

/// The MAC of a backend; generations differ.
pub fn backend_mac(place: u8, generation: u8) -> [u8; 6] {
    [2, 0, 0, 0, generation, place]
}

/// The interface of a backend in the backends' host.
pub fn backend_interface(place: u8) -> String {
    format!("eth{place}")
}

/// What begins a configuration.
pub fn config(services: &str) -> String {
    format!("interface = \"{INTERFACE}\"\nhash_key = \"00112233445566778899aabbccddeeff\"\n{services}")
}

/// The service of ten backends, or those that are left when some are crossed out; with weights.
pub fn web(backends: impl Fn(u8) -> Option<u16>) -> String {
    let backend = |place: u8| backends(place).map(|weight| format!("\"10.1.0.{}*{weight}\"", FIRST_BACKEND + place));
    let backends: Vec<_> = (1..=BACKENDS).filter_map(backend).collect();
    format!("[service.{SERVICE}]\nvip = \"10.1.0.100:80\"\nslots = 8192\nbackends = [{}]\n", backends.join(", "))
}

/// The configuration that most rows begin with: ten backends of one weight.
pub fn ten() -> String {
    config(&web(|place| (place <= 10).then_some(1)))
}

/// Prepares the switch and the backends for the stream.
fn lay(object: &mut Ebpf, switch: &Switch, balancer: &Host, backends: &Host) -> Result<Wire> {
    balancer.ip(&format!("link set {INTERFACE} address {}", mac_text(BALANCER_MAC)))?;
    // Before their maps are taken out of the object, which they would not find.
    for name in ["send", "switch", "receive"] {
        program(object, name)?.load()?;
    }
    let (mut ports, mut places) = (array::<u32>(object, "PORTS")?, array::<u32>(object, "PLACES")?);
    for place in 1..=BACKENDS {
        let interface = backend_interface(place);
        let (there, here) = (backends.index(&interface)?, switch.host().index(&switch.port(backends, &interface))?);
        attach(object, "receive", backends, there)?;
        places.set(there, u32::from(place), 0)?;
        ports.set(u32::from(place), here, 0)?;
    }
    // Who sends has a view of its own.
    let [stream, theirs] = mapped(object, "STREAM")?;
    let [arrivals] = mapped(object, "ARRIVALS")?;
    let host = switch.host();
    // The kernel takes 20 ms to make a program ready that is attached nowhere, each time.
    host.ip("link add idle type veth peer name idle-peer")?;
    attach(object, "send", host, host.index("idle")?)?;
    let pins = Pins::new(host.pins());
    pins.prepare()?;
    let pin = pins.root().join("send");
    program(object, "send")?.pin(&pin)?;
    let send = Xdp::from_pin(&pin, XdpAttachType::Interface)?;
    let port = port(switch, balancer)?;
    attach(object, "switch", host, port)?;
    Wire::new((send, [stream, theirs], arrivals), host, port, (BALANCER_MAC, VIP))
}

/// The switch's end of the balancer's wire.
fn port(switch: &Switch, balancer: &Host) -> Result<u32> {
    switch.host().index(&switch.port(balancer, INTERFACE))
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// Attaches a program natively, for as long as the object lives.
fn attach(object: &mut Ebpf, name: &str, host: &Host, index: u32) -> Result<()> {
    let program = program(object, name)?;
    host.within(|| Ok(program.attach_to_if_index(index, XdpMode::Driver)?))
        .with_context(|| format!("{}: cannot attach {name} to interface {index}", host.name()))?;
    Ok(())
}

fn array<T: aya::Pod>(object: &mut Ebpf, name: &str) -> Result<Array<MapData, T>> {
    Ok(Array::try_from(object.take_map(name).with_context(|| format!("no map {name}"))?)?)
}

/// A map's memory, so many times.
fn mapped<T: Abi, const VIEWS: usize>(object: &mut Ebpf, name: &str) -> Result<[Mapped<T>; VIEWS]> {
    let map = object.take_map(name).with_context(|| format!("no map {name}"))?;
    let aya::maps::Map::Array(data) = map else { bail!("map {name} is no array") };
    let views = (0..VIEWS).map(|_| Mapped::new(&data, Access::Write)).collect::<Result<Vec<_>, _>>()?;
    views.try_into().map_err(|_| anyhow!("map {name}: another number of views"))
}

/// Starts an agent on a host.
pub fn start(host: &Host, config: &str, options: &[&str]) -> Result<Running> {
    let file = write(host, config)?;
    let mut command = host.command(weir()?);
    command.arg("--pins").arg(host.pins()).arg("run").arg("--config").arg(file);
    command.arg("--state").arg(host.directory()).args(options);
    host.spawn("weir", &mut command)
}

fn write(host: &Host, config: &str) -> Result<PathBuf> {
    let file = host.directory().join("weir.toml");
    std::fs::write(&file, config).with_context(|| format!("{}: cannot be written", file.display()))?;
    Ok(file)
}

/// The binary under test, which lies beside this one.
pub fn weir() -> Result<PathBuf> {
    let us = std::env::current_exe()?;
    let weir = us.parent().unwrap_or(Path::new(".")).join("weir");
    ensure!(weir.is_file(), "{}: not built: cargo xtask build", weir.display());
    Ok(weir)
}
