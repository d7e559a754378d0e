//! A network with a client, a balancer and backends, and what tests do in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use lb_userspace::lab::{Host, Http, Lab, Running, Switch, set_up_backend, wait_until};
use serde_json::Value;

/// Longer than anything here takes; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The VIPs of most tests.
pub const VIP: &str = "10.1.0.100";
/// See [`VIP`].
pub const VIP6: &str = "fd01::100";

/// One switch; the client is .9, the balancer .1, backends are from .11 on.
pub struct Net {
    pub agent: Option<Running>,
    pub servers: Vec<Http>,
    pub client: Host,
    pub balancer: Host,
    pub backends: Vec<Host>,
    pub switch: Switch,
    /// Last, so that it is dropped last.
    pub lab: Lab,
}

/// What is in the hosts of a network like [`Net`].
pub fn addresses(host: u8) -> [String; 2] {
    [format!("10.1.0.{host}/24"), format!("fd01::{host}/64")]
}

impl Net {
    pub fn new(name: &str, backends: u8) -> Net {
        Self::of_mtu(name, backends, 1_500)
    }

    pub fn of_mtu(name: &str, backends: u8, mtu: u32) -> Net {
        let lab = Lab::new(name).unwrap();
        let switch = lab.switch_of_mtu("switch", mtu).unwrap();
        let join = |name: &str, number: u8| {
            let host = lab.host(name).unwrap();
            host.plug(&switch, "eth0", &addresses(number).each_ref().map(String::as_str)).unwrap();
            host
        };
        let (client, balancer) = (join("client", 9), join("balancer", 1));
        balancer.let_xdp_transmit(&switch, "eth0").unwrap();
        let backends = (1..=backends).map(|number| join(&format!("backend{number}"), 10 + number)).collect();
        Net { agent: None, servers: Vec::new(), client, balancer, backends, switch, lab }
    }

    /// A network whose balancer forwards by this configuration, with an HTTP server in each backend.
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
        start(&self.balancer, &self.write(config), options)
    }

    /// Writes a configuration to the balancer's directory.
    pub fn write(&self, config: &str) -> PathBuf {
        write(&self.balancer, config)
    }

    /// What a verb of the command line prints, as JSON; it must end well.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.weir(&[arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "weir {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a verb of the command line on the balancer.
    pub fn weir(&self, arguments: &[&str]) -> Output {
        weir_on(&self.balancer, arguments)
    }

    /// Asks a URL so many times, each by a connection of its own; returns the first words of the answers. All must come.
    pub fn ask(&self, url: &str, times: u32) -> Vec<String> {
        ask(&self.client, url, times)
    }

    /// The name of the backend that answers, after awaiting one that does.
    pub fn await_answer(&self, url: &str) {
        wait_until(&format!("an answer from {url}"), PATIENCE, || {
            self.client.output("curl", &["-s", "-f", "-g", "-m", "1", "-o", "/dev/null", url]).is_ok()
        })
        .unwrap();
    }

    /// How often a verdict was given.
    pub fn verdict(&self, name: &str) -> u64 {
        let stats = self.json(&["stats"]);
        let verdicts = stats["verdicts"].as_array().unwrap();
        verdicts.iter().find(|verdict| verdict["verdict"] == name).unwrap()["packets"].as_u64().unwrap()
    }
}

/// Asks a URL from a host.
pub fn ask(client: &Host, url: &str, times: u32) -> Vec<String> {
    // Only the number differs; servers do not look at it.
    let url = format!("{url}/[1-{times}]");
    let text = client
        .output("curl", &["-s", "-S", "-f", "-m", "10", "--no-keepalive", "-H", "Connection: close", &url])
        .unwrap();
    let answers: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(answers.len(), times as usize, "answers from {url}");
    answers
}

/// How many of the words are this one.
pub fn count(words: &[String], word: &str) -> usize {
    words.iter().filter(|other| *other == word).count()
}

/// Runs a verb of the command line on a host, over its pins.
pub fn weir_on(host: &Host, arguments: &[&str]) -> Output {
    host.command(weir()).arg("--pins").arg(host.pins()).args(arguments).output().unwrap()
}

/// Starts an agent on a host.
pub fn start(host: &Host, config: &Path, options: &[&str]) -> Running {
    let mut command = host.command(weir());
    command.arg("--pins").arg(host.pins()).arg("run").arg("--config").arg(config).args(options);
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
