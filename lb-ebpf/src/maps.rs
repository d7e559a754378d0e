//! The maps of the balancer and how the path reads them. Sizes marked so are set anew by whoever loads.

use core::{cell::UnsafeCell, mem::MaybeUninit};

use aya_ebpf::{
    Global,
    btf_maps::{Array, LpmTrie, PerCpuArray, ProgramArray, RingBuf, lpm_trie::Key},
    helpers::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_ns},
    macros::btf_map,
};
use lb_common::{
    abi::{
        BACKEND_ENTRIES, Capture, Counts, EVENTS_BYTES, FRAGMENT_ENTRIES, Ids, Live, MAX_ALLOWED, Matches, Page,
        SERVICE_SIGNATURES, Sample, Sampler, SynSeen, SynState, VERDICT_PLACES, VIP_ENTRIES, VipEvents,
    },
    balance::{NONE, Outcome},
    filter::Syn,
    packet::Tables,
    rate,
    verdict::Verdict,
};

const MMAPABLE: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;

/// LIVE. A variable, for which the loader puts a map with one element: its address stands in the programs, where an array would be
/// looked up. Exported, or the compiler, which sees nobody write to it, would take it for zeros.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.live")]
static LIVE: Variable<Live> = Variable(UnsafeCell::new(MaybeUninit::zeroed()));

/// What others write while programs read.
#[repr(transparent)]
struct Variable<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: any bytes are a `Live`, and the agent writes whole words.
unsafe impl Sync for Variable<Live> {}

/// LIVE's one value.
#[inline(always)]
fn live() -> &'static Live {
    // SAFETY: the variable is never freed, its bytes are 0 or what the agent has written, and any bytes are a `Live`.
    unsafe { &*LIVE.0.get().cast() }
}

/// The arena of all rings, sized by the loader: who owns each slot.
#[btf_map]
static RINGS: Array<Ids, 1, MMAPABLE> = Array::new();

/// Who would, if the owner were not there; as large. No packet needs it yet.
#[btf_map]
static SECONDS: Array<Ids, 1, MMAPABLE> = Array::new();

/// Sized by the loader: one element a CPU, and one more that holds what tables before these had counted. One lookup finds all that a packet is counted by, where three per-CPU arrays
/// took three.
#[btf_map]
static COUNTS: Array<Counts, 1, MMAPABLE> = Array::new();

/// What first fragments leave behind: see `lb_common::fragment`.
#[btf_map]
static FRAGMENTS: Array<u64, { FRAGMENT_ENTRIES as usize }> = Array::new();

/// What ICMP errors were sent: see `lb_common::rate`.
#[btf_map]
static ANSWERS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// What SYNs to each service have left behind, for all CPUs: see `lb_common::syn`.
#[btf_map]
static SYN_STATES: Array<SynState, { VIP_ENTRIES as usize }, MMAPABLE> = Array::new();

/// What each CPU has counted of signatures. Sized by the loader as COUNTS is.
#[btf_map]
static SYN_SEEN: Array<SynSeen, 1, MMAPABLE> = Array::new();

/// Prefixes whose SYNs are never dropped: of each half, whose number comes first, then 128 bits of address.
#[btf_map]
static ALLOWED: LpmTrie<[u32; 5], u32, { 2 * MAX_ALLOWED as usize }> = LpmTrie::new();

/// Names for what the tables hold; only userspace reads it. Sized by the loader: two halves.
#[btf_map]
static DESCRIPTION: Array<Page, 1, MMAPABLE> = Array::new();

/// Samples of packets, while somebody captures.
#[btf_map]
pub static EVENTS: RingBuf<Sample, { EVENTS_BYTES as usize }> = RingBuf::new();

/// Which packets whoever captures wants.
#[btf_map]
pub static CAPTURE: Array<Capture, 1, MMAPABLE> = Array::new();

/// What a packet's program leaves for the one that samples, and what that counts.
#[btf_map]
pub static SAMPLER: PerCpuArray<Sampler, 1> = PerCpuArray::new();

