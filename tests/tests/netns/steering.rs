//! Packets with a backend's mark reach that backend, whichever the ring would choose.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, TcpStream},
    time::Duration,
};

use lb_common::steer::mark;
use lb_userspace::{
    datapath::{self, Access, Datapath, Pins, Way as WayTo},
    lab::{Seen, Tap, Way, wait_until},
    links,
    steering::{Family, set_up},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::*;

/// Every way of forwarding, VIPs and backends of both families.
const SERVICES: &str = r#"
    [service.l2-v4]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    [service.l2-v6]
    vip = "[fd01::100]:80"
    backends = ["fd01::11", "fd01::12"]
    [service.v4-in-v4]
    vip = "10.1.0.102:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    forward = "ipip"
    [service.v6-in-v4]
    vip = "[fd01::102]:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    forward = "ipip"
    [service.v4-in-v6]
    vip = "10.1.0.101:80"
    backends = ["fd01::11", "fd01::12"]
    forward = "ipip"
    [service.v6-in-v6]
    vip = "[fd01::101]:80"
    backends = ["fd01::11", "fd01::12"]
    forward = "ipip"
"#;

/// A balancer that checks nothing, and yet steers what is marked.
fn steering(name: &str) -> (Net, Pins) {
    let config = config(SERVICES);
    let mut net = Net::new(name, 2);
    net.set_up(&["l2-v4", "l2-v6", "v4-in-v4", "v6-in-v4", "v4-in-v6", "v6-in-v6"], &config);
    net.serve(80);
    net.run(&config, &[]);
    let pins = Pins::new(net.balancer.pins());
    net.balancer
        .within(|| {
            datapath::steering::attach(&pins, "eth0")?;
            let link = links::find("eth0")?;
            set_up(&link, Family::V4)?;
            set_up(&link, Family::V6)
        })
        .unwrap();
    (net, pins)
}

#[test]
fn every_way_of_forwarding() {
    let (net, pins) = steering("steering");
    let description = Datapath::open(&pins, Access::Read).unwrap().description().unwrap();
    for service in &description.services {
        let vip: std::net::SocketAddr = service.vips[0].vip.parse().unwrap();
        for (number, backend) in (1..).zip(service.backends.iter()) {
            let answer = net.balancer.within(|| Ok(ask_marked(vip.ip(), mark(backend.id), PATIENCE)));
            let answer = answer.unwrap().unwrap_or_else(|error| panic!("{}: {error}", service.name));
            assert_eq!(answer.lines().last(), Some(format!("backend{number}").as_str()), "{}", service.name);
        }
    }
}

/// The agent says of a backend in which VLAN it lies; here the table says so by itself, as no VLAN interface can be made everywhere.
#[test]
fn a_backend_in_a_vlan_is_asked_with_its_tag() {
    let (net, pins) = steering("steered-vlan");
    let datapath = Datapath::open(&pins, Access::Write).unwrap();
    for service in &datapath.description().unwrap().services {
        let vip: std::net::SocketAddr = service.vips[0].vip.parse().unwrap();
        let backend = &service.backends[0];
        let entry = datapath.backend(backend.id);
        let way = WayTo { next_hop: entry.next_hop, interface: entry.interface, vlan: 7, mtu: entry.mtu };
        datapath.set_next_hops(&[(backend.id, way)]);
        // The backend's program has taken tunnels apart before the tap.
        let mut tagged = Tap::open(&net.backends[0], "eth0", Way::In, Seen::Tagged(7, vip.ip())).unwrap();
        let answer = net.balancer.within(|| Ok(ask_marked(vip.ip(), mark(backend.id), NO_ANSWER))).unwrap();
        assert!(answer.is_err(), "{}: who is in no VLAN does not take it", service.name);
        assert!(tagged.packets().unwrap() > 0, "{}", service.name);
    }
}

/// How long an answer is waited for that must not come.
const NO_ANSWER: Duration = Duration::from_millis(300);

/// What an HTTP server answers on a marked connection.
fn ask_marked(vip: IpAddr, mark: u32, patience: Duration) -> io::Result<String> {
    let socket = Socket::new(Domain::for_address((vip, 80).into()), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_mark(mark)?;
    socket.connect_timeout(&std::net::SocketAddr::new(vip, 80).into(), patience)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Checks by the agent, at their default: of the VIP, by the way that packets take.
const CHECKED: &str = r#"
    [service.l2]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    check = { tcp = true, every = "300ms", timeout = "200ms", fall = 2, rise = 1 }
    [service.tunnel]
    vip = "10.1.0.102:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    forward = "ipip"
    check = { tcp = true, every = "300ms", timeout = "200ms", fall = 2, rise = 1 }
"#;

#[test]
fn checks_find_what_backends_have_lost() {
    let config = config(CHECKED);
    let mut net = Net::new("steered", 2);
    net.set_up(&["l2", "tunnel"], &config);
    net.serve(80);
    net.run(&config, &[]);
    let health =
        |service: usize, backend: usize| net.json(&["ls"])["services"][service]["backends"][backend]["health"].clone();
    let is = |service, backend, state: &str| health(service, backend)["state"] == state;
    let down = |service: usize, backend: usize, what: &str| {
        wait_until(what, PATIENCE, || is(service, backend, "down")).unwrap();
        let reason = health(service, backend)["reason"].to_string();
        assert!(reason.contains("connect: no answer within 200 ms"), "{what}: {reason}");
        assert!(is(service, 1 - backend, "up"), "{what}: the other one is well");
    };
    let up = |service, backend, what: &str| wait_until(what, PATIENCE, || is(service, backend, "up")).unwrap();
    for (service, backend) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        up(service, backend, "everybody is up at first");
    }
    net.backends[0].ip("addr del 10.1.0.100/32 dev lo").unwrap();
    down(0, 0, "a backend without the VIP is down");
    net.backends[0].ip("addr add 10.1.0.100/32 dev lo").unwrap();
    up(0, 0, "it has the VIP again");
    let stopped = weir_on(&net.backends[1], &["backend", "stop"]);
    assert!(stopped.status.success(), "{}", said(&stopped));
    down(1, 1, "a backend that takes no tunnel apart is down");
    assert!(is(0, 1, "up"), "it needs none for the other service");

    // A killed agent leaves its ways, and the next one goes on with them.
    net.agent().signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    net.agent().wait(PATIENCE).unwrap();
    net.run(&config, &[]);
    net.backends[0].ip("addr del 10.1.0.100/32 dev lo").unwrap();
    wait_until("the next agent's checks find it too", PATIENCE, || {
        net.json(&["ls"])["services"][0]["backends"][0]["health"]["state"] == "down"
    })
    .unwrap();
    assert_eq!(traces(&net).len(), 4, "rule, route, neighbour and filter, once each: {:?}", traces(&net));
    net.agent().stop(PATIENCE).unwrap();
    assert!(net.weir(&["detach"]).status.success());
    assert_eq!(traces(&net), Vec::<String>::new(), "all of it is gone");
    assert_eq!(net.balancer.ip("neigh show proto 119").unwrap(), "", "and who was resolved for backends");
    assert!(!net.balancer.output("tc", &["qdisc", "show", "dev", "eth0"]).unwrap().contains("clsact"));
}

#[test]
fn a_check_says_what_keeps_it_from_its_backend() {
    let config = config(
        r#"
    [service.l2]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    check = { every = "300ms", timeout = "200ms", fall = 2, rise = 1 }
"#,
    );
    let mut net = Net::new("steered-lost", 1);
    net.set_up(&["l2"], &config);
    net.serve(80);
    net.balancer.set("net/ipv4/conf/all/rp_filter", 1).unwrap();
    net.balancer.ip("route add 10.1.0.100 dev lo").unwrap();
    net.run(&config, &[]);
    let health = |backend: usize| net.json(&["ls"])["services"][0]["backends"][backend]["health"].clone();
    wait_until("the one that is not there is down", PATIENCE, || health(1)["reason"] == "next hop: not known").unwrap();
    let warnings = net.json(&["status"])["warnings"].to_string();
    assert!(
        warnings.contains("interface eth0: rp_filter is 1 and a route to VIP 10.1.0.100 does not exist"),
        "{warnings}"
    );
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn where_checks_cannot_be_steered_no_backend_falls() {
    let config = config(CHECKED);
    let mut net = Net::new("steered-not", 2);
    net.set_up(&["l2", "tunnel"], &config);
    net.serve(80);
    // Somebody else has the place where clsact would be.
    net.balancer.output("tc", &["qdisc", "add", "dev", "eth0", "ingress"]).unwrap();
    net.run(&config, &[]);
    std::thread::sleep(Duration::from_secs(3));
    let states = |net: &Net| {
        let ls = net.json(&["ls"]);
        let backends =
            ls["services"].as_array().unwrap().iter().flat_map(|service| service["backends"].as_array().unwrap());
        backends.map(|backend| backend["health"]["state"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(states(&net), ["\"up\""; 4]);
    let warnings = net.json(&["status"])["warnings"].to_string();
    assert!(warnings.contains("checks of VIPs cannot be made, backends stay as they are"), "{warnings}");
    net.balancer.output("tc", &["qdisc", "del", "dev", "eth0", "ingress"]).unwrap();
    wait_until("it is tried again", PATIENCE, || {
        !net.json(&["status"])["warnings"].to_string().contains("cannot be made")
    })
    .unwrap();
    net.backends[0].ip("addr del 10.1.0.100/32 dev lo").unwrap();
    wait_until("now checks find it", PATIENCE, || states(&net)[0] == "\"down\"").unwrap();
    net.agent().stop(PATIENCE).unwrap();
}

/// What steering has added to the balancer, a line each.
fn traces(net: &Net) -> Vec<String> {
    let lines = |text: anyhow::Result<String>, wanted: &str| {
        let text = text.unwrap_or_default();
        text.lines().filter(|line| line.contains(wanted)).map(str::to_owned).collect::<Vec<_>>()
    };
    let tc = net.balancer.output("tc", &["filter", "show", "dev", "eth0", "egress"]);
    [
        lines(net.balancer.ip("rule show"), "fwmark 0x77650000"),
        lines(net.balancer.ip("route show table 30565"), "default"),
        lines(net.balancer.ip("neigh show dev eth0 nud permanent"), "169.254.119.101"),
        lines(tc, "weir_steer"),
    ]
    .concat()
}
