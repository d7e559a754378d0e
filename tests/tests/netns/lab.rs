//! Labs and the demo made of them: they end well, and leave nothing behind however they end.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use lb_userspace::lab::{Lab, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::net::*;

#[test]
fn the_demo_shows_that_all_is_well() {
    let output = Command::new(weir()).arg("demo").output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{}", said(&output));
    assert!(text.lines().count() <= 45, "a screenful: {text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("All ") && last.contains("figures are as they should be"), "{last}");
    assert!(said(&output).is_empty(), "{}", said(&output));
}

#[test]
fn signals_clean_up() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut demo = start_demo();
        kill(Pid::from_raw(demo.id() as i32), signal).unwrap();
        assert_eq!(demo.wait().unwrap().code(), Some(128 + signal as i32));
        assert_eq!(traces(demo.id()), Vec::<String>::new(), "{signal}");
    }
}

#[test]
fn what_was_killed_is_swept() {
    let mut demo = start_demo();
    demo.kill().unwrap();
    assert!(!traces(demo.id()).is_empty(), "not yet waited for, its number is taken");
    Lab::sweep().unwrap();
    assert!(!traces(demo.id()).is_empty(), "what belongs to a process that exists is left alone");
    demo.wait().unwrap();
    Lab::sweep().unwrap();
    // Other tests sweep too, perhaps a moment sooner and not yet to the end.
    wait_until("nothing is left", PATIENCE, || traces(demo.id()).is_empty()).unwrap();
}

#[test]
fn a_panic_cleans_up() {
    let panicked = std::thread::spawn(|| {
        let net = Net::new("panic", 1);
        assert!(traces(std::process::id()).contains(&net.client.namespace()));
        panic!("as it happens");
    });
    assert!(panicked.join().is_err());
    assert!(!traces(std::process::id()).iter().any(|trace| trace.contains("-panic")));
}

/// A demo that has begun to forward.
fn start_demo() -> Child {
    let demo = Command::new(weir()).arg("demo").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pins = format!("weir-{}-demo-balancer", demo.id());
    let links = Path::new("/sys/fs/bpf").join(pins).join("links/eth0");
    wait_until("the demo forwards", PATIENCE, || links.exists()).unwrap();
    demo
}

/// What there is that belongs to a process: namespaces, pins, directories.
fn traces(pid: u32) -> Vec<String> {
    let places = ["/run/netns", "/sys/fs/bpf", std::env::temp_dir().to_str().unwrap()].map(fs::read_dir);
    let names = places.into_iter().flatten().flatten().flatten().map(|entry| entry.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    names.filter(|name| name.starts_with(&format!("weir-{pid}-"))).collect()
}
