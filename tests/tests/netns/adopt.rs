//! What a new agent finds of an old one: gone on with where it is the same, replaced where it is not, left alone where it is newer.

use std::{fs, path::Path, thread};

use aya::maps::{Array, Map, MapData};
use aya_obj::generated::BPF_F_MMAPABLE;
use lb_common::abi::{ABI_VERSION, COUNTS_SINCE, Live};
use lb_userspace::{
    datapath::{Access, Datapath, Pins},
    links,
};
use nix::sys::signal::Signal;

use crate::{
    net::*,
    stream::{Wire, stream},
};

// A stream looks like a flood, and none of it shall be dropped.
const WEB: &str = r#"
    [service.web]
    syn = "count"
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
"#;
const URL: &str = "http://10.1.0.100";
const REPETITIONS: usize = 5;

/// The kernel's number of the program on the balancer's interface.
fn program(net: &Net) -> u32 {
    net.balancer.within(|| links::find("eth0")).unwrap().xdp.unwrap().program
}

fn kill(net: &mut Net) {
    net.agent().signal(Signal::SIGKILL).unwrap();
    net.agent().wait(PATIENCE).unwrap();
}

fn claim_layout(net: &Net, version: u32) {
    Datapath::open(&Pins::new(net.balancer.pins()), Access::Write).unwrap().claim_layout(version);
}

#[test]
fn a_killed_agent_is_followed_by_one_that_goes_on() {
    let config = config(WEB);
    let mut net = Net::forwarding("adopt", 2, &config);
    let (running, tables) = (program(&net), net.json(&["ls"]));
    let wire = Wire::of(&net);
    let delivered = stream(&wire, || {
        for _ in 0..REPETITIONS {
            kill(&mut net);
            net.run(&config, &[]);
            assert!(net.agent().said().contains("goes on in native mode"), "{}", net.agent().said());
        }
    });
    delivered.assert_all_at(&[1, 2]);
    assert_eq!((program(&net), net.json(&["ls"])), (running, tables), "nothing was loaded or written");
    assert!(net.verdict("forwarded") >= delivered.made, "counters went on through {REPETITIONS} restarts");
}

#[test]
fn a_new_agent_changes_what_differs_in_place() {
    let mut net = Net::forwarding("adopt-other", 3, &config(WEB));
    let running = program(&net);
    let wire = Wire::of(&net);
    let delivered = stream(&wire, || {
        for backends in ["\"10.1.0.11\", \"10.1.0.13\"", "\"10.1.0.11\", \"10.1.0.12\", \"10.1.0.13\""] {
            kill(&mut net);
            net.run(&config(&WEB.replace("\"10.1.0.11\", \"10.1.0.12\"", backends)), &[]);
        }
    });
    delivered.assert_all_at(&[1, 2, 3]);
    assert_eq!(program(&net), running);
    assert_eq!(net.json(&["ls"])["services"][0]["backends"].as_array().unwrap().len(), 3);
    let forwarded = net.verdict("forwarded");
    assert!(forwarded >= delivered.made);
}

#[test]
fn another_layout_is_replaced_without_a_loss_and_counters_carry_over() {
    let config = config(WEB);
    let mut net = Net::forwarding("layout", 2, &config);
    net.ask(URL, 40);
    let before = program(&net);
    let of_backend = |net: &Net, backend: usize| {
        net.json(&["stats"])["services"][0]["backends"][backend]["packets"].as_u64().unwrap()
    };
    let counted = (net.verdict("forwarded"), of_backend(&net, 0), of_backend(&net, 1));
    let wire = Wire::of(&net);
    let delivered = stream(&wire, || {
        for _ in 0..2 {
            kill(&mut net);
            claim_layout(&net, COUNTS_SINCE);
            net.run(&config, &[]);
            assert!(net.agent().said().contains("loaded anew: tables of layout"), "{}", net.agent().said());
        }
    });
    delivered.assert_all_at(&[1, 2]);
    assert_ne!(program(&net), before);
    assert_eq!(net.verdict("forwarded"), counted.0 + delivered.made, "each packet was counted once");
    assert_eq!(of_backend(&net, 0), counted.1 + delivered.got[0]);
    assert_eq!(of_backend(&net, 1), counted.2 + delivered.got[1]);
}

/// LIVE of another layout has another size. The word that stops the SYN filter is the last one in each.
#[test]
fn what_stops_the_syn_filter_outlives_tables_of_another_size() {
    let config = config(WEB);
    let mut net = Net::forwarding("resized", 2, &config);
    let output = net.weir(&["syn", "off"]);
    assert!(output.status.success(), "{}", said(&output));
    claim_layout(&net, COUNTS_SINCE);
    kill(&mut net);
    let live = net.balancer.pins().join("tables/LIVE");
    // Values pass over the stack.
    thread::Builder::new().stack_size(64 << 20).spawn(move || enlarge(&live)).unwrap().join().unwrap();
    net.run(&config, &[]);
    assert!(net.agent().said().contains("loaded anew: tables of layout"), "{}", net.agent().said());
    let status = String::from_utf8(net.weir(&["status"]).stdout).unwrap();
    assert!(status.contains("no SYN is dropped"), "{status}");
}

