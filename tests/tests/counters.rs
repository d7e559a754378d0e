//! That counters add up: a million packets of mixed kinds through the program in the kernel. Needs root.

use aya::{TestRun as _, TestRunOptions, programs::Xdp};
use lb_common::filter::Syn;
use tests::{
    cases::Case,
    counted::{Counted, of_case, of_frame},
    frames::{tcp, udp},
    host::{FIRST_BUFFER, Host},
    kernel::{Kernel, Program, action},
    mutate::CASES,
    setup::{DNS, SOURCE, SPREAD, SPREAD_V6, STANDARD, TUNNEL4, TUNNEL6_V6},
};

const PACKETS: u64 = 1_000_000;
const THREADS: u64 = 2;

/// A packet that is sent over and over, and what each time counts.
struct Kind {
    frame: Vec<u8>,
    action: u32,
    counted: Counted,
}

/// Every case that a plain test run takes.
fn cases(host: &Host) -> Vec<Kind> {
    let plain = |case: &&Case| {
        let alone = case.before.is_empty();
        let shaped = case.host_only.is_some() || case.headroom.is_some() || case.first_buffer.is_some();
        alone && !shaped && case.frame.len() <= FIRST_BUFFER
    };
    let kind = |case: &Case| Kind {
        frame: case.frame.clone(),
        action: action(case.verdict),
        counted: of_case(case, backend(host.run(case).0.backend)),
    };
    CASES.iter().filter(plain).map(kind).collect()
}

/// Many flows to services with several backends and to tunnels.
fn flows(host: &Host) -> Vec<Kind> {
    let frames = (1..=1_000).flat_map(|n: u32| {
        let (v4, v6) =
            (format!("198.51.{}.{}:{}", n % 90, n % 251, 1024 + n), format!("[2001:db8:c::{n:x}]:{}", 1024 + n));
        let to_v4 = [SPREAD, SOURCE, TUNNEL4].map(|vip| tcp(vip).from(&v4).data(&vec![1; n as usize % 1400]).frame());
        let to_v6 = [SPREAD_V6, TUNNEL6_V6].map(|vip| tcp(vip).from(&v6).frame());
        to_v4.into_iter().chain(to_v6).chain([udp(DNS).from(&v4).frame()])
    });
    let kind = |frame: Vec<u8>| {
        let (outcome, seen) = host.run_frame(&frame);
        // What the host decides is compared with the table elsewhere.
        let counted = of_frame(
            &frame,
            seen.verdict,
            seen.vip.as_deref(),
            Syn::from_number(outcome.syn),
            backend(outcome.backend),
        );
        Kind { frame, action: action(seen.verdict), counted }
    };
    frames.map(kind).collect()
}

fn backend(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

/// Sends a share of the packets, a case and a flow in turn, and returns how often each kind came.
fn send(program: &Xdp, kinds: &[&[Kind]; 2], thread: u64) -> [Vec<u64>; 2] {
    let mut sent = kinds.map(|kinds| vec![0; kinds.len()]);
    let mut state = thread;
    for number in 0..PACKETS / THREADS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let which = (number % 2) as usize;
        let at = (state >> 33) as usize % kinds[which].len();
        let kind = &kinds[which][at];
        let options = TestRunOptions { data_in: Some(&kind.frame), ..TestRunOptions::default() };
        let result = program.test_run(options).expect("the kernel runs it");
        assert_eq!(result.return_value, kind.action, "frame {:02x?}", kind.frame);
        sent[which][at] += 1;
    }
    sent
}

#[test]
fn a_million_packets() {
    let host = Host::new(STANDARD.world());
    let kernel = Kernel::load(&STANDARD, &host.world, Program::WeirFrags).unwrap_or_else(|error| panic!("{error:#}"));
    let (cases, flows) = (cases(&host), flows(&host));
    assert!(cases.len() > 300, "{} cases", cases.len());
    let kinds = [&cases[..], &flows];

    let before = kernel.counters().unwrap();
    let program = kernel.program().unwrap();
    let sent: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || send(program, &kinds, thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let moved = kernel.counters().unwrap().since(&before);

    let mut expected = Counted::default();
    for share in &sent {
        for (kinds, counts) in kinds.iter().zip(share) {
            kinds.iter().zip(counts).for_each(|(kind, count)| expected.add(&kind.counted, *count));
        }
    }
    assert_eq!(moved.verdicts.values().sum::<u64>(), PACKETS, "verdicts and packets");
    assert_eq!(moved, expected);

    // What the services sent on, their backends got, and the verdicts say so too.
    let on: u64 = ["forwarded", "redirected"].iter().map(|label| moved.verdicts[label]).sum();
    let by_vip = |field: fn(&lb_userspace::datapath::VipCounts) -> u64| moved.vips.values().map(field).sum::<u64>();
    let by_backend = |field: fn(&lb_common::abi::Forwarded) -> u64| moved.backends.values().map(field).sum::<u64>();
    assert_eq!(by_vip(|counts| counts.packets), on);
    assert_eq!(by_backend(|counts| counts.packets), on);
    assert_eq!(by_vip(|counts| counts.bytes), by_backend(|counts| counts.bytes));
    assert_eq!(by_vip(|counts| counts.events.passed), moved.verdicts["local_backend"]);
    assert!(
        by_vip(|counts| counts.events.dropped) < PACKETS - on,
        "faults that hide the ports count among verdicts alone"
    );
}
