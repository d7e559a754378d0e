//! The pure path on the host: a frame in a byte vector and the tables of a [`World`].

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use lb_common::{
    abi::{
        FRAGMENT_ENTRIES, Ids, Live, Matches, NO_BACKEND, SERVICE_SIGNATURES, SLOTS_PER_ELEMENT, SynState, VIP_ENTRIES,
    },
    balance::{Outcome, balance},
    packet::{Packet, Tables},
    plain::{End, plain},
    wire::Header,
};
use lb_userspace::config::Allowed;

use crate::{
    cases::Case,
    expect::{Seen, chosen},
    setup::World,
};

/// Room that a driver leaves before a frame.
pub const HEADROOM: usize = 256;
/// What the first buffer of a long frame holds.
pub const FIRST_BUFFER: usize = 3520;

/// A frame with room in front, of which only the first buffer can be read directly.
#[derive(Clone)]
pub struct Frame {
    /// Words, so that even offsets are aligned.
    words: Vec<u16>,
    /// Where the frame begins; even.
    head: usize,
    /// Where the first buffer ends.
    linear_end: usize,
    /// Where the frame ends.
    end: usize,
}

impl Frame {
    /// A frame whose first buffer holds `linear` bytes at most, with `headroom` bytes (an even number) before it.
    pub fn new(bytes: &[u8], headroom: usize, linear: usize) -> Self {
        assert!(headroom.is_multiple_of(2), "what a driver leaves is even");
        let end = headroom + bytes.len();
        let mut words = vec![0; end.div_ceil(2)];
        as_bytes_mut(&mut words)[headroom..end].copy_from_slice(bytes);
        Frame { words, head: headroom, linear_end: headroom + linear.min(bytes.len()), end }
    }

    /// The frame as it is now.
    pub fn bytes(&self) -> Vec<u8> {
        as_bytes(&self.words)[self.head..self.end].to_vec()
    }

    /// Whether the frames are the same to the last byte.
    fn is(&self, other: &Frame) -> bool {
        self.end - self.head == other.end - other.head && self.words[self.head / 2..] == other.words[other.head / 2..]
    }

    /// The one bounds check: the word at which a header begins.
    fn word(&self, offset: usize, size: usize) -> Option<usize> {
        let start = self.head.checked_add(offset)?;
        assert!(start.is_multiple_of(2), "a header at odd offset {offset}");
        (start.checked_add(size)? <= self.linear_end).then_some(start / 2)
    }
}

