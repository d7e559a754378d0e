//! The SYN filter: signatures, and what becomes of SYNs that match one.
//!
//! What is decided lives in tables of fixed size and holds without an agent. No locks: a word is loaded and stored whole, and of two
//! CPUs that decide at the same moment both decide on what they see. So each CPU may let one packet more through than a rate allows; what
//! it took is paid for by all.

use crate::{
    abi::{
        Matches, NO_SIGNATURE, SERVICE_SIGNATURES, Signature, SignatureState, Span16, SynPolicy, SynState, VIP_ENTRIES,
    },
    balance::Path,
    family::Family,
    filter::Syn,
    packet::Tables,
    rate::{self, SECOND},
};

/// For how long after the rate was last above the threshold `auto` goes on dropping, ns.
pub const HOLD: u64 = 60 * SECOND;
/// Each CPU adds its matches to the total once in a span of 2 to this power of nanoseconds: 4.2 ms.
pub const TOLD_SHIFT: u32 = 22;

/// What signatures are about, of one SYN. In host byte order.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The window.
    pub window: u16,
    /// Bytes of the IP packet.
    pub length: u16,
    /// The client's port.
    pub source_port: u16,
    /// The VIP's.
    pub port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// A bit of [`crate::filter::Options`].
    pub options: u8,
    /// 1 without, 2 with one.
    pub payload: u8,
}

/// What the filter says of a SYN.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// Nothing against it.
    Pass,
    /// It matches, and is let through within the budget.
    Let,
    /// It matches, and its source is never dropped.
    Allowed,
    /// It matches and is dropped.
    Drop,
    /// There are too many.
    Capped,
}

impl Signature {
    /// Whether a SYN is one of these. Without branches, so that the verifier walks it once.
    #[inline(always)]
    pub fn matches(&self, facts: &Facts) -> bool {
        self.window.holds(facts.window)
            & self.length.holds(facts.length)
            & self.source_port.holds(facts.source_port)
            & self.port.holds(facts.port)
            & (facts.ttl.wrapping_sub(self.ttl_low) <= self.ttl_width)
            & (facts.options & self.options != 0)
            & (facts.payload & self.payload != 0)
    }
}

impl Span16 {
    /// From the lowest to the highest.
    pub const fn new(low: u16, high: u16) -> Self {
        Span16 { low, width: high - low }
    }

    #[inline(always)]
    fn holds(self, number: u16) -> bool {
        number.wrapping_sub(self.low) <= self.width
    }
}

/// A word that others may store to at any time.
#[inline(always)]
fn load(word: *const u64) -> u64 {
    // SAFETY: a word of an element that the tables vouch for, aligned; others may store to it at any time.
    unsafe { word.read_volatile() }
}

#[inline(always)]
fn store(word: *mut u64, value: u64) {
    // SAFETY: as in `load`.
    unsafe { word.write_volatile(value) }
}

/// Which span of 2 to the power of [`TOLD_SHIFT`] nanoseconds it is, as it stands in [`Matches::told`]: two bits are free.
#[inline(always)]
fn span(now: u64) -> u64 {
    (now >> TOLD_SHIFT << 2) & 0xffff_ffff
}

/// What those two bits say where a match was dropped in that span, by the policy of a half: so will be all that come in it.
#[inline(always)]
fn drops_in(half: u32) -> u64 {
    2 | half as u64 & 1
}

/// The state of one place in a policy.
#[inline(always)]
fn of_place(state: *mut SynState, place: u32) -> *mut SignatureState {
    // SAFETY: an element that the tables vouch for, and a place within its array.
    unsafe { (&raw mut (*state).signatures).cast::<SignatureState>().add(place as usize & (SERVICE_SIGNATURES - 1)) }
}

macro_rules! word {
    ($of:expr, $field:ident) => {{
        let of = $of;
        // SAFETY: a field of an element that the tables vouch for.
        unsafe { &raw mut (*of).$field }
    }};
}

