//! Every case through the programs in the kernel: action, every byte, every counter, and what `weir_explain` says.
//! Needs root; attaches nothing.

use std::{collections::BTreeMap, thread, time::Instant};

use lb_common::verdict::Verdict;
use lb_userspace::datapath::requirements::FRAGS_KERNEL;
use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestRunner},
};
use tests::{
    cases::{self, Case},
    counted,
    expect::{Flows, Seen, check, diff},
    frames::tcp as segment,
    host::{FIRST_BUFFER, Host},
    kernel::{Kernel, Program, action},
    mutate::{CASES, damaged},
    setup::{SPARSE, STANDARD, Setup, TUNNEL4},
};

/// The shortest frame that a test run takes.
const ETHERNET_HEADER: usize = 14;

/// A setup on both sides.
struct Pair {
    host: Host,
    kernel: Kernel,
    flows: Flows,
}

fn pair(setup: &Setup, program: Program) -> Pair {
    let host = Host::new(setup.world());
    let kernel = Kernel::load(setup, &host.world, program).unwrap_or_else(|error| panic!("{}: {error:#}", setup.name));
    Pair { kernel, host, flows: Flows::default() }
}

/// Runs the cases of an area through both programs; fails with all that differ.
fn run(area: &str) {
    let mut faults = Vec::new();
    for program in [Program::Weir, Program::WeirFrags] {
        let mut pairs = BTreeMap::new();
        for case in cases::area(area).iter().filter(|case| runs_here(case, program)) {
            let pair = pairs.entry(case.setup.name).or_insert_with(|| pair(case.setup, program));
            if let Err(fault) = run_case(pair, case) {
                faults.push(format!("{program:?}, {}: {fault}", case.title()));
            }
        }
    }
    assert!(faults.is_empty(), "{} cases of {area}:\n{}", faults.len(), faults.join("\n"));
}

fn runs_here(case: &Case, program: Program) -> bool {
    let one_buffer = case.frame.len() <= FIRST_BUFFER && case.first_buffer.is_none();
    case.host_only.is_none() && (program == Program::WeirFrags || one_buffer)
}

fn run_case(pair: &mut Pair, case: &Case) -> Result<(), String> {
    let Pair { host, kernel, flows } = pair;
    if let Some(lack) = kernel.lacks(case) {
        eprintln!("{}: not run, the test run of kernel {} {lack}", case.title(), kernel.version);
        return Ok(());
    }
    let text = |error: anyhow::Error| format!("{error:#}");
    let (outcome, on_host) = host.run(case);
    for frame in &case.before {
        kernel.run_frame(frame).map_err(text)?;
    }

    let before = kernel.counters().map_err(text)?;
    // Explaining puts its answer in front of a frame in one buffer.
    if case.headroom.is_none()
        && case.first_buffer.is_none()
        && let Some((explanation, frame)) = kernel.explain(&case.frame).map_err(text)?
    {
        let expected = lb_common::abi::Explanation {
            verdict: outcome.verdict as u32,
            vip: outcome.vip,
            slot: outcome.slot,
            backend: outcome.backend,
            // The loader's choice, and the same for every packet.
            half: kernel.half(),
            hash: outcome.hash,
            now: explanation.now,
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
    check(case, &Seen { frame, ..on_host }, flows)?;
    let backend = (outcome.backend != u32::MAX).then_some(outcome.backend);
    let (moved, expected) = (after.since(&before), counted::of_case(case, backend));
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
fn syn_filter() {
    run("SYN filter");
}

#[test]
fn udp() {
    run("UDP");
}

#[test]
fn fragments() {
    run("Fragments");
}

#[test]
fn mss() {
    run("MSS");
}

#[test]
fn icmp() {
    run("ICMP and ICMPv6");
}

#[test]
fn backends_and_tunnels() {
    run("Backends, tunnels and size");
}

#[test]
fn resets() {
    run("Resets");
}

/// Damaged and truncated frames meet the same end on both sides.
#[test]
fn host_and_kernel_agree() {
    let pair = pair(&STANDARD, Program::WeirFrags);
    for case in CASES.iter().filter(|case| case.frame.len() <= 400) {
        for length in ETHERNET_HEADER..case.frame.len() {
            agree(&pair, &case.frame[..length])
                .unwrap_or_else(|fault| panic!("{}, cut to {length}: {fault}", case.title()));
        }
    }
    let config = ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() };
    let longest = if pair.kernel.version < FRAGS_KERNEL { FIRST_BUFFER } else { usize::MAX };
    let taken = |frame: &Vec<u8>| (ETHERNET_HEADER..=longest).contains(&frame.len());
    let frames = damaged().prop_filter("the test run takes none so short or long", move |frame| taken(frame));
    let ran = TestRunner::new(config).run(&frames, |frame| agree(&pair, &frame).map_err(TestCaseError::fail));
    ran.unwrap_or_else(|fault| panic!("{fault}"));
}

fn agree(pair: &Pair, frame: &[u8]) -> Result<(), String> {
    let (_, on_host) = pair.host.run_frame(frame);
    let (seen_action, out) = pair.kernel.run_frame(frame).map_err(|error| format!("{error:#}"))?;
    if seen_action != action(on_host.verdict) {
        return Err(format!("XDP action {seen_action}, {} on the host", on_host.verdict.label()));
    }
    if out != on_host.frame {
        return Err(format!("seen in the kernel, expected by the host:\n{}", diff(&out, &on_host.frame)));
    }
    let explained = pair.kernel.explain(frame).map_err(|error| format!("{error:#}"))?;
    match explained.map(|(explanation, _)| explanation.verdict) {
        Some(verdict) if verdict != on_host.verdict as u32 => {
            Err(format!("verdict {verdict}, {} on the host", on_host.verdict.label()))
        }
        _ => Ok(()),
    }
}

/// As many too bigs are answered as the rate and the time allow, and all others are dropped.
#[test]
fn answers_are_few() {
    const TOO_LONG: usize = 400;
    let Pair { kernel, .. } = pair(&SPARSE, Program::Weir);
    let packet = segment(TUNNEL4).data(&[0; 1441]);
    let (frame, answer) = (packet.frame(), packet.too_big(1480));
    let begin = Instant::now();
    let mut answered = 0;
    for _ in 0..TOO_LONG {
        let (seen_action, out) = kernel.run_frame(&frame).unwrap();
        let is_answer = seen_action == action(Verdict::TooBigAnswered);
        assert!(is_answer || seen_action == action(Verdict::TooBig));
        assert_eq!(out, if is_answer { &answer[..] } else { &frame }, "{}", diff(&out, &answer));
        answered += usize::from(is_answer);
    }
    // Each CPU that the test ran on has a bucket of its own.
    let most = (begin.elapsed().as_secs() as usize + 2) * thread::available_parallelism().unwrap().get();
    assert!((1..=most).contains(&answered) && most < TOO_LONG, "{answered} answers, at most {most}");
    let counted = kernel.counters().unwrap();
    assert_eq!(counted.verdicts["too_big_answered"], answered as u64);
    assert_eq!(counted.verdicts["too_big"], (TOO_LONG - answered) as u64);
    assert_eq!(counted.vips[TUNNEL4].events.dropped, TOO_LONG as u64);
}

#[test]
fn the_verifier_is_far_from_its_limit() {
    for program in [Program::Weir, Program::WeirFrags] {
        if let Some(instructions) = pair(&STANDARD, program).kernel.verified_instructions() {
            println!("{program:?}: {instructions} instructions processed");
            assert!(instructions < 100_000, "{program:?}: {instructions} instructions");
        }
    }
}
