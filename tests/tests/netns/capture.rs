//! `weir capture`: samples with their verdicts, in files that the usual tools open, and faults of readers that packets do not notice.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use lb_userspace::{control::socket::default_path, lab::wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::net::*;

const SERVICES: &str = r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]

    [service.other]
    vip = "10.1.0.101:80"
    backends = ["10.1.0.11"]
"#;
const URL: &str = "http://10.1.0.100";

fn serving(name: &str) -> Net {
    let net = Net::forwarding(name, 2, &config(SERVICES));
    wait_until("both are resolved", PATIENCE, || !net.next_hops().contains(&"none".to_owned())).unwrap();
    net
}

/// A capture on the balancer.
fn capture(net: &Net, arguments: &[&str]) -> Command {
    let mut command = net.balancer.command(weir());
    command.arg("--pins").arg(net.balancer.pins()).arg("capture").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Asks until the capture has ended; returns what it left.
fn ask_until_it_ends(net: &Net, mut capture: Child) -> std::process::Output {
    wait_until("the capture has enough", PATIENCE, || {
        net.ask(URL, 1);
        capture.try_wait().unwrap().is_some()
    })
    .unwrap();
    capture.wait_with_output().unwrap()
}

fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_usual_tools_read_samples_and_why() {
    let net = serving("capture");
    let file = net.balancer.directory().join("capture.pcapng");
    let path = file.to_str().unwrap();
    let arguments = ["-w", path, "--verdict", "forwarded", "--service", "web", "--count", "20"];
    let output = ask_until_it_ends(&net, capture(&net, &arguments).spawn().unwrap());
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "captured: 20, lost: 0 over the budget of samples, 0 while the reader was slow");
    let printed = tool("tcpdump", &["-n", "-r", path]);
    assert_eq!(printed.lines().count(), 20, "{printed}");
    assert!(printed.lines().all(|line| line.contains("10.1.0.9.") && line.contains("10.1.0.100.80")), "{printed}");
    let fields = ["frame.comment", "frame.interface_name", "ip.dst", "frame.len", "frame.cap_len", "eth.dst"];
    let fields: Vec<_> = fields.iter().flat_map(|field| ["-e", field]).collect();
    let printed = tool("tshark", &[&["-n", "-r", path, "-T", "fields"], &fields[..]].concat());
    let backends: Vec<_> = net.backends.iter().map(|backend| (backend.name().to_owned(), mac(backend))).collect();
    for line in printed.lines() {
        let columns: Vec<_> = line.split('\t').collect();
        let [comment, interface, to, length, captured, hop] = columns[..] else { panic!("{line}") };
        assert!(comment.starts_with("forwarded: sent to a backend "), "{line}");
        assert_eq!((interface, to), ("eth0", "10.1.0.100"), "{line}");
        assert_eq!(length, captured, "what is shorter than a sample is whole: {line}");
        // As it left: with the backend's MAC.
        let (name, _) = backends.iter().find(|(_, mac)| mac == hop).unwrap_or_else(|| panic!("{line}"));
        let address = format!("; service web; backend 10.1.0.1{}", name.trim_start_matches("backend"));
        assert!(comment.ends_with(&address), "{line}");
    }
    assert_eq!(printed.lines().count(), 20);
}

#[test]
fn only_what_is_wanted_is_sampled() {
    let net = serving("wanted");
    for wanted in [&["--service", "other"][..], &["--verdict", "drop"]] {
        let mut capture = capture(&net, &[&["-w", "-"], wanted].concat()).spawn().unwrap();
        // The file's head comes once the programs have been asked.
        capture.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
        let second = net.weir(&["capture", "-w", "/dev/null"]);
        assert!(said(&second).contains("somebody captures already"), "{}", said(&second));
        net.ask(URL, 20);
        kill(Pid::from_raw(capture.id() as i32), Signal::SIGINT).unwrap();
        wait_until("it ends", PATIENCE, || capture.try_wait().unwrap().is_some()).unwrap();
        let output = capture.wait_with_output().unwrap();
        assert!(said(&output).starts_with("captured: 0, "), "{}", said(&output));
    }
}

#[test]
fn a_reader_s_faults_are_errors_for_it_alone() {
    let net = serving("faults");
    let output = ask_until_it_ends(&net, capture(&net, &["-w", "/dev/full"]).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("/dev/full: cannot be written: No space left on device"), "{}", said(&output));

    let mut gone = capture(&net, &["-w", "-"]).spawn().unwrap();
    drop(gone.stdout.take());
    let output = ask_until_it_ends(&net, gone);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("standard output: its reader has gone away"), "{}", said(&output));

    // One that does not read on.
    let stopped = capture(&net, &["-w", "-"]).spawn().unwrap();
    let before = net.verdict("forwarded");
    assert_eq!(net.ask(URL, 200).len(), 200, "packets go on");
    assert!(net.verdict("forwarded") > before);
    kill(Pid::from_raw(stopped.id() as i32), Signal::SIGKILL).unwrap();
    stopped.wait_with_output().unwrap();

    for (arguments, expected) in [
        (&["-w", "/nowhere/file"][..], "/nowhere/file: cannot be written: No such file or directory"),
        (&["-w", "/dev/null", "--service", "nowhere"], "service \"nowhere\": no such service (have: other, web)"),
        (&["-w", "/dev/null", "--verdict", "syn_flod"], "verdict \"syn_flod\": no such verdict (have: not_ip, "),
    ] {
        let output = capture(&net, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(said(&output).contains(expected), "{arguments:?}: {}", said(&output));
    }
    assert_eq!(net.ask(URL, 10).len(), 10);
}

