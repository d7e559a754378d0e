//! What a backend of some services needs: pure, from the configuration and what was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::config::{Config, Forward, Protocol, Service, Vip};

/// What a path takes unless told otherwise.
pub const DEFAULT_PATH_MTU: u16 = 1500;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The configuration's file.
    pub config: PathBuf,
    /// Names of services; together, because one host has one set of rules and one program for all it serves.
    pub services: Vec<String>,
    /// The backend that it is about, if only one.
    pub backend: Option<IpAddr>,
    /// The backend's interface that packets arrive by.
    pub interface: String,
    /// Who takes tunnels apart.
    pub decapsulation: Decapsulation,
    /// The largest IP packet that the way from balancer to backend takes; bytes.
    pub path_mtu: u16,
    /// Where the second program is to be pinned, if not at its usual place.
    pub pins: Option<PathBuf>,
}

/// Who takes tunnels apart on a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decapsulation {
    /// `weir backend run`.
    Weir,
    /// The kernel's tunnel devices.
    Kernel,
}

/// What is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needs {
    /// The interface that packets arrive by.
    pub interface: String,
    /// The addresses of each service's backends, of which the host must have one.
    pub services: BTreeMap<String, BTreeSet<IpAddr>>,
    /// What clients connect to, sorted.
    pub vips: Vec<Vip>,
    /// What tunnelled services add.
    pub tunnel: Option<Tunnel>,
    /// Addresses of TCP VIPs by the largest segments that clients may send there (`mss`), where that is set.
    pub segments: BTreeMap<u16, BTreeSet<IpAddr>>,
    /// The command that sets all of it up.
    pub command: String,
}

/// What a host needs to receive tunnelled packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// The VIPs that arrive in tunnels.
    pub vips: Vec<Vip>,
    /// The backends' addresses, at which tunnels end.
    pub ends: BTreeSet<IpAddr>,
    /// Who takes them apart.
    pub decapsulation: Decapsulation,
    /// The largest IP packet, outer header included, that the way from the balancer takes; bytes.
    pub path_mtu: u16,
    /// Where the second program is to be pinned, if not at its usual place.
    pub pins: Option<PathBuf>,
}

/// A setting below `net/ipv4/conf`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sysctl {
    /// `all` or an interface.
    pub scope: String,
    /// Its name.
    pub name: &'static str,
    /// What it must be.
    pub value: u8,
}

impl Sysctl {
    /// As sysctl(8) takes it: with slashes where the interface's name has dots.
    pub fn key(&self) -> String {
        if self.scope.contains('.') { self.path() } else { self.path().replace('/', ".") }
    }

    /// Below /proc/sys.
    pub fn path(&self) -> String {
        format!("net/ipv4/conf/{}/{}", self.scope, self.name)
    }
}

/// One of the kernel's tunnel devices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Device {
    /// IPv4 in IPv4.
    Ipip,
    /// IPv6 in IPv4.
    Sit,
    /// Both in IPv6.
    Ip6Tnl,
}

impl Device {
    /// The device's name.
    pub const fn name(self) -> &'static str {
        match self {
            Device::Ipip => "weir-ipip",
            Device::Sit => "weir-sit",
            Device::Ip6Tnl => "weir-ip6tnl",
        }
    }

    /// What iproute2 and networkd call its kind.
    pub const fn kind(self) -> &'static str {
        match self {
            Device::Ipip => "ipip",
            Device::Sit => "sit",
            Device::Ip6Tnl => "ip6tnl",
        }
    }

    /// Whether its outer header is IPv4's.
    pub const fn outer_is_4(self) -> bool {
        !matches!(self, Device::Ip6Tnl)
    }

    /// Whether packets inside may be IPv4.
    pub const fn carries_4(self) -> bool {
        !matches!(self, Device::Sit)
    }
}