/// Words as the bytes that they are.
fn as_bytes(words: &[u16]) -> &[u8] {
    // SAFETY: the same memory, borrowed as long, of which every byte is initialised; bytes have no alignment.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

fn as_bytes_mut(words: &mut [u16]) -> &mut [u8] {
    // SAFETY: as above, borrowed mutably, and any bytes are words.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

impl Packet for Frame {
    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        let word = self.word(offset, size_of::<H>())?;
        // SAFETY: `word` found `H`'s size within the vector; any bytes are an `H`, whose alignment is that of a word at
        // most (its contract).
        Some(unsafe { &*self.words.as_ptr().add(word).cast() })
    }

    fn at_mut<H: Header>(&mut self, offset: usize) -> Option<&mut H> {
        let word = self.word(offset, size_of::<H>())?;
        // SAFETY: as in `at`, and `self` is borrowed mutably.
        Some(unsafe { &mut *self.words.as_mut_ptr().add(word).cast() })
    }

    fn holds(&self, bytes: usize) -> bool {
        bytes <= self.end - self.head
    }

    fn grow_head(&mut self, bytes: usize) -> bool {
        let grows = bytes <= self.head;
        self.head -= if grows { bytes } else { 0 };
        grows
    }

    fn shrink_head(&mut self, bytes: usize) -> bool {
        let shrinks = self.head + bytes <= self.linear_end;
        self.head += if shrinks { bytes } else { 0 };
        shrinks
    }

    fn set_length(&mut self, bytes: usize) -> bool {
        let cuts = bytes <= self.end - self.head;
        self.end = if cuts { self.head + bytes } else { self.end };
        self.linear_end = self.linear_end.min(self.end);
        cuts
    }
}

/// The tables as the kernel's maps hold them.
pub struct HostTables {
    live: Box<Live>,
    owners: Vec<Ids>,
    fragments: Vec<AtomicU64>,
    /// Elements of SYN_STATES, as words.
    states: Vec<AtomicU64>,
    matches: Vec<AtomicU64>,
    allowed: Vec<Allowed>,
}

impl HostTables {
    /// Lays the tables of a setup out.
    pub fn new(world: &World) -> Self {
        let tables = &world.tables;
        let end = tables.rings.iter().map(|ring| ring.start as usize + ring.slots().len()).max().unwrap_or(0);
        const SHARE: usize = SLOTS_PER_ELEMENT as usize;
        let mut owners = vec![Ids::new([NO_BACKEND; SHARE]); end.div_ceil(SHARE)];
        for ring in &tables.rings {
            let elements =
                ring.slots().as_chunks::<SHARE>().0.iter().map(|slots| Ids::new(slots.map(|slot| slot.first)));
            owners[ring.start as usize / SHARE..].iter_mut().zip(elements).for_each(|(place, ids)| *place = ids);
        }
        // SAFETY: any bytes are a `Live` (`Abi`), zeros too. It is too large to be made on the stack.
        let mut live = unsafe { Box::<Live>::new_zeroed().assume_init() };
        live.halves[0].settings = tables.settings;
        live.interfaces[..world.interfaces.len()].copy_from_slice(&world.interfaces);
        for backend in &tables.backends {
            live.backends[backend.id as usize] = backend.entry;
        }
        live.halves[0].displacements.copy_from_slice(&tables.placement.displacements);
        for (service, position) in tables.services.iter().zip(&tables.placement.positions) {
            live.halves[0].services[*position as usize] = service.entry;
            live.halves[0].prefixes[*position as usize] = service.prefix();
            if service.is_of_vip() {
                live.halves[0].mss[usize::from(service.entry.id)] = service.mss;
            }
        }
        live.halves[0].vips.copy_from_slice(&tables.vip_places());
        live.halves[0].signatures = tables.syn.signatures;
        live.halves[0].policies = *tables.syn.policies;
        let states = (0..VIP_ENTRIES as usize * STATE_WORDS).map(|_| AtomicU64::new(0)).collect();
        let fragments = (0..FRAGMENT_ENTRIES).map(|_| AtomicU64::new(0)).collect();
        let matches =
            (0..VIP_ENTRIES as usize * SERVICE_SIGNATURES * MATCHES_WORDS).map(|_| AtomicU64::new(0)).collect();
        HostTables { live, owners, fragments, states, matches, allowed: tables.syn.allowed.clone() }
    }
}

impl Tables for HostTables {
    fn live(&self) -> Option<&Live> {
        Some(&self.live)
    }

    fn interface_number(&self) -> u32 {
        0
    }

    fn owners(&self, index: u32) -> Option<Ids> {
        self.owners.get(index as usize).copied()
    }

    fn remember(&self, index: u32, element: u64) {
        self.fragments[index as usize].store(element, Ordering::Relaxed);
    }

    fn recall(&self, index: u32) -> u64 {
        self.fragments[index as usize].load(Ordering::Relaxed)
    }

    /// Time stands still here: rates between none and all are tested in the kernel.
    fn may_answer(&self, _rate: u32) -> bool {
        true
    }

    /// Long after the start.
    fn now(&self) -> u64 {
        1 << 42
    }

    fn syn_state(&self, number: u32) -> Option<*mut SynState> {
        Some(self.states[number as usize * STATE_WORDS].as_ptr().cast())
    }

    fn matches(&self, vip: u32, place: u32) -> Option<*mut Matches> {
        Some(self.matches[(vip as usize * SERVICE_SIGNATURES + place as usize) * MATCHES_WORDS].as_ptr().cast())
    }

    unsafe fn add(&self, word: *mut u64, number: u64) {
        // SAFETY: a word of a state, all of which are atomic.
        unsafe { AtomicU64::from_ptr(word) }.fetch_add(number, Ordering::Relaxed);
    }

    fn is_allowed(&self, _half: u32, source: [u32; 4]) -> bool {
        let source = u128::from_be_bytes(source.map(u32::to_ne_bytes).concat().try_into().expect("16 bytes"));
        self.allowed.iter().any(|Allowed { address, length }| {
            let (first, free) = match address {
                IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 32 - length),
                IpAddr::V6(address) => (address.to_bits(), 128 - length),
            };
            (first ^ source).checked_shr(free.into()).unwrap_or(0) == 0
        })
    }

    fn only_tells(&self) -> bool {
        false
    }
}

