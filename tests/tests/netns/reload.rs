//! Another configuration under way: what must not be lost, what must not move, and what is refused.

use std::fs;

use lb_userspace::lab::wait_for;
use nix::sys::signal::Signal;

use crate::{
    net::*,
    stream::{Wire, stream},
};

// A stream looks like a flood, and none of it shall be dropped.
const WEB: &str = r#"
    [service.web]
    syn = "count"
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
"#;
const URL: &str = "http://10.1.0.100";
const REPETITIONS: usize = 25;

/// Another service, of a third backend.
fn other(weight: usize) -> String {
    format!("[service.other]\nvip = \"10.1.0.101:80\"\nbackends = [\"10.1.0.13*{weight}\", \"10.1.0.12\"]\n")
}

/// Has the agent read its file again; returns what it says of that.
fn reload(net: &mut Net) -> String {
    let said = |net: &mut Net| -> Vec<String> {
        net.agent().said().lines().filter(|line| line.contains("SIGHUP: ")).map(str::to_owned).collect()
    };
    let before = said(net).len();
    net.agent().signal(Signal::SIGHUP).unwrap();
    wait_for("an answer to SIGHUP", PATIENCE, || said(net).get(before).cloned()).unwrap()
}

fn reload_with(net: &mut Net, config: &str) -> String {
    net.write(config);
    reload(net)
}

#[test]
fn reloads_lose_and_move_nothing() {
    let base = config(WEB) + &other(1);
    let mut net = Net::forwarding("reload", 3, &base);
    let wire = Wire::of(&net);
    let tables = net.json(&["status"])["tables"].clone();
    let delivered = stream(&wire, || {
        for _ in 0..REPETITIONS {
            let said = reload(&mut net);
            assert!(said.contains("nothing changes"), "{said}");
        }
        for number in 0..REPETITIONS {
            let said = reload_with(&mut net, &(config(WEB) + &other(2 + number % 7)));
            assert!(said.contains("live after") && said.contains("changed: 1;"), "{said}");
        }
        assert!(reload_with(&mut net, &base).contains("live after"));
    });
    delivered.assert_all_at(&[1, 2]);
    assert_eq!(net.json(&["status"])["tables"], tables, "the result depends on the configuration alone");
}

#[test]
fn backends_come_and_go_under_traffic() {
    let with = |backends: &str| config(WEB).replace("\"10.1.0.11\", \"10.1.0.12\"", backends);
    let mut net = Net::forwarding("come-and-go", 3, &with("\"10.1.0.11\""));
    let wire = Wire::of(&net);
    // The third is unknown to the balancer until then.
    net.balancer.ip("neigh flush all").unwrap();
    let delivered = stream(&wire, || {
        for backends in ["\"10.1.0.11\", \"10.1.0.13\"", "\"10.1.0.13\"", "\"10.1.0.11*3\", \"10.1.0.13\""] {
            let said = reload_with(&mut net, &with(backends));
            assert!(said.contains("live after"), "{said}");
        }
    });
    delivered.assert_all_at(&[1, 3]);
    assert_eq!(net.verdict("no_neighbour"), 0, "new backends are resolved before they get packets");
    assert_eq!(net.json(&["ls"])["services"][0]["backends"][0]["weight"], 3);
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let good = config(WEB);
    let mut net = Net::forwarding("broken", 2, &good);
    let before = net.json(&["ls"]);
    let rows = [
        (good[..good.len() / 2].to_owned(), "weir.toml:"),
        (good.replace("10.1.0.12", "10.1.0.312"), "10.1.0.312"),
        (good.replace("\"eth0\"", "[\"eth0\", \"lo\"]"), "restart the agent"),
        (good.replace("10.1.0.100:80", "10.1.0.1:80"), "10.1.0.1"),
        (good.replace("10.1.0.100:80", "10.1.0.9:80"), "10.1.0.9"),
    ];
    for (broken, named) in rows {
        let said = reload_with(&mut net, &broken);
        assert!(said.contains("the old configuration stays: ") && said.contains(named), "{said}");
        assert_eq!(net.json(&["ls"]), before);
        net.ask(URL, 5);
    }
    fs::remove_file(net.balancer.directory().join("weir.toml")).unwrap();
    assert!(reload(&mut net).contains("the old configuration stays: "));
    assert!(reload_with(&mut net, &good).contains("nothing changes"));
    net.ask(URL, 5);
}

#[test]
fn full_tables_refuse_the_whole_and_name_the_limit() {
    let sized = |arena: u32, services: &str| format!("arena = {arena}\n{}", config(services));
    let service = |name: &str, port: u16, weight: u16| {
        let backends = format!("[\"10.1.0.11\", \"10.1.0.12*{weight}\"]");
        format!("[service.{name}]\nvip = \"10.1.0.100:{port}\"\nslots = 512\nbackends = {backends}\n")
    };
    let mut net = Net::forwarding("full", 2, &sized(1024, &service("web", 80, 1)));
    let many: String = (0..4).map(|n| service(&format!("more{n}"), 1000 + n, 2 + n)).collect();
    let said = reload_with(&mut net, &sized(8192, &(service("web", 80, 1) + &many)));
    assert!(said.contains("the old configuration stays: rings: ") && said.contains("arena = "), "{said}");
    net.ask(URL, 5);
}

#[test]
fn counters_stay_with_their_owners() {
    let mut net = Net::forwarding("owners", 3, &config(WEB));
    net.ask(URL, 40);
    let of = |net: &Net, backend: usize| {
        net.json(&["stats"])["services"][0]["backends"][backend]["packets"].as_u64().unwrap()
    };
    let (first, second) = (of(&net, 0), of(&net, 1));
    assert!(first > 0 && second > 0);
    let said = reload_with(&mut net, &config(&WEB.replace("10.1.0.12", "10.1.0.13")));
    assert!(said.contains("live after"), "{said}");
    assert_eq!((of(&net, 0), of(&net, 1)), (first, 0), "who stays goes on counting, who comes begins at 0");
    // Often enough for ids to be given to others.
    for _ in 0..3 {
        reload_with(&mut net, &config(&WEB.replace(", \"10.1.0.12\"", "")));
        reload_with(&mut net, &config(WEB));
        assert_eq!((of(&net, 0), of(&net, 1)), (first, 0));
    }
    assert!(net.verdict("forwarded") >= 4 * 40);
}

#[test]
fn vips_come_and_go() {
    let mut net = Net::forwarding("vips", 3, &config(WEB));
    let two = config(WEB) + &other(1);
    net.set_up(&["web", "other"], &two);
    assert!(reload_with(&mut net, &two).contains("added: 1,"));
    assert_eq!(resolves(&net.client, "10.1.0.101"), Some(mac(&net.balancer)), "it is announced");
    assert_eq!(distinct(&net.ask("http://10.1.0.101", 40)), ["backend2", "backend3"]);
    assert!(reload_with(&mut net, &config(WEB)).contains("removed: 1,"));
    assert_eq!(resolves(&net.client, "10.1.0.101"), None);
    net.ask(URL, 5);
}
