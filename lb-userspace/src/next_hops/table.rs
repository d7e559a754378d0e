//! What is known of each next hop, and which of them the kernel is to be asked about: a pure state machine. Time and
//! the kernel's words come in as arguments; kicks and changes go out as data.
//!
//! A kick (`ip neigh ... use extern_learn`) tells the kernel that a neighbour is wanted. The kernel then asks the wire on its own
//! and says how that ended; a kick of an entry that it has no answer for takes a slot until then, so that the wire
//! is never filled with questions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::NextHop;

/// Questions that the kernel may have open for us at a time.
pub const SLOTS: usize = 128;
/// After this a neighbour that did not answer is asked again.
pub const RETRY: Duration = Duration::from_secs(1);
/// How often a neighbour whose entry has grown stale is asked to confirm it.
pub const REFRESH: Duration = Duration::from_secs(5);
/// The kernel says after 3 s by default how a question ended; if it has not by now, it is kicked once more.
pub const ANSWER: Duration = Duration::from_secs(10);

/// Whom a packet is handed to: an entry of the kernel's neighbour table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Hop {
    /// The kernel's index of the interface.
    pub interface: u32,
    /// The gateway, or the backend itself.
    pub via: IpAddr,
}

/// The kernel's answer to a route lookup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// None leads there.
    Unreachable {
        /// One sentence.
        reason: String,
    },
    /// To this host itself.
    Local,
    /// Out of an interface.
    Via {
        /// To whom.
        hop: Hop,
        /// Bytes of the largest IP packet on this way.
        mtu: u16,
        /// The address that the kernel would send from.
        source: Option<IpAddr>,
    },
}

/// What the kernel says of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// It has a MAC, and looks after it by itself for now.
    Fresh([u8; 6]),
    /// It has a MAC that nobody confirmed for a while.
    Stale([u8; 6]),
    /// It is asking the wire.
    Asking,
    /// Nobody answered.
    Failed,
    /// It has no entry.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Fresh,
    Stale,
    /// Holds a slot.
    Asking,
    Failed,
    Absent,
}

#[derive(Debug)]
struct Entry {
    /// Kept while the kernel asks again: only a failure takes it away.
    mac: Option<[u8; 6]>,
    /// The MAC that a failure without a question before took away, if the last one was such.
    taken: Option<[u8; 6]>,
    state: State,
    due: Option<Instant>,
    /// When in each refresh period it is this one's turn.
    phase: Duration,
    backends: Vec<IpAddr>,
}

/// The routes to all backends and the neighbours on them.
#[derive(Default, Debug)]
pub struct Table {
    routes: BTreeMap<IpAddr, Route>,
    hops: HashMap<Hop, Entry>,
    /// Every entry's `due`, in order.
    timers: BTreeSet<(Instant, Hop)>,
    asking: usize,
    entries_made: u32,
    looked_at: Option<Instant>,
    told: BTreeMap<IpAddr, NextHop>,
    dirty: BTreeSet<IpAddr>,
    left: BTreeSet<Hop>,
}

impl Table {
    /// All routes, by backend.
    pub fn routes(&self) -> &BTreeMap<IpAddr, Route> {
        &self.routes
    }

    /// Replaces all routes. True if there are next hops of which nothing is known yet: [`Table::neighbours`] is due.
    pub fn set_routes(&mut self, routes: BTreeMap<IpAddr, Route>, now: Instant) -> bool {
        let mut wanted: HashMap<Hop, Vec<IpAddr>> = HashMap::new();
        for (backend, route) in &routes {
            if let Route::Via { hop, .. } = route {
                wanted.entry(*hop).or_default().push(*backend);
            }
        }
        let unwanted: Vec<Hop> = self.hops.keys().filter(|hop| !wanted.contains_key(hop)).copied().collect();
        for hop in unwanted {
            self.enter(hop, State::Absent, None);
            self.hops.remove(&hop);
            self.left.insert(hop);
        }
        let mut new = false;
        for (hop, backends) in wanted {
            match self.hops.get_mut(&hop) {
                Some(entry) => entry.backends = backends,
                None => {
                    new = true;
                    self.add(hop, backends, now);
                }
            }
        }
        self.told.retain(|backend, _| routes.contains_key(backend));
        self.dirty = routes.keys().copied().collect();
        self.routes = routes;
        new
    }

