//! Real connections and datagrams through a real balancer, answered directly.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use etherparse::PacketBuilder;
use lb_userspace::lab::{Echo, Host, Http, Seen, Sender, Tap, Way, set_up_backend, wait_for, wait_until};

use crate::net::*;

/// Backends on the switch, by both families.
const WEB: &str = r#"
    [service.web]
    vip = ["10.1.0.100:80", "[fd01::100]:80"]
    backends = ["10.1.0.11", "10.1.0.12*2"]
"#;

#[test]
fn requests_are_spread_by_weight_and_answered_directly() {
    let net = Net::forwarding("l2", 2, &config(WEB));
    let vip: IpAddr = "10.1.0.100".parse().unwrap();
    let port = net.switch.port(&net.balancer, "eth0");
    let mut requests = Tap::open(net.switch.host(), &port, Way::Out, Seen::To(vip)).unwrap();
    let mut answers_there = Tap::open(net.switch.host(), &port, Way::Out, Seen::From(vip)).unwrap();
    let answers = net.ask("http://10.1.0.100", 300);
    let seen = [count(&answers, "backend1"), count(&answers, "backend2")];
    // Five standard deviations around 100.
    assert!(seen[0].abs_diff(100) <= 41 && seen[0] + seen[1] == 300, "{seen:?}");
    assert!(requests.packets().unwrap() >= 4 * 300, "a request is a SYN and three packets more at least");
    assert_eq!(answers_there.packets().unwrap(), 0, "answers at the balancer");
}

#[test]
fn explain_knows_who_answers() {
    let net = Net::forwarding("explain", 2, &config(WEB));
    for port in 20_000..20_020 {
        let text = net
            .client
            .output("curl", &["-s", "-S", "-f", "-m", "10", "--local-port", &port.to_string(), "http://10.1.0.100/"]);
        let explained = net.json(&["explain", &format!("10.1.0.9:{port}"), "10.1.0.100:80"]);
        let expected = if explained["backend"] == "10.1.0.11" { "backend1" } else { "backend2" };
        assert_eq!(text.unwrap().trim(), expected, "{explained}");
    }
}

#[test]
fn counters_agree_with_what_was_asked() {
    let net = Net::forwarding("counters", 2, &config(WEB));
    let answers = net.ask("http://10.1.0.100", 50);
    let stats = wait_for("counters that agree", PATIENCE, || {
        // The last packets of a connection may be on their way still.
        let stats = net.json(&["stats"]);
        let backends = stats["services"][0]["backends"].as_array()?;
        let by_backend: u64 = backends.iter().filter_map(|backend| backend["packets"].as_u64()).sum();
        let by_vip = stats["services"][0]["vips"][0]["packets"].as_u64()?;
        (by_backend == by_vip && verdict(&stats, "forwarded") == by_vip).then_some(stats)
    })
    .unwrap();
    let service = &stats["services"][0];
    assert_eq!(service["vips"][0]["syn_open_options"], 50, "one SYN a request");
    for (backend, name) in [(0, "backend1"), (1, "backend2")] {
        let packets = service["backends"][backend]["packets"].as_u64().unwrap();
        // SYN, ACK, request and FIN at least.
        assert!(packets >= 4 * count(&answers, name) as u64, "{name}: {packets} packets");
    }
}

#[test]
fn ipv6_backends() {
    let services = r#"
        [service.web]
        vip = "[fd01::100]:80"
        backends = ["fd01::11", "fd01::12"]
    "#;
    let net = Net::forwarding("v6", 2, &config(services));
    assert_eq!(distinct(&net.ask("http://[fd01::100]", 40)), ["backend1", "backend2"]);
}

/// VIPs of both families by backends of both.
const TUNNELS: &str = r#"
    [service.v4-in-v4]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    forward = "ipip"
    [service.v6-in-v4]
    vip = "[fd01::100]:80"
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

#[test]
fn tunnels_of_every_kind() {
    let config = config(TUNNELS);
    let mut net = Net::new("tunnels", 2);
    net.set_up(&["v4-in-v4", "v6-in-v4", "v4-in-v6", "v6-in-v6"], &config);
    net.serve(80);
    for mode in ["native", "generic"] {
        net.run(&config, &["--mode", mode]);
        for vip in ["10.1.0.100", "[fd01::100]", "10.1.0.101", "[fd01::101]"] {
            let before = stripped(&net.backends);
            assert_eq!(distinct(&net.ask(&format!("http://{vip}"), 40)), ["backend1", "backend2"], "{vip}");
            assert!(stripped(&net.backends) >= before + 4 * 40, "{vip}: did not come through tunnels");
        }
        net.agent().stop(PATIENCE).unwrap();
    }
}

