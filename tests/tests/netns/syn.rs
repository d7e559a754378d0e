//! The SYN filter on real packets: floods and tools as they are, made by hping3, tcptraceroute and scamper.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lb_userspace::lab::{Running, wait_for, wait_until};
use serde_json::Value;

use crate::net::*;

const VIP: &str = "10.1.0.100";
/// And some more.
const MINUTE: Duration = Duration::from_secs(90);

fn web(syn: &str) -> String {
    config(&format!("{syn}\n[service.web]\nvip = \"{VIP}:80\"\nbackends = [\"10.1.0.11\", \"10.1.0.12\"]\n"))
}

/// What `weir stats` says of the service.
fn service(net: &Net) -> Value {
    net.json(&["stats"])["services"][0].clone()
}

fn dropping(net: &Net) -> bool {
    service(net)["signatures"][0]["dropping"].as_bool().unwrap()
}

/// A flood at 500 a second, from ports that change.
fn flood(net: &Net) -> Running {
    let mut command: Command = net.client.command("hping3");
    command.args(["--quiet", "-S", "-w", "0", "-i", "u2000", "-p", "80", VIP]).stdout(Stdio::null());
    net.client.spawn("hping3", &mut command).unwrap()
}

#[test]
fn auto_drops_a_flood_and_clients_do_not_notice() {
    let mut net = Net::forwarding("syn-auto", 2, &web("[syn]\nthreshold = \"50/s\"\nbudget = \"0/s\""));
    assert!(!dropping(&net));
    let mut flood = flood(&net);
    wait_until("the flood is dropped", PATIENCE, || dropping(&net)).unwrap();
    wait_until("it is an event", PATIENCE, || {
        let events = net.json(&["events"]).to_string();
        events.contains("syn web window-zero-bare") && events.contains("dropped from here on")
    })
    .unwrap();
    assert_eq!(net.ask(&format!("http://{VIP}"), 20).len(), 20);

    let off = net.weir(&["syn", "off"]);
    assert!(
        off.status.success() && String::from_utf8_lossy(&off.stdout).contains("no SYN is dropped"),
        "{}",
        said(&off)
    );
    let before = service(&net);
    let (dropped, matched) =
        (before["vips"][0]["syn_dropped"].clone(), before["signatures"][0]["matched"].as_u64().unwrap());
    wait_until("matches are still counted", PATIENCE, || {
        service(&net)["signatures"][0]["matched"].as_u64().unwrap() > matched + 100
    })
    .unwrap();
    assert_eq!(service(&net)["vips"][0]["syn_dropped"], dropped, "nothing is dropped");
    let warnings = net.json(&["status"])["warnings"].to_string();
    assert!(warnings.contains("weir syn off"), "{warnings}");

    // The next agent goes on so, and drops again once it is told to.
    net.agent().stop(PATIENCE).unwrap();
    net.run(&web("[syn]\nthreshold = \"50/s\"\nbudget = \"0/s\""), &[]);
    assert!(!dropping(&net));
    assert!(net.weir(&["syn", "on"]).status.success());
    assert!(dropping(&net), "the minute is not over");
    wait_until("more is dropped", PATIENCE, || service(&net)["vips"][0]["syn_dropped"] != dropped).unwrap();
    flood.stop(PATIENCE).unwrap();
}

/// What a service remembers of a flood outlives changes that have nothing to do with it, and what changed begins anew.
#[test]
fn a_change_in_a_flood_lets_nothing_through() {
    let with = |vips: &str, signatures: &str, window: &str| {
        config(&format!(
            "[syn]\nthreshold = \"50/s\"\nbudget = \"0/s\"\n[[syn.signature]]\nname = \"mine\"\nwindow = \"{window}\"\n\
             [service.web]\nvip = [{vips}]\nbackends = [\"10.1.0.11\", \"10.1.0.12\"]\nsyn = {{ signatures = [{signatures}] }}\n"
        ))
    };
    let (one, two) = ("\"10.1.0.100:80\"", "\"10.1.0.100:80\", \"10.1.0.100:81\"");
    let (built_in, both) = ("\"window-zero-bare\"", "\"window-zero-bare\", \"mine\"");
    let net = Net::forwarding("syn-change", 2, &with(one, built_in, "1"));
    let mut flood = flood(&net);
    wait_until("the flood is dropped", PATIENCE, || dropping(&net)).unwrap();
    let passed = || service(&net)["vips"][0]["packets"].as_u64().unwrap();
    let (through, mut matched) = (passed(), 0);
    for (vips, signatures, window) in [(two, built_in, "1"), (two, both, "1"), (one, both, "2"), (one, built_in, "2")] {
        net.write(&with(vips, signatures, window));
        let applied = net.weir(&["apply"]);
        assert!(applied.status.success(), "{}", said(&applied));
        assert!(dropping(&net), "{vips} {signatures}");
        let now = service(&net)["signatures"][0]["matched"].as_u64().unwrap();
        assert!(now > matched, "{now} after {matched}");
        matched = now;
    }
    assert_eq!(passed(), through);
    flood.stop(PATIENCE).unwrap();

    // What one asks for changes under its name.
    let mine = || service(&net)["signatures"][0].clone();
    net.write(&with(one, "\"mine\"", "0-2"));
    assert!(net.weir(&["apply"]).status.success());
    assert_eq!((mine()["matched"].as_u64(), mine()["dropping"].as_bool()), (Some(0), Some(false)));
    let one_syn = ["--quiet", "-S", "-w", "0", "-c", "3", "-i", "u2000", "-p", "80", VIP];
    net.client.output("hping3", &one_syn).unwrap();
    assert_eq!(mine()["matched"], 3);
    let file = net.write(&with(one, "\"mine\"", "0-3"));
    let planned = net.weir(&["plan", file.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&planned.stdout).contains("mine (window 0-2)"), "{}", said(&planned));
    assert!(net.weir(&["apply"]).status.success());
    assert_eq!(mine()["matched"], 0);
}

