//! Whether a host has what it needs: pure, over what was gathered.

use std::{collections::BTreeSet, net::IpAddr};

use serde::Serialize;

use super::{
    host::{Host, Program, Rules},
    needs::{Decapsulation, Device, Needs, Tunnel, list},
    nftables::Table,
    shell::{address_command, run_command},
};
use crate::links::{Link, Mode};

/// A need, and how to meet it if the host does not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What is needed.
    pub need: String,
    /// Whether it is there.
    pub ok: bool,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// All needs, in the order in which they are best met.
pub fn judge(needs: &Needs, host: &Host) -> Vec<Finding> {
    let mut findings = vec![interface(needs, host)];
    findings.extend(needs.services.iter().map(|(service, backends)| is_backend(service, backends, host)));
    if needs.has_4() {
        findings.extend([arp_ignore(needs, host), arp_announce(needs, host)]);
        findings.extend(needs.rp_filter_sysctls().iter().map(|sysctl| rp_filter(&sysctl.scope, host)));
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
    let line = |Finding { need, ok, mend }: &Finding| match (ok, mend) {
        (true, _) => format!("ok       {need}"),
        (false, mend) => format!("missing  {need}: {}", mend.as_deref().unwrap_or("no way out is known")),
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Finding {
    fn new(need: impl Into<String>, mend: Option<String>) -> Self {
        Finding { need: need.into(), ok: mend.is_none(), mend }
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
    let mend = match host.link(name) {
        None => Some(format!("no such interface: name another with --interface (have: {})", names())),
        Some(link) if !link.up => Some(format!("ip link set dev {name} up")),
        Some(_) => None,
    };
    Finding::new(format!("interface {name} is up"), mend)
}

fn is_backend(service: &str, backends: &BTreeSet<IpAddr>, host: &Host) -> Finding {
    let here = host.addresses().find(|address| backends.contains(address));
    let mend = || format!("give it an address of theirs, or correct `backends` (have: {})", list(backends));
    match here {
        Some(address) => Finding::new(format!("{address} is a backend of service {service}"), None),
        None => Finding::new(format!("this host is a backend of service {service}"), Some(mend())),
    }
}

fn arp_ignore(needs: &Needs, host: &Host) -> Finding {
    // 2 and 8 answer even less; 3 goes by the address's scope, which here is global.
    arp(needs, host, "no ARP answers for VIPs", "arp_ignore", &[1, 2, 8])
}

fn arp_announce(needs: &Needs, host: &Host) -> Finding {
    arp(needs, host, "no ARP questions in the name of VIPs", "arp_announce", &[2])
}

fn arp(needs: &Needs, host: &Host, need: &str, name: &str, wanted: &[u8]) -> Finding {
    let unlike = host.unlike(name, wanted);
    let sysctls = needs.arp_sysctls().into_iter().filter(|sysctl| sysctl.name == name);
    let settings: Vec<_> = sysctls.map(|sysctl| format!("{}={}", sysctl.key(), sysctl.value)).collect();
    let mend = || {
        format!("sysctl -w {} (now {name} {} on {})", settings.join(" "), host.effective(unlike[0], name), unlike[0])
    };
    Finding::new(format!("{need} ({name})"), (!unlike.is_empty()).then(mend))
}

fn rp_filter(scope: &str, host: &Host) -> Finding {
    let strict = host.effective(scope, "rp_filter") == 1;
    let key = super::needs::Sysctl { scope: scope.into(), name: "rp_filter", value: 2 }.key();
    Finding::new(format!("reverse path filter on {scope} is not strict"), strict.then(|| format!("sysctl -w {key}=2")))
}

fn rules(needs: &Needs, host: &Host) -> Finding {
    let table = Table::new(needs);
    let need = if table.limits_segments() {
        "VIPs are not tracked, their segments leave room for outer headers (nftables)"
    } else {
        "VIPs are not tracked (nftables)"
    };
    if !host.conntrack && !table.limits_segments() {
        return Finding::new("VIPs are not tracked (no conntrack here)", None);
    }
    let again = &needs.command;
    let mend = match &host.rules {
        Rules::NoNft => Some(format!("there is no nft: install nftables, then {again}")),
        Rules::Unreadable(said) => Some(format!("nft cannot list table inet {}: {said}", super::nftables::NAME)),
        Rules::None => Some(again.clone()),
        Rules::Listed(listing) => {
            let missing = table.missing(listing);
            (!missing.is_empty()).then(|| format!("no {}: {again}", missing.join(", no ")))
        }
    };
    Finding::new(need, mend)
}

fn on_loopback(vip: IpAddr, host: &Host) -> Finding {
    let there = host.link("lo").is_some_and(|lo| lo.addresses.contains(&vip));
    Finding::new(format!("VIP {vip} on lo"), (!there).then(|| address_command(vip, "lo")))
}

/// On a link with neighbours a VIP is answered for, whatever the settings.
fn on_links(vip: IpAddr, host: &Host) -> Option<Finding> {
    let link = host.links.iter().find(|link| link.ethernet && link.addresses.contains(&vip))?;
    Some(Finding::new(format!("VIP {vip} on no link but lo"), Some(format!("ip address del {vip} dev {}", link.name))))
}

fn mtu(needs: &Needs, tunnel: &Tunnel, host: &Host) -> Finding {
    let (name, path) = (&needs.interface, tunnel.path_mtu);
    let has = host.link(name).map_or(0, |link| link.mtu);
    let mend =
        || format!("ip link set dev {name} mtu {path} (now {has}), or say --path-mtu {has} to all who set up backends");
    Finding::new(format!("interface {name} takes packets of {path} bytes"), (has < path.into()).then(mend))
}

fn program(needs: &Needs, tunnel: &Tunnel, host: &Host) -> Finding {
    let name = &needs.interface;
    let mut need = format!("outer headers are taken off on {name}");
    let xdp = host.link(name).and_then(|link| link.xdp);
    let lacks = match (&host.program, xdp) {
        (Some(program), Some(_)) if program.interfaces.contains(name) => unknown(tunnel, program, host),
        _ => Some("no program".to_owned()),
    };
    if lacks.is_none() && xdp.is_some_and(|xdp| xdp.mode == Mode::Generic) {
        need += " (in generic mode, which is much slower than native)";
    }
    Finding::new(need, lacks.map(|lacks| format!("{lacks}: {}", run_command(needs, tunnel).join(" "))))
}

/// An address that the program should know and does not.
fn unknown(tunnel: &Tunnel, program: &Program, host: &Host) -> Option<String> {
    let vip = tunnel.addresses().into_iter().find(|vip| !program.addresses.vips.contains(vip));
    let end = host.addresses().find(|end| tunnel.ends.contains(end) && !program.addresses.ends.contains(end));
    vip.map(|vip| format!("not for VIP {vip}")).or(end.map(|end| format!("not for tunnels to {end}")))
}

fn devices(needs: &Needs, tunnel: &Tunnel, host: &Host) -> Vec<Finding> {
    let here: Vec<_> = host.addresses().filter(|address| tunnel.ends.contains(address)).collect();
    let needed = |device: &Device| here.is_empty() || here.iter().any(|end| end.is_ipv4() == device.outer_is_4());
    tunnel.devices().into_iter().filter(needed).map(|device| device_is_there(device, needs, tunnel, host)).collect()
}

fn device_is_there(device: Device, needs: &Needs, tunnel: &Tunnel, host: &Host) -> Finding {
    let name = device.name();
    let lacks = match host.link(name) {
        None => Some("it is not there".to_owned()),
        Some(link) if !link.up => Some("it is down".to_owned()),
        Some(link) => {
            let mut addresses = tunnel.addresses_on(device).into_iter();
            addresses.find(|vip| !link.addresses.contains(vip)).map(|vip| format!("it lacks address {vip}"))
        }
    };
    Finding::new(format!("tunnel device {name}"), lacks.map(|lacks| format!("{lacks}: {}", needs.command)))
}
