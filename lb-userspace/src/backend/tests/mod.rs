//! What is needed, how it is printed, and how a host is judged by it.

mod check;
mod print;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use super::{
    needs::{DEFAULT_PATH_MTU, Device},
    *,
};
use crate::config;

const CONFIGURATION: &str = r#"
interface = "eth0"
[service.web]
vip      = ["192.0.2.10:80", "192.0.2.10:443", "[2001:db8::10]:80"]
backends = ["10.0.0.21", "10.0.0.23"]
[service.dns]
vip      = ["192.0.2.53:53/udp", "192.0.2.53:53", "[2001:db8::53]:53/udp"]
backends = ["10.0.0.21-22"]
forward  = "ipip"
[service.ftp]
vip      = ["192.0.2.21:*", "[2001:db8::21]:*"]
backends = ["10.0.0.31", "10.0.0.32", "fd00::33"]
forward  = "ipip"
[service.six]
vip      = "[2001:db8::66]:80"
backends = ["fd00::66"]
"#;

fn asked(services: &[&str]) -> Asked {
    Asked {
        config: PathBuf::from("weir.toml"),
        services: services.iter().map(|service| service.to_string()).collect(),
        backend: None,
        interface: "eth0".into(),
        decapsulation: Decapsulation::Weir,
        path_mtu: DEFAULT_PATH_MTU,
        pins: None,
    }
}

fn by_kernel(services: &[&str]) -> Asked {
    Asked { decapsulation: Decapsulation::Kernel, ..asked(services) }
}

fn needs(asked: &Asked) -> Needs {
    Needs::new(&config::parse("weir.toml", CONFIGURATION).unwrap(), asked).unwrap()
}

fn refused(asked: &Asked) -> String {
    Needs::new(&config::parse("weir.toml", CONFIGURATION).unwrap(), asked).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let backend = |address: &str| Some(address.parse().unwrap());
    for (asked, sentence) in [
        (asked(&["wbe"]), r#"service "wbe": no such service (have: dns, ftp, six, web)"#),
        (
            Asked { backend: backend("10.0.0.9"), ..asked(&["dns"]) },
            r#"backend 10.0.0.9: not a backend of service "dns" (have: 10.0.0.21, 10.0.0.22)"#,
        ),
        (
            Asked { interface: "eth0; reboot".into(), ..asked(&["dns"]) },
            r#"interface "eth0; reboot": not a name of an interface (up to 15 letters, digits and _ . - : @)"#,
        ),
    ] {
        assert_eq!(refused(&asked), sentence);
    }
}

#[test]
fn segments_leave_room_for_the_longest_outer_header() {
    for (services, path_mtu, outer, mss) in [
        (&["dns"][..], 1500, 20, (1440, 1420)),
        (&["ftp"], 1500, 40, (1420, 1400)),
        (&["dns", "ftp"], 1500, 40, (1420, 1400)),
        (&["dns", "web"], 1520, 20, (1460, 1440)),
        (&["dns"], 9000, 20, (8940, 8920)),
    ] {
        let tunnel = needs(&Asked { path_mtu, ..asked(services) }).tunnel.unwrap();
        assert_eq!(tunnel.outer_bytes(), outer, "{services:?}");
        assert_eq!((tunnel.mss4(), tunnel.mss6()), mss, "{services:?} at {path_mtu}");
    }
}

#[test]
fn small_segments_are_those_of_the_services_asked_for() {
    let text = CONFIGURATION
        .replace("[service.web]", "[service.web]\nmss = 1360")
        .replace("[service.dns]", "[service.dns]\nmss = 1340");
    let config = config::parse("weir.toml", &text).unwrap();
    let segments = |services: &[&str]| {
        let needs = Needs::new(&config, &asked(services)).unwrap();
        let text = |vips: &BTreeSet<IpAddr>| vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        needs.segments.iter().map(|(mss, vips)| format!("{mss} {}", text(vips))).collect::<Vec<_>>()
    };
    assert_eq!(segments(&["web"]), ["1360 192.0.2.10 2001:db8::10"]);
    // Of its VIPs one is TCP's.
    assert_eq!(segments(&["dns", "web", "six"]), ["1340 192.0.2.53", "1360 192.0.2.10 2001:db8::10"]);
    assert!(segments(&["six", "ftp"]).is_empty());
}

#[test]
fn one_backend_has_the_outer_header_of_its_family() {
    let one = Asked { backend: Some("10.0.0.31".parse().unwrap()), ..by_kernel(&["ftp"]) };
    let tunnel = needs(&one).tunnel.unwrap();
    assert_eq!((tunnel.outer_bytes(), tunnel.devices()), (20, vec![Device::Ipip, Device::Sit]));
}

#[test]
fn tunnel_devices_are_those_that_the_families_need() {
    use Device::{Ip6Tnl, Ipip, Sit};
    let devices = |asked: &Asked| needs(asked).tunnel.unwrap().devices();
    assert_eq!(devices(&by_kernel(&["ftp"])), [Ipip, Sit, Ip6Tnl]);
    assert_eq!(devices(&by_kernel(&["dns"])), [Ipip, Sit]);
    assert_eq!(devices(&asked(&["ftp"])), []);
    assert_eq!(needs(&by_kernel(&["web"])).tunnel, None);
}

#[test]
fn ipv6_alone_needs_no_settings() {
    let needs = needs(&asked(&["six"]));
    assert_eq!((needs.arp_sysctls(), needs.rp_filter_sysctls()), (vec![], vec![]));
}

#[test]
fn settings_of_interfaces_with_dots_are_written_with_slashes() {
    let needs = needs(&Asked { interface: "eth0.100".into(), ..asked(&["web"]) });
    let keys: Vec<_> = needs.arp_sysctls().iter().map(|sysctl| sysctl.key()).collect();
    assert_eq!(keys[..2], ["net.ipv4.conf.all.arp_ignore", "net/ipv4/conf/eth0.100/arp_ignore"]);
}