/// In a flood, a reader that stands still lets the ring fill, and one that reads is given no more than the budget.
#[test]
fn what_is_lost_is_counted() {
    let net = serving("lost");
    let mut capture = capture(&net, &["-w", "-"]).spawn().unwrap();
    let mut samples = capture.stdout.take().unwrap();
    samples.read_exact(&mut [0; 8]).unwrap();
    let pid = Pid::from_raw(capture.id() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    let mut flood = net.client.command("hping3");
    flood.args(["--quiet", "--flood", "-S", "-p", "80", "10.1.0.100"]).stdout(Stdio::null()).stderr(Stdio::null());
    let flood = net.client.spawn("hping3", &mut flood).unwrap();
    let lost = |reason: &str| net.json(&["status"])["samples_lost"][reason].as_u64().unwrap();
    wait_until("the ring is full", PATIENCE, || lost("ring_full") > 0).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut samples, &mut std::io::sink()).unwrap());
    wait_until("the budget is used up", PATIENCE, || lost("over_budget") > 0).unwrap();
    drop(flood);
    kill(pid, Signal::SIGINT).unwrap();
    let output = capture.wait_with_output().unwrap();
    reader.join().unwrap();
    let (over_budget, ring_full) = (lost("over_budget"), lost("ring_full"));
    let expected = format!("lost: {over_budget} over the budget of samples, {ring_full} while the reader was slow");
    assert!(said(&output).ends_with(&expected), "{}: {expected}", said(&output));
    let status = String::from_utf8(net.weir(&["status"]).stdout).unwrap();
    assert!(status.contains(&format!("{over_budget} lost over the budget")), "{status}");
}

/// As the manual of the control socket shows it.
#[test]
fn an_agent_streams_samples() {
    let net = serving("stream-capture");
    let manual = include_str!("../../../docs/api.md");
    let example = manual.lines().find(|line| line.starts_with("curl ") && line.contains("v1/capture")).unwrap();
    let socket = default_path(&net.balancer.pins());
    let example = example.replace("/run/weir/weir.sock", socket.to_str().unwrap());
    let mut command = net.balancer.command("sh");
    command.args(["-c", &example]).current_dir(net.balancer.directory());
    let output = ask_until_it_ends(&net, command.spawn().unwrap());
    assert!(output.status.success(), "{}", said(&output));
    let file = net.balancer.directory().join("web.pcapng");
    let printed = tool("tshark", &["-n", "-r", file.to_str().unwrap(), "-T", "fields", "-e", "frame.comment"]);
    assert_eq!(printed.lines().filter(|line| line.starts_with("forwarded: ")).count(), 10, "{printed}");

    // The same by the command line, for whoever may not read pins but is root's equal at the socket: here nobody is, so it is refused.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let mut nobody = net.balancer.command("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(weir());
    nobody.arg("--pins").arg(net.balancer.pins()).args(["capture", "-w", "-"]).stdout(Stdio::piped());
    let refused = nobody.output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("may only read (GET)"), "{}", said(&refused));
}

/// Whoever may not read pins gets the same through the agent: to the end where they have enough, and an error where it broke off.
#[test]
fn a_member_of_the_group_captures_through_the_agent() {
    let mut net = Net::new("member-capture", 2);
    net.set_up(&["web"], &config(SERVICES));
    net.serve(80);
    let mut agent = with_group(&net, &net.write(&config(SERVICES)));
    wait_until("both are resolved", PATIENCE, || !net.next_hops().contains(&"none".to_owned())).unwrap();
    let member = || {
        let mut command = net.balancer.command("setpriv");
        command.arg("--reuid=65534").arg(format!("--regid={GROUP}")).arg("--clear-groups").arg(weir());
        command.arg("--pins").arg(net.balancer.pins()).args(["capture", "-w", "-"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let begun = |capture: &mut Child| {
        let mut head = vec![0; 8];
        capture.stdout.as_mut().unwrap().read_exact(&mut head).unwrap();
        head
    };
    let mut capture = member();
    let mut samples = begun(&mut capture);
    net.ask(URL, 5);
    kill(Pid::from_raw(capture.id() as i32), Signal::SIGINT).unwrap();
    let output = capture.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    samples.extend(&output.stdout);
    let file = net.balancer.directory().join("member.pcapng");
    fs::write(&file, &samples).unwrap();
    assert!(tool("tshark", &["-n", "-r", file.to_str().unwrap()]).lines().count() >= 5);
    let end = String::from_utf8_lossy(&samples[samples.len() - 200..]).into_owned();
    assert!(end.contains("lost: 0 over the budget"), "the end tells what was lost: {end:?}");

    let mut capture = member();
    begun(&mut capture);
    agent.signal(Signal::SIGKILL).unwrap();
    agent.wait(PATIENCE).unwrap();
    let output = capture.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("the agent broke off"), "{}", said(&output));
}
