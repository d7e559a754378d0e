//! Starts that must fail: one sentence, the right exit code, nothing left attached or pinned.

use lb_userspace::{
    lab::{Host, wait_until},
    links,
};

use crate::net::*;

const WEB: &str = r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = "10.1.0.11"
"#;

/// Runs an agent that must end with this code, and these words on the last line that it says.
fn refused(host: &Host, config: &str, options: &[&str], code: i32, words: &[&str]) {
    let mut agent = start(host, config, options);
    let status = agent.wait(PATIENCE).unwrap();
    let text = agent.said();
    assert_eq!(status.code(), Some(code), "{text}");
    let message = if code == 3 { text.as_str() } else { text.lines().last().unwrap() };
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {text}");
    }
    // Whatever is before is the log.
    let errors = text.lines().filter(|line| line.starts_with("weir: ") || line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "one sentence: {text}");
}

#[test]
fn a_missing_interface() {
    let net = Net::new("missing", 0);
    let config = config(WEB).replace("eth0", "eht0");
    refused(&net.balancer, &config, &[], 3, &["\"eht0\": no such interface", "have: ", "did you mean \"eth0\"?", "^"]);
    assert_nothing_left(&net.balancer);
}

#[test]
fn a_vip_of_this_host() {
    let net = Net::new("own-vip", 0);
    let config = config(WEB).replace("10.1.0.100", "10.1.0.1");
    refused(&net.balancer, &config, &[], 3, &["10.1.0.1 is an address of this host", "ip address show", "^"]);
    assert_nothing_left(&net.balancer);
}

#[test]
fn an_interface_that_is_down() {
    let net = Net::new("down", 0);
    net.balancer.ip("link set eth0 down").unwrap();
    refused(&net.balancer, &config(WEB), &[], 1, &["interface \"eth0\": is down: ip link set dev eth0 up"]);
    assert_nothing_left(&net.balancer);
}

#[test]
fn an_interface_that_is_not_ethernet() {
    let net = Net::new("loopback", 0);
    refused(&net.balancer, &config(WEB).replace("eth0", "lo"), &[], 1, &["interface \"lo\": not Ethernet"]);
    assert_no_pins(&net.balancer.pins());
}

#[test]
fn no_capabilities() {
    let net = Net::new("powers", 0);
    let file = net.write(&config(WEB));
    let mut command = net.balancer.command("setpriv");
    command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(weir()).arg("--pins").arg(net.balancer.pins());
    let output = command.arg("run").arg("--config").arg(file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        said(&output),
        "weir: missing CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF: run as root (sudo weir ...)"
    );
    assert_nothing_left(&net.balancer);
}

#[test]
fn a_foreign_program() {
    let net = Net::new("foreign", 0);
    net.balancer.attach_pass("eth0").unwrap();
    let before = attached(&net.balancer);
    let words = ["interface \"eth0\"", "taken by program \"pass", &format!("id {}", before.unwrap()), "xdp off"];
    for options in [&[][..], &["--mode", "native"], &["--mode", "generic"]] {
        refused(&net.balancer, &config(WEB), options, 1, &words);
        assert_eq!(attached(&net.balancer), before, "it stays");
        assert_no_pins(&net.balancer.pins());
    }
}

#[test]
fn a_second_agent_with_the_same_pins() {
    let mut net = Net::forwarding("same-pins", 1, &config(WEB));
    let pid = format!("in use by pid {}", net.agent().pid());
    refused(&net.balancer, &config(WEB), &[], 1, &[&pid, "--pins"]);
    net.ask("http://10.1.0.100", 5);
}

#[test]
fn a_second_agent_on_the_same_interface() {
    let net = Net::forwarding("same-eth", 1, &config(WEB));
    let before = attached(&net.balancer);
    let other = format!("{}-other", net.balancer.pins().display());
    let file = net.write(&config(WEB));
    let mut command = net.balancer.command(weir());
    let output = command.args(["--pins", &other, "run", "--config"]).arg(file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("interface \"eth0\": its XDP hook is taken by program \"weir"), "{}", said(&output));
    assert_eq!(attached(&net.balancer), before);
    assert_no_pins(other.as_ref());
    net.ask("http://10.1.0.100", 5);
}

