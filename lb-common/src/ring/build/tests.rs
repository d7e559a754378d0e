use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use proptest::prelude::*;

fn backend(id: u16, weight: u16) -> Member {
    let address = Ipv4Addr::from_bits(0x0a00_0000 + id as u32);
    Member { id, identity: identity(&address.into()), weight, part: WHOLE }
}

fn equal(count: u16) -> Vec<Member> {
    (0..count).map(|id| backend(id, 1)).collect()
}

/// Members with distinct ids and weights among which ties, doubles and zeros are common.
fn members(most: usize) -> impl Strategy<Value = Vec<Member>> {
    let weight = prop_oneof![Just(0), Just(1), Just(2), Just(256), 0..=256u16];
    prop::collection::btree_map(0..1000u16, (weight, part()), 0..most).prop_map(|members| {
        members.into_iter().map(|(id, (weight, part))| Member { part, ..backend(id, weight) }).collect()
    })
}

/// Mostly the whole: few drain at the same time.
fn part() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(WHOLE), 1 => Just(0), 2 => 0..=WHOLE]
}

/// Members and one of them.
fn members_and_one(most: usize) -> impl Strategy<Value = (Vec<Member>, Member)> {
    members(most)
        .prop_filter("somebody", |members| !members.is_empty())
        .prop_flat_map(|members| (Just(members.clone()), prop::sample::select(members)))
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Add(u16, u16),
    Remove(u16),
    Reweight(u16, u16, u32),
}

fn event() -> impl Strategy<Value = Event> {
    let weight = || prop_oneof![Just(0), Just(1), 0..=256u16];
    prop_oneof![
        3 => (0..12u16, weight()).prop_map(|(id, weight)| Event::Add(id, weight)),
        1 => (0..12u16).prop_map(Event::Remove),
        3 => (0..12u16, weight(), part()).prop_map(|(id, weight, part)| Event::Reweight(id, weight, part)),
    ]
}

