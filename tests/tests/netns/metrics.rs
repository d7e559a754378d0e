//! Metrics as Prometheus reads them, from an agent under traffic.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
};

use lb_userspace::lab::{Host, wait_for, wait_until};
use nix::sys::signal::Signal;

use crate::net::*;

const WEB: &str = r#"
    [service.web]
    vip = ["10.1.0.100:80", "[fd01::100]:80"]
    backends = ["10.1.0.11", "10.1.0.12"]
"#;
const URL: &str = "http://10.1.0.100";
const DEFAULT: &str = "127.0.0.1:9580";

#[test]
fn metrics_say_what_was_forwarded() {
    let mut net = Net::forwarding("metrics", 2, &config(WEB));
    net.ask(URL, 30);
    let page = wait_for("the requests are counted", PATIENCE, || {
        let page = scrape(&net.balancer, DEFAULT);
        (value(&page, "weir_vip_syn_open_options_total{service=\"web\",vip=\"10.1.0.100:80\"}") == Some(30.0))
            .then_some(page)
    })
    .unwrap();
    // A page is no older than a second, and nothing has been forwarded since.
    let forwarded = value(&page, "weir_packets_total{verdict=\"forwarded\",action=\"transmit\"}").unwrap();
    assert_eq!(forwarded as u64, net.verdict("forwarded"));
    let of_backend = |number: u32| {
        value(&page, &format!("weir_backend_packets_total{{backend=\"10.1.0.1{number}\",forward=\"l2\"}}")).unwrap()
    };
    assert_eq!(of_backend(1) + of_backend(2), forwarded);
    for sample in [
        "weir_interface_attached{interface=\"eth0\"} 1",
        "weir_interface_native{interface=\"eth0\"} 1",
        "weir_interface_up{interface=\"eth0\"} 1",
        "weir_interface_announces{interface=\"eth0\"} 1",
        "weir_service_live_backends{service=\"web\"} 2",
        "weir_backend_weight{service=\"web\",backend=\"10.1.0.11\"} 1",
        "weir_backend_next_hop_known{backend=\"10.1.0.11\",forward=\"l2\"} 1",
        "weir_next_hops{state=\"known\"} 2",
        "weir_config_last_reload_successful 1",
        "weir_metrics_left_out 0",
        "weir_samples_lost_total{reason=\"ring_full\"} 0",
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample}:\n{page}");
    }
    let by_cpu: f64 = samples(&page, "weir_cpu_packets_total{").iter().sum();
    assert_eq!(by_cpu, samples(&page, "weir_packets_total{").iter().sum::<f64>());
    assert!(value(&page, "weir_agent_heartbeat_age_seconds").unwrap() < 15.0);
    let status = net.json(&["status"]);
    assert_eq!(status["metrics"][0]["address"], DEFAULT);
    let hash = status["configuration"].as_str().unwrap();
    assert!(page.contains(&format!("weir_config_info{{configuration=\"{hash}\"")), "{page}");
    lint(&net.balancer, &page);

    net.agent().signal(Signal::SIGKILL).unwrap();
    net.agent().wait(PATIENCE).unwrap();
    net.run(&config(WEB), &[]);
    let after = scrape(&net.balancer, DEFAULT);
    let counted = value(&after, "weir_packets_total{verdict=\"forwarded\",action=\"transmit\"}").unwrap();
    assert!(counted >= forwarded, "{counted} after a restart, {forwarded} before");
}

