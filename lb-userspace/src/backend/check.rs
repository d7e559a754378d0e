//! Whether a host has what it needs: pure, over what was gathered.

use std::{collections::BTreeSet, net::IpAddr};

use serde::Serialize;

use super::{
    host::{Host, Program, Rules},
    needs::{Decapsulation, Device, Needs, Sysctl, Tunnel, list},
    nftables::{self, Table},
    shell::{address_command, run_command},
};
use crate::links::{Link, Mode};

/// A need, and what is lacking if the host does not meet it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What is needed.
    pub need: String,
    /// Whether it is there.
    pub ok: bool,
    /// What is there instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lack: Option<String>,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// All needs, in the order in which they are best met.
pub fn judge(needs: &Needs, host: &Host) -> Vec<Finding> {
    let mut findings = vec![interface(needs, host)];
    findings.extend(needs.services.iter().map(|(service, backends)| is_backend(service, backends, host)));
    if needs.has_4() {
        findings.extend([arp_ignore(needs, host), arp_announce(needs, host)]);
        findings.extend(needs.rp_filter_sysctls().iter().map(|sysctl| rp_filter(sysctl, host)));
    }
    findings.push(rules(needs, host));
    for vip in needs.addresses() {
        findings.push(on_loopback(vip, host));
        findings.extend(on_links(vip, host));
    }
    if let Some(tunnel) = &needs.tunnel {
        findings.push(mtu(needs, tunnel, host));
        match tunnel.decapsulation {
            Decapsulation::Weir => findings.push(program(needs, tunnel, host)),
            Decapsulation::Kernel => findings.extend(devices(needs, tunnel, host)),
        }
    }
    findings
}

