//! Backends that die and come back, by real servers and a real agent that checks them.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use lb_userspace::{
    lab::{Http, Running, start_nginx, wait_for, wait_until},
    overrides::now_ms,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{net::*, notify::listen};

const URL: &str = "http://10.1.0.100";
const TEN: &str = r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = "10.1.0.11-20"
    check = { http = "/", via = "backend", every = "500ms", timeout = "250ms", fall = 2, rise = 2 }
    slow_start = "3s"
    slots = 4096
"#;

/// Backends of the first service, as `weir ls` lists them.
fn backends(net: &Net) -> Vec<Value> {
    net.json(&["ls"])["services"][0]["backends"].as_array().unwrap().clone()
}

fn state(backend: &Value) -> String {
    backend["health"]["state"].as_str().unwrap_or("none").to_owned()
}

fn wait_for_state(net: &Net, number: usize, wanted: &str) -> Value {
    wait_for(&format!("backend {number} is {wanted}"), PATIENCE, || {
        let backend = backends(net).swap_remove(number);
        (state(&backend) == wanted).then_some(backend)
    })
    .unwrap()
}

/// Results of the agent's events of a verb.
fn events(net: &Net, verb: &str) -> Vec<String> {
    let events = net.json(&["events"])["events"].as_array().unwrap().clone();
    let of_verb = events.iter().filter(|event| event["verb"] == verb);
    of_verb.map(|event| event["result"].as_str().unwrap().to_owned()).collect()
}

/// Who gets each of some flows, by what the tables say.
fn owners(net: &Net) -> Vec<String> {
    let owner = |port: u32| {
        let question = net.json(&["explain", &format!("10.1.0.9:{port}"), "10.1.0.100:80"]);
        question["backend"].to_string()
    };
    (1_000..1_060).map(owner).collect()
}