impl Needs {
    /// What backends of these services need.
    pub fn new(config: &Config, asked: &Asked) -> Result<Self> {
        let interface = interface_name(&asked.interface)?;
        let chosen = asked.services.iter().map(|name| service(config, name)).collect::<Result<Vec<_>>>()?;
        let mut services = BTreeMap::new();
        for service in &chosen {
            services.insert(service.name.clone(), ends(service, asked.backend)?);
        }
        let vips = |wanted: &dyn Fn(&Service) -> bool| {
            let vips: BTreeSet<_> = chosen.iter().filter(|s| wanted(s)).flat_map(|s| s.vips.iter().copied()).collect();
            Vec::from_iter(vips)
        };
        let tunnelled = |service: &Service| service.forward == Forward::Ipip;
        let ends =
            chosen.iter().filter(|service| tunnelled(service)).flat_map(|service| services[&service.name].clone());
        let tunnel = Tunnel {
            vips: vips(&tunnelled),
            ends: ends.collect(),
            decapsulation: asked.decapsulation,
            path_mtu: asked.path_mtu,
            pins: asked.pins.clone(),
        };
        let vips = vips(&|_| true);
        let tunnel = (!tunnel.vips.is_empty()).then_some(tunnel);
        let segments = segments(&chosen);
        Ok(Needs { interface, services, vips, tunnel, segments, command: setup_command(asked) })
    }

    /// The VIPs' addresses.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        addresses(&self.vips)
    }

    /// Whether a VIP is IPv4.
    pub fn has_4(&self) -> bool {
        self.vips.iter().any(|vip| vip.address.is_ipv4())
    }

    /// Settings that keep the host silent about its VIPs: IPv4 alone needs them, IPv6 answers for an address only on
    /// the interface that has it.
    pub fn arp_sysctls(&self) -> Vec<Sysctl> {
        let scopes = ["all", self.interface.as_str()];
        let names = [("arp_ignore", 1), ("arp_announce", 2)];
        let sysctls = names.iter().flat_map(|(name, value)| scopes.map(|scope| sysctl(scope, name, *value)));
        if self.has_4() { sysctls.collect() } else { Vec::new() }
    }

    /// Loose reverse path filtering, on the interface and on tunnel devices. The kernel takes the larger of this and
    /// `all`, so that a strict `all` needs no change.
    pub fn rp_filter_sysctls(&self) -> Vec<Sysctl> {
        if !self.has_4() {
            return Vec::new();
        }
        let devices = self.tunnel.iter().flat_map(Tunnel::devices).filter(|device| device.carries_4());
        let mut scopes = vec![self.interface.as_str()];
        scopes.extend(devices.map(|device| device.name()));
        scopes.into_iter().map(|scope| sysctl(scope, "rp_filter", 2)).collect()
    }
}

impl Tunnel {
    /// The VIPs' addresses.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        addresses(&self.vips)
    }

    /// Bytes of the longest outer header.
    pub fn outer_bytes(&self) -> u16 {
        if self.ends.iter().any(IpAddr::is_ipv6) { 40 } else { 20 }
    }

    /// The largest packet inside.
    pub fn inner_mtu(&self) -> u16 {
        self.path_mtu - self.outer_bytes()
    }

    /// The largest TCP segment to an IPv4 VIP.
    pub fn mss4(&self) -> u16 {
        self.inner_mtu() - 20 - 20
    }

    /// The largest TCP segment to an IPv6 VIP.
    pub fn mss6(&self) -> u16 {
        self.inner_mtu() - 40 - 20
    }

    /// The kernel's devices for it; none if Weir takes tunnels apart.
    pub fn devices(&self) -> Vec<Device> {
        if self.decapsulation == Decapsulation::Weir {
            return Vec::new();
        }
        let outer = |v4: bool| self.ends.iter().any(|end| end.is_ipv4() == v4);
        let inner = |v4: bool| self.vips.iter().any(|vip| vip.address.is_ipv4() == v4);
        let devices = [
            (Device::Ipip, outer(true) && inner(true)),
            (Device::Sit, outer(true) && inner(false)),
            (Device::Ip6Tnl, outer(false)),
        ];
        devices.into_iter().filter(|(_, needed)| *needed).map(|(device, _)| device).collect()
    }

    /// The ends of a family.
    pub fn ends_of(&self, v4: bool) -> Vec<IpAddr> {
        self.ends.iter().copied().filter(|end| end.is_ipv4() == v4).collect()
    }

    /// The VIPs that must be on a device too: even loose filtering drops all that comes by one without an IPv4 address.
    pub fn addresses_on(&self, device: Device) -> Vec<IpAddr> {
        self.addresses().into_iter().filter(|vip| vip.is_ipv4() && device.carries_4()).collect()
    }
}

