//! As many VIPs as a configuration may have.

use std::{fs, time::Instant};

use lb_common::abi::MAX_VIPS;

use crate::net::*;

const SERVICES: u32 = 64;
const BACKENDS: u32 = 64;

/// How VIP entries differ within a service.
#[derive(Clone, Copy, Debug)]
enum By {
    Address,
    Port,
}

/// Sets of 64 backends out of 127, each shifted by one, so that all differ; 64 VIPs each.
fn services(by: By) -> String {
    let vip = |service: u32, number: u32| match by {
        By::Address => format!("\"10.3.{service}.{number}:80\""),
        By::Port => format!("\"10.3.{service}.1:{}\"", 1_000 + number),
    };
    let service = |number: u32| {
        let vips: Vec<_> = (0..MAX_VIPS / SERVICES).map(|n| vip(number, n)).collect();
        let backends: Vec<_> = (1 + number..1 + number + BACKENDS).map(|n| format!("\"10.1.4.{n}\"")).collect();
        format!("[service.s{number}]\nvip = [{}]\nbackends = [{}]\n", vips.join(", "), backends.join(", "))
    };
    (0..SERVICES).map(service).collect()
}

#[test]
fn vips_by_the_thousand() {
    let mut net = Net::new("many", 1);
    // One host stands for all backends.
    net.balancer.ip("addr add 10.1.4.254/24 dev eth0").unwrap();
    for backend in 1..SERVICES + BACKENDS {
        net.backends[0].ip(&format!("addr add 10.1.4.{backend}/24 dev eth0")).unwrap();
    }
    for (announce, by) in [("none", By::Address), ("arp", By::Port), ("arp", By::Address)] {
        let config = format!("announce = \"{announce}\"\n{}", config(&services(by)));
        let begin = Instant::now();
        net.run(&config, &[]);
        let took = begin.elapsed().as_millis();
        let worked = cpu_time(net.agent().pid());
        eprintln!("announce = {announce:?}, {MAX_VIPS} VIPs by {by:?}: up after {took} ms, {worked} ms of work");
        check_lists(&net);
        net.agent().stop(PATIENCE).unwrap();
        assert!(net.weir(&["detach"]).status.success());
    }
}

/// That `weir ls` lists all, with their next hops.
fn check_lists(net: &Net) {
    let ls = net.json(&["ls"]);
    let services = ls["services"].as_array().unwrap();
    assert_eq!(services.len(), SERVICES as usize);
    let vips: usize = services.iter().map(|service| service["vips"].as_array().unwrap().len()).sum();
    assert_eq!(vips, MAX_VIPS as usize);
    let text = String::from_utf8(net.weir(&["ls"]).stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("TCP  10.3.")).count(), MAX_VIPS as usize);
    for service in services {
        assert_eq!(service["backends"].as_array().unwrap().len(), BACKENDS as usize);
        for next_hop in service["next_hops"].as_array().unwrap() {
            assert_eq!(next_hop["state"], "resolved", "{next_hop}");
        }
    }
}

/// Milliseconds that a process has computed, on all CPUs together.
fn cpu_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    // A tick is 10 ms; the first field here is the third of the file.
    behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}