    /// Whether a packet to some backend is handed to this neighbour.
    pub fn needs(&self, hop: &Hop) -> bool {
        self.hops.contains_key(hop)
    }

    /// Neighbours that are no longer needed, since this was last asked.
    pub fn take_left(&mut self) -> BTreeSet<Hop> {
        std::mem::take(&mut self.left)
    }

    /// The kernel's whole neighbour table.
    pub fn neighbours(&mut self, said: &HashMap<Hop, Said>, now: Instant) {
        let hops: Vec<Hop> = self.hops.keys().copied().collect();
        for hop in hops {
            self.neighbour(hop, said.get(&hop).copied().unwrap_or(Said::Gone), now);
        }
    }

    /// What the kernel says of one neighbour; those that no backend lies behind are ignored.
    pub fn neighbour(&mut self, hop: Hop, said: Said, now: Instant) {
        let Some(entry) = self.hops.get_mut(&hop) else { return };
        // Who deletes an entry by hand makes the kernel say that it failed and, right after, that it is gone. That says
        // nothing about the neighbour.
        let deleted = said == Said::Gone && entry.state == State::Failed && entry.taken.is_some();
        let mac = match said {
            Said::Fresh(mac) | Said::Stale(mac) => Some(mac),
            Said::Failed => None,
            Said::Gone if deleted => entry.taken,
            Said::Asking | Said::Gone => entry.mac,
        };
        if said == Said::Failed && entry.state != State::Failed {
            entry.taken = entry.mac.filter(|_| entry.state != State::Asking);
        }
        if entry.mac != mac {
            entry.mac = mac;
            self.dirty.extend(&entry.backends);
        }
        let phase = entry.phase;
        match (said, entry.state) {
            (Said::Gone, State::Failed) if deleted => self.enter(hop, State::Absent, Some(now)),
            (Said::Fresh(_), _) => self.enter(hop, State::Fresh, None),
            (Said::Stale(_), State::Stale) | (Said::Asking, State::Asking) => {}
            (Said::Stale(_), _) => self.enter(hop, State::Stale, Some(now + phase)),
            (Said::Asking, _) => self.enter(hop, State::Asking, Some(now + ANSWER)),
            // Its turn is set already, and kernels before 5.16 sweep failed entries away.
            (Said::Failed | Said::Gone, State::Failed) => {}
            (Said::Failed, _) => self.enter(hop, State::Failed, Some(now + RETRY)),
            (Said::Gone, _) => self.enter(hop, State::Absent, Some(now)),
        }
    }

    /// Whom to kick now. Those that never failed go first, so that dead ones do not hold them up.
    pub fn kicks(&mut self, now: Instant) -> Vec<Hop> {
        self.looked_at = Some(now);
        let mut due: Vec<(bool, Hop)> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .filter_map(|(_, hop)| Some((self.hops.get(hop)?.state == State::Failed, *hop)))
            .collect();
        due.sort_by_key(|(failed, _)| *failed);
        due.into_iter().map(|(_, hop)| hop).filter(|hop| self.kick(*hop, now)).collect()
    }

    /// The kernel would not take a kick (the interface is gone, or memory is short).
    pub fn refused(&mut self, hop: Hop, now: Instant) {
        if self.hops.get(&hop).is_some_and(|entry| entry.state == State::Asking) {
            self.enter(hop, State::Failed, Some(now + RETRY));
        }
    }

    /// When to call [`Table::kicks`] again if nothing happens until then. What is overdue waits for a slot, and a slot
    /// comes free when something happens.
    pub fn wake(&self) -> Option<Instant> {
        match self.looked_at {
            Some(looked_at) => self.timers.iter().map(|(at, _)| *at).find(|at| *at > looked_at),
            None => self.timers.first().map(|(at, _)| *at),
        }
    }

