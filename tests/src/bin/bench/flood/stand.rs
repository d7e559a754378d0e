//! Two namespaces and a veth pair between them: outside the flood and the clients, inside a filter and, behind it, a web server
//! on the VIP. What comes from outside comes by the same interface, whoever sent it.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use lb_userspace::lab::{Flood, Host, Lab, Running, start_nginx, wait_until};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::filter::Filter;

/// The filter's own address, at which the VIP can be reached.
pub const INSIDE: &str = "10.2.0.1";
const OUTSIDE: &str = "10.2.0.9";
/// What clients ask and the flood is for.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 100);
/// Sources are scattered over RFC 2544's network, by these bits.
const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const VARY: Ipv4Addr = Ipv4Addr::new(0, 1, 255, 255);
/// Bytes of a page: what a small answer has.
const PAGE: usize = 1_000;
/// Frames of XDP's that did not fit into the other end's ring.
const LOST: &str = "tx_queue_0_xdp_xmit_errors";
const PATIENCE: Duration = Duration::from_secs(20);

/// One filter with all around it. Fields are dropped in this order.
pub struct Stand {
    pub filter: Filter,
    pub flood: Flood,
    pub agent: Option<Running>,
    _nginx: Running,
    pub outside: Host,
    pub inside: Host,
    _lab: Lab,
}

/// What became of the flood so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Fate {
    /// Sent.
    pub made: u64,
    /// Of those, what did not fit into the veth's ring: no filter saw it.
    pub lost_in_ring: u64,
    /// Dropped by the filter.
    pub dropped: u64,
}

impl Fate {
    /// What came after some earlier moment.
    pub fn since(self, before: Fate) -> Fate {
        Fate {
            made: self.made - before.made,
            lost_in_ring: self.lost_in_ring - before.lost_in_ring,
            dropped: self.dropped - before.dropped,
        }
    }

    /// What reached the filter.
    pub fn arrived(self) -> u64 {
        self.made.saturating_sub(self.lost_in_ring)
    }
}

impl Stand {
    /// Sets it up; servers run on the CPU of [`Cpus::served`].
    pub fn new(filter: Filter, name: &str, cpus: Cpus) -> Result<Stand> {
        let lab = Lab::new(&format!("flood-{name}"))?;
        let (outside, inside) = wire(&lab)?;
        inside.ip(&format!("route add local {VIP} dev lo"))?;
        inside.ip(&format!("route add default via {OUTSIDE}"))?;
        outside.ip(&format!("route add {VIP} via {INSIDE}"))?;
        let nginx = start_nginx(&inside, &"x".repeat(PAGE))?;
        pin(nginx.pid(), cpus.served)?;
        let agent = filter.set_up(&inside, &VIP.to_string())?;
        if let Some(agent) = &agent {
            pin(agent.pid(), cpus.served)?;
        }
        let answers = || outside.within(|| Ok(TcpStream::connect((VIP, 80))?)).is_ok();
        wait_until(&format!("{}: nginx answers", filter.name()), PATIENCE, answers)?;
        let to = (inside.mac("eth0")?, SocketAddrV4::new(VIP, 80));
        let flood = Flood::new(&outside, "eth0", to, SOURCE, VARY)?;
        Ok(Stand { filter, flood, agent, _nginx: nginx, outside, inside, _lab: lab })
    }

    /// What became of the flood so far.
    pub fn fate(&self) -> Result<Fate> {
        Ok(Fate {
            made: self.flood.made()?,
            lost_in_ring: statistic(&self.outside, LOST)?,
            dropped: self.filter.dropped(&self.inside)?,
        })
    }

    /// Packets of others that did not fit into the ring.
    pub fn clients_lost(&self) -> Result<u64> {
        let shown = self.outside.ip("-j -s link show dev eth0")?;
        let json: serde_json::Value = serde_json::from_str(&shown)?;
        let all = json[0]["stats64"]["tx"]["dropped"].as_u64().context("`ip -s` printed no dropped packets")?;
        Ok(all.saturating_sub(statistic(&self.outside, LOST)?))
    }
}

/// A receiver that does the least: a program that drops everything in the driver.
pub struct Discarding {
    pub flood: Flood,
    _program: Ebpf,
    _lab: Lab,
}

impl Discarding {
    pub fn new() -> Result<Discarding> {
        let lab = Lab::new("flood-discard")?;
        let (outside, inside) = wire(&lab)?;
        let program = inside.attach_traffic("eth0", "discard")?;
        let flood = Flood::new(&outside, "eth0", (inside.mac("eth0")?, SocketAddrV4::new(VIP, 80)), SOURCE, VARY)?;
        Ok(Discarding { flood, _program: program, _lab: lab })
    }
}

fn wire(lab: &Lab) -> Result<(Host, Host)> {
    let (outside, inside) = (lab.host("outside")?, lab.host("inside")?);
    for host in [&outside, &inside] {
        // What the stack sends of its own accord wakes other CPUs.
        host.set("net/ipv6/conf/default/disable_ipv6", 1)?;
    }
    outside.ip(&format!("link add eth0 type veth peer name eth0 netns {}", inside.namespace()))?;
    for (host, address) in [(&outside, OUTSIDE), (&inside, INSIDE)] {
        // Else frames arrive whose checksums nobody has filled in.
        host.output("ethtool", &["-K", "eth0", "tx", "off"])?;
        host.ip(&format!("addr add {address}/24 dev eth0"))?;
        host.ip("link set eth0 up")?;
    }
    // As network cards have it; and without it, a veth that has no program of XDP's takes no frames from one.
    inside.output("ethtool", &["-K", "eth0", "gro", "on"])?;
    Ok((outside, inside))
}

/// A statistic of eth0's driver.
fn statistic(host: &Host, name: &str) -> Result<u64> {
    let shown = host.output("ethtool", &["-S", "eth0"])?;
    let line = shown.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    line.and_then(|number| number.trim().parse().ok()).with_context(|| format!("`ethtool -S` printed no {name}"))
}

/// Which CPU does what.
#[derive(Clone, Copy)]
pub struct Cpus {
    /// The generator, and what its frames set off.
    pub flooding: usize,
    /// Clients and servers.
    pub served: usize,
}

impl Cpus {
    /// The last CPU that we may use floods, the first serves.
    pub fn choose() -> Result<Cpus> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let usable: Vec<_> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
        ensure!(usable.len() > 1, "the flood needs two CPUs: one for the generator, one for clients and servers");
        Ok(Cpus { flooding: usable[usable.len() - 1], served: usable[0] })
    }
}

/// Keeps a process, 0 being the thread that calls, on a CPU.
pub fn pin(pid: u32, cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(pid as i32), &cpus).with_context(|| format!("cannot pin {pid} to CPU {cpu}"))
}
