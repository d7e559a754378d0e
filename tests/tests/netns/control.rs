//! The control socket of a running agent: it answers those who may not read pins as pins answer root, it is one instance's
//! alone, and an agent that was killed leaves it to the next.

#[path = "../../../lb-userspace/tests/manual/mod.rs"]
mod manual;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use lb_userspace::{control::socket::default_path, lab::wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

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

#[test]
fn the_examples_of_the_manual_hold() {
    let mut net = Net::new("manual", 3);
    net.balancer.ip("addr add 10.0.0.1/24 dev eth0").unwrap();
    for (backend, number) in net.backends.iter().zip(11..) {
        backend.ip(&format!("addr add 10.0.0.{number}/24 dev eth0")).unwrap();
    }
    let services = r#"
        [service.web]
        vip = ["192.0.2.10:80", "192.0.2.10:443"]
        backends = ["10.0.0.11", "10.0.0.12", "10.0.0.13*2"]
    "#;
    net.run(&config(services), &[]);
    wait_until("all are resolved", PATIENCE, || !net.next_hops().contains(&"none".to_owned())).unwrap();
    // Something has to have happened.
    assert!(net.weir(&["ready", "web", "10.0.0.11"]).status.success());
    for (command, expected) in manual::examples(&socket(&net)) {
        let printed = net.balancer.output("sh", &["-c", &command]).unwrap();
        manual::assert_alike(&expected, &serde_json::from_str(&printed).expect(&printed), &command);
    }
}

#[test]
fn verbs_act_at_once_and_say_what_they_cost() {
    let net = Net::forwarding("verbs", 2, &config(WEB));
    wait_until("both are resolved", PATIENCE, || !net.next_hops().contains(&"none".to_owned())).unwrap();
    let [first, both] = [&["backend1"][..], &["backend1", "backend2"]];
    for (arguments, told, answering) in [
        (&["drain", "web", "10.1.0.12"][..], "established connections there end (", first),
        (&["ready", "web", "10.1.0.12"], "takes", both),
        (&["maint", "web", "10.1.0.12"], "established connections there end (", first),
        (&["revert", "web", "10.1.0.12"], "overrides cleared: 1", both),
        (&["rm", "web", "10.1.0.12"], "- backend 10.1.0.12", first),
        (&["add", "web", "10.1.0.12", "2"], "+ backend 10.1.0.12, weight 2", both),
        (&["weight", "web", "10.1.0.12", "0"], "weight 2 (file: 1) -> 0", first),
        (&["revert"], "overrides cleared: 1", both),
        (&["drain", "web", "10.1.0.12", "--over", "1h"], "within 3600 s, step by step", both),
        (&["revert"], "overrides cleared: 1", both),
        (&["revert"], "nothing changed", both),
        (&["announce", "off"], "no longer announced", both),
        (&["announce", "on"], "VIPs are announced", both),
        (&["apply", "--confirm", "60s"], "nothing changed", both),
    ] {
        let output = net.weir(arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(told), "{arguments:?}: {text}{}", said(&output));
        assert_eq!(distinct(&net.ask("http://10.1.0.100", 60)), answering, "{arguments:?}: {text}");
    }
    let refused = net.weir(&["-o", "json", "rm", "web", "10.1.0.13"]);
    let error: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert!(error["error"].as_str().unwrap().contains("10.1.0.13 is not in service \"web\""), "{error}");
    let events = net.json(&["events"]);
    let events: Vec<_> = events["events"].as_array().unwrap().iter().collect();
    assert!(events.iter().all(|event| event["uid"] == 0));
    assert_eq!((&events[0]["verb"], &events[0]["ok"]), (&json!("drain web 10.1.0.12"), &json!(true)));
    assert!(events.iter().any(|event| event["verb"] == "rm web 10.1.0.13" && event["ok"] == false));
    assert!(events.iter().any(|event| event["verb"] == "announce off" && event["ok"] == true), "the agent was asked");
}

#[test]
fn members_of_the_group_may_change_and_name_files_beside_the_agents() {
    let net = Net::new("members", 2);
    net.set_up(&["web"], &config(WEB));
    let (file, secret) = (net.write(&config(WEB)), net.balancer.directory().join("link.toml"));
    std::os::unix::fs::symlink("/etc/shadow", &secret).unwrap();
    let mut agent = with_group(&net, &file);
    let found = fs::metadata(socket(&net)).unwrap();
    assert_eq!((found.gid().to_string().as_str(), found.mode() & 0o777), (GROUP, 0o660));
    for groups in [["--regid=64987", "--clear-groups"], ["--regid=65534", "--groups=64987"]] {
        let member = |body: Value| -> Value {
            let mut command = net.balancer.command("setpriv");
            command.arg("--reuid=65534").args(groups).args(["curl", "--silent", "--show-error", "--unix-socket"]);
            command.arg(socket(&net)).args(["--data", &body.to_string(), "http://weir/v1/apply"]);
            serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
        };
        for body in [json!({}), json!({ "file": file })] {
            assert_eq!(member(body)["changes"], false);
        }
        for outside in [Path::new("/etc/shadow"), &secret] {
            let refused = member(json!({ "file": outside }));
            let error = refused["error"].as_str().unwrap();
            assert!(error.contains("only root may name files that are not in"), "{refused}");
        }
    }
    let events = net.json(&["events"]);
    let asked = events["events"].as_array().unwrap();
    assert!(asked.iter().filter(|event| event["uid"] == 65534).count() >= 4, "{events}");
    assert_eq!(agent.stop(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn a_faulty_file_is_refused_with_its_faults() {
    let net = Net::forwarding("faulty", 2, &config(WEB));
    let faulty = net.write(&config("[service.web]\nvpi = \"10.1.0.100:80\"\n"));
    let faulty = faulty.to_str().unwrap();
    // Here it is read by the command line, then, as the agent's own, by the agent.
    for arguments in [&["apply", faulty][..], &["apply"], &["-o", "json", "apply"]] {
        let output = net.weir(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("vpi"), "{arguments:?}: {}", said(&output));
    }
    net.ask("http://10.1.0.100", 10);
}

#[test]
fn events_are_followed() {
    let net = Net::forwarding("follow", 2, &config(WEB));
    assert!(net.weir(&["maint", "web", "10.1.0.11"]).status.success());
    let mut command = net.balancer.command(weir());
    command.arg("--pins").arg(net.balancer.pins()).args(["events", "--follow"]).stdout(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("uid 0  maint web 10.1.0.11  done"));
    assert!(net.weir(&["ready", "web", "10.1.0.11"]).status.success());
    assert!(lines.next().unwrap().contains("uid 0  ready web 10.1.0.11  done"));
    follower.kill().unwrap();
    follower.wait().unwrap();
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
