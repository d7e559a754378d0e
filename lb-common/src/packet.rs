//! What the path needs of its surroundings: a frame and the tables. Both are passed in, so that the kernel and the
//! host run the same code.

use crate::{
    abi::{Ids, Live, Matches, SynState},
    wire::Header,
};

/// A frame: bounds-checked access and room in front.
pub trait Packet {
    /// The header at `offset`, if it lies wholly within what can be read directly.
    fn at<H: Header>(&self, offset: usize) -> Option<&H>;

    /// The same, to write.
    fn at_mut<H: Header>(&mut self, offset: usize) -> Option<&mut H>;

    /// Whether the whole frame, all its buffers together, is at least `bytes` long.
    fn holds(&self, bytes: usize) -> bool;

    /// Makes `bytes` of room in front; offsets count from the new beginning. False if there is none to be had,
    /// and then nothing has changed.
    fn grow_head(&mut self, bytes: usize) -> bool;

    /// Takes `bytes` away in front.
    fn shrink_head(&mut self, bytes: usize) -> bool;

    /// Cuts the frame behind its first `bytes`, of which it has more. False if it cannot.
    fn set_length(&mut self, bytes: usize) -> bool;
}

/// The tables: to read, but for what first fragments leave behind and how many
/// answers were sent. A missing entry is `None`, never a fault.
pub trait Tables {
    /// All but the rings; `None` if nothing is loaded.
    fn live(&self) -> Option<&Live>;

    /// Which of the interfaces the packet came in by.
    fn interface_number(&self) -> u32;

    /// An element of RINGS: who owns the slots from `SLOTS_PER_ELEMENT` times `index` on.
    fn owners(&self, index: u32) -> Option<Ids>;

    /// Writes an element of FRAGMENTS, by one store.
    fn remember(&self, index: u32, element: u64);

    /// Reads an element of FRAGMENTS, by one load; 0 if nobody wrote it.
    fn recall(&self, index: u32) -> u64;

    /// Whether an ICMP error may be sent now, of which there are `rate` in a second; if so, it counts.
    fn may_answer(&self, rate: u32) -> bool;

    /// Nanoseconds by a clock that moves in ticks.
    fn now(&self) -> u64;

    /// An element of SYN_STATES, valid as long as the tables are. Other CPUs load and store its words at any time.
    fn syn_state(&self, number: u32) -> Option<*mut SynState>;

    /// Where this CPU counts a signature's matches at a VIP entry, valid as long as the tables are.
    fn matches(&self, vip: u32, place: u32) -> Option<*mut Matches>;

    /// Adds to a word of a [`SynState`], so that nothing is lost that others add meanwhile.
    ///
    /// # Safety
    /// It is one of [`Tables::syn_state`]'s.
    unsafe fn add(&self, word: *mut u64, number: u64);

    /// Whether SYNs of a source (as [`crate::abi::Address`] keeps it, IPv4 behind `::ffff:`) are never dropped.
    fn is_allowed(&self, half: u32, source: [u32; 4]) -> bool;

    /// Whether what is decided is only told, and must leave nothing behind.
    fn only_tells(&self) -> bool;
}
