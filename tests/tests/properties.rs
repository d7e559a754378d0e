//! What holds for every frame, on the host.

use std::{collections::BTreeSet, net::IpAddr, sync::LazyLock};

use lb_common::{
    balance::Outcome,
    decapsulate::{Served, decapsulate},
    verdict::{Action, Stripping, Verdict},
};
use proptest::{collection::vec, prelude::*};
use tests::{
    cases::Output,
    expect::{Seen, diff, ip_packet},
    frames::{L3, L4, L4_V6, Packet, bare_syn, echo, error, sum, tcp, udp},
    host::{FIRST_BUFFER, Frame, HEADROOM, Host},
    mutate::{CASES, asked_for, damaged, random, vip_addresses},
    setup::{
        CLAMP, CLAMPED, CLAMPED_TUNNEL4, CLAMPED_TUNNEL4_V6, CLAMPED_TUNNEL6, CLAMPED_V6, DNS, DNS_OTHER, DNS_V6,
        Family, SOURCE, SOURCE_V6, SPLIT, SPLIT_OTHER, SPLIT_V6, SPREAD, SPREAD_V6, STANDARD, TUNNEL4, TUNNEL4_UDP,
        TUNNEL6_V6, WEB, WEB_V6,
    },
};

static HOST: LazyLock<Host> = LazyLock::new(|| Host::new(STANDARD.world()));
/// Two of their own, so that nobody else leaves fragments behind in them.
static SAME: LazyLock<Host> = LazyLock::new(|| Host::new(STANDARD.world()));
static FRAGMENTED: LazyLock<Host> = LazyLock::new(|| Host::new(STANDARD.world()));
static VIPS: LazyLock<BTreeSet<IpAddr>> = LazyLock::new(|| vip_addresses(&HOST.world));

fn sent(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Forwarded | Verdict::Redirected)
}

/// Runs a frame and checks what must hold whatever it is.
fn run(frame: &[u8], headroom: usize, linear: usize) -> Result<(Outcome, Seen), TestCaseError> {
    let (outcome, seen) = HOST.run_on(&mut Frame::new(frame, headroom, linear));
    if matches!(seen.verdict.action(), Action::Pass | Action::Drop) {
        prop_assert!(seen.frame == frame, "{} changed the frame:\n{}", seen.verdict.label(), diff(&seen.frame, frame));
    }
    if asked_for(frame).iter().all(|address| !VIPS.contains(address)) {
        prop_assert_eq!(seen.verdict.action(), Action::Pass, "{} of no VIP's frame", seen.verdict.label());
    }
    if sent(seen.verdict) {
        check_sent(frame, &seen, outcome.marks & Outcome::MSS_LOWERED != 0)?;
    }
    Ok((outcome, seen))
}

/// What is sent on is what came but for a lower MSS, and no longer than its frame.
fn check_sent(frame: &[u8], seen: &Seen, lowered: bool) -> Result<(), TestCaseError> {
    let tunnel = seen.backend.expect("it was sent to one").1;
    let (l3, packet) = ip_packet(frame);
    let outer = match tunnel {
        None => 0,
        Some(Family::V4) => 20,
        Some(Family::V6) => 40,
    };
    prop_assert_eq!(seen.frame.len(), frame.len() + outer);
    let (way, left) = seen.frame.split_at(l3 + outer);
    if lowered {
        differs_in_the_mss(&frame[l3..], left)?;
    }
    let seen = &Seen { frame: [way, if lowered { &frame[l3..] } else { left }].concat(), ..seen.clone() };
    prop_assert_eq!(&seen.frame[l3 + outer..], &frame[l3..], "what is inside changed");
    match tunnel {
        None => prop_assert_eq!(&seen.frame[12..], &frame[12..], "more than the MACs changed"),
        Some(_) => {
            prop_assert_eq!(&seen.frame[12..l3 - 2], &frame[12..l3 - 2], "the tags changed");
            let (outer_l3, tunnelled) = ip_packet(&seen.frame);
            prop_assert_eq!(outer_l3, l3);
            prop_assert_eq!(tunnelled.len(), packet.len() + outer);
            prop_assert_eq!(&tunnelled[outer..], packet);
        }
    }
    Ok(())
}