/// Outer headers that were taken off.
fn stripped(backends: &[Host]) -> u64 {
    let count = |backend| {
        let stats = json(backend, &["backend", "stats"]);
        let found = find(&stats, "stripped");
        found.unwrap_or_else(|| panic!("no count of stripped packets in {stats}"))
    };
    backends.iter().map(count).sum()
}

/// The number that belongs to a name, wherever it stands.
fn find(value: &serde_json::Value, name: &str) -> Option<u64> {
    match value {
        serde_json::Value::Array(values) => values.iter().find_map(|value| find(value, name)),
        serde_json::Value::Object(fields) if fields.values().any(|value| value == name) => fields["packets"].as_u64(),
        serde_json::Value::Object(fields) => match fields.get(name) {
            Some(value) => value.as_u64(),
            None => fields.values().find_map(|value| find(value, name)),
        },
        _ => None,
    }
}

#[test]
fn generic_mode() {
    let config = config(WEB);
    let mut net = Net::new("generic", 2);
    net.set_up(&["web"], &config);
    net.serve(80);
    net.run(&config, &["--mode", "generic"]);
    assert_eq!(distinct(&net.ask("http://10.1.0.100", 40)), ["backend1", "backend2"]);
    assert_eq!(net.json(&["status"])["interfaces"][0]["mode"], "generic");
    assert!(net.agent().said().contains("generic mode"), "it says so at once");
}

#[test]
fn udp_and_its_fragments() {
    let services = r#"
        [service.dns]
        vip = ["10.1.0.100:53/udp", "[fd01::100]:53/udp"]
        backends = ["10.1.0.11", "10.1.0.12"]
    "#;
    let config = config(services);
    let mut net = Net::new("udp", 2);
    net.set_up(&["dns"], &config);
    let mut echoes = Vec::new();
    for backend in &net.backends {
        for vip in ["10.1.0.100", "fd01::100"] {
            echoes.push(Echo::start(backend, vip.parse().unwrap(), 53, backend.name()).unwrap());
        }
    }
    net.run(&config, &[]);
    for vip in ["10.1.0.100:53", "[fd01::100]:53"] {
        // One more than fits a frame, and one that needs five.
        for bytes in [100, 1_473, 7_000] {
            let names: BTreeSet<_> = (0..20).map(|_| echo(&net.client, vip, bytes)).collect();
            // Fragments have no ports, so that they are placed by their addresses.
            assert_eq!(names.len(), if bytes < 1_400 { 2 } else { 1 }, "{vip}, {bytes} bytes: {names:?}");
        }
    }
}

/// Sends a datagram to a VIP, and awaits it back from there; returns the name of who sent it.
fn echo(client: &Host, vip: &str, bytes: usize) -> String {
    let vip: SocketAddr = vip.parse().unwrap();
    let any: SocketAddr = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    client
        .within(|| {
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            // Answers from anywhere else are not heard.
            socket.connect(vip)?;
            let question: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
            socket.send(&question)?;
            let mut answer = vec![0; bytes + 100];
            let length = socket.recv(&mut answer)?;
            let (name, echo) = answer[..length].split_at(length - bytes);
            assert_eq!(echo, question);
            Ok(String::from_utf8_lossy(name).trim().to_owned())
        })
        .unwrap()
}

#[test]
fn next_hop_behind_a_gateway() {
    let services = r#"
        [service.web]
        vip = "10.1.0.100:80"
        backends = ["10.2.0.11", "fd02::11"]
        forward = "ipip"
    "#;
    let config = config(services);
    let mut net = Net::new("gateway", 0);
    let right = net.lab.switch("right").unwrap();
    let router = join(&net.lab, &net.switch, "router", 254);
    router.plug(&right, "eth1", &["10.2.0.254/24", "fd02::254/64"]).unwrap();
    router.route_packets().unwrap();
    let backend = net.lab.host("backend1").unwrap();
    backend.plug(&right, "eth0", &["10.2.0.11/24", "fd02::11/64"]).unwrap();
    for (host, prefix, via) in [
        (&net.balancer, "10.2.0.0/24", "10.1.0.254"),
        (&net.balancer, "fd02::/64", "fd01::254"),
        (&backend, "default", "10.2.0.254"),
        (&backend, "default", "fd02::254"),
    ] {
        host.ip(&format!("route add {prefix} via {via}")).unwrap();
    }
    net.backends.push(backend);
    net.set_up(&["web"], &config);
    net.serve(80);
    net.run(&config, &[]);
    assert_eq!(net.next_hops(), [mac(&router), mac(&router)]);
    assert_eq!(distinct(&net.ask("http://10.1.0.100", 40)), ["backend1"]);
}

