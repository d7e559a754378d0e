//! As many VIPs as a configuration may have.

use std::time::Instant;

use lb_common::abi::MAX_VIPS;

use crate::net::*;

const SERVICES: u32 = 64;
const BACKENDS: u32 = 64;

/// Sets of 64 backends out of 127, each shifted by one, so that all differ; 64 VIPs each.
fn services() -> String {
    let service = |number: u32| {
        let vips: Vec<_> = (0..MAX_VIPS / SERVICES).map(|vip| format!("\"10.3.{number}.{vip}:80\"")).collect();
        let backends: Vec<_> =
            (1 + number..1 + number + BACKENDS).map(|backend| format!("\"10.1.4.{backend}\"")).collect();
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
    for announce in ["none", "arp"] {
        let config = format!("announce = \"{announce}\"\n{}", config(&services()));
        let begin = Instant::now();
        net.run(&config, &[]);
        eprintln!("announce = {announce:?}: {MAX_VIPS} VIPs in {} ms", begin.elapsed().as_millis());
        let ls = net.json(&["ls"]);
        let services = ls["services"].as_array().unwrap();
        assert_eq!(services.len(), SERVICES as usize);
        let vips: usize = services.iter().map(|service| service["vips"].as_array().unwrap().len()).sum();
        assert_eq!(vips, MAX_VIPS as usize);
        let text = String::from_utf8(net.weir(&["ls"]).stdout).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("TCP  10.3.")).count(), MAX_VIPS as usize);
        for service in services {
            for next_hop in service["next_hops"].as_array().unwrap() {
                assert_eq!(next_hop["state"], "resolved", "{next_hop}");
            }
        }
        net.agent().stop(PATIENCE).unwrap();
        assert!(net.weir(&["detach"]).status.success());
    }
}
