//! What depends on time: a clock that the test moves, and several CPUs.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::*;
use crate::{
    abi::{Ids, Live},
    filter::Options,
};

const CPUS: usize = 4;
const CLIENT: u32 = 0x0702_33c6;
const START: u64 = 1_000 * SECOND;
const NO_PLACE: u32 = SERVICE_SIGNATURES as u32;

struct World {
    live: Box<Live>,
    state: Box<[AtomicU64; size_of::<SynState>() / 8]>,
    seen: [[AtomicU64; 2]; CPUS],
    now: Cell<u64>,
    cpu: Cell<usize>,
    only_tells: Cell<bool>,
}

impl World {
    fn new(policy: SynPolicy) -> Self {
        // SAFETY: any bytes are a `Live` (`Abi`), zeros too. It is too large to be made on the stack.
        let mut live = unsafe { Box::<Live>::new_zeroed().assume_init() };
        live.halves[0].policies[0] = policy;
        World {
            live,
            state: Box::new(std::array::from_fn(|_| AtomicU64::new(0))),
            seen: Default::default(),
            now: Cell::new(START),
            cpu: Cell::new(0),
            only_tells: Cell::new(false),
        }
    }

    /// A SYN on a CPU that matches the first signature, counted as the program counts it.
    fn matching(&self, cpu: usize) -> Ruling {
        self.cpu.set(cpu);
        let ruling = Path::new(self).unwrap().rule(0, 0, 0, CLIENT);
        self.seen[cpu][0].fetch_add(1, Relaxed);
        ruling
    }

    /// One that matches none.
    fn other(&self) -> Ruling {
        Path::new(self).unwrap().rule(0, 0, NO_PLACE, CLIENT)
    }

    /// So many matching ones a second for some seconds, spread over time and CPUs; how many of them were not dropped.
    fn flood(&self, rate: u64, seconds: u64) -> u64 {
        let mut through = 0;
        for number in 0..rate * seconds {
            self.now.set(self.now.get() + SECOND / rate);
            through += u64::from(self.matching(number as usize % CPUS) != Ruling::Drop);
        }
        through
    }
}

impl Tables for World {
    fn live(&self) -> Option<&Live> {
        Some(&self.live)
    }

    fn interface_number(&self) -> u32 {
        0
    }

    fn owners(&self, _: u32) -> Option<Ids> {
        None
    }

    fn remember(&self, _: u32, _: u64) {}

    fn recall(&self, _: u32) -> u64 {
        0
    }