/// One to an interface, as there is a copy of the programs for each: the program for packets that are not plain, and the one that
/// samples.
#[btf_map]
pub static PATHS: ProgramArray<2> = ProgramArray::new();

/// Which entry of the interfaces' table this copy of the program is attached to; set by the loader.
#[unsafe(no_mangle)]
pub static INTERFACE: Global<u32> = Global::new(0);

/// Nanoseconds between two ticks of the kernel; set by the loader.
#[unsafe(no_mangle)]
static TICK_NS: Global<u64> = Global::new(0);

/// The maps as the path's [`Tables`]. Whoever only explains leaves nothing behind in them.
pub struct Maps<const EXPLAIN: bool>;

impl<const EXPLAIN: bool> Tables for Maps<EXPLAIN> {
    #[inline(always)]
    fn live(&self) -> Option<&Live> {
        Some(live())
    }

    #[inline(always)]
    fn interface_number(&self) -> u32 {
        INTERFACE.load()
    }

    #[inline(always)]
    fn owners(&self, index: u32) -> Option<Ids> {
        RINGS.get(index).copied()
    }

    #[inline(always)]
    fn remember(&self, index: u32, element: u64) {
        if !EXPLAIN && let Some(place) = FRAGMENTS.get_ptr_mut(index) {
            // SAFETY: the element is never freed, and aligned; other CPUs see it as it was or as it is.
            unsafe { place.write_volatile(element) }
        }
    }

    #[inline(always)]
    fn recall(&self, index: u32) -> u64 {
        // SAFETY: as above.
        FRAGMENTS.get_ptr(index).map_or(0, |place| unsafe { place.read_volatile() })
    }

    #[inline(always)]
    fn may_answer(&self, rate: u32) -> bool {
        if EXPLAIN {
            return true;
        }
        let Some(paid) = ANSWERS.get_ptr_mut(0) else { return false };
        // SAFETY: a plain helper call; the element is never freed and belongs to this CPU.
        match rate::take(unsafe { *paid }, unsafe { bpf_ktime_get_ns() }, rate) {
            Some(next) => {
                // SAFETY: as above.
                unsafe { *paid = next }
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: a plain helper call, which the kernel inlines.
        unsafe { bpf_jiffies64() }.wrapping_mul(TICK_NS.load())
    }

    #[inline(always)]
    fn syn_state(&self, number: u32) -> Option<*mut SynState> {
        SYN_STATES.get_ptr_mut(number)
    }

    #[inline(always)]
    fn matches(&self, vip: u32, place: u32) -> Option<*mut Matches> {
        matches(vip, place)
    }

    #[inline(always)]
    unsafe fn add(&self, word: *mut u64, number: u64) {
        // SAFETY: a word of SYN_STATES.
        unsafe { add(word, number) }
    }

    #[inline(always)]
    fn is_allowed(&self, half: u32, source: [u32; 4]) -> bool {
        let [a, b, c, d] = source;
        ALLOWED.get(&Key::new(160, [half, a, b, c, d])).is_some()
    }

    #[inline(always)]
    fn only_tells(&self) -> bool {
        EXPLAIN
    }
}

/// The kernel's own atomic addition without a result, which is all that kernels before 5.12 have.
///
/// # Safety
/// The word is aligned, and of an element of a map.
#[inline(always)]
unsafe fn add(word: *mut u64, number: u64) {
    // SAFETY: the caller's.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) += {number}", word = in(reg) word, number = in(reg) number);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (word, number);
}

/// Where a CPU counts a signature's matches.
#[inline(always)]
fn matches(vip: u32, place: u32) -> Option<*mut Matches> {
    // SAFETY: a plain helper call, which newer kernels inline.
    let seen = SYN_SEEN.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })?;
    let (vip, place) = ((vip & (VIP_ENTRIES - 1)) as usize, place as usize & (SERVICE_SIGNATURES - 1));
    // SAFETY: the element is never freed, and both indices are within the array.
    Some(unsafe { &raw mut (*seen).vips[vip][place] })
}

