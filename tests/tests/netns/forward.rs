//! Real connections through a real balancer.

use crate::net::*;

#[test]
fn requests_are_spread_by_weight_and_answered_directly() {
    let config = r#"
        interface = "eth0"
        hash_key = "00112233445566778899aabbccddeeff"
        [service.web]
        vip = ["10.1.0.100:80", "[fd01::100]:80"]
        backends = ["10.1.0.11", "10.1.0.12*2"]
    "#;
    let net = Net::forwarding("l2", 2, config);
    let answers = net.ask("http://10.1.0.100", 300);
    eprintln!("{} {}", count(&answers, "backend1"), count(&answers, "backend2"));
}