/// In an MSS and a checksum, that is, which is as right or wrong as it was.
fn differs_in_the_mss(came: &[u8], left: &[u8]) -> Result<(), TestCaseError> {
    let differ: Vec<_> = (0..came.len()).filter(|at| came[*at] != left[*at]).collect();
    prop_assert!(differ.len() <= 4, "bytes {differ:?} differ");
    // A word of the packet is one of the segment: all headers before it are even.
    prop_assert_eq!(sum(&[left]) % 0xffff, sum(&[came]) % 0xffff);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_frames(frame in damaged()) {
        run(&frame, HEADROOM, FIRST_BUFFER)?;
    }

    #[test]
    fn random_frames(frame in random()) {
        run(&frame, HEADROOM, FIRST_BUFFER)?;
    }

    #[test]
    fn little_room_and_short_buffers(frame in damaged(), headroom in 0..40usize, linear in 0..160usize) {
        run(&frame, 2 * headroom, linear)?;
    }

    #[test]
    fn the_same_frame_meets_the_same_end(frame in damaged()) {
        prop_assert_eq!(SAME.run_frame(&frame), SAME.run_frame(&frame));
    }

    /// Wherever the option lies, and whatever lies around it.
    #[test]
    fn an_mss_is_lowered_wherever_it_lies(
        vip in prop::sample::select(vec![CLAMPED, CLAMPED_V6, CLAMPED_TUNNEL4, CLAMPED_TUNNEL4_V6, CLAMPED_TUNNEL6]),
        before in vec(an_option(), 0..5), mss in prop_oneof![any::<u16>(), 1355..1365u16], after in vec(an_option(), 0..4),
        data in vec(any::<u8>(), 0..50),
    ) {
        let [before, after] = [before, after].map(|options| options.concat());
        let with = |mss: u16| {
            let mut options = [&before[..], &[2, 4], &mss.to_be_bytes(), &after].concat();
            options.resize(options.len().next_multiple_of(4), 1);
            let fits = options.len() <= 40;
            fits.then(|| bare_syn(vip).data(&data).tcp(|tcp| tcp.set_options_raw(&options).unwrap()).frame())
        };
        prop_assume!(with(0).is_some());
        let (frame, expected) = (with(mss).unwrap(), with(mss.min(CLAMP)).unwrap());
        let (outcome, seen) = run(&frame, HEADROOM, FIRST_BUFFER)?;
        prop_assert!(sent(seen.verdict));
        prop_assert_eq!(outcome.marks & Outcome::MSS_LOWERED != 0, mss > CLAMP);
        prop_assert!(seen.frame.ends_with(&expected[L3..]), "{}", diff(&seen.frame, &expected));
    }

    /// However a datagram is cut, and in whatever order what follows the first fragment comes.
    #[test]
    fn fragments_of_a_datagram_reach_one_backend(
        packet in packets(), id in any::<u32>(), cuts in vec(1..100usize, 1..6), order in any::<u64>(),
    ) {
        let packet = packet.id(id);
        let length = packet.packet().len() - if packet.vip().starts_with('[') { 40 } else { 20 };
        // The first has the headers.
        let cuts: BTreeSet<_> = cuts.into_iter().map(|cut| 56 + 8 * cut).filter(|cut| *cut < length).collect();
        let ends: Vec<_> = [0].into_iter().chain(cuts).chain([length]).collect();
        let mut fragments: Vec<_> = ends.windows(2).map(|ends| packet.fragment(ends[0], ends[1]).frame()).collect();
        let later = fragments.len() - 1;
        fragments[1..].rotate_left(order as usize % later.max(1));

        let reached = |frame: &[u8]| {
            let (_, seen) = FRAGMENTED.run_frame(frame);
            prop_assert!(sent(seen.verdict), "{}", seen.verdict.label());
            Ok(seen.backend)
        };
        let backend = reached(&fragments[0])?;
        for fragment in &fragments[1..] {
            prop_assert_eq!(reached(fragment)?, backend);
        }
        if packet.is_tcp() {
            prop_assert_eq!(reached(&packet.frame())?, backend, "its connection's");
        }
    }

    /// Whatever is quoted beyond what tells the flow, and whoever says so.
    #[test]
    fn icmp_errors_reach_the_backend_of_their_flow(
        packet in packets(), kind in 0..4usize, code in any::<u8>(), word in any::<[u8; 4]>(),
        bytes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), length in any::<prop::sample::Index>(),
    ) {
        let is_v6 = packet.vip().starts_with('[');
        let kind = if is_v6 { [1, 2, 3, 4][kind] } else { [3, 11, 12, 3][kind] };
        let l4 = if is_v6 { 40 } else { 20 };
        let mut quoted = packet.clone().reversed().packet();
        // What does not tell the flow: class, lengths, numbers, TTL and checksums, and all behind the ports.
        let free: Vec<_> = if is_v6 { vec![1, 2, 3, 4, 5, 7] } else { vec![1, 2, 3, 4, 5, 8, 10, 11] };
        let free: Vec<_> = free.into_iter().chain(l4 + 4..quoted.len()).collect();
        bytes.iter().for_each(|(at, byte)| quoted[*at.get(&free)] = *byte);
        quoted.truncate(l4 + 4 + length.index(quoted.len() - l4 - 3));
        quoted.truncate(1200);

        let (_, of_flow) = run(&packet.frame(), HEADROOM, FIRST_BUFFER)?;
        let (outcome, of_error) = run(&error(packet.vip(), [kind, code], word, &quoted).frame(), HEADROOM, FIRST_BUFFER)?;
        prop_assert!(sent(of_error.verdict), "{}", of_error.verdict.label());
        prop_assert_eq!((of_error.vip, of_error.backend, of_error.hash), (of_flow.vip, of_flow.backend, of_flow.hash));
        prop_assert!(outcome.marks & Outcome::ICMP_ERROR != 0);
    }

    /// Rule 0: any frame whose destination is made no VIP's.
    #[test]
    fn what_is_not_for_a_vip_is_passed(frame in damaged(), last in any::<u8>()) {
        let mut frame = frame;
        for at in vip_places(&frame) {
            // The last byte of 198.18.0.0/15 or 3fff::/20, which are nobody's VIPs.
            let nobody: &[u8] = if at.1 == 4 { &[198, 18, 0] } else { &[0x3f; 15] };
            frame[at.0..at.0 + at.1 - 1].copy_from_slice(nobody);
            frame[at.0 + at.1 - 1] = last;
        }
        let (_, seen) = run(&frame, HEADROOM, FIRST_BUFFER)?;
        prop_assert_eq!(seen.verdict.action(), Action::Pass);
    }

    /// An answer is as right as what it answers: what is wrong with a sum stays wrong with it, and is wrong by as much.
    #[test]
    fn echo_replies_keep_what_is_wrong(
        number in any::<[u8; 4]>(), data in vec(any::<u8>(), 0..100), checksums in any::<[[u8; 2]; 2]>(), ttl in 1..=u8::MAX,
    ) {
        let wrong = |packet: Packet, l4: usize| packet.poked(l4 + 2, &checksums[0]);
        let v4 = wrong(echo(WEB, number, &data).ip4(|ip| ip.time_to_live = ttl), L4).poked(L3 + 10, &checksums[1]);
        let v6 = wrong(echo(WEB_V6, number, &data).ip6(|ip| ip.hop_limit = ttl), L4_V6);
        for packet in [v4, v6] {
            let frame = packet.frame();
            let (_, seen) = run(&frame, HEADROOM, FIRST_BUFFER)?;
            prop_assert_eq!(seen.verdict, Verdict::EchoAnswered);
            // Both forms of zero are the same sum.
            prop_assert_eq!(sum_of_message(&seen.frame) % 0xffff, sum_of_message(&frame) % 0xffff);
            if frame[L3] == 0x45 {
                prop_assert_eq!(sum(&[&seen.frame[L3..L4]]) % 0xffff, sum(&[&frame[L3..L4]]) % 0xffff);
            }
        }
    }
}

