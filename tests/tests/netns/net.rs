//! A network with a client, a balancer and backends, and what tests do in it.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use lb_userspace::{
    lab::{Host, Http, Lab, Running, Switch, set_up_backend, wait_for, wait_until},
    links::{self, mac_text},
};
use serde_json::Value;

/// Longer than anything here takes; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One switch; the client is .9, the balancer .1, backends are from .11 on. Dropped in this order.
pub struct Net {
    pub agent: Option<Running>,
    pub servers: Vec<Http>,
    pub client: Host,
    pub balancer: Host,
    pub backends: Vec<Host>,
    pub switch: Switch,
    pub lab: Lab,
}

impl Net {
    pub fn new(name: &str, backends: u8) -> Net {
        Self::of_mtu(name, backends, 1_500)
    }

    pub fn of_mtu(name: &str, backends: u8, mtu: u32) -> Net {
        let lab = Lab::new(name).unwrap();
        let switch = lab.switch_of_mtu("switch", mtu).unwrap();
        let join = |name: &str, number| join(&lab, &switch, name, number);
        let (client, balancer) = (join("client", 9), join("balancer", 1));
        balancer.let_xdp_transmit(&switch, "eth0").unwrap();
        let backends = (1..=backends).map(|number| join(&format!("backend{number}"), 10 + number)).collect();
        Net { agent: None, servers: Vec::new(), client, balancer, backends, switch, lab }
    }

    /// A network whose balancer forwards by this configuration, with an HTTP server in each backend of service `web`.
    pub fn forwarding(name: &str, backends: u8, config: &str) -> Net {
        let mut net = Self::new(name, backends);
        net.set_up(&["web"], config);
        net.serve(80);
        net.run(config, &[]);
        net
    }

    /// Makes all backends those of these services.
    pub fn set_up(&self, services: &[&str], config: &str) {
        let file = self.write(config);
        for backend in &self.backends {
            set_up_backend(backend, &weir(), &file, services).unwrap();
        }
    }

    /// An HTTP server in each backend, which answers with its name.
    pub fn serve(&mut self, port: u16) {
        for backend in &self.backends {
            self.servers.push(Http::start(backend, port, &format!("{}\n", backend.name())).unwrap());
        }
    }

    /// Starts the agent and waits until it has begun its work.
    pub fn run(&mut self, config: &str, options: &[&str]) {
        let mut agent = self.start(config, options);
        agent.wait_to_say("services: ", PATIENCE).unwrap();
        self.agent = Some(agent);
    }

    /// Starts the agent.
    pub fn start(&self, config: &str, options: &[&str]) -> Running {
        start(&self.balancer, config, options)
    }

    /// The agent, once it was started.
    pub fn agent(&mut self) -> &mut Running {
        self.agent.as_mut().unwrap()
    }

    /// Writes a configuration to the balancer's directory.
    pub fn write(&self, config: &str) -> PathBuf {
        write(&self.balancer, config)
    }

    /// What a verb of the command line prints on the balancer, as JSON; it must end well.
    pub fn json(&self, arguments: &[&str]) -> Value {
        json(&self.balancer, arguments)
    }

    /// Runs a verb of the command line on the balancer.
    pub fn weir(&self, arguments: &[&str]) -> Output {
        weir_on(&self.balancer, arguments)
    }

    /// Asks a URL so many times; see [`ask`].
    pub fn ask(&self, url: &str, times: u32) -> Vec<String> {
        ask(&self.client, url, times)
    }

    /// How often a verdict was given.
    pub fn verdict(&self, name: &str) -> u64 {
        verdict(&self.json(&["stats"]), name)
    }

    /// The MACs that the tables hold for the backends of the first service, in order.
    pub fn next_hops(&self) -> Vec<String> {
        let ls = self.json(&["ls"]);
        let next_hops = ls["services"][0]["next_hops"].as_array().unwrap().iter();
        next_hops.map(|next_hop| next_hop["mac"].as_str().unwrap_or("none").to_owned()).collect()
    }

    /// Whether an XDP program is on the balancer's interface.
    pub fn is_attached(&self) -> bool {
        self.balancer.within(|| links::find("eth0")).unwrap().xdp.is_some()
    }
}

/// The number of the group `weir` that [`with_group`]'s agent finds.
pub const GROUP: &str = "64987";

/// An agent that finds a group `weir`, whatever groups this host has.
pub fn with_group(net: &Net, file: &Path) -> Running {
    let groups = net.balancer.directory().join("group");
    fs::write(&groups, format!("root:x:0:\nweir:x:{GROUP}:\n")).unwrap();
    let mut command = net.balancer.command("unshare");
    let script = format!("mount --bind {} /etc/group && exec \"$@\"", groups.display());
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(weir());
    command.arg("--pins").arg(net.balancer.pins()).arg("run").arg("--config").arg(file);
    command.arg("--state").arg(net.balancer.directory());
    let mut agent = net.balancer.spawn("weir", &mut command).unwrap();
    agent.wait_to_say("services: ", PATIENCE).unwrap();
    agent
}

/// How often a verdict was given, by what `weir stats` says.
pub fn verdict(stats: &Value, name: &str) -> u64 {
    let verdicts = stats["verdicts"].as_array().unwrap();
    verdicts.iter().find(|verdict| verdict["verdict"] == name).unwrap()["packets"].as_u64().unwrap()
}

