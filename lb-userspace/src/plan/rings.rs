//! Rings, built or changed: one that differs by a few backends from one that is known is not built anew.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use lb_common::{
    abi::Slot,
    ring::{Member, Ring},
};

use super::{DescribedService, fingerprint, member};

/// What a ring is a function of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RingKey {
    /// Its size.
    pub slots: u32,
    /// Its members, by id.
    pub members: Vec<Member>,
}

impl RingKey {
    /// Sorts the members.
    pub fn new(slots: u32, mut members: Vec<Member>) -> Self {
        members.sort_unstable_by_key(|member| member.id);
        RingKey { slots, members }
    }

    /// That of a service in tables.
    pub fn of(service: &DescribedService) -> Self {
        let members = service.backends.iter();
        let members = members.map(|backend| member(backend.id, &backend.address, backend.weight, backend.part));
        RingKey::new(service.slots, members.collect())
    }

    /// How many members differ, if that is not over `most`.
    fn distance(&self, other: &RingKey, most: usize) -> Option<usize> {
        if self.slots != other.slots || self.members.len().abs_diff(other.members.len()) > most {
            return None;
        }
        let (mut ours, mut theirs) = (self.members.iter().peekable(), other.members.iter().peekable());
        let mut distance = 0;
        while let Some(order) = match (ours.peek(), theirs.peek()) {
            (Some(a), Some(b)) => Some(a.id.cmp(&b.id)),
            (Some(_), None) => Some(std::cmp::Ordering::Less),
            (None, Some(_)) => Some(std::cmp::Ordering::Greater),
            (None, None) => None,
        } {
            let our = if order.is_le() { ours.next() } else { None };
            let their = if order.is_ge() { theirs.next() } else { None };
            distance += usize::from(our != their);
            if distance > most {
                return None;
            }
        }
        Some(distance)
    }
}

/// A ring that is ready, and what is known of it.
#[derive(Debug)]
pub struct BuiltRing {
    /// Slots that each backend owns, by id.
    pub shares: Vec<(u16, u32)>,
    /// A hash of it that knows no ids.
    pub fingerprint: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// With all scores, so that it can be changed.
    Changeable(Ring),
    /// The slots alone.
    Fixed(Vec<Slot>),
}

impl BuiltRing {
    fn new(key: &RingKey, ring: Ring, keep: bool) -> Self {
        let (shares, fingerprint) = (ring.shares(), fingerprint::of_ring(key, ring.slots()));
        let content = if keep { Content::Changeable(ring) } else { Content::Fixed(ring.into_slots()) };
        BuiltRing { shares, fingerprint, content }
    }

    /// Who owns each slot and who stands behind.
    pub fn slots(&self) -> &[Slot] {
        match &self.content {
            Content::Changeable(ring) => ring.slots(),
            Content::Fixed(slots) => slots,
        }
    }

    /// How many slots a backend owns.
    pub fn owned(&self, id: u16) -> u32 {
        self.shares.binary_search_by_key(&id, |share| share.0).map_or(0, |at| self.shares[at].1)
    }
}

/// The rings of the tables in use, kept so that the next can be made from them.
#[derive(Debug)]
pub struct RingCache {
    most_bytes: usize,
    rings: BTreeMap<RingKey, Arc<BuiltRing>>,
}

/// Memory that kept rings may take: 70 of the usual size.
const MOST_BYTES: usize = 88 << 20;

impl Default for RingCache {
    fn default() -> Self {
        RingCache::new(MOST_BYTES)
    }
}

impl RingCache {
    /// An empty one; rings beyond `most_bytes` are built anew whenever they change.
    pub fn new(most_bytes: usize) -> Self {
        RingCache { most_bytes, rings: BTreeMap::new() }
    }

    /// Keeps these and no others: those of the tables that have gone live.
    pub fn keep(&mut self, rings: impl Iterator<Item = (RingKey, Arc<BuiltRing>)>) {
        self.rings = rings.filter(|(_, ring)| matches!(ring.content, Content::Changeable(_))).collect();
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.rings.len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.rings.is_empty()
    }

    /// The rings of these keys, in their order: kept ones as they are, others changed from a similar one or built, on all CPUs.
    pub fn rings(&self, wanted: &[RingKey]) -> Vec<Arc<BuiltRing>> {
        let mut bytes = 0;
        let jobs: Vec<(&RingKey, bool)> = wanted
            .iter()
            .map(|key| {
                bytes += key.slots as usize * BYTES_PER_SLOT;
                (key, bytes <= self.most_bytes)
            })
            .collect();
        let missing = jobs.iter().filter(|(key, _)| !self.rings.contains_key(key)).count();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing);
        let made = RwLock::default();
        if threads < 2 {
            return jobs.iter().map(|(key, keep)| self.ring(key, *keep, &made)).collect();
        }
        // One after the other to whoever is free: some take far longer than others.
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some((key, keep)) = jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                done.push((*key, self.ring(key, *keep, &made)));
            }
            done
        };
        let done: BTreeMap<&RingKey, Arc<BuiltRing>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("building a ring does not panic")).collect()
        });
        wanted.iter().map(|key| Arc::clone(&done[key])).collect()
    }

    fn ring<'a>(&self, key: &'a RingKey, keep: bool, made: &Made<'a>) -> Arc<BuiltRing> {
        if let Some(ring) = self.rings.get(key) {
            return Arc::clone(ring);
        }
        let near = self.nearest(key, made);
        let ring = match near.as_ref().map(|near| &near.content) {
            Some(Content::Changeable(near)) => {
                let mut ring = near.clone();
                ring.become_of(&key.members);
                ring
            }
            _ => Ring::build(key.slots, &key.members),
        };
        let ring = Arc::new(BuiltRing::new(key, ring, keep));
        if keep {
            made.write().unwrap_or_else(PoisonError::into_inner).push((key, Arc::clone(&ring)));
        }
        ring
    }

    /// A ring, kept or just made, from which this one is made with less work than from nothing.
    fn nearest(&self, key: &RingKey, made: &Made) -> Option<Arc<BuiltRing>> {
        // A change costs about what scoring four members does.
        let mut most = key.members.len() / 4;
        let mut nearest = None;
        let made = made.read().unwrap_or_else(PoisonError::into_inner);
        for (other, ring) in self.rings.iter().chain(made.iter().map(|(key, ring)| (*key, ring))) {
            if let Some(distance) = key.distance(other, most) {
                nearest = Some(ring);
                if distance <= 1 {
                    break;
                }
                most = distance - 1;
            }
        }
        nearest.map(Arc::clone)
    }
}

/// Rings that were made just now and can be changed: sets of backends are often alike.
type Made<'a> = RwLock<Vec<(&'a RingKey, Arc<BuiltRing>)>>;

/// A slot and its two scores.
const BYTES_PER_SLOT: usize = size_of::<Slot>() + 16;
