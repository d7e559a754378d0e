//! The maps of the balancer and how the path reads them. Sizes marked so are set anew by whoever loads.

use aya_ebpf::{
    Global,
    btf_maps::{Array, PerCpuArray},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};
use lb_common::{
    abi::{BACKEND_ENTRIES, BackendCounts, FRAGMENT_ENTRIES, Live, Page, SlotPair, VIP_ENTRIES, VipCounts},
    balance::Outcome,
    filter::Syn,
    packet::Tables,
    rate,
    verdict::{Action, Verdict},
};

const MMAPABLE: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;

#[btf_map]
static LIVE: Array<Live, 1, MMAPABLE> = Array::new();

/// Sized by the loader: both generations of all rings.
#[btf_map]
static RINGS: Array<SlotPair, 1, MMAPABLE> = Array::new();

#[btf_map]
static VERDICTS: PerCpuArray<u64, { Verdict::COUNT }> = PerCpuArray::new();

#[btf_map]
static VIP_COUNTS: PerCpuArray<VipCounts, { VIP_ENTRIES as usize }> = PerCpuArray::new();

#[btf_map]
static BACKEND_COUNTS: PerCpuArray<BackendCounts, { BACKEND_ENTRIES as usize }> = PerCpuArray::new();

/// What first fragments leave behind: see `lb_common::fragment`.
#[btf_map]
static FRAGMENTS: Array<u64, { FRAGMENT_ENTRIES as usize }> = Array::new();

/// What ICMP errors were sent: see `lb_common::rate`.
#[btf_map]
static ANSWERS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Names for what the tables hold; only userspace reads it. Sized by the loader: two halves.
#[btf_map]
static DESCRIPTION: Array<Page, 1, MMAPABLE> = Array::new();

/// Which entry of the interfaces' table this copy of the program is attached to; set by the loader.
#[unsafe(no_mangle)]
static INTERFACE: Global<u32> = Global::new(0);

/// The maps as the path's [`Tables`]. Whoever only explains leaves nothing behind in them.
pub struct Maps<const EXPLAIN: bool>;

impl<const EXPLAIN: bool> Tables for Maps<EXPLAIN> {
    #[inline(always)]
    fn live(&self) -> Option<&Live> {
        LIVE.get(0)
    }

    #[inline(always)]
    fn interface_number(&self) -> u32 {
        INTERFACE.load()
    }

    #[inline(always)]
    fn slots(&self, index: u32) -> Option<SlotPair> {
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
}

/// Counts an outcome: its verdict, and its service and backend where it had one. Returns how often this CPU has
/// now seen the verdict.
#[inline(always)]
pub fn count(outcome: &Outcome) -> u64 {
    let seen = VERDICTS.get_ptr_mut(outcome.verdict as u32).map_or(0, |count| add(count, 1));
    let bytes = outcome.bytes as u64;
    if let Some(vip) = VIP_COUNTS.get_ptr_mut(outcome.vip) {
        // SAFETY: the entry is never freed and belongs to this CPU, on which nothing interrupts an XDP program with
        // another one.
        let vip = unsafe { &mut *vip };
        match outcome.verdict.action() {
            // The answer left, the packet did not.
            _ if outcome.verdict == Verdict::TooBigAnswered => vip.dropped += 1,
            Action::Transmit | Action::Redirect => {
                vip.packets += 1;
                vip.bytes += bytes;
                // A word of flags of which few packets have any.
                if outcome.marks != 0 {
                    count_marks(vip, outcome.marks);
                }
            }
            Action::Drop => vip.dropped += 1,
            Action::Pass => vip.passed += 1,
        }
        if let Some(syn) = Syn::from_number(outcome.syn) {
            *syn.counter(vip) += 1;
        }
    }
    if matches!(outcome.verdict, Verdict::Forwarded | Verdict::Redirected)
        && let Some(backend) = BACKEND_COUNTS.get_ptr_mut(outcome.backend)
    {
        // SAFETY: as above.
        let backend = unsafe { &mut *backend };
        backend.packets += 1;
        backend.bytes += bytes;
    }
    seen
}

#[inline(always)]
fn count_marks(vip: &mut VipCounts, marks: u32) {
    vip.icmp_errors += (marks & Outcome::ICMP_ERROR != 0) as u64;
    vip.small_mtu += (marks & Outcome::SMALL_MTU != 0) as u64;
    vip.mss_lowered += (marks & Outcome::MSS_LOWERED != 0) as u64;
}

#[inline(always)]
fn add(count: *mut u64, n: u64) -> u64 {
    // SAFETY: `count` is an entry of a per-CPU array: valid, never freed, and this CPU's own.
    unsafe {
        *count += n;
        *count
    }
}