/// A VIP's address as iproute2 takes it.
pub fn prefixed(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn addresses(vips: &[Vip]) -> BTreeSet<IpAddr> {
    vips.iter().map(|vip| vip.address).collect()
}

/// Services' TCP addresses by the largest segments that clients may send there.
fn segments(services: &[&Service]) -> BTreeMap<u16, BTreeSet<IpAddr>> {
    let mut segments: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
    for (service, mss) in services.iter().filter_map(|service| Some((service, service.mss?))) {
        let vips = service.vips.iter().filter(|vip| vip.protocol == Protocol::Tcp);
        let addresses: BTreeSet<_> = vips.map(|vip| vip.address).collect();
        if !addresses.is_empty() {
            segments.entry(mss).or_default().extend(addresses);
        }
    }
    segments
}

fn setup_command(asked: &Asked) -> String {
    let Asked { config, services, backend, interface, decapsulation, path_mtu, pins } = asked;
    let option = |name: &str, value: Option<String>| {
        value.map(|value| format!(" {name} {}", quoted(&value))).unwrap_or_default()
    };
    let path = |path: &Path| path.display().to_string();
    let services: String = services.iter().map(|service| format!(" {}", quoted(service))).collect();
    let options = [
        option("--config", Some(path(config))),
        option("--interface", Some(interface.clone())),
        option("--backend", backend.map(|backend| backend.to_string())),
        option("--decapsulation", (*decapsulation == Decapsulation::Kernel).then(|| "kernel".into())),
        option("--path-mtu", (*path_mtu != DEFAULT_PATH_MTU).then(|| path_mtu.to_string())),
    ];
    let pins = option("--pins", pins.as_deref().map(path));
    format!("weir{pins} backend setup{services}{} | sh", options.concat())
}

/// A word that a shell takes as it is.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.-:@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn sysctl(scope: &str, name: &'static str, value: u8) -> Sysctl {
    Sysctl { scope: scope.to_owned(), name, value }
}

/// Names that need no quoting anywhere they are printed.
fn interface_name(name: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-:@".contains(c);
    ensure!(
        (1..16).contains(&name.len()) && name.chars().all(plain) && !name.starts_with(['.', '-']),
        "interface {name:?}: not a name of an interface (up to 15 letters, digits and _ . - : @)"
    );
    Ok(name.to_owned())
}

fn service<'a>(config: &'a Config, name: &str) -> Result<&'a Service> {
    config.services.get(name).map(Arc::as_ref).with_context(|| {
        let names: Vec<_> = config.services.keys().map(String::as_str).collect();
        format!("service {name:?}: no such service (have: {})", names.join(", "))
    })
}

/// A service's backends, or the one it is about.
fn ends(service: &Service, only: Option<IpAddr>) -> Result<BTreeSet<IpAddr>> {
    let all: BTreeSet<_> = service.backends.iter().map(|backend| backend.address).collect();
    let Some(only) = only else { return Ok(all) };
    ensure!(all.contains(&only), "backend {only}: not a backend of service {:?} (have: {})", service.name, list(&all));
    Ok([only].into())
}

/// Addresses for people; of many, the first few.
pub fn list(addresses: &BTreeSet<IpAddr>) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = addresses.iter().take(SHOWN).map(IpAddr::to_string).collect();
    let more = addresses.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