#[test]
fn a_reload_moves_them_or_refuses() {
    let at = |address: &str| format!("metrics = {address}\n{}", config(WEB));
    let mut net = Net::forwarding("metrics-move", 2, &at("\"127.0.0.1:9581\""));
    scrape(&net.balancer, "127.0.0.1:9581");
    assert!(try_to_scrape(&net.balancer, DEFAULT).is_none());
    let taken = occupy(&net.balancer, "127.0.0.1:9582");
    for (addresses, refused, served) in [
        ("[\"127.0.0.1:9581\", \"[::1]:9583\"]", false, &["127.0.0.1:9581", "[::1]:9583"][..]),
        ("[\"[::1]:9583\", \"127.0.0.1:9582\"]", true, &["127.0.0.1:9581", "[::1]:9583"]),
        ("\"off\"", false, &[]),
        ("[\"0.0.0.0:9584\", \"[::]:9584\"]", false, &["127.0.0.1:9584", "10.1.0.1:9584", "[::1]:9584"]),
    ] {
        net.write(&at(addresses));
        let output = net.weir(&["apply"]);
        assert_eq!(output.status.success(), !refused, "{addresses}: {}", said(&output));
        assert_eq!(said(&output).contains("metrics 127.0.0.1:9582: cannot listen there"), refused, "{}", said(&output));
        for address in ["127.0.0.1:9581", "[::1]:9583", "127.0.0.1:9584", "10.1.0.1:9584", "[::1]:9584"] {
            let wanted = served.contains(&address);
            wait_until(&format!("{addresses}: {address}"), PATIENCE, || {
                try_to_scrape(&net.balancer, address).is_some() == wanted
            })
            .unwrap();
        }
        net.ask(URL, 5);
    }
    drop(taken);
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn a_place_that_is_taken_stops_only_who_asked_for_it() {
    let mut net = Net::new("metrics-taken", 2);
    let taken = occupy(&net.balancer, DEFAULT);
    let mut agent = net.start(&format!("metrics = \"{DEFAULT}\"\n{}", config(WEB)), &[]);
    assert_eq!(agent.wait(PATIENCE).unwrap().code(), Some(1), "{}", agent.said());
    assert!(agent.said().contains(&format!("metrics {DEFAULT}: cannot listen there")), "{}", agent.said());
    assert_nothing_left(&net.balancer);

    net.run(&config(WEB), &[]);
    assert!(net.agent().said().contains("cannot listen there"), "{}", net.agent().said());
    let status = net.json(&["status"]);
    assert!(status["warnings"].to_string().contains("metrics 127.0.0.1:9580: cannot listen there"), "{status}");
    drop(taken);
    wait_until("it is served once it is free", PATIENCE, || try_to_scrape(&net.balancer, DEFAULT).is_some()).unwrap();
    let status = net.json(&["status"]);
    assert!(!status["warnings"].to_string().contains("metrics"), "{status}");
}

#[test]
fn scrapers_that_are_stuck_hurt_nobody() {
    let net = Net::forwarding("metrics-stuck", 2, &config(WEB));
    let connect = || net.balancer.within(|| Ok(TcpStream::connect(DEFAULT)?)).unwrap();
    let mut silent: Vec<_> = (0..40).map(|_| connect()).collect();
    scrape(&net.balancer, DEFAULT);
    for stream in &mut silent {
        // Some are closed already: they made room.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: weir\r\n");
    }
    scrape(&net.balancer, DEFAULT);
    assert!(net.weir(&["ls"]).status.success());
    let mut other = connect();
    other.write_all(b"POST /metrics HTTP/1.1\r\nHost: weir\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    net.ask(URL, 5);
}

/// A page, from inside a host.
pub fn scrape(host: &Host, address: &str) -> String {
    try_to_scrape(host, address).unwrap_or_else(|| panic!("{address}: no metrics"))
}

fn try_to_scrape(host: &Host, address: &str) -> Option<String> {
    host.output("curl", &["-s", "-S", "-f", "-g", "-m", "10", &format!("http://{address}/metrics")]).ok()
}

/// The value of the sample that a page has by this name with these labels.
fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

/// The values of all samples that begin so.
fn samples(page: &str, begin: &str) -> Vec<f64> {
    let lines = page.lines().filter(|line| line.starts_with(begin));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
}

/// That Prometheus' own linter has nothing to say.
fn lint(host: &Host, page: &str) {
    let mut command = host.command("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), said(&output));
    assert!(output.status.success() && told.is_empty(), "{told}");
}

/// Takes an address on a host until it is dropped.
fn occupy(host: &Host, address: &str) -> TcpListener {
    host.within(|| Ok(TcpListener::bind(address)?)).unwrap()
}