/// A minute by the kernel's clock, which nobody can wind.
#[test]
fn auto_counts_again_after_a_minute() {
    let net = Net::forwarding("syn-minute", 2, &web("[syn]\nthreshold = \"50/s\"\nbudget = \"0/s\""));
    let mut flood = flood(&net);
    wait_until("the flood is dropped", PATIENCE, || dropping(&net)).unwrap();
    flood.stop(PATIENCE).unwrap();
    let begin = Instant::now();
    wait_until("it is counted again", MINUTE, || !dropping(&net)).unwrap();
    assert!(begin.elapsed() > Duration::from_secs(55), "after {:?}", begin.elapsed());
    let before = service(&net)["vips"][0]["syn_dropped"].clone();
    let one = ["--quiet", "-S", "-w", "0", "-c", "3", "-i", "u2000", "-p", "80", VIP];
    net.client.output("hping3", &one).unwrap();
    let after = service(&net);
    assert_eq!(after["vips"][0]["syn_dropped"], before, "{after}");
    wait_until("it is an event", PATIENCE, || {
        net.json(&["events"]).to_string().contains("counted again, a minute has passed below the threshold")
    })
    .unwrap();
}

/// Who measures the Internet with SYNs like the flood's gets answers.
#[test]
fn tools_that_measure_live_on_the_budget() {
    let net = Net::forwarding("syn-tools", 2, &web("[syn]\nmode = \"drop\""));
    let said = net.client.output("tcptraceroute", &["-n", "-m", "3", VIP, "80"]).unwrap();
    assert!(said.contains("[open]"), "{said}");
    let of_tcptraceroute = service(&net)["vips"][0].clone();
    assert!(of_tcptraceroute["syn_let"].as_u64().unwrap() >= 3, "{of_tcptraceroute}");
    let said = net.client.output("scamper", &["-I", &format!("trace -P TCP -d 80 {VIP}")]).unwrap();
    assert!(said.contains("[open]"), "{said}");
    let of_both = service(&net)["vips"][0].clone();
    assert!(of_both["syn_let"].as_u64() > of_tcptraceroute["syn_let"].as_u64(), "{of_both}");
    // As RIPE Atlas sends it: a text of 36 bytes and an end behind the header.
    let atlas = ["-S", "-w", "0", "-d", "37", "-c", "3", "-i", "u10000", "-p", "80", VIP];
    let said = net.client.output("hping3", &atlas).unwrap();
    assert_eq!(said.matches("flags=SA").count(), 3, "{said}");
    let after = service(&net)["vips"][0].clone();
    assert_eq!(after["syn_let"].as_u64(), of_both["syn_let"].as_u64().map(|let_through| let_through + 3), "{after}");
    assert_eq!((after["syn_dropped"].as_u64(), net.verdict("syn_flood")), (Some(0), 0));
}

#[test]
fn an_allowed_source_is_never_dropped_and_others_are() {
    let allow = |prefix: &str| web(&format!("[syn]\nmode = \"drop\"\nbudget = \"0/s\"\nallow = \"{prefix}\""));
    let net = Net::forwarding("syn-allow", 2, &allow("10.1.0.8/30"));
    // It fails where nobody answers.
    let trace = || {
        let mut command = net.client.command("tcptraceroute");
        let output = command.args(["-n", "-q", "1", "-w", "1", "-m", "1", VIP, "80"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = trace();
    assert!(said.contains("[open]"), "{said}");
    assert_eq!(service(&net)["vips"][0]["syn_allowed"], 1);
    net.write(&allow("10.1.0.12/30"));
    assert!(net.weir(&["apply"]).status.success());
    let said = trace();
    assert!(!said.contains("[open]"), "{said}");
    let vip = service(&net)["vips"][0].clone();
    assert_eq!((vip["syn_allowed"].as_u64(), vip["syn_dropped"].as_u64()), (Some(1), Some(1)));
}

#[test]
fn no_more_connections_than_syn_rate() {
    let text = web("").replace("backends", "syn_rate = \"5/s\"\nbackends");
    let net = Net::forwarding("syn-rate", 2, &text);
    let begin = std::time::Instant::now();
    net.client.output("hping3", &["--quiet", "-S", "-i", "u2000", "-c", "300", "-p", "80", VIP]).unwrap();
    let vip = wait_for("all of them", PATIENCE, || {
        let vip = service(&net)["vips"][0].clone();
        (vip["syn_open_bare"] == 300).then_some(vip)
    })
    .unwrap();
    let capped = vip["syn_capped"].as_u64().unwrap();
    // As many as a second brings have gathered before, and one more for another CPU.
    let most = 5 * (begin.elapsed().as_secs() + 2) + 1;
    assert!(300 - capped >= 5 && 300 - capped <= most, "{capped} of 300 were too many, {most} may pass");
    assert_eq!(net.verdict("syn_capped"), capped);
}
