//! Interfaces, next hops and announcements on the real kernel: a balancer and a peer, each in a network namespace, a
//! veth between them.

#![allow(clippy::unwrap_used)]

mod namespaces;

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use lb_userspace::announce::{Conflict, announce, probe};
use lb_userspace::links;
use lb_userspace::next_hops::{NextHop, Resolver, forget};
use namespaces::Namespace;

const BALANCER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Longer than anything here takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// eth0 in both, 10.0.0.1/16 and fd00::1/64 here, .2 and ::2 there.
struct Net {
    balancer: Namespace,
    peer: Namespace,
}

impl Net {
    fn new() -> Net {
        let net = Net { balancer: Namespace::new("balancer"), peer: Namespace::new("peer") };
        net.balancer.ip(&format!("link add eth0 type veth peer name eth0 netns {}", net.peer.name));
        for (namespace, n) in [(&net.balancer, 1), (&net.peer, 2)] {
            namespace.ip(&format!("link set eth0 address 02:00:00:00:00:0{n}"));
            namespace.ip(&format!("addr add 10.0.0.{n}/16 dev eth0"));
            namespace.ip(&format!("addr add fd00::{n}/64 dev eth0 nodad"));
            namespace.ip("link set eth0 up");
        }
        net
    }

    /// Makes the balancer's kernel doubt and give up neighbours in a second or two instead of a minute.
    fn hurry(&self) {
        for (file, value) in
            [("base_reachable_time_ms", "500"), ("retrans_time_ms", "100"), ("delay_first_probe_time", "1")]
        {
            self.balancer.set(&format!("net/ipv4/neigh/eth0/{file}"), value);
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

fn known(interface: u32, via: &str, mac: [u8; 6], mtu: u16, source: &str) -> NextHop {
    NextHop::Known { interface, via: ip(via), mac, mtu, source: Some(ip(source)) }
}

fn unreachable(reason: &str) -> NextHop {
    NextHop::Unreachable { reason: reason.to_string() }
}

fn mac_of(next_hop: &NextHop) -> Option<[u8; 6]> {
    match next_hop {
        NextHop::Known { mac, .. } => Some(*mac),
        _ => None,
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Follows one backend until its next hop is as wanted; gives everything it was on the way.
async fn until(resolver: &mut Resolver, backend: &str, what: &str, wanted: impl Fn(&NextHop) -> bool) -> Vec<NextHop> {
    let follow = async {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(&wanted) {
            let changes = resolver.changed().await;
            seen.extend(
                changes.into_iter().filter(|(changed, _)| *changed == ip(backend)).map(|(_, next_hop)| next_hop),
            );
        }
        seen
    };
    soon(what, follow).await
}

async fn settled(backends: &[&str]) -> (Resolver, Vec<(IpAddr, NextHop)>) {
    let mut resolver = Resolver::start(ips(backends)).await.unwrap();
    resolver.settle(PATIENCE).await;
    let snapshot = resolver.snapshot();
    (resolver, snapshot)
}

fn eth0() -> u32 {
    links::find("eth0").unwrap().index
}

#[test]
fn interfaces_are_listed_with_their_addresses() {
    let net = Net::new();
    net.balancer.ip("addr add 10.1.0.1 peer 10.1.0.2 dev eth0");
    net.balancer.ip("link add eth1 type veth peer name eth2");
    net.balancer.run(async || {
        let eth0 = links::find("eth0").unwrap();
        assert_eq!((eth0.mac, eth0.mtu, eth0.up, eth0.ethernet, eth0.vlan), (BALANCER, 1_500, true, true, None));
        assert!(eth0.addresses.contains(&ip("10.0.0.1")) && eth0.addresses.contains(&ip("fd00::1")));
        assert!(eth0.addresses.contains(&ip("10.1.0.1")) && !eth0.addresses.contains(&ip("10.1.0.2")), "the peer's");
        let eth1 = links::find("eth1").unwrap();
        assert_eq!((eth1.up, eth1.carrier, eth1.addresses), (false, false, vec![]));
        let local = links::local_addresses().unwrap();
        assert!(ips(&["127.0.0.1", "::1", "10.0.0.1", "fd00::1", "10.1.0.1"]).iter().all(|own| local.contains(own)));
        let error = links::find("eht0").unwrap_err().to_string();
        assert_eq!(error, r#"interface "eht0": no such interface (have: eth0, eth1, eth2, lo)"#);
    });
}

#[test]
fn backends_on_the_link_are_resolved() {
    let net = Net::new();
    net.balancer.run(async || {
        let (mut resolver, snapshot) = settled(&["10.0.0.2", "fd00::2"]).await;
        let expected = [
            (ip("10.0.0.2"), known(eth0(), "10.0.0.2", PEER, 1_500, "10.0.0.1")),
            (ip("fd00::2"), known(eth0(), "fd00::2", PEER, 1_500, "fd00::1")),
        ];
        assert_eq!(snapshot, expected);
        assert_eq!(resolver.changed().await, expected, "the first call gives all");
    });
}

#[test]
fn backends_behind_a_gateway_are_resolved_to_it() {
    let net = Net::new();
    net.balancer.ip("route add 10.9.0.0/24 via 10.0.0.2 mtu 1400");
    net.balancer.ip("route add 10.8.0.0/24 via inet6 fd00::2 dev eth0");
    net.balancer.ip("route add fd09::/64 via fd00::2 mtu 1300");
    net.balancer.run(async || {
        let (_, snapshot) = settled(&["10.9.0.7", "10.8.0.7", "fd09::7"]).await;
        let expected = [
            (ip("10.8.0.7"), known(eth0(), "fd00::2", PEER, 1_500, "10.0.0.1")),
            (ip("10.9.0.7"), known(eth0(), "10.0.0.2", PEER, 1_400, "10.0.0.1")),
            (ip("fd09::7"), known(eth0(), "fd00::2", PEER, 1_300, "fd00::1")),
        ];
        assert_eq!(snapshot, expected);
    });
}

#[test]
fn what_is_local_or_out_of_reach_is_said_at_once() {
    let net = Net::new();
    net.balancer.ip("route add prohibit 10.70.0.0/16");
    net.balancer.ip("route add blackhole 10.71.0.0/16");
    net.balancer.ip("route add unreachable fd70::/64");
    net.balancer.ip("route add 10.72.0.0/16 dev lo");
    let rows = [
        ("10.0.0.1", NextHop::Local),
        ("127.0.0.1", NextHop::Local),
        ("::1", NextHop::Local),
        ("fd00::1", NextHop::Local),
        ("192.0.2.1", unreachable("no route to 192.0.2.1")),
        ("2001:db8::1", unreachable("no route to 2001:db8::1")),
        ("10.70.0.1", unreachable("a prohibit route covers 10.70.0.1")),
        ("10.71.0.1", unreachable("a blackhole route covers 10.71.0.1, or it is no address to send to")),
        ("fd70::1", unreachable("an unreachable route covers fd70::1")),
        ("10.72.0.1", unreachable("the route to 10.72.0.1 leaves by lo, which is not Ethernet")),
        ("10.0.255.255", unreachable("10.0.255.255 is a broadcast address")),
        ("fe80::1", unreachable("fe80::1 is a link-local address, which no route can be looked up for")),
    ];
    net.balancer.run(async || {
        let backends: Vec<&str> = rows.iter().map(|(backend, _)| *backend).collect();
        let (_, snapshot) = settled(&backends).await;
        for (backend, expected) in &rows {
            let (_, found) = snapshot.iter().find(|(found, _)| *found == ip(backend)).unwrap();
            assert_eq!(found, expected, "{backend}");
        }
    });
}

#[test]
fn a_new_mac_told_by_gratuitous_arp_is_a_change() {
    let net = Net::new();
    net.balancer.run(async || {
        let (mut resolver, _) = settled(&["10.0.0.2"]).await;
        resolver.changed().await;
        net.peer.ip("link set eth0 address 02:00:00:00:00:09");
        net.peer.run(async || {
            let arping = tokio::process::Command::new("arping").args("-q -U -c 1 -I eth0 10.0.0.2".split(' ')).status();
            arping.await.unwrap()
        });
        let seen = until(&mut resolver, "10.0.0.2", "the new MAC", |hop| mac_of(hop) == Some(OTHER)).await;
        assert_eq!(seen, [known(eth0(), "10.0.0.2", OTHER, 1_500, "10.0.0.1")], "and nothing between");
    });
}

#[test]
fn a_mac_that_changed_silently_is_found() {
    let net = Net::new();
    net.hurry();
    net.balancer.run(async || {
        let (mut resolver, _) = settled(&["10.0.0.2"]).await;
        resolver.changed().await;
        net.peer.ip("link set eth0 address 02:00:00:00:00:09");
        // In this state the kernel leaves an entry alone until somebody wants it.
        net.balancer.ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 nud stale dev eth0");
        let seen = until(&mut resolver, "10.0.0.2", "the new MAC", |hop| mac_of(hop) == Some(OTHER)).await;
        let resolving = NextHop::Resolving { interface: eth0(), via: ip("10.0.0.2") };
        assert_eq!(seen, [resolving, known(eth0(), "10.0.0.2", OTHER, 1_500, "10.0.0.1")]);
    });
}

#[test]
fn our_announcement_changes_what_the_neighbours_know() {
    let net = Net::new();
    net.peer.ip("addr add 10.0.0.10/16 dev eth0");
    net.peer.ip("addr add fd00::10/64 dev eth0 nodad");
    net.balancer.run(async || {
        // Here the balancer is the one who listens, and the peer takes its own VIPs to a new MAC.
        let (mut resolver, _) = settled(&["10.0.0.10", "fd00::10"]).await;
        resolver.changed().await;
        net.peer.ip("link set eth0 address 02:00:00:00:00:09");
        net.peer.run(async || announce(&links::find("eth0").unwrap(), &ips(&["10.0.0.10", "fd00::10"])).await).unwrap();
        let moved = |resolver: &Resolver| resolver.snapshot().iter().all(|(_, hop)| mac_of(hop) == Some(OTHER));
        let follow = async {
            while !moved(&resolver) {
                resolver.changed().await;
            }
        };
        soon("both at the new MAC", follow).await;
    });
}

#[test]
fn announcements_read_well_to_others_and_go_out_twice() {
    let net = Net::new();
    let capture = net.peer.capture(4, "ether src 02:00:00:00:00:01 and (arp host 192.0.2.10 or host 2001:db8::10)");
    net.balancer.run(async || {
        let vips = ips(&["192.0.2.10", "2001:db8::10"]);
        announce(&links::find("eth0").unwrap(), &vips).await.unwrap();
    });
    let text = capture.text();
    assert_eq!(text.matches("Request who-has 192.0.2.10 tell 192.0.2.10").count(), 2, "{text}");
    let advertisement = "2001:db8::10 > ff02::1: [icmp6 sum ok] ICMP6, neighbor advertisement, length 32, tgt is \
                         2001:db8::10, Flags [override]";
    assert_eq!(text.matches(advertisement).count(), 2, "{text}");
    assert_eq!(text.matches("02:00:00:00:00:01 > 33:33:00:00:00:01").count(), 2, "{text}");
}

#[test]
fn a_neighbour_that_falls_silent_is_resolving_until_it_is_back() {
    let net = Net::new();
    net.hurry();
    net.balancer.run(async || {
        let (mut resolver, _) = settled(&["10.0.0.2"]).await;
        resolver.changed().await;
        net.peer.ip("addr del 10.0.0.2/16 dev eth0");
        let resolving = NextHop::Resolving { interface: eth0(), via: ip("10.0.0.2") };
        let seen = until(&mut resolver, "10.0.0.2", "a failure", |hop| *hop == resolving).await;
        assert_eq!(seen, [resolving]);
        net.peer.ip("addr add 10.0.0.2/16 dev eth0");
        let seen = until(&mut resolver, "10.0.0.2", "its return", |hop| mac_of(hop).is_some()).await;
        assert_eq!(seen, [known(eth0(), "10.0.0.2", PEER, 1_500, "10.0.0.1")]);
    });
}

#[test]
fn a_flushed_neighbour_table_changes_nothing() {
    let net = Net::new();
    net.balancer.run(async || {
        let (mut resolver, before) = settled(&["10.0.0.2", "fd00::2"]).await;
        resolver.changed().await;
        net.balancer.ip("neigh flush dev eth0");
        let show = || net.balancer.ip("neigh show nud reachable");
        let mut changes = Vec::new();
        let refilled = async {
            while !(show().contains("10.0.0.2") && show().contains("fd00::2")) {
                // Nothing is expected of it but to work in the background.
                if let Ok(changed) = tokio::time::timeout(Duration::from_millis(10), resolver.changed()).await {
                    changes.extend(changed);
                }
            }
        };
        soon("both entries made anew", refilled).await;
        assert_eq!(changes, []);
        assert_eq!(resolver.snapshot(), before);
    });
}

#[test]
fn routes_and_interfaces_are_followed() {
    let net = Net::new();
    net.balancer.run(async || {
        let (mut resolver, snapshot) = settled(&["10.9.0.7"]).await;
        assert_eq!(snapshot, [(ip("10.9.0.7"), unreachable("no route to 10.9.0.7"))]);
        resolver.changed().await;

        net.balancer.ip("route add 10.9.0.0/24 via 10.0.0.2");
        let expected = known(eth0(), "10.0.0.2", PEER, 1_500, "10.0.0.1");
        until(&mut resolver, "10.9.0.7", "the new route", |hop| *hop == expected).await;

        net.balancer.ip("link set eth0 mtu 1420");
        let expected = known(eth0(), "10.0.0.2", PEER, 1_420, "10.0.0.1");
        until(&mut resolver, "10.9.0.7", "the new MTU", |hop| *hop == expected).await;

        net.balancer.ip("link set eth0 down");
        let gone = unreachable("no route to 10.9.0.7");
        until(&mut resolver, "10.9.0.7", "the interface going down", |hop| *hop == gone).await;

        net.balancer.ip("addr add 10.9.0.7/32 dev lo");
        until(&mut resolver, "10.9.0.7", "the address becoming ours", |hop| *hop == NextHop::Local).await;
    });
}

#[test]
fn nexthop_objects_and_rules_are_followed() {
    let net = Net::new();
    net.peer.ip("addr add 10.0.0.3/16 dev eth0");
    net.balancer.set("net/ipv4/nexthop_compat_mode", "0");
    net.balancer.ip("nexthop add id 1 via 10.0.0.2 dev eth0");
    net.balancer.ip("route add 10.9.0.0/24 nhid 1");
    net.balancer.ip("route add unreachable 10.9.0.0/24 table 100");
    net.balancer.run(async || {
        let (mut resolver, snapshot) = settled(&["10.9.0.7"]).await;
        assert_eq!(snapshot, [(ip("10.9.0.7"), known(eth0(), "10.0.0.2", PEER, 1_500, "10.0.0.1"))]);

        net.balancer.ip("nexthop replace id 1 via 10.0.0.3 dev eth0");
        let expected = known(eth0(), "10.0.0.3", PEER, 1_500, "10.0.0.1");
        until(&mut resolver, "10.9.0.7", "the new gateway", |hop| *hop == expected).await;

        net.balancer.ip("rule add to 10.9.0.0/24 lookup 100");
        let gone = unreachable("an unreachable route covers 10.9.0.7");
        until(&mut resolver, "10.9.0.7", "the rule", |hop| *hop == gone).await;
    });
}

#[test]
fn backends_can_be_replaced() {
    let net = Net::new();
    net.balancer.run(async || {
        let (mut resolver, _) = settled(&["10.0.0.2", "192.0.2.1"]).await;
        resolver.changed().await;
        resolver.set_backends(ips(&["10.0.0.2", "fd00::2"]));
        let backends: Vec<_> = resolver.snapshot().into_iter().map(|(backend, _)| backend).collect();
        assert_eq!(backends, ips(&["10.0.0.2", "fd00::2"]));
        until(&mut resolver, "fd00::2", "the new backend", |hop| mac_of(hop) == Some(PEER)).await;
    });
}

#[test]
fn lost_notifications_are_made_up_for() {
    let net = Net::new();
    net.balancer.run(async || {
        let (mut resolver, _) = settled(&["10.0.0.2"]).await;
        resolver.changed().await;
        let line =
            |n: u32| format!("neigh replace 10.0.0.99 lladdr 02:00:00:00:01:{:02x} nud permanent dev eth0\n", n % 2);
        net.balancer.ip_batch(&(0..30_000).map(line).collect::<String>());
        let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        let drops = |line: &str| line.split_whitespace().nth(8).and_then(|drops| drops.parse::<u32>().ok());
        assert!(sockets.lines().filter_map(drops).any(|drops| drops > 0), "nothing was lost:\n{sockets}");
        // This one is lost as well: only reading everything again can find it.
        net.balancer.ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:09 nud permanent dev eth0");
        until(&mut resolver, "10.0.0.2", "the MAC", |hop| mac_of(hop) == Some(OTHER)).await;
    });
}

#[test]
fn silent_backends_do_not_fill_the_neighbour_table_nor_hold_up_the_others() {
    let net = Net::new();
    net.hurry();
    net.peer.ip("addr add 10.0.1.255/16 dev eth0");
    net.balancer.run(async || {
        let backends: Vec<IpAddr> = (0..300u32).map(|n| (0x0a00_01ff - n).to_be_bytes().into()).collect();
        let questions = || net.balancer.ip("neigh show").lines().filter(|line| line.contains("INCOMPLETE")).count();
        let mut resolver = Resolver::start(backends).await.unwrap();
        assert!((100..=128).contains(&questions()), "{} at first", questions());
        let answered = async {
            loop {
                let changes = resolver.changed().await;
                assert!(questions() <= 128, "{} later", questions());
                if changes.iter().any(|(backend, hop)| *backend == ip("10.0.1.255") && mac_of(hop) == Some(PEER)) {
                    break;
                }
            }
        };
        soon("the one that answers", answered).await;
    });
}

#[test]
fn more_next_hops_than_the_neighbour_table_takes_are_resolved() {
    let net = Net::new();
    let table = net.balancer.ip("ntable show name arp_cache");
    let limit: u32 = table.split_whitespace().skip_while(|word| *word != "thresh3").nth(1).unwrap().parse().unwrap();
    assert!(limit < 60_000, "net.ipv4.neigh.default.gc_thresh3 is {limit}: too large to exceed here");
    // The peer has all of them.
    (1..=1 + (limit + 100) / 256).for_each(|n| drop(net.peer.ip(&format!("route add local 10.0.{n}.0/24 dev lo"))));
    let ours = || net.balancer.ip("neigh show proto 119").lines().filter(|line| line.contains("extern_learn")).count();
    let backends = |count: u32| (0..count).map(|n| (0x0a00_0100 + n).to_be_bytes().into()).collect();
    net.balancer.run(async || {
        let mut resolver = Resolver::start(backends(limit + 100)).await.unwrap();
        resolver.settle(PATIENCE).await;
        let snapshot = resolver.snapshot();
        assert_eq!(snapshot.len() as u32, limit + 100);
        assert_eq!(snapshot.iter().find(|(_, next_hop)| mac_of(next_hop) != Some(PEER)), None);
        assert_eq!(ours() as u32, limit + 100);
        resolver.set_backends(backends(3));
        assert_eq!(ours(), 3, "who is no longer needed is deleted");
    });
    assert_eq!(ours(), 3, "and who is, stays without an agent");
    net.balancer.run(async || {
        // Somebody else's is not touched, and not taken over.
        net.balancer.ip("neigh add 10.0.0.77 dev eth0 lladdr 02:00:00:00:00:09 nud stale extern_learn proto bgp");
        let mut resolver = Resolver::start(ips(&["10.0.1.1", "10.0.0.77"])).await.unwrap();
        resolver.settle(PATIENCE).await;
        assert_eq!(ours(), 3, "another instance may need them, on an interface of its own");
        resolver.sweep_left_over(&[eth0() + 1].into());
        assert_eq!(ours(), 3);
        resolver.sweep_left_over(&[eth0()].into());
        assert_eq!(ours(), 1, "what an earlier one left is deleted");
        let theirs = resolver.snapshot().into_iter().find(|(backend, _)| *backend == ip("10.0.0.77")).unwrap();
        assert_eq!(mac_of(&theirs.1), Some(OTHER));
    });
    net.balancer.run(async || forget(&[eth0()].into()).unwrap());
    assert_eq!(ours(), 0);
    assert!(net.balancer.ip("neigh show 10.0.0.77 dev eth0").contains("proto bgp"));
}

fn conflict(vip: &str) -> Conflict {
    Conflict { vip: ip(vip), mac: PEER, interface: "eth0".to_string() }
}

fn probed(namespace: &Namespace, vips: Vec<IpAddr>) -> Vec<Conflict> {
    namespace.run(async || probe(&links::find("eth0").unwrap(), &vips).await.unwrap())
}

#[test]
fn a_vip_that_another_holds_is_a_conflict() {
    let net = Net::new();
    net.peer.ip("addr add 192.0.2.10/32 dev lo");
    net.peer.ip("addr add 2001:db8::10/128 dev eth0 nodad");
    let vips = ips(&["192.0.2.9", "192.0.2.10", "2001:db8::9", "2001:db8::10"]);
    assert_eq!(probed(&net.balancer, vips), [conflict("192.0.2.10"), conflict("2001:db8::10")]);
}

#[test]
fn a_backend_that_is_set_up_right_is_no_conflict() {
    let net = Net::new();
    net.peer.ip("addr add 192.0.2.10/32 dev lo");
    net.peer.ip("addr add 2001:db8::10/128 dev lo nodad");
    net.peer.set("net/ipv4/conf/all/arp_ignore", "1");
    assert_eq!(probed(&net.balancer, ips(&["192.0.2.10", "2001:db8::10"])), []);
}

#[test]
fn one_of_thousands_is_found() {
    let net = Net::new();
    net.peer.ip("addr add 198.51.100.200/32 dev lo");
    let vips = (0..2_500u32).map(|n| (0xc633_6000 + n).to_be_bytes().into()).collect();
    assert_eq!(probed(&net.balancer, vips), [conflict("198.51.100.200")]);
}

#[test]
fn two_who_probe_at_once_find_each_other() {
    let net = Net::new();
    let vips = || ips(&["192.0.2.10", "2001:db8::10"]);
    // The peer probes on and on, so that it does while the balancer does; its end is awaited.
    let (done, stop) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let peer = &net.peer;
        scope.spawn(move || {
            while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                probed(peer, vips());
            }
        });
        assert_eq!(probed(&net.balancer, vips()), [conflict("192.0.2.10"), conflict("2001:db8::10")]);
        drop(done);
    });
}

#[test]
fn nothing_is_probed_on_an_interface_that_is_down() {
    let net = Net::new();
    net.balancer.ip("link set eth0 down");
    let error =
        net.balancer.run(async || probe(&links::find("eth0").unwrap(), &ips(&["192.0.2.10"])).await.unwrap_err());
    assert_eq!(error.to_string(), "interface \"eth0\": is down: bring it up (ip link set eth0 up)");
}

#[test]
fn an_interface_that_goes_down_meanwhile_is_named() {
    let net = Net::new();
    let error = net.balancer.run(async || {
        let before = links::find("eth0").unwrap();
        net.balancer.ip("link set eth0 down");
        probe(&before, &ips(&["192.0.2.10"])).await.unwrap_err()
    });
    assert_eq!(error.to_string(), "interface \"eth0\": is down: bring it up (ip link set eth0 up)");
}

/// The agent may run these beside other work (`tokio::spawn` wants `Send`).
#[test]
fn futures_can_be_sent() {
    fn sendable(_: impl Send) {}
    let link = links::find("lo").unwrap();
    sendable(probe(&link, &[]));
    sendable(announce(&link, &[]));
    sendable(Resolver::start(Vec::new()));
    sendable(async |resolver: &mut Resolver| resolver.changed().await);
}
