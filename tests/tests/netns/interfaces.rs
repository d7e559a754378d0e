//! Interfaces that go and come back, programs that are taken away, neighbours that change: forwarding resumes by itself.

use std::time::{Duration, Instant};

use lb_userspace::{lab::wait_for, links};

use crate::net::*;

const WEB: &str = r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
"#;
const URL: &str = "http://10.1.0.100";

/// Waits until requests are answered again, and says after how long.
fn resumes(net: &Net) -> Duration {
    let since = Instant::now();
    wait_for("an answer", PATIENCE, || try_to_ask_once(net).then_some(())).unwrap();
    since.elapsed()
}

fn try_to_ask_once(net: &Net) -> bool {
    net.client.output("curl", &["-s", "-f", "-m", "0.2", URL]).is_ok()
}

#[test]
fn an_interface_that_goes_down_and_up() {
    let net = Net::forwarding("flap", 2, &config(WEB));
    for _ in 0..3 {
        net.balancer.ip("link set eth0 down").unwrap();
        assert!(!try_to_ask_once(&net));
        net.balancer.ip("link set eth0 up").unwrap();
        eprintln!("resumed after {:?}", resumes(&net));
        net.ask(URL, 10);
    }
}

#[test]
fn an_interface_that_is_made_anew_under_the_agent() {
    let mut net = Net::forwarding("recreated", 2, &config(WEB));
    for _ in 0..2 {
        net.balancer.ip("link delete eth0").unwrap();
        net.agent().wait_to_say("is gone, nothing is forwarded", PATIENCE).unwrap();
        let status = net.json(&["status"]);
        assert!(status["warnings"].to_string().contains("no XDP program is attached"), "{status}");
        net.balancer.plug(&net.switch, "eth0", &["10.1.0.1/24", "fd01::1/64"]).unwrap();
        net.balancer.let_xdp_transmit(&net.switch, "eth0").unwrap();
        eprintln!("resumed after {:?}", resumes(&net));
        assert_eq!(distinct(&net.ask(URL, 40)), ["backend1", "backend2"]);
        assert_eq!(resolves(&net.client, "10.1.0.100"), Some(mac(&net.balancer)), "it is announced by its new MAC");
    }
    let before = net.verdict("forwarded");
    assert!(before > 0, "counters went on");
}

#[test]
fn nobody_takes_the_place_of_the_program_and_a_forced_end_is_mended() {
    let mut net = Net::forwarding("foreign", 2, &config(WEB));
    for refused in ["link set dev eth0 xdp off", "link set dev eth0 xdpgeneric off"] {
        // Refused, or without any effect.
        let _ = net.balancer.ip(refused);
        net.ask(URL, 5);
    }
    // Who has the rights can end a link all the same.
    let link = net.balancer.pins().join("links/eth0");
    lb_userspace::datapath::force_away(&link).unwrap();
    net.agent().wait_to_say("the program was taken from it from outside", PATIENCE).unwrap();
    eprintln!("resumed after {:?}", resumes(&net));
    assert!(net.balancer.within(|| links::find("eth0")).unwrap().xdp.is_some());
    assert_eq!(net.json(&["status"])["interfaces"][0]["mode"], "native");
}

#[test]
fn a_neighbour_that_vanishes_and_comes_back_with_another_mac() {
    let net = Net::forwarding("neighbour-lost", 2, &config(WEB));
    let backend = &net.backends[1];
    net.balancer.set("net/ipv4/neigh/eth0/base_reachable_time_ms", 200).unwrap();
    net.balancer.set("net/ipv4/neigh/eth0/retrans_time_ms", 60).unwrap();
    net.balancer.set("net/ipv4/neigh/eth0/delay_first_probe_time", 0).unwrap();
    backend.ip("link set eth0 down").unwrap();
    let lost = || {
        try_to_ask_once(&net);
        (net.verdict("no_neighbour") > 0).then_some(())
    };
    // The kernel takes 20 seconds to give a neighbour up that says nothing.
    wait_for("packets without a next hop", 3 * PATIENCE, lost).unwrap();
    backend.change_mac("eth0", [0x02, 0, 0, 0, 0x12, 0x34]).unwrap();
    backend.ip("link set eth0 up").unwrap();
    let since = Instant::now();
    let found = || (net.next_hops().get(1).map(String::as_str) == Some("02:00:00:00:12:34")).then_some(());
    wait_for("its new MAC", PATIENCE, found).unwrap();
    eprintln!("resumed after {:?}", since.elapsed());
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend1", "backend2"]);
}