/// A host on a switch with the addresses of its number.
pub fn join(lab: &Lab, switch: &Switch, name: &str, number: u8) -> Host {
    let host = lab.host(name).unwrap();
    host.plug(switch, "eth0", &[&format!("10.1.0.{number}/24"), &format!("fd01::{number}/64")]).unwrap();
    host
}

/// What begins a configuration.
pub fn config(services: &str) -> String {
    format!("interface = \"eth0\"\nhash_key = \"00112233445566778899aabbccddeeff\"\n{services}")
}

/// Asks a URL so many times, each by a connection of its own; returns the answers, all of which must come.
pub fn ask(client: &Host, url: &str, times: u32) -> Vec<String> {
    try_to_ask(client, url, times).unwrap()
}

/// The same, where an answer may be missing: that is an error.
pub fn try_to_ask(client: &Host, url: &str, times: u32) -> anyhow::Result<Vec<String>> {
    // Only the number differs; servers do not look at it.
    let url = format!("{url}/[1-{times}]");
    let options = ["-s", "-S", "-f", "--fail-early", "-m", "10", "--no-keepalive", "-H", "Connection: close"];
    let text = client.output("curl", &[&options[..], &[&url]].concat())?;
    let answers: Vec<_> = text.lines().map(str::to_owned).collect();
    anyhow::ensure!(answers.len() == times as usize, "{} answers of {times} from {url}", answers.len());
    Ok(answers)
}

/// How many of the words are this one.
pub fn count(words: &[String], word: &str) -> usize {
    words.iter().filter(|other| *other == word).count()
}

/// Each word once, in order.
pub fn distinct(words: &[String]) -> Vec<&str> {
    let mut words: Vec<_> = words.iter().map(String::as_str).collect();
    words.sort();
    words.dedup();
    words
}

/// Runs a verb of the command line on a host, over its pins.
pub fn weir_on(host: &Host, arguments: &[&str]) -> Output {
    host.command(weir()).arg("--pins").arg(host.pins()).args(arguments).output().unwrap()
}

/// What a verb prints on a host, as JSON; it must end well.
pub fn json(host: &Host, arguments: &[&str]) -> Value {
    let output = weir_on(host, &[arguments, &["-o", "json"]].concat());
    assert!(output.status.success(), "weir {arguments:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a command said of its failure.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

/// Starts an agent on a host.
pub fn start(host: &Host, config: &str, options: &[&str]) -> Running {
    let file = write(host, config);
    let mut command = host.command(weir());
    command.arg("--pins").arg(host.pins()).arg("run").arg("--config").arg(file);
    command.arg("--state").arg(host.directory()).args(options);
    host.spawn("weir", &mut command).unwrap()
}

/// Writes a configuration to a host's directory.
pub fn write(host: &Host, config: &str) -> PathBuf {
    let file = host.directory().join("weir.toml");
    fs::write(&file, config).unwrap();
    file
}

/// The binary under test, built beside this one.
pub fn weir() -> PathBuf {
    let us = std::env::current_exe().unwrap();
    let weir = us.ancestors().nth(2).unwrap().join("weir");
    assert!(weir.is_file(), "{}: not built: cargo build --bin weir", weir.display());
    weir
}

/// A host's MAC, as text.
pub fn mac(host: &Host) -> String {
    mac_text(host.mac("eth0").unwrap())
}

/// Whether anybody tells a host the MAC of an address: it forgets what it knew, asks, and gets an answer or gives up.
pub fn resolves(host: &Host, address: &str) -> Option<String> {
    let address: IpAddr = address.parse().unwrap();
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    // Three questions within a fifth of a second, instead of three seconds.
    host.set(&format!("net/{family}/neigh/eth0/retrans_time_ms"), 60).unwrap();
    host.ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:00 dev eth0")).unwrap();
    host.ip(&format!("neigh del {address} dev eth0")).unwrap();
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let ask = || host.within(|| Ok(UdpSocket::bind(any)?.send_to(b"?", (address, 9))?));
    wait_for(&format!("what {} makes of {address}", host.name()), PATIENCE, || {
        // An entry that failed takes the next packet as a reason to try again.
        let _ = ask();
        let shown = host.ip(&format!("neigh show to {address}")).unwrap();
        match shown.split_whitespace().last() {
            Some("REACHABLE" | "STALE" | "DELAY") => Some(host.neighbour(address).unwrap()),
            Some("FAILED") => Some(None),
            _ => None,
        }
    })
    .unwrap()
}

/// That nothing of an instance is left: no pins, and no program where it would be.
pub fn assert_nothing_left(host: &Host) {
    wait_until("the kernel lets go of the program", PATIENCE, || {
        host.within(|| links::find("eth0")).unwrap().xdp.is_none()
    })
    .unwrap();
    assert_no_pins(&host.pins());
    assert_eq!(host.ip("neigh show proto 119").unwrap(), "", "neighbours are left behind");
}

/// That nothing is pinned there.
pub fn assert_no_pins(pins: &Path) {
    assert!(!pins.exists(), "{}: left behind", pins.display());
}