    /// What differs from what this returned before.
    pub fn take_changes(&mut self) -> Vec<(IpAddr, NextHop)> {
        let mut changes = Vec::new();
        for backend in std::mem::take(&mut self.dirty) {
            let Some(route) = self.routes.get(&backend) else { continue };
            let next_hop = self.next_hop(route);
            if self.told.get(&backend) != Some(&next_hop) {
                self.told.insert(backend, next_hop.clone());
                changes.push((backend, next_hop));
            }
        }
        changes
    }

    /// Every backend's next hop, by address.
    pub fn snapshot(&self) -> Vec<(IpAddr, NextHop)> {
        self.routes.iter().map(|(backend, route)| (*backend, self.next_hop(route))).collect()
    }

    /// Whether nothing is being resolved.
    pub fn settled(&self) -> bool {
        !self.hops.values().any(|entry| entry.mac.is_none())
    }

    /// Backends whose next hop's MAC is not known.
    pub fn resolving(&self) -> impl Iterator<Item = IpAddr> {
        self.hops.values().filter(|entry| entry.mac.is_none()).flat_map(|entry| entry.backends.iter().copied())
    }

    fn next_hop(&self, route: &Route) -> NextHop {
        match route {
            Route::Unreachable { reason } => NextHop::Unreachable { reason: reason.clone() },
            Route::Local => NextHop::Local,
            Route::Via { hop, mtu, source } => match self.hops.get(hop).and_then(|entry| entry.mac) {
                None => NextHop::Resolving { interface: hop.interface, via: hop.via },
                Some(mac) => NextHop::Known { interface: hop.interface, via: hop.via, mac, mtu: *mtu, source: *source },
            },
        }
    }

    fn add(&mut self, hop: Hop, backends: Vec<IpAddr>, now: Instant) {
        // Steps of the golden ratio spread any number of entries evenly.
        let turn = self.entries_made.wrapping_mul(0x9e37_79b9);
        self.entries_made = self.entries_made.wrapping_add(1);
        let phase = REFRESH.mul_f64(f64::from(turn) / 2f64.powi(32));
        self.hops.insert(hop, Entry { mac: None, taken: None, state: State::Absent, due: None, phase, backends });
        self.enter(hop, State::Absent, Some(now));
    }

    /// Whether a hop that is due is to be kicked; if so it is noted as kicked.
    fn kick(&mut self, hop: Hop, now: Instant) -> bool {
        match self.hops.get(&hop).map(|entry| entry.state) {
            Some(State::Stale) => self.enter(hop, State::Stale, Some(now + REFRESH)),
            Some(State::Asking) => self.enter(hop, State::Asking, Some(now + ANSWER)),
            Some(State::Absent | State::Failed) if self.asking < SLOTS => {
                self.enter(hop, State::Asking, Some(now + ANSWER));
            }
            _ => return false,
        }
        true
    }

