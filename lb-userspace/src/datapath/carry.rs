//! Counters that outlive their tables: what tables before had counted goes, by name, into the element of COUNTS that no CPU
//! counts in.

use anyhow::{Context, Result};
use aya::maps::MapData;
use lb_common::abi::{Counts, Live, LiveHead, Page};

use super::{Access, Datapath, Mapped, description_in, syn::KeptOfSyns};
use crate::plan::{Allocation, Description};

/// Counters and what they are of.
pub struct Counted {
    counts: Mapped<Counts>,
    description: Description,
    /// What the SYN filter keeps; the first layouts had nothing of it.
    syn: Option<KeptOfSyns>,
}

impl Counted {
    pub(super) fn open(map: impl Fn(&str) -> Result<MapData>) -> Result<Self> {
        let counts = Mapped::new(&map("COUNTS")?, Access::Read)?;
        let active = Mapped::<LiveHead>::head(&map("LIVE")?)?.get(0).active;
        let description = description_in(&Mapped::<Page>::new(&map("DESCRIPTION")?, Access::Read)?, active.half & 1)?;
        let syn = KeptOfSyns::open(&map).inspect_err(|error| log::warn!("the SYN filter begins anew: {error:#}")).ok();
        Ok(Counted { counts, description, syn })
    }

    /// The sum over all CPUs of the words that lie at a place of each element.
    fn sum<const WORDS: usize>(&self, place: impl Fn(*const Counts) -> *const [u64; WORDS]) -> [u64; WORDS] {
        let mut sum = [0_u64; WORDS];
        for cpu in 0..self.counts.entries() {
            // SAFETY: `place` points to words inside the mapped element that `at` points to; a counter may move on meanwhile.
            let words = unsafe { place(self.counts.at(cpu)).read_volatile() };
            sum.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
        }
        sum
    }
}

impl Datapath {
    /// Goes on where other tables have stopped, by the names that both have. To be called again when those have really
    /// stopped (`again`): what was carried over before is replaced, but for what packets have taken over meanwhile.
    pub fn carry(&self, from: &Counted, ids: &Allocation, again: bool) -> Result<()> {
        let before = Allocation::of(&from.description, u32::MAX).context("counters begin at 0")?;
        let to: *mut Counts = self.counts.at_mut(self.counts.entries() - 1);
        // SAFETY: here and below, both sides point into a mapped element, indexing an array inside it checks the index, a struct
        // of counters is nothing but words, and no CPU writes to the element written to.
        unsafe {
            let verdicts = from.sum(|counts| &raw const (*counts).verdicts);
            (&raw mut (*to).verdicts).write_volatile(verdicts);
        }
        if let Some(syn) = &from.syn {
            self.carry_syns(syn, &from.description, again)?;
        }
        for (vip, old) in before.vips() {
            let Some(new) = ids.vip(&vip) else { continue };
            // SAFETY: as above.
            unsafe {
                let words = from.sum::<2>(|counts| (&raw const (*counts).vips[usize::from(old)]).cast());
                (&raw mut (*to).vips[usize::from(new)]).cast::<[u64; 2]>().write_volatile(words);
                let words = from.sum::<16>(|counts| (&raw const (*counts).events[usize::from(old)]).cast());
                (&raw mut (*to).events[usize::from(new)]).cast::<[u64; 16]>().write_volatile(words);
            }
        }
        for (key, old) in before.backends() {
            let Some(new) = ids.backend(&key) else { continue };
            // SAFETY: as above.
            unsafe {
                let words = from.sum::<2>(|counts| (&raw const (*counts).backends[usize::from(old)]).cast());
                (&raw mut (*to).backends[usize::from(new)]).cast::<[u64; 2]>().write_volatile(words);
            }
        }
        Ok(())
    }

    /// Makes the tables look like those of another layout, for tests of what is done about such.
    #[doc(hidden)]
    pub fn claim_layout(&self, version: u32) {
        let half = self.half();
        write!(self.live, lb_common::abi::Active { half, version }, active);
    }
}

const _: () =
    assert!(size_of::<lb_common::abi::VipEvents>() == 16 * 8 && size_of::<lb_common::abi::Forwarded>() == 2 * 8);