#[test]
fn next_hop_on_another_interface() {
    let services = r#"
        [service.web]
        vip = ["10.1.0.100:80", "[fd01::100]:80"]
        backends = ["10.2.0.11", "10.1.0.11"]
        [service.tunnel]
        vip = "10.1.0.101:80"
        backends = ["10.2.0.11", "10.1.0.11"]
        forward = "ipip"
    "#;
    let config = config(services).replace("\"eth0\"", "[\"eth0\", \"eth1\"]");
    let mut net = Net::new("two", 1);
    let right = net.lab.switch("right").unwrap();
    net.balancer.plug(&right, "eth1", &["10.2.0.1/24", "fd02::1/64"]).unwrap();
    net.balancer.let_xdp_transmit(&right, "eth1").unwrap();
    // Answers go by a router of their own.
    let router = join(&net.lab, &net.switch, "router", 254);
    router.plug(&right, "eth1", &["10.2.0.254/24", "fd02::254/64"]).unwrap();
    router.route_packets().unwrap();
    let backend = net.lab.host("backend2").unwrap();
    backend.plug(&right, "eth0", &["10.2.0.11/24", "fd02::11/64"]).unwrap();
    backend.ip("route add default via 10.2.0.254").unwrap();
    backend.ip("route add default via fd02::254").unwrap();
    net.backends.push(backend);
    net.set_up(&["web", "tunnel"], &config);
    net.serve(80);
    net.run(&config, &[]);
    for vip in ["10.1.0.100", "[fd01::100]", "10.1.0.101"] {
        let before = (net.verdict("forwarded"), net.verdict("redirected"));
        assert_eq!(distinct(&net.ask(&format!("http://{vip}"), 40)), ["backend1", "backend2"], "{vip}");
        let after = (net.verdict("forwarded"), net.verdict("redirected"));
        assert!(after.0 > before.0 && after.1 > before.1, "{vip}: {before:?} {after:?}");
    }
}

#[test]
fn vlan_tags_stay() {
    const FRAMES: u64 = 10;
    let net = Net::forwarding("vlan", 1, &config(&WEB.replace(", \"10.1.0.12*2\"", "")));
    let port = net.switch.port(&net.balancer, "eth0");
    // Else the tag travels beside the frame, where no XDP program sees it.
    net.switch.host().output("ethtool", &["-K", &port, "txvlan", "off"]).unwrap();
    let sender = Sender::open(&net.client, "eth0").unwrap();
    for vip in ["10.1.0.100", "fd01::100"] {
        let seen = Seen::Tagged(7, vip.parse().unwrap());
        let mut arrived = Tap::open(&net.backends[0], "eth0", Way::In, seen).unwrap();
        let frame = tagged_syn(&net, 7, vip);
        for _ in 0..FRAMES {
            sender.send(&frame).unwrap();
        }
        wait_until("tagged frames at the backend", PATIENCE, || arrived.packets().unwrap() == FRAMES).unwrap();
    }
}

/// A SYN with a window, from the client to the balancer, in a VLAN.
fn tagged_syn(net: &Net, vlan: u16, vip: &str) -> Vec<u8> {
    let from = net.client.mac("eth0").unwrap();
    let to = net.balancer.mac("eth0").unwrap();
    let link = PacketBuilder::ethernet2(from, to).single_vlan(vlan.try_into().unwrap());
    let network = match vip.parse().unwrap() {
        IpAddr::V4(vip) => link.ipv4([10, 1, 0, 9], vip.octets(), 64),
        IpAddr::V6(vip) => link.ipv6("fd01::9".parse::<std::net::Ipv6Addr>().unwrap().octets(), vip.octets(), 64),
    };
    let builder = network.tcp(40_000, 80, 1, 64_000).syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).unwrap();
    frame
}