    fn may_answer(&self, _: u32) -> bool {
        false
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn syn_state(&self, _: u32) -> Option<*mut SynState> {
        Some(self.state[0].as_ptr().cast())
    }

    fn matches(&self, _: u32, _: u32) -> Option<*mut Matches> {
        Some(self.seen[self.cpu.get()][0].as_ptr().cast())
    }

    unsafe fn add(&self, word: *mut u64, number: u64) {
        // SAFETY: a word of the state, all of which are atomic.
        unsafe { AtomicU64::from_ptr(word) }.fetch_add(number, Relaxed);
    }

    fn is_allowed(&self, _: u32, source: [u32; 4]) -> bool {
        source == CLIENT.mapped()
    }

    fn only_tells(&self) -> bool {
        self.only_tells.get()
    }
}

fn policy(mode: u8, threshold: u32, budget: u64) -> SynPolicy {
    let budget_ns = SECOND.checked_div(budget).unwrap_or(SynPolicy::NEVER);
    SynPolicy { mode, threshold, budget_ns, signatures: [NO_SIGNATURE; 8], ..SynPolicy::default() }
}

#[test]
fn auto_drops_above_its_threshold_and_counts_again_after_a_minute() {
    let world = World::new(policy(SynPolicy::AUTO, 1_000, 0));
    assert_eq!(world.flood(900, 10), 9_000, "below the threshold");
    let through = world.flood(2_000, 10);
    assert!((1..=2 * 2_000).contains(&through), "{through} until it is seen to be above");
    assert_eq!(world.flood(2_000, 5), 0);
    assert_eq!(world.flood(900, 58), 0, "below it for less than a minute");
    let through = world.flood(900, 10);
    assert!((900 * 6..900 * 10).contains(&through), "{through} after the minute");
    assert_eq!(world.flood(900, 5), 4_500);
}

#[test]
fn a_long_silence_is_no_rate() {
    let world = World::new(policy(SynPolicy::AUTO, 1_000, 0));
    world.flood(900, 3);
    world.now.set(world.now.get() + 10_000 * SECOND);
    assert_eq!(world.flood(900, 3), 2_700);
    assert_eq!(World::new(policy(SynPolicy::COUNT, 0, 0)).flood(5_000, 3), 15_000);
}

#[test]
fn over_time_no_more_than_the_budget_is_let_through() {
    for (budget, seconds) in [(0, 5), (1, 20), (100, 20)] {
        let world = World::new(policy(SynPolicy::DROP, 0, budget));
        let through = world.flood(10_000, seconds);
        // As much as a second brings has gathered before.
        assert!((budget * seconds..=budget * (seconds + 1) + 1).contains(&through), "{through} of {budget}/s");
    }
}

/// Each finds the same token; while others are still being paid for, what all took is.
#[test]
fn cpus_that_meet_take_a_token_each_and_all_are_paid_for() {
    let world = World::new(policy(SynPolicy::DROP, 0, 100));
    world.flood(10_000, 10);
    let state: *mut SynState = world.syn_state(0).unwrap();
    // SAFETY: a field of the state.
    let word = unsafe { &raw mut (*state).budget_paid };
    world.now.set(world.now.get() + SECOND / 100);
    let found = load(word);
    for _ in 0..CPUS {
        assert!(rate::has_token(found, world.now(), SECOND / 100));
        // SAFETY: a word of the state.
        unsafe { world.add(word, SECOND / 100) };
    }
    let begin = world.now.get();
    while world.matching(0) == Ruling::Drop {
        world.now.set(world.now.get() + SECOND / 1_000);
    }
    assert!(world.now.get() - begin >= (CPUS as u64 - 1) * SECOND / 100);
}

#[test]
fn a_cap_bounds_what_does_not_match() {
    let world = World::new(SynPolicy { cap_ns: SECOND / 50, ..policy(SynPolicy::COUNT, 0, 0) });
    let mut through = 0;
    for _ in 0..10_000 {
        world.now.set(world.now.get() + SECOND / 1_000);
        through += u32::from(world.other() == Ruling::Pass);
    }
    assert!((500..=551).contains(&through), "{through} in 10 seconds");
    assert_eq!(world.matching(0), Ruling::Pass, "what matches is another matter");
}

/// What a CPU had not told when the flood ended does not look like a flood to whoever tells it a minute later.
#[test]
fn what_is_told_late_is_no_flood() {
    let world = World::new(policy(SynPolicy::AUTO, 100, 0));
    world.flood(200_000, 3);
    world.now.set(world.now.get() + 70 * SECOND);
    for number in 0..40 {
        world.now.set(world.now.get() + SECOND / 4);
        assert_eq!(world.matching(number % CPUS), Ruling::Pass, "{number}");
    }
}

#[test]
fn nothing_is_dropped_while_it_is_off() {
    let policy = SynPolicy { cap_ns: SECOND, ..policy(SynPolicy::DROP, 0, 0) };
    let mut world = World::new(policy);
    assert_eq!((world.matching(0), world.other(), world.other()), (Ruling::Drop, Ruling::Pass, Ruling::Capped));
    assert!(Path::new(&world).unwrap().drops_bare(0));
    world.live.syn_off = 1;
    assert_eq!((world.matching(0), world.other()), (Ruling::Pass, Ruling::Pass));
    assert!(!Path::new(&world).unwrap().drops_bare(0));
}

#[test]
fn an_allowed_source_is_not_dropped_and_takes_no_budget() {
    let world = World::new(SynPolicy { allows: 1, ..policy(SynPolicy::DROP, 0, 1) });
    assert_eq!([world.matching(0), world.matching(0), world.matching(0)], [Ruling::Allowed; 3]);
}

#[test]
fn who_only_asks_leaves_nothing_behind() {
    let world = World::new(SynPolicy { cap_ns: SECOND, ..policy(SynPolicy::DROP, 0, 1) });
    world.only_tells.set(true);
    assert_eq!([world.matching(0), world.matching(0)], [Ruling::Let; 2]);
    assert_eq!([world.other(), world.other()], [Ruling::Pass; 2]);
    assert!(world.state.iter().all(|word| word.load(Relaxed) == 0));
}

/// The plain path drops where the other one has dropped on the same CPU, until the span is over: the threshold is seen and the
/// budget goes through as ever.
#[test]
fn the_short_way_goes_on_with_what_the_long_one_has_ruled() {
    let world = World::new(policy(SynPolicy::AUTO, 100, 10));
    let (mut short, mut through, mut dropped_in) = (0, 0, [0; CPUS]);
    for number in 0..100_000_u64 {
        world.now.set(world.now.get() + SECOND / 10_000);
        let (cpu, span) = (number as usize % CPUS, world.now.get() >> TOLD_SHIFT);
        world.cpu.set(cpu);
        if Path::new(&world).unwrap().drops_bare(0) {
            short += 1;
            assert_eq!(dropped_in[cpu], span, "{number}");
        } else if world.matching(cpu) == Ruling::Drop {
            dropped_in[cpu] = span;
        } else {
            through += 1;
        }
    }
    assert!(short > 75_000, "{short} of 100000");
    assert!(
        (10_000..10_250).contains(&through),
        "{through}: a second until it is seen, then 10 a second, and what gathered"
    );
    let counted: u64 = world.seen.iter().map(|[matched, _]| matched.load(Relaxed)).sum();
    assert_eq!(counted, 100_000);
}

#[test]
fn the_short_way_ends_with_the_configuration() {
    let mut world = World::new(policy(SynPolicy::DROP, 0, 0));
    assert_eq!(world.matching(0), Ruling::Drop);
    assert!(Path::new(&world).unwrap().drops_bare(0));
    world.live.active.half = 1;
    assert!(!Path::new(&world).unwrap().drops_bare(0));
}

#[test]
fn conditions_hold_at_their_ends() {
    let facts = Facts { window: 0, length: 40, source_port: 1, port: 80, ttl: 64, options: Options::NONE, payload: 1 };
    let all = Span16::new(0, u16::MAX);
    let every = Signature {
        window: all,
        length: all,
        source_port: all,
        port: all,
        ttl_low: 0,
        ttl_width: u8::MAX,
        options: 7,
        payload: 3,
        reserved: 0,
    };
    assert!(every.matches(&facts));
    for other in [
        Signature { window: Span16::new(1, u16::MAX), ..every },
        Signature { length: Span16::new(41, 41), ..every },
        Signature { length: Span16::new(0, 39), ..every },
        Signature { source_port: Span16::new(2, 2), ..every },
        Signature { port: Span16::new(81, u16::MAX), ..every },
        Signature { ttl_low: 65, ttl_width: 190, ..every },
        Signature { ttl_low: 0, ttl_width: 63, ..every },
        Signature { options: Options::PADDING | Options::SOME, ..every },
        Signature { payload: 2, ..every },
    ] {
        assert!(!other.matches(&facts), "{other:?}");
    }
}