/// An option that is no MSS, or one that is too long or short to be it.
fn an_option() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![
        vec![1],
        vec![4, 2],
        vec![3, 3, 7],
        vec![8, 10, 2, 4, 5, 0xb4, 2, 4, 5, 0xb4],
        vec![2, 3, 4],
        vec![2, 6, 5, 0xb4, 2, 4],
        vec![254, 4, 2, 4],
    ])
}

/// A packet of any flow to a service with several backends, or several services on its address, or a tunnel.
fn packets() -> impl Strategy<Value = Packet> {
    let vip = prop::sample::select(vec![
        SPREAD,
        SPREAD_V6,
        SOURCE,
        SOURCE_V6,
        DNS,
        DNS_OTHER,
        DNS_V6,
        SPLIT,
        SPLIT_OTHER,
        SPLIT_V6,
        TUNNEL4,
        TUNNEL4_UDP,
        TUNNEL6_V6,
    ]);
    (vip, any::<[u8; 3]>(), 1..=u16::MAX, vec(any::<u8>(), 0..1000)).prop_map(|(vip, [a, b, c], port, data)| {
        let packet = if vip.ends_with("/udp") { udp(vip) } else { tcp(vip) };
        let client = if vip.starts_with('[') {
            format!("[2001:db8:c:{a:x}::{b:x}:{c:x}]:{port}")
        } else {
            format!("198.{a}.{b}.{c}:{port}")
        };
        packet.from(&client).data(&data)
    })
}