    fn enter(&mut self, hop: Hop, state: State, due: Option<Instant>) {
        let Some(entry) = self.hops.get_mut(&hop) else { return };
        self.asking += usize::from(state == State::Asking);
        self.asking -= usize::from(entry.state == State::Asking);
        if let Some(before) = entry.due {
            self.timers.remove(&(before, hop));
        }
        if let Some(due) = due {
            self.timers.insert((due, hop));
        }
        entry.state = state;
        entry.due = due;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

    fn backend(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    fn hop(via: IpAddr) -> Hop {
        Hop { interface: 2, via }
    }

    fn via(via: IpAddr) -> Route {
        Route::Via { hop: hop(via), mtu: 1_500, source: Some(backend(0)) }
    }

    fn known(via: IpAddr, mac: [u8; 6]) -> NextHop {
        NextHop::Known { interface: 2, via, mac, mtu: 1_500, source: Some(backend(0)) }
    }

    fn resolving(via: IpAddr) -> NextHop {
        NextHop::Resolving { interface: 2, via }
    }

    /// `count` backends on the link, of which the kernel knows nothing.
    fn on_link(count: u32, now: Instant) -> Table {
        let mut table = Table::default();
        assert!(table.set_routes((1..=count).map(|n| (backend(n), via(backend(n)))).collect(), now));
        table.neighbours(&HashMap::new(), now);
        table
    }

    #[test]
    fn a_new_hop_is_kicked_once_and_its_answer_is_a_change() {
        let now = Instant::now();
        let mut table = on_link(1, now);
        assert_eq!(table.take_changes(), [(backend(1), resolving(backend(1)))]);
        assert_eq!(table.kicks(now), [hop(backend(1))]);
        assert_eq!(table.kicks(now), []);
        assert!(!table.settled());
        table.neighbour(hop(backend(1)), Said::Fresh(A), now);
        assert_eq!(table.take_changes(), [(backend(1), known(backend(1), A))]);
        assert_eq!(table.take_changes(), []);
        assert!(table.settled());
        assert_eq!(table.wake(), None, "a fresh entry needs nothing");
    }

    #[test]
    fn what_the_kernel_knew_before_is_not_asked() {
        let now = Instant::now();
        let mut table = Table::default();
        table.set_routes([(backend(1), via(backend(1)))].into(), now);
        table.neighbours(&[(hop(backend(1)), Said::Fresh(A))].into(), now);
        assert_eq!(table.kicks(now), []);
        assert_eq!(table.take_changes(), [(backend(1), known(backend(1), A))]);
    }

    #[test]
    fn backends_behind_one_gateway_share_its_hop() {
        let now = Instant::now();
        let gateway = backend(99);
        let mut table = Table::default();
        table.set_routes(
            [(backend(1), via(gateway)), (backend(2), via(gateway)), (backend(3), Route::Local)].into(),
            now,
        );
        assert_eq!(table.kicks(now), [hop(gateway)]);
        table.take_changes();
        table.neighbour(hop(gateway), Said::Fresh(A), now);
        assert_eq!(table.take_changes(), [(backend(1), known(gateway, A)), (backend(2), known(gateway, A))]);
    }

    #[test]
    fn a_new_mac_changes_only_who_lies_behind_it() {
        let now = Instant::now();
        let mut table = on_link(2, now);
        table.neighbour(hop(backend(1)), Said::Fresh(A), now);
        table.neighbour(hop(backend(2)), Said::Fresh(A), now);
        table.take_changes();
        table.neighbour(hop(backend(2)), Said::Stale(B), now);
        assert_eq!(table.take_changes(), [(backend(2), known(backend(2), B))]);
        table.neighbour(hop(backend(2)), Said::Fresh(B), now);
        assert_eq!(table.take_changes(), [], "a confirmation is no change");
    }

    #[test]
    fn at_most_128_questions_are_open() {
        let now = Instant::now();
        let mut table = on_link(300, now);
        let first = table.kicks(now);
        assert_eq!(first.len(), SLOTS);
        table.neighbour(first[0], Said::Fresh(A), now);
        table.neighbour(first[1], Said::Failed, now);
        let next = table.kicks(now);
        assert_eq!(next.len(), 2, "two slots came free");
        assert!(!first.contains(&next[0]) && !first.contains(&next[1]));
    }

    #[test]
    fn who_waits_for_a_slot_does_not_wake_anybody() {
        let now = Instant::now();
        let mut table = on_link(300, now);
        table.kicks(now);
        assert_eq!(table.wake(), Some(now + ANSWER));
    }

    #[test]
    fn a_failure_is_reported_and_retried_after_a_second() {
        let now = Instant::now();
        let mut table = on_link(1, now);
        table.kicks(now);
        table.neighbour(hop(backend(1)), Said::Fresh(A), now);
        table.take_changes();
        table.neighbour(hop(backend(1)), Said::Failed, now);
        assert_eq!(table.take_changes(), [(backend(1), resolving(backend(1)))]);
        assert_eq!(table.wake(), Some(now + RETRY));
        assert_eq!(table.kicks(now), []);
        assert_eq!(table.kicks(now + RETRY), [hop(backend(1))]);
    }

    #[test]
    fn a_failed_entry_that_the_kernel_sweeps_away_waits_for_its_turn() {
        let now = Instant::now();
        let mut table = on_link(1, now);
        table.kicks(now);
        table.neighbour(hop(backend(1)), Said::Failed, now);
        table.neighbour(hop(backend(1)), Said::Gone, now);
        assert_eq!(table.kicks(now), []);
        assert_eq!(table.wake(), Some(now + RETRY));
    }

    #[test]
    fn an_entry_deleted_by_hand_is_asked_for_at_once_and_keeps_its_mac_meanwhile() {
        let now = Instant::now();
        let mut table = on_link(1, now);
        table.neighbour(hop(backend(1)), Said::Fresh(A), now);
        table.take_changes();
        table.neighbour(hop(backend(1)), Said::Failed, now);
        table.neighbour(hop(backend(1)), Said::Gone, now);
        assert_eq!(table.take_changes(), []);
        assert_eq!(table.kicks(now), [hop(backend(1))]);
        table.neighbour(hop(backend(1)), Said::Failed, now);
        assert_eq!(table.take_changes(), [(backend(1), resolving(backend(1)))]);
        table.neighbour(hop(backend(1)), Said::Gone, now);
        assert_eq!(table.take_changes(), [], "this time it was asked and did not answer");
    }

    #[test]
    fn those_that_never_failed_go_first() {
        let now = Instant::now();
        let mut table = on_link(SLOTS as u32, now);
        for hop in table.kicks(now) {
            table.neighbour(hop, Said::Failed, now);
        }
        let mut routes: BTreeMap<_, _> = (1..=SLOTS as u32).map(|n| (backend(n), via(backend(n)))).collect();
        routes.insert(backend(1_000), via(backend(1_000)));
        let later = now + 2 * RETRY;
        assert!(table.set_routes(routes, later));
        let kicks = table.kicks(later);
        assert_eq!((kicks.len(), kicks[0]), (SLOTS, hop(backend(1_000))));
    }

    #[test]
    fn stale_entries_are_refreshed_spread_over_the_period_without_a_slot() {
        let now = Instant::now();
        let mut table = on_link(1_000, now);
        let stale = (1..=1_000).map(|n| (hop(backend(n)), Said::Stale(A))).collect();
        table.neighbours(&stale, now);
        let mut kicked = BTreeSet::new();
        for tenth in 1..=10 {
            let kicks = table.kicks(now + REFRESH * tenth / 10);
            assert!((80..=120).contains(&kicks.len()), "{} in tenth {tenth}", kicks.len());
            kicked.extend(kicks);
        }
        assert_eq!(kicked.len(), 1_000);
        assert_eq!(table.kicks(now + REFRESH * 11 / 10).len(), kicked.len() / 10, "and again in the next period");
        assert_eq!(table.asking, 0);
    }

    #[test]
    fn an_entry_that_the_kernel_forgot_keeps_its_mac_until_asking_again_fails() {
        let now = Instant::now();
        let mut table = on_link(1, now);
        table.neighbour(hop(backend(1)), Said::Fresh(A), now);
        table.take_changes();
        table.neighbour(hop(backend(1)), Said::Gone, now);
        assert_eq!(table.take_changes(), []);
        assert_eq!(table.kicks(now), [hop(backend(1))]);
        table.neighbour(hop(backend(1)), Said::Failed, now);
        assert_eq!(table.take_changes(), [(backend(1), resolving(backend(1)))]);
    }

    #[test]
    fn a_question_without_an_answer_is_repeated() {
        let now = Instant::now();
        let mut table = on_link(1, now);
        table.kicks(now);
        assert_eq!(table.wake(), Some(now + ANSWER));
        assert_eq!(table.kicks(now + ANSWER), [hop(backend(1))]);
        assert_eq!(table.asking, 1);
    }

    #[test]
    fn a_refused_kick_gives_its_slot_back_and_is_retried() {
        let now = Instant::now();
        let mut table = on_link(1, now);
        table.kicks(now);
        table.refused(hop(backend(1)), now);
        assert_eq!(table.asking, 0);
        assert_eq!(table.kicks(now + RETRY), [hop(backend(1))]);
    }

    #[test]
    fn a_new_route_moves_a_backend_and_drops_the_old_hop() {
        let now = Instant::now();
        let mut table = on_link(2, now);
        table.kicks(now);
        table.take_changes();
        let gone = Route::Unreachable { reason: "no route".to_string() };
        let routes = [(backend(1), via(backend(9))), (backend(2), gone)];
        assert!(table.set_routes(routes.into(), now));
        assert_eq!(table.asking, 0, "the slots of both came free");
        assert_eq!(table.kicks(now), [hop(backend(9))]);
        assert_eq!(
            table.take_changes(),
            [
                (backend(1), resolving(backend(9))),
                (backend(2), NextHop::Unreachable { reason: "no route".to_string() })
            ]
        );
        table.neighbour(hop(backend(1)), Said::Fresh(A), now);
        assert_eq!(table.take_changes(), [], "nobody lies behind the old hop");
    }

    #[test]
    fn the_same_routes_again_change_nothing() {
        let now = Instant::now();
        let mut table = on_link(3, now);
        table.neighbour(hop(backend(1)), Said::Fresh(A), now);
        table.take_changes();
        let routes = (1..=3).map(|n| (backend(n), via(backend(n)))).collect();
        assert!(!table.set_routes(routes, now));
        assert_eq!(table.take_changes(), []);
    }

    #[test]
    fn a_changed_mtu_is_a_change() {
        let now = Instant::now();
        let mut table = on_link(1, now);
        table.neighbour(hop(backend(1)), Said::Fresh(A), now);
        table.take_changes();
        let route = Route::Via { hop: hop(backend(1)), mtu: 9_000, source: None };
        table.set_routes([(backend(1), route)].into(), now);
        let next_hop = NextHop::Known { interface: 2, via: backend(1), mac: A, mtu: 9_000, source: None };
        assert_eq!(table.take_changes(), [(backend(1), next_hop)]);
    }

    #[test]
    fn a_removed_backend_is_told_anew_when_it_comes_back() {
        let now = Instant::now();
        let mut table = on_link(1, now);
        table.take_changes();
        table.set_routes(BTreeMap::new(), now);
        assert_eq!(table.take_changes(), []);
        assert!(table.settled() && table.snapshot().is_empty());
        table.set_routes([(backend(1), Route::Local)].into(), now);
        assert_eq!(table.take_changes(), [(backend(1), NextHop::Local)]);
    }

    #[test]
    fn a_resync_catches_up_with_what_was_missed() {
        let now = Instant::now();
        let mut table = on_link(3, now);
        for n in 1..=3 {
            table.neighbour(hop(backend(n)), Said::Fresh(A), now);
        }
        table.take_changes();
        table.neighbours(&[(hop(backend(1)), Said::Fresh(B)), (hop(backend(2)), Said::Failed)].into(), now);
        assert_eq!(table.take_changes(), [(backend(1), known(backend(1), B)), (backend(2), resolving(backend(2)))]);
        assert_eq!(table.kicks(now), [hop(backend(3))], "the one without an entry is asked");
    }

    /// Slots and timers add up whatever happens in whatever order.
    #[test]
    fn any_order_of_events_keeps_the_books() {
        let start = Instant::now();
        for seed in 1..=20u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut draw = |below: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % below
            };
            let mut table = on_link(200, start);
            let mut now = start;
            for _ in 0..300 {
                now += Duration::from_millis(draw(2_000));
                let hop = hop(backend(draw(220) as u32));
                match draw(9) {
                    0 => table.neighbour(hop, Said::Fresh(A), now),
                    1 => table.neighbour(hop, Said::Stale(B), now),
                    2 => table.neighbour(hop, Said::Asking, now),
                    3 => table.neighbour(hop, Said::Failed, now),
                    4 => table.neighbour(hop, Said::Gone, now),
                    5 => table.refused(hop, now),
                    6 => {
                        let count = 150 + draw(100) as u32;
                        table.set_routes((1..=count).map(|n| (backend(n), via(backend(n)))).collect(), now);
                    }
                    _ => drop(table.kicks(now)),
                }
                check_books(&table);
            }
        }
    }

    fn check_books(table: &Table) {
        let asking = table.hops.values().filter(|entry| entry.state == State::Asking).count();
        assert_eq!(asking, table.asking);
        let timers: BTreeSet<_> = table.hops.iter().filter_map(|(hop, entry)| Some((entry.due?, *hop))).collect();
        assert_eq!(timers, table.timers);
        for entry in table.hops.values() {
            assert_eq!(entry.due.is_none(), entry.state == State::Fresh, "only a fresh entry is left alone");
        }
    }
}
