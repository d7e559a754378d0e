//! From one configuration to the next, in place: written beside the live one, shown by one store, and what the old one used is
//! given away only after a grace period.

use std::{io, sync::atomic, time::Duration};

use anyhow::{Result, ensure};
use lb_common::abi::{
    ABI_VERSION, Active, Counts, Forwarded, Ids, Live, Page, SERVICE_POSITIONS, SLOTS_PER_ELEMENT, Service, Slot,
    VipEvents,
};

use super::Datapath;
use crate::plan::{DescribedService, Description, Tables};

/// Tables that are written and complete but for next hops of new backends, and that no packet meets yet.
#[must_use = "they are not live yet"]
pub struct Beside {
    half: u32,
    /// VIP entries and places of signatures that are others from then on.
    anew: Vec<(u16, usize)>,
}

impl Datapath {
    /// Writes tables beside the live ones. They follow from those ([`crate::plan::plan_next`]), and since those went live a
    /// [`grace_period`] has passed. What is in its place already is not written again. Given up at any point, nothing has
    /// happened: what was written is overwritten by the next. `before` are the services of the live ones.
    pub fn write(&self, tables: &Tables, before: &[DescribedService]) -> Result<Beside> {
        let half = 1 - self.half();
        // First what may not fit.
        self.describe(half, &tables.description)?;
        for ring in tables.rings.iter().filter(|ring| ring.fresh) {
            self.write_ring(ring.start, ring.slots())?;
        }
        for backend in tables.backends.iter().filter(|backend| backend.fresh) {
            write!(self.live, backend.entry, backends[backend.id as usize]);
        }
        self.forget_counts(tables);
        self.begin_states(before, &tables.description.services);
        self.write_allowed(half, &tables.syn.allowed)?;
        self.write_half(half as usize, tables);
        Ok(Beside { half, anew: super::syn::other_signatures(before, &tables.description.services) })
    }

    /// Shows them: from here on every packet is judged by them, but for those under way.
    pub fn show(&self, beside: Beside) {
        // What stands before must be seen before: the tables are complete when the half becomes live.
        atomic::fence(atomic::Ordering::SeqCst);
        write!(self.live, Active { half: beside.half, version: ABI_VERSION }, active);
        self.count_anew(&beside.anew);
    }

    /// Says which object the programs come from.
    pub(super) fn set_programs(&self, programs: u64) {
        write!(self.live, programs, programs);
    }

    pub(super) fn programs(&self) -> u64 {
        read!(self.live, programs)
    }

    fn write_half(&self, half: usize, tables: &Tables) {
        for position in 0..SERVICE_POSITIONS as usize {
            write!(self.live, Service::default(), halves[half].services[position]);
        }
        for (bucket, displacement) in tables.placement.displacements.iter().enumerate() {
            write!(self.live, *displacement, halves[half].displacements[bucket]);
        }
        for (service, position) in tables.services.iter().zip(&tables.placement.positions) {
            write!(self.live, service.entry, halves[half].services[*position as usize]);
            write!(self.live, service.prefix(), halves[half].prefixes[*position as usize]);
            if service.is_of_vip() {
                write!(self.live, service.mss, halves[half].mss[usize::from(service.entry.id)]);
            }
        }
        for (index, word) in tables.vip_places().into_iter().enumerate() {
            write!(self.live, word, halves[half].vips[index]);
        }
        for (id, policy) in tables.syn.policies.iter().enumerate() {
            write!(self.live, *policy, halves[half].policies[id]);
        }
        write!(self.live, tables.syn.signatures, halves[half].signatures);
        write!(self.live, tables.settings, halves[half].settings);
    }

    /// Lets counters of ids that stood for nothing begin at 0. Nobody counts by them: whoever did has met its end in a grace
    /// period, and the next is not live yet.
    fn forget_counts(&self, tables: &Tables) {
        for cpu in 0..self.counts.entries() {
            let counts: *mut Counts = self.counts.at_mut(cpu);
            for id in tables.fresh_vips.iter() {
                // SAFETY: `at_mut` points to the mapped element, and indexing an array inside it checks the index.
                unsafe {
                    (&raw mut (*counts).vips[*id as usize]).write_volatile(Forwarded::default());
                    (&raw mut (*counts).events[*id as usize]).write_volatile(VipEvents::default());
                }
                self.forget_matches(cpu, *id);
            }
            for backend in tables.backends.iter().filter(|backend| backend.fresh) {
                // SAFETY: as above.
                unsafe { (&raw mut (*counts).backends[backend.id as usize]).write_volatile(Forwarded::default()) }
            }
        }
    }

    /// Writes a ring to its place in the arena; both are whole elements.
    fn write_ring(&self, start: u32, slots: &[Slot]) -> Result<()> {
        let (end, room) = (u64::from(start) + slots.len() as u64, u64::from(self.arena()));
        ensure!(end <= room, "a ring that ends at slot {end} does not fit the arena of {room}");
        for (at, slots) in (start / SLOTS_PER_ELEMENT..).zip(slots.as_chunks().0) {
            self.rings.set(at, Ids::new(slots.map(|slot| slot.first)));
            self.seconds.set(at, Ids::new(slots.map(|slot| slot.second)));
        }
        Ok(())
    }

    fn describe(&self, half: u32, description: &Description) -> Result<()> {
        let mut text = Vec::new();
        text.extend([0; 8]);
        serde_json::to_writer(&mut text, description)?;
        let length = (text.len() - 8) as u64;
        text[..8].copy_from_slice(&length.to_ne_bytes());
        let pages = self.description.entries() / 2;
        ensure!(
            text.len() <= pages as usize * 4096,
            "description of the tables: {length} bytes are asked for, room is for {}: start `weir run` anew, it makes room",
            pages as usize * 4096 - 8
        );
        for (index, chunk) in text.chunks(4096).enumerate() {
            let mut page = Page([0; 4096]);
            page.0[..chunk.len()].copy_from_slice(chunk);
            self.description.set(half * pages + index as u32, page);
        }
        Ok(())
    }
}

/// How long is waited where the kernel does not say when a grace period has passed: packets take microseconds.
const LONG_ENOUGH: Duration = Duration::from_secs(1);

/// Returns when every packet that was under way when it was called has met its end. Blocks for some milliseconds.
pub fn grace_period() {
    const NO_FLAGS: libc::c_long = 0;
    // SAFETY: a system call that takes and gives numbers alone.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, NO_FLAGS, NO_FLAGS) };
    if result != 0 {
        tracing::debug!("no membarrier here: {}", io::Error::last_os_error());
        std::thread::sleep(LONG_ENOUGH);
    }
}
