//! The agent's life: announcing, dying, taking over, leaving.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lb_userspace::{lab::Host, links};
use nix::sys::signal::Signal;

use crate::net::*;

const WEB: &str = r#"
    [service.web]
    vip = ["10.1.0.100:80", "[fd01::100]:80"]
    backends = ["10.1.0.11", "10.1.0.12"]
"#;
const URL: &str = "http://10.1.0.100";

#[test]
fn vips_are_announced_from_the_start() {
    let net = Net::forwarding("announce-arp", 2, &config(WEB));
    let balancer = Some(mac(&net.balancer));
    assert_eq!(resolves(&net.client, "10.1.0.100"), balancer);
    assert_eq!(resolves(&net.client, "fd01::100"), balancer);
    assert!(net.verdict("arp_answered") > 0 && net.verdict("nd_answered") > 0);
}

#[test]
fn announcing_is_switched_at_run_time() {
    let net = Net::forwarding("manual", 2, &format!("announce = \"manual\"\n{}", config(WEB)));
    let balancer = Some(mac(&net.balancer));
    assert_eq!(resolves(&net.client, "10.1.0.100"), None, "before anybody said so");
    for (state, expected) in [("on", &balancer), ("off", &None), ("on", &balancer)] {
        let output = net.weir(&["announce", state]);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(resolves(&net.client, "10.1.0.100"), *expected, "{state}");
        assert_eq!(resolves(&net.client, "fd01::100"), *expected, "{state}");
        assert_eq!(net.json(&["status"])["interfaces"][0]["announce"], state == "on");
    }
    net.ask(URL, 5);
}

#[test]
fn a_restart_leaves_a_master_announcing() {
    let config = format!("announce = \"manual\"\n{}", config(WEB));
    let mut net = Net::forwarding("master", 2, &config);
    assert!(net.weir(&["announce", "on"]).status.success());
    net.agent().stop(PATIENCE).unwrap();
    net.run(&config, &[]);
    assert_eq!(resolves(&net.client, "10.1.0.100"), Some(mac(&net.balancer)));
}

#[test]
fn routed_vips_are_not_announced() {
    let net = Net::forwarding("routed", 2, &format!("announce = \"none\"\n{}", config(WEB)));
    assert_eq!(resolves(&net.client, "10.1.0.100"), None);
    let output = net.weir(&["announce", "on"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("announce = \"none\""), "{}", said(&output));
    // Routing brings the traffic.
    net.client.ip("route add 10.1.0.100 via 10.1.0.1").unwrap();
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend1", "backend2"]);
}

#[test]
fn two_nodes_cannot_announce_the_same() {
    let net = Net::forwarding("conflict", 2, &config(WEB));
    let other = join(&net.lab, &net.switch, "other", 2);
    other.let_xdp_transmit(&net.switch, "eth0").unwrap();
    let mut agent = start(&other, &config(WEB), &[]);
    assert_eq!(agent.wait(PATIENCE).unwrap().code(), Some(1), "{}", agent.said());
    assert!(agent.said().contains(&mac(&net.balancer)), "{}", agent.said());
    assert_nothing_left(&other);
    net.ask(URL, 5);
}

#[test]
fn forwarding_outlives_the_agent() {
    let mut net = Net::forwarding("fail-static", 2, &config(WEB));
    net.agent().signal(Signal::SIGKILL).unwrap();
    net.agent().wait(PATIENCE).unwrap();
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend1", "backend2"]);

    let status = net.json(&["status"]);
    assert!(status["agent"].is_null(), "{status}");
    assert!(status["warnings"].to_string().contains("no agent is running"), "{status}");
    assert_eq!(net.json(&["ls"])["services"][0]["name"], "web");
    assert!(net.verdict("forwarded") >= 4 * 40);
    assert_eq!(net.json(&["explain", "10.1.0.9:40000", "10.1.0.100:80"])["verdict"], "forwarded");
}

#[test]
fn a_new_agent_takes_over_without_a_failed_request() {
    let mut net = Net::forwarding("take-over", 2, &config(WEB));
    let (done, client) = (AtomicBool::new(false), net.client.clone());
    thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut answers = 0;
            while !done.load(Ordering::Relaxed) {
                answers += try_to_ask(&client, URL, 20)?.len();
            }
            anyhow::Ok(answers)
        });
        // Killed, asked to end, and with another configuration, by which no flow moves.
        net.agent().signal(Signal::SIGKILL).unwrap();
        net.agent().wait(PATIENCE).unwrap();
        net.run(&config(WEB), &[]);
        net.agent().stop(PATIENCE).unwrap();
        net.run(&config(&format!("{WEB}[service.other]\nvip = \"10.1.0.101:80\"\nbackends = [\"10.1.0.12\"]\n")), &[]);
        done.store(true, Ordering::Relaxed);
        let answers = asker.join().unwrap().unwrap();
        eprintln!("{answers} requests, none failed");
    });
    assert_eq!(net.json(&["ls"])["services"][0]["name"], "other");
    assert_eq!(net.json(&["status"])["agent"], net.agent().pid());
}

