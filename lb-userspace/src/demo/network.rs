//! The demo's namespaces and what runs in them.

use std::{
    fs,
    io::Read,
    net::{TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    config::Syn,
    datapath::{Access, Datapath, Pins},
    lab::{self, Host, Http, Lab, Running, Switch, find, set_up_backend, start_nginx, wait_until},
    links::Mode,
    plan::Description,
};

/// What clients of service `web` connect to.
pub const VIP: &str = "10.1.0.100";
/// Of service `tunnel`.
pub const VIP_TUNNEL: &str = "10.1.0.101";
/// Of service `web6`.
pub const VIP6: &str = "fd01::100";
/// Bytes of a page behind the server's name: enough that answers outweigh requests by far.
const PAGE: usize = 10_000;
/// More than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// All of it. Fields are dropped in this order: the lab last.
pub struct Network {
    agent: Option<Running>,
    servers: Vec<Server>,
    /// The one who asks.
    pub client: Host,
    /// The one who forwards.
    pub balancer: Host,
    /// The ones who answer.
    pub backends: Vec<Host>,
    /// What joins them.
    pub switch: Switch,
    tracks: bool,
    #[allow(dead_code, reason = "held for its drop")]
    lab: Lab,
}

#[allow(dead_code, reason = "held for their drop")]
enum Server {
    Nginx(Running),
    Tiny(Http),
}

impl Network {
    /// Makes it and waits until it forwards.
    pub fn new() -> Result<Network> {
        let lab = Lab::new("demo")?;
        let switch = lab.switch("switch")?;
        let join = |name: &str, number: u8| -> Result<Host> {
            let host = lab.host(name)?;
            host.plug(&switch, "eth0", &[&format!("10.1.0.{number}/24"), &format!("fd01::{number}/64")])?;
            Ok(host)
        };
        let (client, balancer) = (join("client", 9)?, join("balancer", 1)?);
        let backends = [join("backend1", 11)?, join("backend2", 12)?, join("backend3", 13)?];
        balancer.let_xdp_transmit(&switch, "eth0")?;
        // The flood needs both.
        client.let_xdp_transmit(&switch, "eth0")?;
        client.attach_pass("eth0")?;

        let mut network = Network {
            agent: None,
            servers: Vec::new(),
            client,
            balancer,
            backends: backends.to_vec(),
            switch,
            tracks: false,
            lab,
        };
        network.tracks = network.track_connections();
        network.set_up_backends()?;
        network.run(Syn::Count)?;
        Ok(network)
    }

    fn set_up_backends(&mut self) -> Result<()> {
        let (weir, file) = (std::env::current_exe()?, self.configure(Syn::Count)?);
        for backend in &self.backends {
            set_up_backend(backend, &weir, &file, &["web", "tunnel", "web6"])?;
            let answer = format!("{} {}\n", backend.name(), "x".repeat(PAGE));
            self.servers.push(match find("nginx") {
                Some(_) => Server::Nginx(start_nginx(backend, &answer)?),
                None => Server::Tiny(Http::start(backend, 80, &answer)?),
            });
        }
        for backend in &self.backends {
            let connects = || backend.within(|| Ok(TcpStream::connect(("127.0.0.1", 80))?)).is_ok();
            wait_until(&format!("the web server of {}", backend.name()), PATIENCE, connects)?;
        }
        Ok(())
    }

    /// Starts the agent, after ending the one that runs.
    pub fn run(&mut self, syn: Syn) -> Result<()> {
        if let Some(agent) = &mut self.agent {
            agent.stop(PATIENCE)?;
        }
        let mut command = self.balancer.command(std::env::current_exe()?);
        command.arg("--pins").arg(self.balancer.pins()).arg("run").arg("--config").arg(self.configure(syn)?);
        command.arg("--state").arg(self.balancer.directory());
        let mut agent = self.balancer.spawn("weir", &mut command)?;
        agent.wait_to_say("services: ", PATIENCE)?;
        self.agent = Some(agent);
        Ok(())
    }

    /// Writes the configuration.
    fn configure(&self, syn: Syn) -> Result<PathBuf> {
        let file = self.balancer.directory().join("weir.toml");
        let text = format!(
            r#"interface = "eth0"
hash_key = "{}"

[service.web]
vip = "{VIP}:80"
backends = ["10.1.0.11", "10.1.0.12", "10.1.0.13*2"]
syn = {{ mode = "{syn}", budget = "0/s" }}

[service.tunnel]
vip = "{VIP_TUNNEL}:80"
backends = ["10.1.0.11", "10.1.0.12", "10.1.0.13*2"]
forward = "ipip"

[service.web6]
vip = "[{VIP6}]:80"
backends = ["fd01::11", "fd01::12", "fd01::13*2"]
"#,
            hash_key()?
        );
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// What answers, in words.
    pub fn server(&self) -> String {
        match find("nginx") {
            Some(nginx) => {
                let output = Command::new(nginx).arg("-v").output();
                let said = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
                let version = said.unwrap_or_default();
                version.rsplit(": ").next().map(str::trim).filter(|name| !name.is_empty()).unwrap_or("nginx").to_owned()
            }
            None => "a tiny web server, as nginx is not installed".to_owned(),
        }
    }

    /// The live tables.
    pub fn datapath(&self) -> Result<Datapath> {
        Datapath::open(&Pins::new(self.balancer.pins()), Access::Read)
    }

    /// The live tables, in words.
    pub fn description(&self) -> Result<Description> {
        self.datapath()?.description()
    }

    /// Whether the balancer's program runs in the driver.
    pub fn is_native(&self) -> Result<bool> {
        let link = self.balancer.within(|| crate::links::find("eth0"))?;
        Ok(link.xdp.is_some_and(|xdp| xdp.mode == Mode::Native))
    }

    /// The switch's port to a host.
    pub fn port(&self, host: &Host) -> String {
        self.switch.port(host, "eth0")
    }

    /// Makes the balancer's stack track all connections it sees; whether that worked.
    fn track_connections(&self) -> bool {
        let rules = "add table inet demo; add chain inet demo in { type filter hook prerouting priority 0; }; \
                     add rule inet demo in ct state new counter";
        self.balancer.output("nft", &[rules]).is_ok()
    }

    /// Whether the balancer's stack tracks connections for certain.
    pub fn tracks(&self) -> bool {
        self.tracks
    }

    /// How many connections it tracks; `None` if the kernel cannot.
    pub fn tracked(&self) -> Result<Option<u64>> {
        self.balancer.within(|| match fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count") {
            Ok(count) => Ok(Some(count.trim().parse()?)),
            Err(_) => Ok(None),
        })
    }

    /// Sends the balancer a datagram of its own.
    pub fn disturb_balancer(&self) -> Result<()> {
        self.client.within(|| {
            UdpSocket::bind("10.1.0.9:0")?.send_to(b"demo", "10.1.0.1:9")?;
            Ok(())
        })
    }

    /// Every path that must be gone when this is.
    pub fn traces(&self) -> Vec<PathBuf> {
        let hosts = [&self.client, &self.balancer, self.switch.host()].into_iter().chain(&self.backends);
        let paths = |host: &Host| [lab::namespace_path(host), host.pins(), host.directory()];
        hosts.flat_map(paths).filter(|path| path.exists()).collect()
    }
}

/// A key that nobody else has, the same for the whole demo.
fn hash_key() -> Result<String> {
    static KEY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    if KEY.get().is_none() {
        let mut bytes = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        KEY.get_or_init(|| bytes.map(|byte| format!("{byte:02x}")).concat());
    }
    KEY.get().cloned().context("made above")
}