const STATE_WORDS: usize = size_of::<SynState>() / size_of::<u64>();
const MATCHES_WORDS: usize = size_of::<Matches>() / size_of::<u64>();

/// Keeps an outcome as it is.
struct Keep;

impl End for Keep {
    type Action = Outcome;

    fn end(&self, outcome: &Outcome) -> Outcome {
        *outcome
    }

    fn end_bare(&self, outcome: &Outcome) -> Outcome {
        *outcome
    }
}

/// A setup on the host.
pub struct Host {
    /// What was planned.
    pub world: World,
    tables: HostTables,
}

impl Host {
    /// Lays the tables out.
    pub fn new(world: World) -> Self {
        let tables = HostTables::new(&world);
        Host { world, tables }
    }

    /// Runs a case, and before it what came before.
    pub fn run(&self, case: &Case) -> (Outcome, Seen) {
        for frame in &case.before {
            self.run_frame(frame);
        }
        let headroom = case.headroom.unwrap_or(HEADROOM);
        self.run_on(&mut Frame::new(&case.frame, headroom, case.first_buffer.unwrap_or(FIRST_BUFFER)))
    }

    /// Runs a frame.
    pub fn run_frame(&self, frame: &[u8]) -> (Outcome, Seen) {
        self.run_on(&mut Frame::new(frame, HEADROOM, FIRST_BUFFER))
    }

    /// Runs a frame where it lies and says no more than the path does. The plain path must decide the same, or nothing; it comes
    /// last, because it goes by what was ruled of the SYN before.
    pub fn outcome(&self, frame: &mut Frame) -> Outcome {
        let (before, mut plainly) = (frame.clone(), frame.clone());
        let outcome = balance(frame, &self.tables);
        let decided = plain(&mut plainly, &self.tables, &Keep);
        if decided.is_none() {
            assert!(plainly.is(&before), "the plain path changed a packet that is not plain");
        }
        if let Some(decided) = decided {
            assert_eq!(decided, outcome, "the plain path decides otherwise");
            assert!(plainly.is(frame), "the plain path sends something else");
        }
        outcome
    }

    /// Forgets what fragments left in these places.
    pub fn forget(&self, places: &[u32]) {
        places.iter().for_each(|place| self.tables.remember(*place, 0));
    }

    /// Says whether somebody captures.
    pub fn listen(&mut self, listening: bool) {
        self.tables.live.listening = listening.into();
    }

    /// Whether a frame is one of those that the plain path decides.
    pub fn is_plain(&self, frame: &[u8]) -> bool {
        plain(&mut Frame::new(frame, HEADROOM, FIRST_BUFFER), &self.tables, &Keep).is_some()
    }

    /// Runs a frame where it lies.
    pub fn run_on(&self, frame: &mut Frame) -> (Outcome, Seen) {
        let outcome = self.outcome(frame);
        let (vip, backend) = chosen(&self.world, outcome.vip, outcome.backend);
        (outcome, Seen { verdict: outcome.verdict, vip, backend, hash: outcome.hash, frame: frame.bytes() })
    }
}