impl<T: Tables> Path<'_, T> {
    #[inline(always)]
    fn policy(&self, vip: u32) -> &SynPolicy {
        // By mask: of a compared number, verifiers of old kernels forget the bound on the way to its use.
        &self.half.policies[(vip & (VIP_ENTRIES - 1)) as usize]
    }

    /// Whether a SYN with window 0 and no options, to a VIP whose first signature that is, is dropped without further ado, because
    /// this CPU has just ruled so of another one. Then it has been counted as a match.
    #[inline(always)]
    pub(crate) fn drops_bare(&self, vip: u32) -> bool {
        let Some(matches) = self.tables.matches(vip, 0) else { return false };
        if load(word!(matches, told)) >> 32 != span(self.tables.now()) | drops_in(self.number) || self.syn_is_off() {
            return false;
        }
        store(word!(matches, matched), load(word!(matches, matched)) + 1);
        true
    }

    /// The place of the first signature of a VIP entry that a SYN matches, or [`SERVICE_SIGNATURES`].
    #[inline(always)]
    pub(crate) fn signature(&self, vip: u32, facts: &Facts) -> u32 {
        let policy = self.policy(vip);
        for place in 0..SERVICE_SIGNATURES {
            let number = policy.signatures[place];
            if number == NO_SIGNATURE {
                break;
            }
            let signatures = &self.half.signatures;
            if signatures[number as usize & (signatures.len() - 1)].matches(facts) {
                return place as u32;
            }
        }
        SERVICE_SIGNATURES as u32
    }

    /// What becomes of a SYN that matches the signature at a place, if it does.
    #[inline(always)]
    pub(crate) fn rule<F: Family>(&self, half: u32, vip: u32, place: u32, source: F) -> Ruling {
        let policy = self.policy(vip);
        let (tables, off) = (self.tables, self.syn_is_off());
        let Some(state) = tables.syn_state(policy.state as u32) else { return Ruling::Pass };
        let now = tables.now();
        if place < SERVICE_SIGNATURES as u32 {
            let of_signature = of_place(state, place);
            let Some(matches) = tables.matches(vip, place) else { return Ruling::Pass };
            if !tables.only_tells() {
                self.tell(policy, of_signature, matches, now);
            }
            let drops = policy.mode == SynPolicy::DROP
                || policy.mode == SynPolicy::AUTO && load(word!(of_signature, until)) > now;
            if off || !drops {
                return Ruling::Pass;
            }
            if policy.allows != 0 && tables.is_allowed(half, source.mapped()) {
                return Ruling::Allowed;
            }
            if self.take(word!(state, budget_paid), now, policy.budget_ns) {
                return Ruling::Let;
            }
            if !tables.only_tells() {
                store(word!(matches, told), load(word!(matches, told)) | drops_in(half) << 32);
            }
            return Ruling::Drop;
        }
        if policy.cap_ns == 0 || off || self.take(word!(state, cap_paid), now, policy.cap_ns) {
            Ruling::Pass
        } else {
            Ruling::Capped
        }
    }

    /// Takes a token, if there is one. CPUs that find the same one take it each, and all of them are paid for.
    #[inline(always)]
    fn take(&self, word: *mut u64, now: u64, cost: u64) -> bool {
        let paid = load(word);
        if !rate::has_token(paid, now, cost) {
            return false;
        }
        if !self.tables.only_tells() {
            if paid < now {
                store(word, now + cost);
            } else {
                // SAFETY: a word of a state.
                unsafe { self.tables.add(word, cost) };
            }
        }
        true
    }

    /// Adds what this CPU has counted to the total, once in a while, and looks whether there are too many once a second.
    #[inline(always)]
    fn tell(&self, policy: &SynPolicy, state: *mut SignatureState, matches: *mut Matches, now: u64) {
        let (matched, told) = (load(word!(matches, matched)) + 1, load(word!(matches, told)));
        if told >> 34 == span(now) >> 2 {
            return;
        }
        store(word!(matches, told), span(now) << 32 | (matched & 0xffff_ffff));
        // What came long ago, and after it nothing until now, is of no second that is still measured.
        let late = (span(now) >> 2).wrapping_sub(told >> 34) & (u32::MAX as u64 >> 2) > SECOND >> TOLD_SHIFT;
        let news = if late { 1 } else { (matched as u32).wrapping_sub(told as u32) as u64 };
        let total = word!(state, total);
        // SAFETY: a word of a state.
        unsafe { self.tables.add(total, news) };
        let (second, mark) = ((now / SECOND) & 0xffff_ffff, load(word!(state, mark)));
        let seconds = (second as u32).wrapping_sub((mark >> 32) as u32);
        // A CPU that is late by a second has been overtaken.
        if seconds == 0 || seconds > u32::MAX / 2 {
            return;
        }
        let total = load(total);
        store(word!(state, mark), second << 32 | (total & 0xffff_ffff));
        if (total as u32).wrapping_sub(mark as u32) as u64 > policy.threshold as u64 * seconds as u64 {
            // From the end of the second that was measured, which may be long past if nothing matched since.
            store(word!(state, until), ((mark >> 32) + 1) * SECOND + HOLD);
        }
    }

    #[inline(always)]
    fn syn_is_off(&self) -> bool {
        // SAFETY: a reference is valid to read; an operator's store may come at any time, so the word is read once, whole.
        unsafe { (&raw const self.live.syn_off).read_volatile() != 0 }
    }
}

impl Facts {
    /// Of a SYN; `syn` is the number of its kind.
    #[inline(always)]
    pub(crate) fn new(syn: u32, window: u16, ports: u32, ttl: u8, length: usize, payload: usize) -> Self {
        Facts {
            window: u16::from_be(window),
            length: length.min(u16::MAX as usize) as u16,
            source_port: u16::from_be(ports as u16),
            port: u16::from_be((ports >> 16) as u16),
            ttl,
            options: Syn::options(syn),
            payload: 1 + (payload != 0) as u8,
        }
    }
}

#[cfg(test)]
mod tests;
