//! Paths that take less than 1,500 bytes: that connections find out, and what helps where they cannot.

use std::{fs, path::Path};

use lb_userspace::lab::{Host, Http, Running, wait_until};

use crate::net::*;

/// What goes each way.
const BYTES: usize = 20 << 20;
/// What the small link takes.
const MTU: u16 = 1_400;

#[test]
fn an_upload_through_tunnels_over_a_small_link() {
    let services = r#"
        [service.ends4]
        vip = ["10.1.0.100:80", "[fd01::100]:80"]
        backends = "10.2.0.11"
        forward = "ipip"
        [service.ends6]
        vip = ["10.1.0.101:80", "[fd01::101]:80"]
        backends = "fd02::11"
        forward = "ipip"
    "#;
    let config = config(services).replace("\"eth0\"", "[\"eth0\", \"eth1\"]");
    let mut net = Net::new("upload", 0);
    let small = net.lab.switch_of_mtu("small", MTU.into()).unwrap();
    net.balancer.plug(&small, "eth1", &["10.2.0.1/24", "fd02::1/64"]).unwrap();
    net.balancer.let_xdp_transmit(&small, "eth1").unwrap();
    // Answers go by another link, so that the small one does not shrink what they ask for.
    let backend = net.lab.host("backend1").unwrap();
    backend.plug(&small, "eth0", &["10.2.0.11/24", "fd02::11/64"]).unwrap();
    backend.plug(&net.switch, "eth1", &["10.1.0.11/24", "fd01::11/64"]).unwrap();
    net.backends.push(backend);
    net.set_up(&["ends4", "ends6"], &config);
    net.serve(80);
    net.run(&config, &[]);
    let file = file_of(&net.client, BYTES);
    for (vip, outer) in [("10.1.0.100", 20), ("fd01::100", 20), ("10.1.0.101", 40), ("fd01::101", 40)] {
        let before = net.verdict("too_big_answered");
        assert_eq!(upload(&net.client, &file, vip), "backend1\n");
        assert!(net.verdict("too_big_answered") > before, "{vip}");
        let learned = net.client.ip(&format!("route get {vip}")).unwrap();
        assert!(learned.contains(&format!(" mtu {} ", MTU - outer)), "{vip}: {learned}");
    }
}

/// Backends on one side, the client on the other, and a small link between two routers on the way.
fn far_client(name: &str, backends: u8) -> (Net, [Host; 2]) {
    let mut net = Net::new(name, backends);
    let small = net.lab.switch_of_mtu("small", MTU.into()).unwrap();
    let home = net.lab.switch("home").unwrap();
    let near = join(&net.lab, &net.switch, "near", 254);
    let far = net.lab.host("far").unwrap();
    near.plug(&small, "eth1", &["10.8.0.1/24", "fd08::1/64"]).unwrap();
    far.plug(&small, "eth1", &["10.8.0.2/24", "fd08::2/64"]).unwrap();
    far.plug(&home, "eth0", &["10.9.0.254/24", "fd09::254/64"]).unwrap();
    net.client = net.lab.host("away").unwrap();
    net.client.plug(&home, "eth0", &["10.9.0.2/24", "fd09::2/64"]).unwrap();
    let routes =
        [(&near, "10.8.0.2", "fd08::2"), (&far, "10.8.0.1", "fd08::1"), (&net.client, "10.9.0.254", "fd09::254")];
    let backends = net.backends.iter().map(|backend| (backend, "10.1.0.254", "fd01::254"));
    for (host, via4, via6) in routes.into_iter().chain(backends) {
        host.ip(&format!("route add default via {via4}")).unwrap();
        host.ip(&format!("route add default via {via6}")).unwrap();
    }
    near.route_packets().unwrap();
    far.route_packets().unwrap();
    (net, [near, far])
}

#[test]
fn a_download_to_a_client_behind_a_small_link() {
    let services = r#"
        [service.web]
        vip = ["10.1.0.100:80", "[fd01::100]:80"]
        backends = ["10.1.0.11-13"]
        [service.tunnelled]
        vip = ["10.1.0.101:80", "[fd01::101]:80"]
        backends = ["10.1.0.11-13"]
        forward = "ipip"
    "#;
    let config = config(services);
    let (mut net, _) = far_client("download", 3);
    net.set_up(&["web", "tunnelled"], &config);
    serve_much(&mut net);
    net.run(&config, &[]);
    for vip in ["10.1.0.100", "fd01::100", "10.1.0.101", "fd01::101"] {
        // All were told by the errors of their own connections, none knew before.
        for backend in &net.backends {
            backend.ip("route flush cache").unwrap();
            backend.ip("-6 route flush cache").unwrap();
            assert!(!route_to_client(backend, vip).contains(" mtu "), "{vip}");
            let port = port_to(&net, vip, backend);
            assert_eq!(download(&net.client, vip, port), (backend.name().to_owned(), BYTES), "{vip}");
            assert!(route_to_client(backend, vip).contains(&format!(" mtu {MTU} ")), "{vip}");
        }
    }
    let stats = net.json(&["stats"]);
    for service in stats["services"].as_array().unwrap() {
        for vip in service["vips"].as_array().unwrap() {
            assert!(vip["icmp_errors"].as_u64().unwrap() >= 3, "one for each backend at least: {vip}");
        }
    }
}