#[test]
fn jumbo_frames() {
    let services = r#"
        [service.web]
        vip = ["10.1.0.100:80", "[fd01::100]:80"]
        backends = ["10.1.0.11"]
    "#;
    const BYTES: usize = 1 << 20;
    let config = config(services);
    let mut net = Net::of_mtu("jumbo", 1, 9_000);
    net.set_up(&["web"], &config);
    net.serve(80);
    net.run(&config, &[]);
    let file = net.client.directory().join("file");
    fs::write(&file, vec![7; BYTES]).unwrap();
    for (number, url) in ["http://10.1.0.100/", "http://[fd01::100]/"].into_iter().enumerate() {
        let upload = format!("@{}", file.display());
        let answer = net.client.output("curl", &["-s", "-S", "-f", "-m", "10", "--data-binary", &upload, url]);
        assert_eq!(answer.unwrap(), "backend1\n");
        let vip = &net.json(&["stats"])["services"][0]["vips"][number];
        let (packets, bytes) = (vip["packets"].as_u64().unwrap(), vip["bytes"].as_u64().unwrap());
        assert!(
            bytes > BYTES as u64 && packets < BYTES as u64 / 1_460 / 2,
            "{url}: {bytes} bytes in {packets} packets"
        );
    }
}

#[test]
fn all_ports_of_an_address_meet_one_backend() {
    let services = r#"
        [service.ftp]
        vip = "10.1.0.100:*"
        backends = ["10.1.0.11", "10.1.0.12"]
        hash = "source"
    "#;
    let config = config(services);
    let mut net = Net::new("ftp", 2);
    net.set_up(&["ftp"], &config);
    // The control connection, and data connections wherever the server says.
    let ports = [21, 1_024, 30_021, 65_535];
    ports.iter().for_each(|port| net.serve(*port));
    net.run(&config, &[]);
    let answers: Vec<_> = ports.iter().flat_map(|port| net.ask(&format!("http://10.1.0.100:{port}"), 5)).collect();
    assert_eq!(distinct(&answers).len(), 1, "{answers:?}");
}

#[test]
fn a_backend_that_changes_its_mac() {
    for (name, backend) in [("mac4", "10.1.0.11"), ("mac6", "fd01::11")] {
        let services = format!("[service.web]\nvip = \"10.1.0.100:80\"\nbackends = \"{backend}\"");
        let mut net = Net::new(name, 1);
        // What the kernel asks of its own accord must not be what helps.
        for file in ["net/ipv4/neigh/eth0/base_reachable_time_ms", "net/ipv6/neigh/eth0/base_reachable_time_ms"] {
            net.balancer.set(file, 3_600_000).unwrap();
        }
        net.set_up(&["web"], &config(&services));
        net.serve(80);
        net.run(&config(&services), &[]);
        assert_eq!(net.next_hops(), [mac(&net.backends[0])]);
        net.backends[0].change_mac("eth0", [2, 0, 0, 0, 0, 0x77]).unwrap();
        let begin = std::time::Instant::now();
        wait_until("the new MAC in the tables", PATIENCE, || net.next_hops() == ["02:00:00:00:00:77"]).unwrap();
        eprintln!("{backend}: its new MAC was in the tables {} ms after", begin.elapsed().as_millis());
        net.ask("http://10.1.0.100", 20);
    }
}

#[test]
fn a_balancer_that_changes_its_mac() {
    let net = Net::forwarding("own-mac", 1, &config(&WEB.replace(", \"10.1.0.12*2\"", "")));
    net.ask("http://10.1.0.100", 5);
    net.balancer.change_mac("eth0", [2, 0, 0, 0, 0, 0x78]).unwrap();
    // What the client has cached, not what it would be told if it asked.
    wait_until("clients are told the new MAC", PATIENCE, || {
        net.client.neighbour("10.1.0.100".parse().unwrap()).unwrap().as_deref() == Some("02:00:00:00:00:78")
    })
    .unwrap();
    net.ask("http://10.1.0.100", 20);
}

#[test]
fn a_backend_that_comes_later() {
    let services = r#"
        [service.web]
        vip = "10.1.0.100:80"
        backends = "10.1.0.11"
    "#;
    let config = config(services);
    let mut net = Net::new("later", 0);
    net.run(&config, &[]);
    assert_eq!(net.next_hops(), ["none"]);
    assert!(try_to_ask(&net.client, "http://10.1.0.100", 1).is_err());
    assert!(net.verdict("no_neighbour") > 0);
    let backend = join(&net.lab, &net.switch, "backend1", 11);
    set_up_backend(&backend, &weir(), &net.write(&config), &["web"]).unwrap();
    net.servers.push(Http::start(&backend, 80, "backend1\n").unwrap());
    wait_until("its MAC in the tables", PATIENCE, || net.next_hops() == [mac(&backend)]).unwrap();
    net.ask("http://10.1.0.100", 5);
}