#[test]
fn a_killed_server_leaves_alone_and_comes_back_slowly() {
    let config = config(TEN);
    let mut net = Net::new("health", 10);
    net.set_up(&["web"], &config);
    let mut servers: Vec<Running> =
        net.backends.iter().map(|backend| start_nginx(backend, &format!("{}\n", backend.name())).unwrap()).collect();
    net.run(&config, &[]);
    assert_eq!(distinct(&net.ask(URL, 200)).len(), 10);
    let before = owners(&net);

    servers[2].signal(Signal::SIGKILL).unwrap();
    servers[2].wait(PATIENCE).unwrap();
    let dead = wait_for_state(&net, 2, "down");
    assert_eq!((dead["owned"].as_u64(), dead["health"]["reason"].as_str()), (Some(0), Some("connect: refused")));
    let answers = net.ask(URL, 200);
    assert_eq!((answers.len(), count(&answers, "backend3")), (200, 0));
    for (before, after) in before.iter().zip(owners(&net)) {
        assert!(before.contains("10.1.0.13") || *before == after, "{before} -> {after}");
    }
    let text = String::from_utf8(net.weir(&["ls"]).stdout).unwrap();
    assert!(text.lines().any(|line| line.contains("10.1.0.13") && line.contains("connect: refused")), "{text}");
    assert!(
        events(&net, "health")[0].contains("down: web 10.1.0.13 (connect: refused)"),
        "{:?}",
        events(&net, "health")
    );

    // Another agent goes on where this one was: nobody changes, and nobody is forgotten.
    let known: Vec<String> = backends(&net).iter().map(|backend| backend["health"].to_string()).collect();
    net.agent().signal(Signal::SIGKILL).unwrap();
    net.agent().wait(PATIENCE).unwrap();
    net.run(&config, &[]);
    let after: Vec<String> = backends(&net).iter().map(|backend| backend["health"].to_string()).collect();
    assert_eq!(known, after);
    assert!(events(&net, "health").is_empty(), "{:?}", events(&net, "health"));

    servers[2] = start_nginx(&net.backends[2], "backend3\n").unwrap();
    let share = |backend: &Value| backend["owned"].as_u64().unwrap();
    let slow = wait_for_state(&net, 2, "slow");
    let whole = wait_for_state(&net, 2, "up");
    assert!(0 < share(&slow) && share(&slow) < share(&whole), "{slow} {whole}");
    assert_eq!(owners(&net), before);
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn two_hundred_lost_at_once_are_one_change_and_one_message() {
    let config = config(
        r#"
    [notify]
    webhook = "http://127.0.0.1:8080"
    [service.web]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.31-80", "10.1.0.101-250"]
    check = { via = "backend", every = "1s", timeout = "500ms", fall = 2, rise = 1 }
    on_empty = "drop"
    slots = 4096
"#,
    );
    let mut net = Net::new("health-many", 1);
    for number in (31..=80).chain(101..=250) {
        net.backends[0].ip(&format!("addr add 10.1.0.{number}/24 dev eth0")).unwrap();
    }
    net.serve(80);
    let hook = listen(&net.balancer, "127.0.0.1:8080");
    net.run(&config, &[]);
    let of_state = |wanted: &str| backends(&net).iter().filter(|backend| state(backend) == wanted).count();
    assert_eq!(of_state("up"), 200);
    // All addresses vanish, as behind a switch that dies.
    net.backends[0].ip("link set eth0 down").unwrap();
    let (_, message) = hook.recv_timeout(PATIENCE).unwrap();
    let told = now_ms();
    assert_eq!(message["changes"].as_array().unwrap().len(), 200, "{message}");
    wait_until("all are down", PATIENCE, || of_state("down") == 200).unwrap();
    let decided = backends(&net).iter().filter_map(|backend| backend["health"]["since_ms"].as_u64()).max().unwrap();
    assert!(told - decided < 1_000, "told {} ms after the last was decided", told - decided);
    eprintln!("told {} ms after the last was decided", told - decided);
    hook.recv_timeout(Duration::from_secs(3)).expect_err("a second message");
    let said = events(&net, "health");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("and 180 more"), "{said:?}");
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn below_quorum_nobody_is_told_the_mac() {
    let config = config(
        r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = "10.1.0.11-12"
    check = { via = "backend", every = "300ms", timeout = "200ms", fall = 2, rise = 2 }
    quorum = 2
"#,
    );
    let mut net = Net::forwarding("health-quorum", 2, &config);
    assert!(resolves(&net.client, "10.1.0.100").is_some());
    net.servers.remove(1);
    wait_for_state(&net, 1, "down");
    assert_eq!(resolves(&net.client, "10.1.0.100"), None);
    let status = net.json(&["status"]);
    assert!(status["warnings"].to_string().contains("no longer announced: 10.1.0.100"), "{status}");
    assert!(events(&net, "withdraw")[0].contains("10.1.0.100"));
    net.servers.push(Http::start(&net.backends[1], 80, "backend2\n").unwrap());
    wait_for_state(&net, 1, "up");
    assert!(resolves(&net.client, "10.1.0.100").is_some());
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn a_backend_that_lost_the_vip_is_found() {
    let config = config(
        r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = "10.1.0.11-12"
    check = { http = "/", every = "300ms", timeout = "200ms", fall = 2, rise = 2 }
"#,
    );
    let mut net = Net::forwarding("health-vip", 2, &config);
    net.backends[1].ip("addr del 10.1.0.100/32 dev lo").unwrap();
    let lost = wait_for_state(&net, 1, "down");
    // By now the other has been checked as often.
    assert_eq!(state(&backends(&net)[0]), "up", "{lost}");
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend1"]);
    net.backends[1].ip("addr add 10.1.0.100/32 dev lo").unwrap();
    wait_for_state(&net, 1, "up");
    assert_eq!(distinct(&net.ask(URL, 40)).len(), 2);
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn without_a_backend_clients_are_reset() {
    let config = config(
        r#"
    [service.web]
    vip = ["10.1.0.100:80", "[fd01::100]:80"]
    backends = "10.1.0.11"
    check = { via = "backend", every = "300ms", timeout = "200ms", fall = 2, rise = 2 }
    on_empty = "reset"
"#,
    );
    let mut net = Net::forwarding("health-reset", 1, &config);
    let connect = |vip: &str| {
        let vip: SocketAddr = vip.parse().unwrap();
        net.client.within(|| Ok(TcpStream::connect_timeout(&vip, Duration::from_secs(5)))).unwrap()
    };
    let vips = ["10.1.0.100:80", "[fd01::100]:80"];
    let open = vips.map(|vip| connect(vip).unwrap());
    net.servers.clear();
    wait_for_state(&net, 0, "down");
    for (vip, mut open) in vips.iter().zip(open) {
        assert_eq!(connect(vip).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{vip}");
        // A connection that stands too; by now the server may have ended its half.
        let asked = open.write_all(b"?").and_then(|()| open.read(&mut [0]));
        let ends = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(asked.as_ref().is_err_and(|error| ends.contains(&error.kind())), "{vip}: {asked:?}");
    }
    assert!(net.verdict("reset") >= 2);
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn sorry_backends_take_what_nobody_else_can() {
    let config = config(
        r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = "10.1.0.11-12"
    sorry = "10.1.0.13"
    check = { via = "backend", every = "300ms", timeout = "200ms", fall = 2, rise = 2 }
"#,
    );
    let mut net = Net::forwarding("health-sorry", 3, &config);
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend1", "backend2"]);
    net.servers.drain(..2);
    wait_for_state(&net, 0, "down");
    wait_for_state(&net, 1, "down");
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend3"]);
    net.servers.push(Http::start(&net.backends[0], 80, "backend1\n").unwrap());
    wait_for_state(&net, 0, "up");
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend1"]);
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn one_required_service_withdraws_addresses_of_both_families() {
    let config = config(
        r#"
    [service.web]
    vip = ["10.1.0.100:80", "[fd01::100]:80"]
    backends = "10.1.0.11"
    check = { via = "backend", every = "300ms", timeout = "200ms", fall = 2, rise = 2 }
    required = true
    [service.wiki]
    vip = ["10.1.0.100:81", "[fd01::100]:81", "10.1.0.101:81"]
    backends = "10.1.0.11"
"#,
    );
    let mut net = Net::forwarding("health-required", 1, &config);
    let both = ["10.1.0.100", "fd01::100"];
    let told = |net: &Net| both.map(|vip| resolves(&net.client, vip).is_some());
    assert_eq!(told(&net), [true, true]);
    net.servers.clear();
    wait_for_state(&net, 0, "kept");
    assert_eq!(told(&net), [false, false]);
    assert!(resolves(&net.client, "10.1.0.101").is_some(), "an address that nobody requires stays");
    net.serve(80);
    wait_for_state(&net, 0, "up");
    assert_eq!(told(&net), [true, true]);
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn a_command_says_how_much_a_backend_takes() {
    let mut net = Net::new("health-weight", 2);
    let (script, code) = (net.balancer.directory().join("check"), net.balancer.directory().join("code"));
    fs::write(&code, "6").unwrap();
    let text = format!("#!/bin/sh\n[ $WEIR_BACKEND = 10.1.0.11 ] || exit 6\nexit $(cat {})\n", code.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = config(&format!(
        "[service.web]\nvip = \"10.1.0.100:80\"\nbackends = \"10.1.0.11-12\"\nslots = 4096\n\
         check = {{ command = [\"{}\"], dynamic_weight = true, every = \"300ms\", timeout = \"200ms\", fall = 2, rise = 2 }}\n",
        script.display()
    ));
    net.set_up(&["web"], &config);
    net.serve(80);
    net.run(&config, &[]);
    let owned = |net: &Net, number: usize| backends(net)[number]["owned"].as_u64().unwrap();
    // Exit code N is weight N - 2: 4 and 4, then 1 and 4, then none and 4.
    for (said, least, most) in [("6", 1_900, 2_200), ("3", 700, 950), ("2", 0, 0)] {
        fs::write(&code, said).unwrap();
        wait_until(&format!("exit code {said} counts"), PATIENCE, || (least..=most).contains(&owned(&net, 0))).unwrap();
    }
    assert_eq!(distinct(&net.ask(URL, 60)), ["backend2"]);
    fs::write(&code, "6").unwrap();
    wait_until("it has its share again", PATIENCE, || owned(&net, 0) > 1_900).unwrap();
    assert_eq!(distinct(&net.ask(URL, 60)), ["backend1", "backend2"]);
    net.agent().stop(PATIENCE).unwrap();
}

#[test]
fn a_check_that_fails_is_shown_before_its_backend_falls() {
    let config = config(
        r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = "10.1.0.11-12"
    check = { via = "backend", every = "300ms", timeout = "200ms", fall = 100 }
"#,
    );
    let mut net = Net::forwarding("health-failing", 2, &config);
    net.servers.remove(1);
    wait_until("it is shown", PATIENCE, || backends(&net)[1]["health"]["failing"] == "connect: refused").unwrap();
    let text = String::from_utf8(net.weir(&["ls"]).stdout).unwrap();
    assert!(text.contains("up, fails: connect: refused") && text.matches("refused").count() == 1, "{text}");
    assert_eq!(state(&backends(&net)[1]), "up");
    net.agent().stop(PATIENCE).unwrap();
}