/// The findings as `--check` prints them, a line each.
pub fn text(findings: &[Finding]) -> String {
    let line = |Finding { need, ok, lack, mend }: &Finding| {
        let word = if *ok { "ok      " } else { "missing " };
        let lack = lack.iter().map(|lack| format!(" ({lack})")).collect::<String>();
        let mend = mend.iter().map(|mend| format!(": {mend}")).collect::<String>();
        format!("{word} {need}{lack}{mend}")
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What a host lacks: in words, and the command that mends it if there is one.
type Lack = (String, Option<String>);

impl Finding {
    fn new(need: impl Into<String>, lack: Option<Lack>) -> Self {
        let (need, ok) = (need.into(), lack.is_none());
        let (lack, mend) = lack.map_or((None, None), |(lack, mend)| (Some(lack), mend));
        Finding { need, ok, lack, mend }
    }
}

impl Host {
    fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.links.iter().flat_map(|link| link.addresses.iter().copied())
    }

    /// The larger of an interface's setting and that of all: what the kernel goes by.
    fn effective(&self, interface: &str, name: &str) -> u8 {
        let value = |scope: &str| self.sysctls.get(&format!("net/ipv4/conf/{scope}/{name}")).copied().unwrap_or(0);
        value(interface).max(value("all"))
    }

    /// The interfaces on which a setting is not as wanted, of those that neighbours can be on.
    fn unlike(&self, name: &str, wanted: &[u8]) -> Vec<&str> {
        let links = self.links.iter().filter(|link| link.ethernet && link.up);
        links.map(|link| link.name.as_str()).filter(|link| !wanted.contains(&self.effective(link, name))).collect()
    }
}

fn interface(needs: &Needs, host: &Host) -> Finding {
    let name = &needs.interface;
    let names = || host.links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
    let lack = match host.link(name) {
        None => Some((format!("no such interface, --interface names another, have: {}", names()), None)),
        Some(link) if !link.up => Some(("it is down".into(), Some(format!("ip link set dev {name} up")))),
        Some(_) => None,
    };
    Finding::new(format!("interface {name} is up"), lack)
}

fn is_backend(service: &str, backends: &BTreeSet<IpAddr>, host: &Host) -> Finding {
    let here = host.addresses().any(|address| backends.contains(&address));
    let lack = || (format!("it has none of their addresses: {}", list(backends)), None);
    Finding::new(format!("this host is a backend of service {service}"), (!here).then(lack))
}

fn arp_ignore(needs: &Needs, host: &Host) -> Finding {
    // 2 and 8 answer even less; 3 goes by the address's scope, which here is global.
    arp(needs, host, "no ARP answers for VIPs", "arp_ignore", &[1, 2, 8])
}

fn arp_announce(needs: &Needs, host: &Host) -> Finding {
    arp(needs, host, "no ARP questions in the name of VIPs", "arp_announce", &[2])
}

fn arp(needs: &Needs, host: &Host, need: &str, name: &str, wanted: &[u8]) -> Finding {
    let sysctls = needs.arp_sysctls().into_iter().filter(|sysctl| sysctl.name == name);
    let settings = sysctls.map(|sysctl| format!(" {}={}", sysctl.key(), sysctl.value)).collect::<String>();
    let lack = host.unlike(name, wanted).first().map(|link| {
        (format!("{name} is {} on {link}", host.effective(link, name)), Some(format!("sysctl -w{settings}")))
    });
    Finding::new(need, lack)
}

fn rp_filter(sysctl: &Sysctl, host: &Host) -> Finding {
    let strict = host.effective(&sysctl.scope, sysctl.name) == 1;
    let lack = || ("rp_filter is 1".into(), Some(format!("sysctl -w {}={}", sysctl.key(), sysctl.value)));
    Finding::new(format!("reverse path filter on {} is not strict", sysctl.scope), strict.then(lack))
}

fn rules(needs: &Needs, host: &Host) -> Finding {
    let table = Table::new(needs);
    if !host.conntrack && !table.limits_segments() {
        return Finding::new("connections to VIPs are not tracked: no conntrack here", None);
    }
    let need = if table.limits_segments() {
        "connections to VIPs are not tracked, segments to them are kept small"
    } else {
        "connections to VIPs are not tracked"
    };
    let lack = match &host.rules {
        Rules::NoNft => Some(("nft is not installed".into(), None)),
        Rules::Unreadable(said) => Some((format!("nft cannot list table inet {}: {said}", nftables::NAME), None)),
        Rules::None => Some((format!("no table inet {}", nftables::NAME), Some(needs.command.clone()))),
        Rules::Listed(listing) => {
            let missing = table.missing(listing);
            (!missing.is_empty()).then(|| (format!("no {}", missing.join(", no ")), Some(needs.command.clone())))
        }
    };
    Finding::new(need, lack)
}

fn on_loopback(vip: IpAddr, host: &Host) -> Finding {
    let there = host.link("lo").is_some_and(|lo| lo.addresses.contains(&vip));
    Finding::new(
        format!("VIP {vip} is on lo"),
        (!there).then(|| ("it is not".into(), Some(address_command(vip, "lo")))),
    )
}

/// On a link with neighbours a VIP is answered for, whatever the settings.
fn on_links(vip: IpAddr, host: &Host) -> Option<Finding> {
    let link = host.links.iter().find(|link| link.ethernet && link.addresses.contains(&vip))?;
    let mend = format!("ip address flush dev {} to {vip}", link.name);
    Some(Finding::new(
        format!("VIP {vip} is on no link with neighbours"),
        Some((format!("it is on {}", link.name), Some(mend))),
    ))
}

fn mtu(needs: &Needs, tunnel: &Tunnel, host: &Host) -> Finding {
    let (name, path) = (&needs.interface, tunnel.path_mtu);
    let has = host.link(name).map_or(0, |link| link.mtu);
    let lack = || (format!("its MTU is {has}"), Some(format!("ip link set dev {name} mtu {path}")));
    Finding::new(format!("interface {name} takes packets of {path} bytes"), (has < path.into()).then(lack))
}

fn program(needs: &Needs, tunnel: &Tunnel, host: &Host) -> Finding {
    let name = &needs.interface;
    let xdp = host.link(name).and_then(|link| link.xdp);
    let lacks = match (&host.program, xdp) {
        (Some(program), Some(_)) if program.interfaces.contains(name) => unknown(tunnel, program, host),
        _ => Some("no program of weir is attached".to_owned()),
    };
    let generic = lacks.is_none() && xdp.is_some_and(|xdp| xdp.mode == Mode::Generic);
    let how = if generic { ", in generic mode, which is much slower than native" } else { "" };
    Finding::new(
        format!("outer headers are taken off on {name}{how}"),
        lacks.map(|lacks| (lacks, Some(run_command(needs, tunnel).join(" ")))),
    )
}

/// An address that the program should know and does not.
fn unknown(tunnel: &Tunnel, program: &Program, host: &Host) -> Option<String> {
    let vip = tunnel.addresses().into_iter().find(|vip| !program.addresses.vips.contains(vip));
    let end = host.addresses().find(|end| tunnel.ends.contains(end) && !program.addresses.ends.contains(end));
    vip.map(|vip| format!("not for VIP {vip}")).or(end.map(|end| format!("not in tunnels to {end}")))
}

fn devices(needs: &Needs, tunnel: &Tunnel, host: &Host) -> Vec<Finding> {
    let here: Vec<_> = host.addresses().filter(|address| tunnel.ends.contains(address)).collect();
    let needed = |device: &Device| here.is_empty() || here.iter().any(|end| end.is_ipv4() == device.outer_is_4());
    tunnel.devices().into_iter().filter(needed).map(|device| device_is_there(device, needs, tunnel, host)).collect()
}

fn device_is_there(device: Device, needs: &Needs, tunnel: &Tunnel, host: &Host) -> Finding {
    let name = device.name();
    let lacks = match host.link(name) {
        None => Some("there is none".to_owned()),
        Some(link) if !link.up => Some("it is down".to_owned()),
        Some(link) => {
            let mut addresses = tunnel.addresses_on(device).into_iter();
            addresses.find(|vip| !link.addresses.contains(vip)).map(|vip| format!("it lacks address {vip}"))
        }
    };
    let need = format!("tunnel device {name} is up with its addresses");
    Finding::new(need, lacks.map(|lacks| (lacks, Some(needs.command.clone()))))
}