/// A ring built as its definition reads: everybody ranked in every slot.
fn by_definition(slots: u32, members: &[Member]) -> Vec<Slot> {
    let rank = |slot: u32| {
        let mut ranked: Vec<_> = members
            .iter()
            .filter(|member| member.weight > 0)
            .filter_map(|member| {
                let hash = mix(mix(member.identity).wrapping_add((slot as u64).wrapping_mul(STEP)));
                let takes = member.part == WHOLE || ((mix(hash ^ STEP) >> 48) as u32) < member.part;
                takes.then_some((score(hash, inverse(member.weight)), member.identity, member.id))
            })
            .collect();
        ranked.sort();
        let id = |place: usize| ranked.get(place).map_or(NO_BACKEND, |ranked| ranked.2);
        Slot { first: id(0), second: id(1) }
    };
    (0..slots).map(rank).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_ring_is_what_its_definition_says(members in members(12), slots in 0..3000u32) {
        let ring = Ring::build(slots, &members);
        prop_assert_eq!(ring.slots(), by_definition(slots, &members));
    }

    #[test]
    fn the_order_of_members_changes_nothing(
        (members, shuffled) in members(24).prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle()))
    ) {
        prop_assert!(Ring::build(1024, &members) == Ring::build(1024, &shuffled));
    }

    #[test]
    fn ids_have_no_say(members in members(24), offset in 1..1000u16) {
        let renumbered: Vec<_> = members.iter().map(|member| Member { id: 5000 - offset - member.id, ..*member }).collect();
        let renumber = |id| if id == NO_BACKEND { id } else { 5000 - offset - id };
        let there = |slot: &Slot| Slot { first: renumber(slot.first), second: renumber(slot.second) };
        let expected: Vec<_> = Ring::build(1024, &members).slots().iter().map(there).collect();
        let ring = Ring::build(1024, &renumbered);
        prop_assert_eq!(ring.slots(), expected);
    }

    #[test]
    fn events_lead_where_a_full_build_does(events in prop::collection::vec(event(), 1..40)) {
        let mut ring = Ring::build(512, &[]);
        let mut model = BTreeMap::new();
        for event in events {
            match event {
                Event::Add(id, weight) => {
                    ring.add(backend(id, weight));
                    model.insert(id, (weight, WHOLE));
                }
                Event::Remove(id) => prop_assert_eq!(ring.remove(id), model.remove(&id).is_some()),
                Event::Reweight(id, weight, part) => {
                    let known = model.get_mut(&id).map(|old| *old = (weight, part)).is_some();
                    prop_assert_eq!(ring.reweight(id, weight, part), known);
                }
            }
            let members: Vec<_> = model.iter().map(|(&id, &(weight, part))| Member { part, ..backend(id, weight) }).collect();
            prop_assert!(ring == Ring::build(512, &members), "after {:?}", event);
        }
    }

    #[test]
    fn becoming_leads_where_a_full_build_does(old in members(16), new in members(16), offset in 0..3u16) {
        // With an offset, an id stands for another backend.
        let new: Vec<_> = new.into_iter().map(|member| Member { id: member.id + offset, ..member }).collect();
        let mut ring = Ring::build(512, &old);
        ring.become_of(&new);
        prop_assert!(ring == Ring::build(512, &new));
        let shares: Vec<_> = new.iter().map(|member| (member.id, ring.owned(member.id) as u32)).collect();
        prop_assert_eq!(ring.shares(), shares);
    }

    #[test]
    fn removal_moves_its_own_slots_to_their_seconds((members, gone) in members_and_one(24)) {
        let before = Ring::build(2048, &members);
        let mut after = before.clone();
        prop_assert!(after.remove(gone.id));
        for (old, new) in zip(before.slots(), after.slots()) {
            prop_assert_eq!(new.first, if old.first == gone.id { old.second } else { old.first });
            prop_assert_ne!(new.second, gone.id);
            if old.first != gone.id && old.second != gone.id {
                prop_assert_eq!(new, old);
            }
        }
    }

    #[test]
    fn a_newcomer_takes_slots_and_moves_no_other((members, new) in members_and_one(24)) {
        let others: Vec<_> = members.iter().copied().filter(|member| member.id != new.id).collect();
        let before = Ring::build(2048, &others);
        let mut after = before.clone();
        after.add(new);
        for (old, slot) in zip(before.slots(), after.slots()) {
            if slot.first == new.id {
                // Who had it stands behind: known without history.
                prop_assert_eq!(slot.second, old.first);
            } else {
                prop_assert_eq!(slot.first, old.first);
                prop_assert!(slot.second == old.second || slot.second == new.id);
            }
        }
    }

    #[test]
    fn a_new_weight_moves_slots_one_way((members, one) in members_and_one(24), weight in 0..=256u16) {
        let before = Ring::build(2048, &members);
        let mut after = before.clone();
        prop_assert!(after.reweight(one.id, weight, one.part));
        for (old, new) in zip(before.slots(), after.slots()) {
            if old.first == new.first {
                continue;
            }
            let (taken, left) = (new.first == one.id, old.first == one.id);
            prop_assert!(if weight > one.weight { taken } else { left }, "{:?} to {:?}", old, new);
            prop_assert_eq!(if taken { new.second } else { old.second }, if taken { old.first } else { new.first });
        }
    }

    /// A drain in equal steps: each gives up slots that the backend owned, about as many as the others, to those who
    /// stood behind; nothing else moves; in the end the backend might as well not be there.
    #[test]
    fn a_drain_gives_up_its_own_in_equal_steps((members, one) in members_and_one(8), steps in 1..12u32) {
        let slots = 8192;
        let mut ring = Ring::build(slots, &members);
        ring.reweight(one.id, one.weight, WHOLE);
        let all = ring.owned(one.id) as f64;
        for step in 1..=steps {
            let before = ring.clone();
            prop_assert!(ring.reweight(one.id, one.weight, WHOLE * (steps - step) / steps));
            let mut given = 0;
            for (old, new) in zip(before.slots(), ring.slots()) {
                if old.first != new.first {
                    prop_assert_eq!((old.first, old.second), (one.id, new.first));
                    given += 1;
                }
            }
            // Each of its slots falls into one of the steps: six standard deviations.
            let part = 1.0 / steps as f64;
            let slack = 6.0 * (all * part * (1.0 - part)).sqrt() + 1.0;
            prop_assert!((given as f64 - all * part).abs() <= slack, "step {} of {}: {} of {}", step, steps, given, all);
        }
        let others: Vec<_> = members.iter().copied().filter(|member| member.id != one.id).collect();
        let without = Ring::build(slots, &others);
        prop_assert_eq!(ring.slots(), without.slots());
        // And back: it takes its own again.
        prop_assert!(ring.reweight(one.id, one.weight, one.part));
        prop_assert!(ring == Ring::build(slots, &members));
    }

    #[test]
    fn shares_follow_weights(members in members(12)) {
        let members: Vec<_> = members.into_iter().map(|member| Member { part: WHOLE, ..member }).collect();
        let slots = 8192;
        let ring = Ring::build(slots, &members);
        let sum: f64 = members.iter().map(|member| member.weight as f64).sum();
        for member in members.iter().filter(|_| sum > 0.0) {
            let share = member.weight as f64 / sum;
            let expected = share * slots as f64;
            // Slots fall independently: six standard deviations.
            let slack = 6.0 * (expected * (1.0 - share)).sqrt() + 1.0;
            let owned = ring.owned(member.id) as f64;
            prop_assert!((owned - expected).abs() <= slack, "{:?}: {} of {}", member, owned, expected);
        }
    }
}

