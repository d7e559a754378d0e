use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::{
    backend::{
        check::{judge, text},
        host::{Host, Program, Rules},
    },
    datapath::backend::Addresses,
    links::{Link, Mode, Xdp},
};

/// What nft 1.0.6 lists of the table for the service dns.
const LISTED: &str = r#"{"nftables": [
{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
{"table": {"family": "inet", "name": "weir_backend", "handle": 2}},
{"set": {"family": "inet", "name": "services4", "table": "weir_backend", "type": ["ipv4_addr", "inet_proto", "inet_service"], "handle": 4,
  "elem": [{"concat": ["192.0.2.53", "tcp", 53]}, {"concat": ["192.0.2.53", "udp", 53]}]}},
{"set": {"family": "inet", "name": "vips4", "table": "weir_backend", "type": "ipv4_addr", "handle": 5, "elem": ["192.0.2.53"]}},
{"set": {"family": "inet", "name": "tunnelled4", "table": "weir_backend", "type": "ipv4_addr", "handle": 6, "elem": ["192.0.2.53"]}},
{"set": {"family": "inet", "name": "services6", "table": "weir_backend", "type": ["ipv6_addr", "inet_proto", "inet_service"], "handle": 7,
  "elem": [{"concat": ["2001:db8::53", "udp", 53]}]}},
{"set": {"family": "inet", "name": "vips6", "table": "weir_backend", "type": "ipv6_addr", "handle": 8, "elem": ["2001:db8::53"]}},
{"chain": {"family": "inet", "table": "weir_backend", "name": "prerouting", "handle": 1, "type": "filter", "hook": "prerouting", "prio": -300, "policy": "accept"}},
{"chain": {"family": "inet", "table": "weir_backend", "name": "output", "handle": 2, "type": "filter", "hook": "output", "prio": -300, "policy": "accept"}},
{"chain": {"family": "inet", "table": "weir_backend", "name": "mss", "handle": 3, "type": "filter", "hook": "output", "prio": -150, "policy": "accept"}},
{"rule": {"family": "inet", "table": "weir_backend", "chain": "prerouting", "handle": 9, "expr": [{"match": {"op": "==", "left": {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]}, "right": "@services4"}}, {"notrack": null}]}},
{"rule": {"family": "inet", "table": "weir_backend", "chain": "prerouting", "handle": 10, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "@vips4"}}, {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "icmp"}}, {"notrack": null}]}},
{"rule": {"family": "inet", "table": "weir_backend", "chain": "prerouting", "handle": 11, "expr": [{"match": {"op": "==", "left": {"concat": [{"payload": {"protocol": "ip6", "field": "daddr"}}, {"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]}, "right": "@services6"}}, {"notrack": null}]}},
{"rule": {"family": "inet", "table": "weir_backend", "chain": "prerouting", "handle": 12, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "daddr"}}, "right": "@vips6"}}, {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "ipv6-icmp"}}, {"notrack": null}]}},
{"rule": {"family": "inet", "table": "weir_backend", "chain": "output", "handle": 13, "expr": [{"match": {"op": "==", "left": {"concat": [{"payload": {"protocol": "ip", "field": "saddr"}}, {"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "sport"}}]}, "right": "@services4"}}, {"notrack": null}]}},
{"rule": {"family": "inet", "table": "weir_backend", "chain": "output", "handle": 14, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@vips4"}}, {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "icmp"}}, {"notrack": null}]}},
{"rule": {"family": "inet", "table": "weir_backend", "chain": "output", "handle": 15, "expr": [{"match": {"op": "==", "left": {"concat": [{"payload": {"protocol": "ip6", "field": "saddr"}}, {"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "sport"}}]}, "right": "@services6"}}, {"notrack": null}]}},
{"rule": {"family": "inet", "table": "weir_backend", "chain": "output", "handle": 16, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": "@vips6"}}, {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "ipv6-icmp"}}, {"notrack": null}]}},
{"rule": {"family": "inet", "table": "weir_backend", "chain": "mss", "handle": 17, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@tunnelled4"}}, {"match": {"op": "==", "left": {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["syn", "rst"]]}, "right": "syn"}}, {"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": 1440}}]}}
]}"#;

const AGAIN: &str = "weir backend setup dns --config weir.toml --interface eth0 | sh";
const RUN: &str = "weir backend run --interface eth0 --vip 192.0.2.53 --vip 2001:db8::53 --once";

fn link(name: &str, addresses: &[&str]) -> Link {
    Link {
        name: name.into(),
        index: 1,
        mac: [0; 6],
        mtu: 1500,
        up: true,
        carrier: true,
        ethernet: name.starts_with("eth"),
        vlan: None,
        xdp: None,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

/// What nft listed of a healthy host.
fn listing(host: &mut Host) -> &mut Vec<Value> {
    let Rules::Listed(listing) = &mut host.rules else { panic!("a healthy host has rules") };
    listing["nftables"].as_array_mut().unwrap()
}

/// A host that has all that a backend of dns needs.
fn healthy() -> Host {
    let vips = ["192.0.2.53", "2001:db8::53"];
    let lo = link("lo", &["127.0.0.1", "::1", vips[0], vips[1]]);
    let eth0 = Link { xdp: Some(Xdp { mode: Mode::Native, program: 7 }), ..link("eth0", &["10.0.0.22", "fd00::22"]) };
    let vips = vips.map(|vip| vip.parse().unwrap()).into();
    let addresses = Addresses::new(&vips, [&lo, &eth0].into_iter().flat_map(|link| link.addresses.clone()));
    let sysctls = [
        ("all/arp_ignore", 1),
        ("all/arp_announce", 0),
        ("all/rp_filter", 1),
        ("eth0/arp_ignore", 0),
        ("eth0/arp_announce", 2),
        ("eth0/rp_filter", 2),
    ];
    Host {
        links: vec![lo, eth0],
        sysctls: sysctls.into_iter().map(|(key, value)| (format!("net/ipv4/conf/{key}"), value)).collect(),
        conntrack: true,
        rules: Rules::Listed(serde_json::from_str(LISTED).unwrap()),
        program: Some(Program { addresses, interfaces: vec!["eth0".into()] }),
    }
}

fn judged(asked: &Asked, host: &Host) -> String {
    text(&judge(&needs(asked), host))
}

#[test]
fn a_host_that_lacks_nothing() {
    assert_eq!(
        judged(&asked(&["dns"]), &healthy()),
        "\
ok       interface eth0 is up
ok       this host is a backend of service dns
ok       no ARP answers for VIPs
ok       no ARP questions in the name of VIPs
ok       reverse path filter on eth0 is not strict
ok       connections to VIPs are not tracked, segments to them are kept small
ok       VIP 192.0.2.53 is on lo
ok       VIP 2001:db8::53 is on lo
ok       interface eth0 takes packets of 1500 bytes
ok       outer headers are taken off on eth0"
    );
}

#[test]
fn each_lack_is_named_with_the_command_that_mends_it() {
    type Break = fn(&mut Host);
    fn set(host: &mut Host, key: &str, value: u8) {
        host.sysctls.insert(format!("net/ipv4/conf/{key}"), value);
    }
    let cases: &[(Break, String)] = &[
        (
            |host| host.links[1].name = "ens3".into(),
            "interface eth0 is up (no such interface, --interface names another, have: lo, ens3)".into(),
        ),
        (|host| host.links[1].up = false, "interface eth0 is up (it is down): ip link set dev eth0 up".into()),
        (
            |host| host.links[1].addresses = vec!["10.0.0.9".parse().unwrap()],
            "this host is a backend of service dns (it has none of their addresses: 10.0.0.21, 10.0.0.22)".into(),
        ),
        (
            |host| set(host, "all/arp_ignore", 0),
            "no ARP answers for VIPs (arp_ignore is 0 on eth0): \
             sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.eth0.arp_ignore=1"
                .into(),
        ),
        (|host| set(host, "eth0/arp_ignore", 3), "no ARP answers for VIPs (arp_ignore is 3 on eth0): ".into()),
        (
            |host| {
                set(host, "all/arp_ignore", 0);
                set(host, "eth0/arp_ignore", 1);
                host.links.push(link("eth1", &[]));
            },
            "no ARP answers for VIPs (arp_ignore is 0 on eth1): ".into(),
        ),
        (
            |host| set(host, "eth0/arp_announce", 1),
            "no ARP questions in the name of VIPs (arp_announce is 1 on eth0): \
             sysctl -w net.ipv4.conf.all.arp_announce=2 net.ipv4.conf.eth0.arp_announce=2"
                .into(),
        ),
        (
            |host| set(host, "eth0/rp_filter", 0),
            "reverse path filter on eth0 is not strict (rp_filter is 1): sysctl -w net.ipv4.conf.eth0.rp_filter=2"
                .into(),
        ),
        (|host| host.rules = Rules::None, format!("kept small (no table inet weir_backend): {AGAIN}")),
        (|host| host.rules = Rules::NoNft, "kept small (nft is not installed)".into()),
        (
            |host| host.rules = Rules::Unreadable("JSON support not compiled-in".into()),
            "kept small (nft cannot list table inet weir_backend: JSON support not compiled-in)".into(),
        ),
        (
            |host| listing(host)[2]["set"]["elem"] = serde_json::json!([{ "concat": ["192.0.2.53", "udp", 54] }]),
            format!("kept small (no 192.0.2.53 . tcp . 53 and 1 more in set services4): {AGAIN}"),
        ),
        (
            |host| listing(host).retain(|object| object["rule"]["chain"] != "output"),
            "(no rule for @services4 in chain output, no rule for @vips4 in chain output, \
             no rule for @services6 in chain output, no rule for @vips6 in chain output)"
                .into(),
        ),
        (|host| listing(host)[8]["chain"]["prio"] = 0.into(), "kept small (no chain output at output raw): ".into()),
        (
            |host| listing(host).last_mut().unwrap()["rule"]["expr"][2]["mangle"]["value"] = 1460.into(),
            "kept small (no rule for @tunnelled4 in chain mss): ".into(),
        ),
        (
            |host| host.links[0].addresses.retain(|address| address.is_ipv4()),
            "VIP 2001:db8::53 is on lo (it is not): ip address replace 2001:db8::53/128 dev lo nodad preferred_lft 0"
                .into(),
        ),
        (
            |host| host.links[1].addresses.push("192.0.2.53".parse().unwrap()),
            "VIP 192.0.2.53 is on no link with neighbours (it is on eth0): ip address flush dev eth0 to 192.0.2.53"
                .into(),
        ),
        (
            |host| host.links[1].mtu = 1400,
            "interface eth0 takes packets of 1500 bytes (its MTU is 1400): ip link set dev eth0 mtu 1500".into(),
        ),
        (|host| host.program = None, format!("off on eth0 (no program of weir is attached): {RUN}")),
        (|host| host.links[1].xdp = None, format!("off on eth0 (no program of weir is attached): {RUN}")),
        (
            |host| host.program.as_mut().unwrap().interfaces = vec!["eth1".into()],
            format!("off on eth0 (no program of weir is attached): {RUN}"),
        ),
        (
            |host| host.program.as_mut().unwrap().addresses.vips.retain(|vip| vip.is_ipv4()),
            format!("off on eth0 (not for VIP 2001:db8::53): {RUN}"),
        ),
        (
            |host| host.program.as_mut().unwrap().addresses.ends.clear(),
            format!("off on eth0 (not in tunnels to 10.0.0.22): {RUN}"),
        ),
    ];
    for (breaks, line) in cases {
        let mut host = healthy();
        breaks(&mut host);
        let said = judged(&asked(&["dns"]), &host);
        let missing: Vec<_> = said.lines().filter(|line| !line.starts_with("ok       ")).collect();
        assert!(missing.iter().any(|there| there.starts_with("missing  ") && there.contains(line)), "{line}: {said}");
    }
}

#[test]
fn generic_mode_is_said_and_no_lack() {
    let mut host = healthy();
    host.links[1].xdp = Some(Xdp { mode: Mode::Generic, program: 7 });
    let said = judged(&asked(&["dns"]), &host);
    let line = "ok       outer headers are taken off on eth0, in generic mode, which is much slower than native";
    assert!(said.lines().any(|there| there == line), "{said}");
}

#[test]
fn without_conntrack_plain_services_need_no_rules() {
    let host = Host { conntrack: false, rules: Rules::NoNft, ..healthy() };
    let said = judged(&asked(&["web"]), &host);
    assert!(said.contains("ok       connections to VIPs are not tracked: no conntrack here"), "{said}");
    assert!(judged(&asked(&["dns"]), &host).contains("(nft is not installed)"), "segments are kept small by a rule");
}

#[test]
fn small_segments_are_a_need() {
    let vip = "192.0.2.53".parse().unwrap();
    let small = |mss| Needs { segments: [(mss, [vip].into())].into(), ..needs(&asked(&["dns"])) };
    let missing = |mss: u16, host: &Host| {
        let text = check::text(&check::judge(&small(mss), host));
        text.lines().find(|line| line.starts_with("missing ")).map(str::to_owned)
    };
    // What the listing holds for tunnels, under another name and with this limit.
    let mut host = healthy();
    let expected = "kept small (no 192.0.2.53 in set segments1360_4, no rule for @segments1360_4 in chain mss): ";
    assert!(missing(1_360, &host).unwrap().contains(expected), "{:?}", missing(1_360, &host));
    let more: Vec<_> =
        listing(&mut host).iter().filter_map(|object| renamed(object, "tunnelled4", "segments1440_4")).collect();
    listing(&mut host).extend(more);
    assert_eq!(missing(1_440, &host), None);
}

/// An object of a listing that names a set, with another name.
fn renamed(object: &Value, from: &str, to: &str) -> Option<Value> {
    let text = object.to_string();
    text.contains(from).then(|| serde_json::from_str(&text.replace(from, to)).unwrap())
}

#[test]
fn ipv6_alone_is_judged_without_arp() {
    let host = Host { sysctls: BTreeMap::new(), ..healthy() };
    assert!(!judged(&asked(&["six"]), &host).contains("ARP"));
}

#[test]
fn tunnel_devices_are_needed_for_the_addresses_that_are_here() {
    let mut host = healthy();
    host.links[1].addresses = vec!["fd00::33".parse().unwrap()];
    host.links.push(link("weir-ip6tnl", &["192.0.2.21"]));
    let devices = |host: &Host| {
        let said = judged(&by_kernel(&["ftp"]), host);
        said.lines().filter(|line| line.contains("tunnel device")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(devices(&host), ["ok       tunnel device weir-ip6tnl is up with its addresses"]);
    host.links[2].addresses.clear();
    assert!(devices(&host)[0].contains("(it lacks address 192.0.2.21): weir backend setup ftp --config weir.toml"));
    host.links[2].up = false;
    assert!(devices(&host)[0].contains("(it is down)"));
    host.links.pop();
    assert!(devices(&host)[0].ends_with(
        "(there is none): weir backend setup ftp --config weir.toml --interface eth0 --decapsulation kernel | sh"
    ));
}
