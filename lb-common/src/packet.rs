//! What the path needs of its surroundings: a frame and the tables. Both are passed in, so that the kernel and the
//! host run the same code.

use crate::{
    abi::{Ids, Live},
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
}
