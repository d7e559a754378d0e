//! The frame behind an `XdpContext` as the path's [`Packet`].

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use lb_common::{packet::Packet, wire::Header};

/// A frame; with `FRAGS` it may lie in several buffers, of which the first can be read directly.
pub struct Frame<'a, const FRAGS: bool>(pub &'a XdpContext);

impl<const FRAGS: bool> Frame<'_, FRAGS> {
    /// The one bounds check: where `size` bytes at `offset` begin, if they lie within the first buffer.
    #[inline(always)]
    fn bounds(&self, offset: usize, size: usize) -> Option<usize> {
        let start = self.start() + offset;
        // SAFETY: no packet lies at address 0. Said so that a reference to it is not compared with null.
        unsafe { core::hint::assert_unchecked(start != 0) };
        (start + size <= self.end()).then_some(start)
    }

    /// Where the frame begins. Read anew each time: what the compiler keeps, it may keep as 32 bits, in which the verifier
    /// no longer sees a pointer.
    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the context is the one the kernel passed to this program.
        unsafe { (&raw const (*self.0.ctx).data).read_volatile() as usize }
    }

    /// Where the first buffer ends. Read anew each time, so that the compiler cannot conclude from one check that a later
    /// one is not needed: the verifier would not follow.
    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: the context is the one the kernel passed to this program.
        unsafe { (&raw const (*self.0.ctx).data_end).read_volatile() as usize }
    }

    /// Bytes of the whole frame, all its buffers together.
    #[inline(always)]
    pub fn length(&self) -> usize {
        if FRAGS {
            // SAFETY: the context is the one the kernel passed to this program.
            unsafe { bpf_xdp_get_buff_len(self.0.ctx) as usize }
        } else {
            self.end().wrapping_sub(self.start())
        }
    }

    #[inline(always)]
    fn adjust_head(&mut self, delta: i32) -> bool {
        // SAFETY: the context is the one the kernel passed to this program, and lives as long as it runs.
        unsafe { bpf_xdp_adjust_head(self.0.ctx, delta) == 0 }
    }
}

impl<const FRAGS: bool> Packet for Frame<'_, FRAGS> {
    #[inline(always)]
    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        let start = self.bounds(offset, size_of::<H>())?;
        // SAFETY: `bounds` found `H`'s size within the buffer; any bytes are an `H` (its contract), whose alignment of
        // 2 every even offset from an even beginning has; the borrow of `self` keeps the head where it is.
        Some(unsafe { &*(start as *const H) })
    }

    #[inline(always)]
    fn at_mut<H: Header>(&mut self, offset: usize) -> Option<&mut H> {
        let start = self.bounds(offset, size_of::<H>())?;
        // SAFETY: as in `at`, and `self` is borrowed mutably.
        Some(unsafe { &mut *(start as *mut H) })
    }

    #[inline(always)]
    fn holds(&self, bytes: usize) -> bool {
        // Numbers are compared, not pointers: a length whose bytes were swapped has no bounds in the eyes of verifiers up to
        // 6.12 at least, and must not be added to a pointer.
        if bytes <= self.end().wrapping_sub(self.start()) {
            return true;
        }
        // SAFETY: the context is the one the kernel passed to this program.
        FRAGS && bytes as u64 <= unsafe { bpf_xdp_get_buff_len(self.0.ctx) }
    }

    #[inline(always)]
    fn grow_head(&mut self, bytes: usize) -> bool {
        self.adjust_head(-(bytes as i32))
    }

    #[inline(always)]
    fn shrink_head(&mut self, bytes: usize) -> bool {
        self.adjust_head(bytes as i32)
    }

    #[inline(always)]
    fn set_length(&mut self, bytes: usize) -> bool {
        let length = self.length();
        // Compared, or the compiler would subtract pointers in 32 bits, which verifiers prohibit.
        let delta = bytes.wrapping_sub(length) as isize;
        // SAFETY: the context is the one the kernel passed to this program, and lives as long as it runs.
        delta <= 0 && unsafe { bpf_xdp_adjust_tail(self.0.ctx, delta as i32) == 0 }
    }
}
