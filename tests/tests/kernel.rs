//! Every case through the programs in the kernel: action, every byte, every counter, and what `weir_explain` says of it.
//! Needs root; attaches nothing.

use anyhow::Result;
use lb_userspace::datapath::requirements::FRAGS_KERNEL;
use tests::{
    cases::{self, Case},
    expect::{Flows, check, counted, diff},
    host::{FIRST_BUFFER, Host},
    kernel::{Kernel, Kernels, LITTLE_ROOM_KERNEL, Program, action},
    setup::Setup,
};

/// A setup on both sides.
struct Pair {
    host: Host,
    kernel: Kernel,
    flows: Flows,
}

fn pair(setup: &'static Setup, program: Program) -> Result<Pair> {
    let host = Host::new(setup.world());
    Ok(Pair { kernel: Kernel::load(setup, &host.world, program)?, host, flows: Flows::default() })
}

/// Runs the cases of an area through both programs; fails with all that differ.
fn run(area: &str) {
    let mut faults = Vec::new();
    for program in [Program::Weir, Program::WeirFrags] {
        let mut pairs = Kernels::new(program);
        for case in cases::area(area).iter().filter(|case| runs_here(case, program)) {
            let pair = pairs.of(case.setup, pair).unwrap_or_else(|error| panic!("{error:#}"));
            if let Err(fault) = run_case(pair, case) {
                faults.push(format!("{program:?}, {}: {fault}", case.title()));
            }
        }
    }
    assert!(faults.is_empty(), "{} cases of {area}:\n{}", faults.len(), faults.join("\n"));
}

fn runs_here(case: &Case, program: Program) -> bool {
    case.host_only.is_none() && (program == Program::WeirFrags || case.frame.len() <= FIRST_BUFFER)
}

fn run_case(pair: &mut Pair, case: &Case) -> Result<(), String> {
    let Pair { host, kernel, flows } = pair;
    if case.frame.len() > FIRST_BUFFER && kernel.version < FRAGS_KERNEL {
        eprintln!("{}: not run, kernel {} knows no frames in several buffers", case.title(), kernel.version);
        return Ok(());
    }
    if case.headroom.is_some() && kernel.version < LITTLE_ROOM_KERNEL {
        eprintln!("{}: not run, kernel {} leaves every frame room", case.title(), kernel.version);
        return Ok(());
    }
    let text = |error: anyhow::Error| format!("{error:#}");
    let (outcome, on_host) = host.run(case);

    let before = kernel.counters().map_err(text)?;
    // Explaining puts its answer in front of the frame, so it cannot do with little room there.
    if case.headroom.is_none()
        && let Some((explanation, frame)) = kernel.explain(&case.frame).map_err(text)?
    {
        let expected = lb_common::abi::Explanation {
            verdict: outcome.verdict as u32,
            vip: outcome.vip,
            slot: outcome.slot,
            backend: outcome.backend,
            half: outcome.half,
            hash: outcome.hash,
        };
        if explanation != expected {
            return Err(format!("explained as {explanation:?}, on the host {expected:?}"));
        }
        if frame != on_host.frame {
            return Err(format!("explained frame, and the host's:\n{}", diff(&frame, &on_host.frame)));
        }
        if kernel.counters().map_err(text)? != before {
            return Err("explaining moved a counter".into());
        }
    }

    let (seen_action, frame) = kernel.run(case).map_err(text)?;
    let after = kernel.counters().map_err(text)?;
    if seen_action != action(case.verdict) {
        return Err(format!("XDP action {seen_action}, not {}", action(case.verdict)));
    }
    // What was chosen shows in the frame and in the counters; which names it has, the host says.
    check(case, &tests::expect::Seen { frame, ..on_host }, flows)?;
    let backend = (outcome.backend != u32::MAX).then_some(outcome.backend);
    let (moved, expected) = (after.since(&before), counted(case, backend));
    if moved != expected {
        return Err(format!("counted {moved:?},\n    not {expected:?}"));
    }
    Ok(())
}

#[test]
fn ethernet() {
    run("Ethernet and VLAN");
}

#[test]
fn neighbours() {
    run("ARP and neighbour discovery");
}

#[test]
fn ipv4() {
    run("IPv4");
}

#[test]
fn ipv6() {
    run("IPv6");
}

#[test]
fn tcp() {
    run("TCP");
}

#[test]
fn udp() {
    run("UDP");
}

#[test]
fn backends_and_tunnels() {
    run("Backends, tunnels and size");
}