#[test]
fn without_icmp_only_small_segments_get_through() {
    const UNSET: &str = r#"
        [service.web]
        vip = "10.1.0.100:80"
        backends = ["10.1.0.11-12"]
        [service.web6]
        vip = "[fd01::100]:80"
        backends = ["10.1.0.11-12"]
    "#;
    let (mut net, routers) = far_client("silent", 2);
    routers.iter().for_each(drop_icmp);
    let file = file_of(&net.client, BYTES);
    net.set_up(&["web", "web6"], &config(UNSET));
    serve_much(&mut net);
    net.run(&config(UNSET), &[]);
    let vips = ["10.1.0.100", "fd01::100"];
    for vip in vips {
        let (backend, client) = (&net.backends[0], &net.client);
        let port = port_to(&net, vip, backend);
        assert_hangs(client, vip, &["--local-port", &port.to_string()], backend);
        assert_hangs(client, vip, &["--data-binary", &format!("@{}", file.display())], client);
    }

    // IPv6's header is longer by 20 bytes.
    let set = UNSET
        .replace("[service.web]", "[service.web]\nmss = 1360")
        .replace("[service.web6]", "[service.web6]\nmss = 1340");
    net.agent().stop(PATIENCE).unwrap();
    net.run(&config(&set), &[]);
    for vip in vips {
        for backend in &net.backends {
            let port = port_to(&net, vip, backend);
            assert_eq!(download(&net.client, vip, port), (backend.name().to_owned(), BYTES), "{vip}");
        }
        // What clients send goes by what the backends' answers allow.
        assert_hangs(&net.client, vip, &["--data-binary", &format!("@{}", file.display())], &net.client);
    }
    net.set_up(&["web", "web6"], &config(&set));
    for vip in vips {
        upload(&net.client, &file, vip);
    }
    let stats = net.json(&["stats"]);
    for (number, service) in stats["services"].as_array().unwrap().iter().enumerate() {
        assert!(service["vips"][0]["mss_lowered"].as_u64().unwrap() >= 4, "{number}: {service}");
    }
}

/// A file of zeros in a host's directory.
fn file_of(host: &Host, bytes: usize) -> std::path::PathBuf {
    let file = host.directory().join("file");
    fs::write(&file, vec![0; bytes]).unwrap();
    file
}

/// Uploads a file; returns the answer.
fn upload(client: &Host, file: &Path, vip: &str) -> String {
    let data = format!("@{}", file.display());
    client.output("curl", &["-s", "-S", "-f", "-m", "30", "--data-binary", &data, &url(vip)]).unwrap()
}

/// A server in each backend whose answers begin with its name and are long.
fn serve_much(net: &mut Net) {
    for backend in &net.backends {
        let name = format!("{}\n", backend.name());
        let answer = format!("{name}{}", "x".repeat(BYTES - name.len()));
        net.servers.push(Http::start(backend, 80, &answer).unwrap());
    }
}

/// Downloads from a port; returns who answered, and how many bytes came.
fn download(client: &Host, vip: &str, port: u16) -> (String, usize) {
    let answer =
        client.output("curl", &["-s", "-S", "-f", "-m", "30", "--local-port", &port.to_string(), &url(vip)]).unwrap();
    (answer.lines().next().unwrap().to_owned(), answer.len())
}

/// That a request gets nowhere: the one who sends much goes on sending the same, and not a byte of the answer comes.
fn assert_hangs(client: &Host, vip: &str, options: &[&str], sender: &Host) {
    let answer = client.directory().join("answer");
    let before = retransmitted(sender);
    let mut command = client.command("curl");
    command.args(["-s", "-S", "-N", "-o"]).arg(&answer).args(options).arg(url(vip));
    let mut curl: Running = client.spawn("curl", &mut command).unwrap();
    wait_until("segments sent again and again", PATIENCE, || retransmitted(sender) >= before + 5).unwrap();
    let came = fs::metadata(&answer).map_or(0, |file| file.len());
    assert!(curl.is_alive(), "{vip} {options:?}: {}", curl.said());
    assert_eq!(came, 0, "{vip} {options:?}");
}

/// Segments that a host has sent again.
fn retransmitted(host: &Host) -> u64 {
    let snmp = host.within(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?)).unwrap();
    let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_whitespace);
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    names.zip(values).find(|(name, _)| *name == "RetransSegs").unwrap().1.parse().unwrap()
}

/// Lets a router neither say nor pass on that a packet was too big.
fn drop_icmp(router: &Host) {
    let rules = "table inet silence {
        chain say { type filter hook output priority 0; icmp type != 0 drop; icmpv6 type < 128 drop; }
        chain pass { type filter hook forward priority 0; icmp type != 0 drop; icmpv6 type < 128 drop; }
    }";
    let file = router.directory().join("silence.nft");
    fs::write(&file, rules).unwrap();
    router.output("nft", &["-f", file.to_str().unwrap()]).unwrap();
}

/// A port of the client whose connections a backend gets, one that was not used before.
fn port_to(net: &Net, vip: &str, backend: &Host) -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let v4 = !vip.contains(':');
    let number = net.backends.iter().position(|other| other.name() == backend.name()).unwrap() + 11;
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let (from, to) = if v4 {
            (format!("10.9.0.2:{port}"), format!("{vip}:80"))
        } else {
            (format!("[fd09::2]:{port}"), format!("[{vip}]:80"))
        };
        if net.json(&["explain", &from, &to])["backend"] == format!("10.1.0.{number}") {
            return port;
        }
    }
}

/// What a backend knows of its way to the client.
fn route_to_client(backend: &Host, vip: &str) -> String {
    let (client, family) = if vip.contains(':') { ("fd09::2", "-6") } else { ("10.9.0.2", "-4") };
    backend.ip(&format!("{family} route get {client} from {vip}")).unwrap()
}

fn url(vip: &str) -> String {
    if vip.contains(':') { format!("http://[{vip}]/") } else { format!("http://{vip}/") }
}
