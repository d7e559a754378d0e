//! The control socket of a running agent: it answers those who may not read pins as pins answer root, it is one instance's
//! alone, and an agent that was killed leaves it to the next.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use lb_userspace::{control::socket::default_path, lab::wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::net::*;

const WEB: &str = r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
"#;

#[test]
fn who_may_not_read_pins_reads_through_the_agent() {
    let net = Net::forwarding("through", 2, &config(WEB));
    open_to_all(&net);
    wait_until("both are resolved", PATIENCE, || !net.next_hops().contains(&"none".to_owned())).unwrap();
    let file = net.write(&config(WEB));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    for arguments in [
        &["status"][..],
        &["ls"],
        &["ls", "web", "--stats"],
        &["stats", "--per-cpu"],
        &["explain", "198.51.100.7:4711", "10.1.0.100:80"],
        &["-o", "json", "status"],
        &["-o", "json", "ls"],
        &["-o", "json", "explain", "198.51.100.7:4711", "10.1.0.100:80"],
    ] {
        let (direct, through) = (net.weir(arguments), as_nobody(&net, arguments));
        assert!(through.status.success(), "{arguments:?}: {}", said(&through));
        let (direct, through) = (String::from_utf8(direct.stdout).unwrap(), String::from_utf8(through.stdout).unwrap());
        assert_eq!(direct, through, "{arguments:?}");
    }
    let nowhere = as_nobody(&net, &["ls", "nowhere"]);
    assert_eq!((nowhere.status.code(), said(&nowhere)), (Some(1), said(&net.weir(&["ls", "nowhere"]))));
    for verb in [&["rm", "web", "10.1.0.11"][..], &["apply"], &["announce", "off"]] {
        let refused = as_nobody(&net, verb);
        assert_eq!(refused.status.code(), Some(1), "{verb:?}");
        assert!(said(&refused).contains("may only read (GET)"), "{verb:?}: {}", said(&refused));
    }
}

#[test]
fn without_an_agent_nobody_is_told_both_ways_out() {
    let mut net = Net::forwarding("unheard", 2, &config(WEB));
    assert_eq!(net.agent().stop(PATIENCE).unwrap().code(), Some(0));
    assert!(!socket(&net).exists(), "it goes with its agent");
    let status = as_nobody(&net, &["status"]);
    let said = said(&status);
    assert!(said.contains("permission denied: run as root") && said.contains("no agent answers there"), "{said}");
}

#[test]
fn a_killed_agent_leaves_its_socket_to_the_next() {
    let mut net = Net::forwarding("killed", 2, &config(WEB));
    net.agent().signal(Signal::SIGKILL).unwrap();
    net.agent().wait(PATIENCE).unwrap();
    assert!(socket(&net).exists());
    let none = net.weir(&["events"]);
    assert!(said(&none).contains("no agent answers there"), "{}", said(&none));
    net.run(&config(WEB), &[]);
    assert_eq!(curl(&net, &["http://weir/v1/status"])["services"], 1);
}

#[test]
fn two_agents_cannot_have_one_socket() {
    let mut net = Net::forwarding("shared", 2, &config(WEB));
    let pid = net.json(&["status"])["agent"].as_u64().unwrap();
    let mut second = net.balancer.command(weir());
    let pins = format!("{}-second", net.balancer.pins().display());
    second.args(["--pins", &pins, "--socket"]).arg(socket(&net)).args(["run", "--config"]).arg(net.write(&config(WEB)));
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&format!("pid {pid} answers there")), "{}", said(&output));
    assert_no_pins(Path::new(&pins));
    assert_eq!(curl(&net, &["http://weir/v1/status"])["agent"], pid, "the first is asked as before");
    assert_eq!(net.agent().stop(PATIENCE).unwrap().code(), Some(0));
}

fn socket(net: &Net) -> PathBuf {
    default_path(&net.balancer.pins())
}

/// As an administrator may, who wants to be read by all.
fn open_to_all(net: &Net) {
    fs::set_permissions(socket(net), fs::Permissions::from_mode(0o666)).unwrap();
}

fn as_nobody(net: &Net, arguments: &[&str]) -> Output {
    let mut command = net.balancer.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(weir());
    command.arg("--pins").arg(net.balancer.pins()).args(arguments).output().unwrap()
}

fn curl(net: &Net, arguments: &[&str]) -> Value {
    let socket = socket(net);
    let options = ["--silent", "--show-error", "--unix-socket", socket.to_str().unwrap()];
    serde_json::from_str(&net.balancer.output("curl", &[&options[..], arguments].concat()).unwrap()).unwrap()
}