#[test]
fn a_vip_that_somebody_holds() {
    let net = Net::new("held", 1);
    let holder = &net.backends[0];
    for (vip, address) in [("10.1.0.100:80", "10.1.0.100/24"), ("[fd01::100]:80", "fd01::100/64 nodad")] {
        holder
            .ip(&format!(
                "addr add {} dev eth0 {}",
                address.replace(" nodad", ""),
                if address.contains(':') { "nodad" } else { "" }
            ))
            .unwrap();
        let config = config(&WEB.replace("10.1.0.100:80", vip));
        refused(&net.balancer, &config, &[], 1, &[&format!("already answered by {} on eth0", mac(holder))]);
        assert_nothing_left(&net.balancer);
    }
}

#[test]
fn native_mode_where_it_cannot_be() {
    let net = Net::of_mtu("generic-only", 1, 1_500);
    // A bridge runs no programs in its driver.
    net.balancer.ip("link add br0 type bridge").unwrap();
    net.balancer.ip("link set br0 up").unwrap();
    let config = config(WEB).replace("eth0", "br0");
    refused(&net.balancer, &config, &["--mode", "native"], 1, &["interface \"br0\"", "--mode generic"]);
    assert_no_pins(&net.balancer.pins());
}

#[test]
fn a_start_that_fails_leaves_what_runs() {
    let mut net = Net::forwarding("keeps", 1, &config(WEB));
    net.agent().stop(PATIENCE).unwrap();
    let before = attached(&net.balancer);
    // Another interface that cannot be attached to, after one that can.
    net.balancer.ip("link add eth1 type veth peer name eth2").unwrap();
    net.balancer.ip("link set eth1 up").unwrap();
    net.balancer.ip("link set eth2 up").unwrap();
    net.balancer.attach_pass("eth1").unwrap();
    let both = config(WEB).replace("\"eth0\"", "[\"eth0\", \"eth1\"]");
    let forwarded = net.verdict("forwarded");
    refused(&net.balancer, &both, &[], 1, &["interface \"eth1\": its XDP hook is taken"]);
    assert_eq!(attached(&net.balancer), before, "the very program that ran");
    net.ask("http://10.1.0.100", 20);
    assert!(net.verdict("forwarded") > forwarded, "and its counters go on");

    // The same where the one that can would also change its mode.
    refused(&net.balancer, &both, &["--mode", "generic"], 1, &["interface \"eth1\": its XDP hook is taken"]);
    assert_eq!(attached(&net.balancer), before, "the very program that ran");
    let mode = net.balancer.within(|| Ok(links::find("eth0")?.xdp.map(|xdp| xdp.mode))).unwrap();
    assert_eq!(mode, Some(links::Mode::Native));
    net.ask("http://10.1.0.100", 20);
}

#[test]
fn a_start_that_is_stopped() {
    let net = Net::new("stopped", 1);
    let mut agent = net.start(&config(WEB), &[]);
    // It has taken its place and asks whether anybody holds the VIP.
    wait_until("it has begun", PATIENCE, || net.balancer.pins().exists()).unwrap();
    assert_eq!(agent.stop(PATIENCE).unwrap().code(), Some(1), "{}", agent.said());
    let said = agent.said();
    let last = said.trim_end().lines().last();
    assert_eq!(last, Some("weir: stopped before anything was attached or changed"), "{said}");
    assert_nothing_left(&net.balancer);
}

/// The program on eth0.
fn attached(host: &Host) -> Option<u32> {
    host.within(|| Ok(links::find("eth0")?.xdp.map(|xdp| xdp.program))).unwrap()
}