#[test]
fn a_stopped_agent_says_what_goes_on() {
    let mut net = Net::forwarding("stop", 2, &config(WEB));
    assert_eq!(net.agent().stop(PATIENCE).unwrap().code(), Some(0));
    let last = net.agent().said().lines().last().unwrap().to_owned();
    assert!(last.contains("forwarding goes on") && last.contains("weir detach"), "{last}");
    net.ask(URL, 5);

    let output = net.weir(&["detach"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "eth0: detached\n");
    assert_nothing_left(&net.balancer);
    assert!(try_to_ask(&net.client, URL, 1).is_err(), "nobody forwards any more");
    assert_eq!(net.weir(&["detach"]).status.code(), Some(1), "there is nothing to detach");
}

#[test]
fn detaching_under_an_agent_is_refused() {
    let mut net = Net::forwarding("under", 2, &config(WEB));
    let output = net.weir(&["detach"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&format!("in use by pid {}", net.agent().pid())), "{}", said(&output));
    net.ask(URL, 5);
}

#[test]
fn detach_on_exit() {
    let config = config(WEB);
    let mut net = Net::new("on-exit", 2);
    net.run(&config, &["--detach-on-exit"]);
    assert!(net.is_attached());
    assert_eq!(net.agent().stop(PATIENCE).unwrap().code(), Some(0));
    assert_nothing_left(&net.balancer);
}

#[test]
fn a_restart_may_change_the_mode() {
    let config = config(WEB);
    let mut net = Net::forwarding("modes", 2, &config);
    for mode in ["generic", "native", "generic"] {
        net.agent().stop(PATIENCE).unwrap();
        net.run(&config, &["--mode", mode]);
        assert_eq!(net.json(&["status"])["interfaces"][0]["mode"], mode);
        assert_eq!(distinct(&net.ask(URL, 40)), ["backend1", "backend2"], "{mode}");
    }
}

#[test]
fn a_restart_may_leave_an_interface() {
    let one = config(WEB);
    let both = one.replace("\"eth0\"", "[\"eth0\", \"eth1\"]");
    let mut net = Net::new("leave", 2);
    let right = net.lab.switch("right").unwrap();
    net.balancer.plug(&right, "eth1", &["10.2.0.1/24"]).unwrap();
    net.set_up(&["web"], &one);
    net.serve(80);
    net.run(&both, &[]);
    let on_eth1 = |net: &Net| net.balancer.within(|| links::find("eth1")).unwrap().xdp.is_some();
    assert!(on_eth1(&net));
    net.agent().stop(PATIENCE).unwrap();
    net.run(&one, &[]);
    assert!(!on_eth1(&net), "the program is still on eth1");
    net.ask(URL, 5);
}

#[test]
fn an_interface_that_was_made_anew() {
    let config = config(WEB);
    let mut net = Net::forwarding("anew", 2, &config);
    net.agent().stop(PATIENCE).unwrap();
    net.balancer.ip("link delete eth0").unwrap();
    net.balancer.plug(&net.switch, "eth0", &["10.1.0.1/24", "fd01::1/64"]).unwrap();
    net.balancer.let_xdp_transmit(&net.switch, "eth0").unwrap();
    assert!(net.json(&["status"])["interfaces"][0]["mode"].is_null(), "status must not call it attached");
    net.run(&config, &[]);
    net.client.ip("neigh flush all").unwrap();
    net.ask(URL, 20);
}

#[test]
fn restarts_leave_nothing_in_the_kernel() {
    let config = config(WEB);
    let mut net = Net::forwarding("leak", 2, &config);
    let before = pins(&net.balancer);
    for _ in 0..3 {
        net.agent().stop(PATIENCE).unwrap();
        net.run(&config, &[]);
    }
    assert_eq!(pins(&net.balancer), before);
}

/// The names below the pins of a host.
fn pins(host: &Host) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![host.pins()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