/// The words that the checksum of an echo message covers, summed: the message, and for ICMPv6 the addresses and their like.
fn sum_of_message(frame: &[u8]) -> u16 {
    let (l3, packet) = ip_packet(frame);
    assert_eq!(l3, L3, "a frame without tags");
    if packet[0] >> 4 == 4 {
        return sum(&[&packet[20..]]);
    }
    let length = ((packet.len() - 40) as u32).to_be_bytes();
    sum(&[&packet[8..40], &length, &[0, 0, 0, 58], &packet[40..]])
}

/// In one of 65,536 the carry is easily forgotten.
#[test]
fn echo_replies_of_every_word() {
    for vip in [WEB, WEB_V6] {
        for word in 0..=u16::MAX {
            let frame = echo(vip, [0; 4], &word.to_be_bytes()).frame();
            let (_, seen) = HOST.run_frame(&frame);
            assert_eq!(seen.verdict, Verdict::EchoAnswered);
            assert_eq!(sum_of_message(&seen.frame), 0xffff, "{vip}, {word:#06x}");
            let header = &seen.frame[L3..L3 + 20];
            assert!(vip == WEB_V6 || sum(&[header]) == 0xffff, "header, {word:#06x}");
        }
    }
}

/// Where a frame names the addresses of [`asked_for`], and how long they are.
fn vip_places(frame: &[u8]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for address in asked_for(frame) {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let found = frame.windows(bytes.len()).enumerate().skip(14).filter(|(_, window)| *window == bytes);
        places.extend(found.map(|(at, _)| (at, bytes.len())));
    }
    places
}

/// Cut at every length, a frame is never sent on if its packet claims more than is there.
#[test]
fn truncated_frames() {
    for case in CASES.iter().filter(|case| case.frame.len() <= 400) {
        for length in 0..case.frame.len() {
            let frame = &case.frame[..length];
            let (_, seen) = run(frame, HEADROOM, FIRST_BUFFER).unwrap_or_else(|fault| {
                panic!("{}, cut to {length}: {fault}", case.title());
            });
            // `ip_packet` panics if the packet is longer than the frame; `run` asked it for what was sent.
            assert!(!sent(seen.verdict) || sent(case.verdict), "{}, cut to {length}: sent", case.title());
        }
    }
}

/// A first buffer that ends anywhere in a frame makes no difference but that a packet may be refused; and that a SYN whose options
/// lie behind it, where drivers put none, is forwarded (row 68a) though a signature asks for what they are.
#[test]
fn short_first_buffers() {
    for case in CASES.iter().filter(|case| case.frame.len() <= 400 && !case.is_shaped()) {
        for linear in 0..case.frame.len() {
            let (_, seen) = run(&case.frame, HEADROOM, linear).unwrap_or_else(|fault| {
                panic!("{}, first buffer of {linear}: {fault}", case.title());
            });
            let as_usual = seen.verdict == case.verdict;
            let refused = matches!(seen.verdict.action(), Action::Pass | Action::Drop);
            let unread = case.verdict == Verdict::SynFlood && linear < end_of_tcp4(&case.frame);
            let forwarded = unread && seen.verdict == Verdict::Forwarded;
            assert!(
                as_usual || refused || forwarded,
                "{}, first buffer of {linear}: {}",
                case.title(),
                seen.verdict.label()
            );
        }
    }
}

/// Where the TCP header ends of an IPv4 frame without tags and IP options that has TCP options; 0 of others.
fn end_of_tcp4(frame: &[u8]) -> usize {
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 8, 0, 0x45, ..] if frame.len() > 46 && frame[46] >> 4 > 5 => {
            34 + (frame[46] >> 4) as usize * 4
        }
        _ => 0,
    }
}

/// A backend that all tunnels end at.
struct Everything;

impl Served for Everything {
    fn endpoint4(&self, _: u32) -> bool {
        true
    }
    fn endpoint6(&self, _: [u32; 4]) -> bool {
        true
    }
    fn vip4(&self, _: u32) -> bool {
        true
    }
    fn vip6(&self, _: [u32; 4]) -> bool {
        true
    }
}

/// The second program takes off what the first put on.
#[test]
fn tunnels_are_stripped_to_what_went_in() {
    let tunnelled: Vec<_> = CASES.iter().filter(|case| case.output == Output::Tunnelled).collect();
    assert!(tunnelled.len() > 40);
    for case in tunnelled {
        let (_, seen) = HOST.run(case);
        let mut frame = Frame::new(&seen.frame, 0, FIRST_BUFFER);
        assert_eq!(decapsulate(&mut frame, &Everything), Stripping::Stripped, "{}", case.title());
        let expected = [&seen.frame[..12], &case.sent_on()[12..]].concat();
        assert!(frame.bytes() == expected, "{}:\n{}", case.title(), diff(&frame.bytes(), &expected));
    }
}