/// Where this CPU counts.
#[inline(always)]
fn counts() -> Option<&'static mut Counts> {
    // SAFETY: a plain helper call, which newer kernels inline.
    let counts = COUNTS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })?;
    // SAFETY: the element is never freed and belongs to this CPU, on which nothing interrupts an XDP program with
    // another one; each program takes this once.
    Some(unsafe { &mut *counts })
}

/// Counts a SYN that the short way drops: its verdict, and for its VIP entry one word for three.
#[inline(always)]
pub fn count_bare(outcome: &Outcome) {
    let Some(counts) = counts() else { return };
    counts.verdicts[Verdict::SynFlood as usize] += 1;
    counts.events[(outcome.vip & (VIP_ENTRIES - 1)) as usize].bare_dropped += 1;
}

/// Counts an outcome: its verdict, and its service and backend where it had one. Says how often this CPU has now seen the verdict.
#[inline(always)]
pub fn count(outcome: &Outcome) -> u64 {
    let Some(counts) = counts() else { return 0 };
    // By mask: of a compared number, verifiers of old kernels forget the bound on the way to its use.
    let verdict = &mut counts.verdicts[outcome.verdict as usize & (VERDICT_PLACES - 1)];
    *verdict += 1;
    let seen = *verdict;
    let bytes = outcome.bytes as u64;
    if outcome.vip != NONE {
        let vip = (outcome.vip & (VIP_ENTRIES - 1)) as usize;
        if outcome.verdict.is_forwarded() {
            let forwarded = &mut counts.vips[vip];
            forwarded.packets += 1;
            forwarded.bytes += bytes;
            // A word of flags of which few packets have any.
            if outcome.marks != 0 {
                count_marks(&mut counts.events[vip], outcome.marks);
            }
        } else if outcome.verdict.passes() {
            counts.events[vip].passed += 1;
        } else {
            // Answered instead of sent on, too: the packet itself got nowhere.
            counts.events[vip].dropped += 1;
        }
        if let Some(syn) = Syn::from_number(outcome.syn) {
            let events = &mut counts.events[vip];
            *syn.counter(events) += 1;
            events.syn_dropped += (outcome.verdict as u32 == Verdict::SynFlood as u32) as u64;
            events.syn_capped += (outcome.verdict as u32 == Verdict::SynCapped as u32) as u64;
            events.syn_let += (outcome.marks & Outcome::SYN_LET != 0) as u64;
            events.syn_allowed += (outcome.marks & Outcome::SYN_ALLOWED != 0) as u64;
            if outcome.signature != NONE
                && let Some(matches) = matches(outcome.vip, outcome.signature)
            {
                // SAFETY: as above.
                unsafe { (*matches).matched += 1 }
            }
        }
    }
    if outcome.verdict.is_forwarded() {
        let backend = &mut counts.backends[(outcome.backend & (BACKEND_ENTRIES - 1)) as usize];
        backend.packets += 1;
        backend.bytes += bytes;
    }
    seen
}

/// Whether somebody captures.
#[inline(always)]
pub fn is_listened_to() -> bool {
    live().is_listened_to()
}

/// Notes that nobody captures any more.
#[inline(always)]
pub fn stop_listening() {
    let live = LIVE.0.get().cast::<Live>();
    // SAFETY: as in `live`; whoever captures writes whole words.
    unsafe { (&raw mut (*live).listening).write_volatile(0) }
}

#[inline(always)]
fn count_marks(vip: &mut VipEvents, marks: u32) {
    vip.icmp_errors += (marks & Outcome::ICMP_ERROR != 0) as u64;
    vip.small_mtu += (marks & Outcome::SMALL_MTU != 0) as u64;
    vip.mss_lowered += (marks & Outcome::MSS_LOWERED != 0) as u64;
}
