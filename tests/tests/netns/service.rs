//! The agent as a service: what it tells the service manager, and how little the unit leaves it. The unit itself runs under
//! systemd in `cargo xtask deb --test`.

use std::{os::unix::net::UnixDatagram, process::Command};

use lb_userspace::lab::Running;
use nix::sys::signal::Signal;

use crate::net::*;

const WEB: &str = r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
"#;
const URL: &str = "http://10.1.0.100";
const UNIT: &str = include_str!("../../../lb-userspace/packaging/weir.service");

#[test]
fn the_service_manager_is_told() {
    let net = serving("notify");
    let path = net.balancer.directory().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = net.balancer.command(weir());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut agent = run(&net, &mut command);

    assert_eq!(told(&manager), "READY=1\nSTATUS=services: 1, VIPs: 1, backends: 2\n");
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend1", "backend2"], "ready means forwarding");
    for _ in 0..3 {
        assert_eq!(told(&manager), "WATCHDOG=1\n");
    }
    agent.signal(Signal::SIGHUP).unwrap();
    let reloading = told_but_beats(&manager);
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
    assert!(since.trim_end().parse::<u64>().unwrap() > 0, "{reloading}");
    assert_eq!(told_but_beats(&manager), "READY=1\n");
    assert_eq!(told(&manager), "WATCHDOG=1\n", "it goes on");
    agent.signal(Signal::SIGTERM).unwrap();
    assert_eq!(told_but_beats(&manager), "STOPPING=1\n");
    assert_eq!(agent.wait(PATIENCE).unwrap().code(), Some(0), "{}", agent.said());
}

#[test]
fn the_capabilities_of_the_unit_suffice() {
    let net = serving("caps");
    let granted = capabilities();
    let mut agent = run(&net, &mut limited(&net, &granted));
    agent.wait_to_say("services: ", PATIENCE).unwrap();
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend1", "backend2"]);
    assert_eq!(agent.stop(PATIENCE).unwrap().code(), Some(0));
    let mut agent = run(&net, &mut limited(&net, &granted));
    agent.wait_to_say("services: ", PATIENCE).unwrap();
    net.ask(URL, 5);
}

#[test]
fn without_any_capability_of_the_unit_it_says_which() {
    let net = Net::new("less", 1);
    for missing in capabilities() {
        let others: Vec<_> = capabilities().into_iter().filter(|other| *other != missing).collect();
        let mut agent = run(&net, &mut limited(&net, &others));
        assert_eq!(agent.wait(PATIENCE).unwrap().code(), Some(1), "without {missing}");
        assert!(agent.said().contains(&format!("missing {missing}: ")), "without {missing}: {}", agent.said());
        assert_nothing_left(&net.balancer);
    }
}

/// A network whose backends serve, and no agent yet.
fn serving(name: &str) -> Net {
    let mut net = Net::new(name, 2);
    net.set_up(&["web"], &config(WEB));
    net.serve(80);
    net
}

/// Starts an agent by what begins its command line.
fn run(net: &Net, command: &mut Command) -> Running {
    let file = net.write(&config(WEB));
    command.arg("--pins").arg(net.balancer.pins()).arg("run").arg("--config").arg(file);
    command.arg("--state").arg(net.balancer.directory());
    net.balancer.spawn("weir", command).unwrap()
}

/// `weir` as root with these capabilities and no way to others.
fn limited(net: &Net, capabilities: &[&str]) -> Command {
    let granted = capabilities.iter().map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()));
    let mut command = net.balancer.command("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all"]);
    command.arg(format!("--bounding-set=-all{}", granted.collect::<String>())).arg(weir());
    command
}

/// Those that the unit grants.
fn capabilities() -> Vec<&'static str> {
    let granted = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    granted.expect("the unit bounds capabilities").split_whitespace().collect()
}

/// The next that the service manager is told.
fn told(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).unwrap();
    String::from_utf8_lossy(&message[..length]).into_owned()
}

/// The next but that the loop turns.
fn told_but_beats(manager: &UnixDatagram) -> String {
    loop {
        let message = told(manager);
        if message != "WATCHDOG=1\n" {
            return message;
        }
    }
}