/// The fullest backend over its share, over many rings of equal backends: the median and the worst.
fn fullest(slots: u32, backends: u16, rings: u16) -> (f64, f64) {
    let mut ratios: Vec<_> = (0..rings)
        .map(|n| {
            let members: Vec<_> = (0..backends).map(|id| backend(n * backends + id, 1)).collect();
            let ring = Ring::build(slots, &members);
            let mut owned = vec![0u32; backends as usize];
            ring.slots().iter().for_each(|slot| owned[(slot.first - n * backends) as usize] += 1);
            *owned.iter().max().expect("backends") as f64 * backends as f64 / slots as f64
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    (ratios[ratios.len() / 2], ratios[ratios.len() - 1])
}

#[test]
fn spread_is_as_designed() {
    // Slots a backend; what the fullest has over its share: in the median ring, in the worst.
    for (slots, backends, median, worst) in
        [(65_536, 16, 1.03, 1.06), (16_384, 16, 1.07, 1.12), (16_384, 32, 1.13, 1.17)]
    {
        let found = fullest(slots, backends, 15);
        assert!(found.0 <= median && found.1 <= worst, "{slots} slots, {backends} backends: {found:?}");
    }
}

#[test]
fn without_backends_slots_are_empty() {
    let nobody = Ring::build(256, &[]);
    let drained = Ring::build(256, &[backend(1, 0), backend(2, 0)]);
    assert!(nobody.slots().iter().all(|slot| *slot == EMPTY_SLOT));
    assert_eq!(nobody.slots(), drained.slots());
}

#[test]
fn one_backend_owns_all_with_nobody_behind() {
    let ring = Ring::build(256, &[backend(7, 3), backend(8, 0)]);
    assert!(ring.slots().iter().all(|slot| *slot == Slot { first: 7, second: NO_BACKEND }));
    assert_eq!((ring.owned(7), ring.owned(8)), (256, 0));
}

#[test]
fn a_drained_backend_comes_back_to_its_slots() {
    let full = Ring::build(4096, &equal(8));
    let mut ring = full.clone();
    assert!(ring.reweight(3, 0, WHOLE));
    assert_eq!(ring.owned(3), 0);
    assert!(ring.reweight(3, 1, WHOLE));
    assert!(ring == full);
}

#[test]
fn of_two_members_with_one_id_the_later_counts() {
    let mut ring = Ring::build(1024, &[backend(1, 1), backend(2, 1), backend(1, 5)]);
    assert!(ring == Ring::build(1024, &[backend(2, 1), backend(1, 5)]));
    ring.add(backend(1, 9));
    assert!(ring == Ring::build(1024, &[backend(2, 1), backend(1, 9)]));
}

#[test]
fn ties_go_by_identity_then_id() {
    // One identity twice ties in every slot.
    let twin = |id| Member { id, identity: 5, weight: 1, part: WHOLE };
    let mut ring = Ring::build(256, &[twin(9), twin(4), twin(6)]);
    assert!(ring.slots().iter().all(|slot| *slot == Slot { first: 4, second: 6 }));
    assert!(ring.remove(4));
    assert!(ring.slots().iter().all(|slot| *slot == Slot { first: 6, second: 9 }));
    ring.add(twin(4));
    assert!(ring == Ring::build(256, &[twin(4), twin(6), twin(9)]));

    let racers: Vec<_> = [(1, 30), (2, 20), (3, 20)]
        .map(|(id, identity)| Racer::new(&Member { id, identity, weight: 1, part: WHOLE }))
        .into();
    assert!(wins_tie(&racers[1], 1, &racers) && !wins_tie(&racers[0], 2, &racers));
    assert!(wins_tie(&racers[1], 3, &racers) && !wins_tie(&racers[2], 2, &racers));
    assert!(!wins_tie(&racers[1], NO_BACKEND, &racers));
}

#[test]
fn blocks_join_without_a_seam() {
    let slots = 2 * BLOCK as u32 + 77;
    let members = equal(5);
    assert_eq!(Ring::build(slots, &members).slots(), by_definition(slots, &members));
}

// A change of any value below moves slots when somebody upgrades: siblings on two versions would disagree.

#[test]
fn identities_keep_their_values() {
    let four = identity(&Ipv4Addr::new(10, 0, 0, 11).into());
    let compatible = identity(&Ipv4Addr::new(10, 0, 0, 11).to_ipv6_compatible().into());
    let six = identity(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11).into());
    assert_eq!([four, compatible, six], [0x9044810b9b57905e, 0x2b33a2dfd34937f9, 0x372a7650d5ff2f5d]);
}

#[test]
fn rings_keep_their_values() {
    let ring = Ring::build(65_536, &[backend(0, 1), backend(1, 1), backend(2, 2), backend(3, 3)]);
    let start: Vec<_> = ring.slots()[..8].iter().map(|slot| (slot.first, slot.second)).collect();
    assert_eq!(start, [(0, 2), (2, 3), (3, 2), (1, 3), (0, 3), (3, 2), (3, 2), (3, 2)]);
    let digest = ring.slots().iter().fold(0, |sum, slot| mix(sum ^ slot.first as u64 ^ (slot.second as u64) << 16));
    assert_eq!(digest, 0x8b2c44d79daf9be3);
}