/// Puts a larger LIVE in the place of the pinned one: what it begins with, and its last word at the new end.
fn enlarge(live: &Path) {
    const OLD: usize = size_of::<Live>() / 8;
    const NEW: usize = OLD + 1000;
    let old = Array::<_, [u64; OLD]>::try_from(Map::Array(MapData::from_pin(live).unwrap())).unwrap();
    let old = old.get(&0, 0).unwrap();
    let mut words = [0; NEW];
    words[..OLD - 1].copy_from_slice(&old[..OLD - 1]);
    words[NEW - 1] = old[OLD - 1];
    let mut new = Array::<_, [u64; NEW]>::create(1, BPF_F_MMAPABLE).unwrap();
    new.set(0, words, 0).unwrap();
    fs::remove_file(live).unwrap();
    new.pin(live).unwrap();
}

#[test]
fn what_a_newer_weir_made_is_left_alone() {
    let mut net = Net::forwarding("newer", 2, &config(WEB));
    let running = program(&net);
    assert_eq!(net.agent().stop(PATIENCE).unwrap().code(), Some(0));
    claim_layout(&net, ABI_VERSION + 1);
    let mut agent = net.start(&config(WEB), &[]);
    assert_eq!(agent.wait(PATIENCE).unwrap().code(), Some(1), "{}", agent.said());
    let said = agent.said();
    assert!(
        said.contains("newer weir") && said.contains("nothing was changed") && said.contains("weir detach"),
        "{said}"
    );
    assert_eq!(program(&net), running);
    net.ask(URL, 5);
    let output = net.weir(&["status"]);
    assert!(!output.status.success() && self::said(&output).contains("layout"), "{}", self::said(&output));
}

/// Killed after the new programs had taken over, before their pins were put in their place.
#[test]
fn a_start_that_was_interrupted_is_finished_by_the_next() {
    let config = config(WEB);
    let mut net = Net::forwarding("interrupted", 2, &config);
    let running = program(&net);
    let pins = net.balancer.pins();
    for moved in [&["tables", "programs"][..], &["programs"]] {
        kill(&mut net);
        for name in moved {
            fs::rename(pins.join(name), pins.join(format!("next-{name}"))).unwrap();
        }
        net.run(&config, &[]);
        assert!(net.agent().said().contains("a start was interrupted"), "{}", net.agent().said());
        assert_eq!(program(&net), running);
        assert!(!pins.join("next-tables").exists() && !pins.join("next-programs").exists());
        net.ask(URL, 5);
    }
}

#[test]
fn status_tells_for_how_long_nobody_has_looked() {
    let mut net = Net::forwarding("heartbeat", 2, &config(WEB));
    assert!(net.json(&["status"])["unattended_s"].as_u64().unwrap() < 15);
    kill(&mut net);
    let waited = lb_userspace::lab::wait_for("time to pass", PATIENCE, || {
        let status = net.json(&["status"]);
        (status["unattended_s"].as_u64().unwrap() >= 2).then_some(status)
    });
    let status = waited.unwrap();
    assert!(status["warnings"].to_string().contains("nobody has looked after the tables for"), "{status}");
}

#[test]
fn an_agent_that_is_killed_in_the_middle_of_a_change_leaves_one_or_the_other() {
    let with = |weight: usize| {
        config(WEB) + &format!("[service.other]\nvip = \"10.1.0.101:80\"\nbackends = [\"10.1.0.12*{weight}\"]\n")
    };
    let mut net = Net::forwarding("kill-apply", 2, &with(1));
    let running = program(&net);
    let wire = Wire::of(&net);
    let delivered = stream(&wire, || {
        for round in 0..3 * REPETITIONS {
            let weight = 2 + round;
            net.write(&with(weight));
            net.agent().signal(Signal::SIGHUP).unwrap();
            // At another point of the change each time.
            std::thread::sleep(std::time::Duration::from_millis(7 * round as u64));
            kill(&mut net);
            let weight_of =
                |net: &Net| net.json(&["ls"])["services"][0]["backends"][0]["weight"].as_u64().unwrap() as usize;
            assert!([weight, weight - 1].contains(&weight_of(&net)));
            net.run(&with(weight), &[]);
            assert_eq!(weight_of(&net), weight);
        }
    });
    delivered.assert_all_at(&[1, 2]);
    assert_eq!(program(&net), running);
}
