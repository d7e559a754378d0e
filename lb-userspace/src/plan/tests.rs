//! Tables, one generation after the other.

use proptest::prelude::*;

use super::*;
use crate::config::MIN_ARENA;

/// Services that a case has: VIPs by number, backends by number with weights, tunnels or not.
pub(super) type Model = BTreeMap<u8, (BTreeSet<u8>, BTreeMap<u8, u16>, bool, bool)>;

pub(super) fn model() -> impl Strategy<Value = Model> {
    let vips = prop::collection::btree_set(0..4u8, 1..3);
    let backends = prop::collection::btree_map(0..8u8, prop_oneof![3 => Just(1), 1 => 0..=3u16], 1..6);
    prop::collection::btree_map(0..5u8, (vips, backends, any::<bool>(), any::<bool>()), 1..5)
}

pub(super) fn text(model: &Model) -> String {
    use std::fmt::Write;
    let mut text = "interface = \"eth0\"\nslots = 256\ntunnel_source = \"10.255.0.0/16\"\n".to_owned();
    for (service, (vips, backends, tunnel, large)) in model {
        let vips: Vec<_> = vips.iter().map(|vip| format!("\"192.0.2.{service}:{}\"", 80 + vip)).collect();
        let backends: Vec<_> = backends.iter().map(|(host, weight)| format!("\"10.0.0.{host}*{weight}\"")).collect();
        let (vips, backends) = (vips.join(", "), backends.join(", "));
        let _ = writeln!(text, "[service.s{service}]\nvip = [{vips}]\nbackends = [{backends}]");
        let _ = writeln!(text, "forward = \"{}\"", if *tunnel { "ipip" } else { "l2" });
        let _ = writeln!(text, "slots = {}", if *large { 512 } else { 256 });
    }
    text
}

pub(super) fn config(text: &str) -> Config {
    config::parse("weir.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

/// Who owns each slot of each service and who stands behind, by address.
type Owners = BTreeMap<String, Vec<(Option<IpAddr>, Option<IpAddr>)>>;

fn owners(tables: &Tables) -> Owners {
    let addresses: BTreeMap<u16, IpAddr> =
        tables.backends.iter().map(|backend| (backend.id, backend.address)).collect();
    let of = |service: &DescribedService| {
        let ring = tables.rings.iter().find(|ring| ring.start == service.ring).expect("the ring is there");
        let by_address = |slot: &Slot| (addresses.get(&slot.first).copied(), addresses.get(&slot.second).copied());
        (service.name.clone(), ring.slots().iter().map(by_address).collect())
    };
    tables.description.services.iter().map(of).collect()
}

/// What every generation of tables holds to.
fn check(tables: &Tables) {
    let allocation = &tables.allocation;
    for (used, retired) in allocation.ids() {
        assert_eq!(used.iter().collect::<BTreeSet<_>>().len(), used.len(), "{used:?}");
        assert!(used.iter().all(|id| !retired.contains(id)), "{used:?} {retired:?}");
    }
    let (used, retired) = allocation.pieces();
    let mut pieces: Vec<_> = used.iter().chain(retired).copied().collect();
    pieces.sort();
    let end = pieces.iter().fold(0, |end, (start, slots)| {
        assert!(*start >= end && start % 2 == 0, "{pieces:?}");
        start + slots
    });
    assert!(end <= allocation.arena());
    for service in &tables.description.services {
        let owned: u32 = service.backends.iter().map(|backend| backend.owned).sum();
        let live = service.backends.iter().any(|backend| backend.weight > 0);
        assert_eq!(owned, if live { service.slots } else { 0 });
    }
    for entry in tables.services.iter().map(|service| service.entry).filter(|entry| entry.flags & Service::ALL_TCP == 0)
    {
        assert!(entry.matches.0 >> 24 & 0xf == Match::ADDRESS || used.iter().any(|(start, _)| *start == entry.ring));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_lives_on_keeps_its_number(models in prop::collection::vec((model(), any::<bool>()), 2..6)) {
        let mut cache = RingCache::default();
        let mut before: Option<Tables> = None;
        for (model, settle) in models {
            let config = config(&text(&model));
            let previous = before.as_ref().map(|tables| {
                if settle { tables.allocation.settled() } else { tables.allocation.clone() }
            });
            let tables = plan_next(&config, NodeAddresses::default(), previous.as_ref(), &cache).expect("tables");
            check(&tables);
            // History has no say in where packets go.
            let alone = plan(&config, NodeAddresses::default()).expect("tables");
            prop_assert_eq!(owners(&tables), owners(&alone));
            prop_assert_eq!(&tables.description.tables, &alone.description.tables);
            // What the tables say of themselves is what they use.
            let read: Description = serde_json::from_slice(&serde_json::to_vec(&tables.description).expect("JSON")).expect("JSON");
            prop_assert_eq!(&read, &tables.description);
            let found = Allocation::of(&read, tables.allocation.arena()).expect("an allocation");
            prop_assert_eq!(&found, &tables.allocation.settled());
            if let (Some(before), Some(previous)) = (&before, &previous) {
                for ((now, _), (was, retired)) in tables.allocation.ids().into_iter().zip(previous.ids()) {
                    prop_assert!(now.iter().all(|id| was.contains(id) || !retired.contains(id)));
                }
                for backend in &tables.backends {
                    let old = before.backends.iter().find(|old| old.address == backend.address && old.entry == backend.entry);
                    prop_assert_eq!(backend.fresh, old.is_none());
                    prop_assert!(old.is_none_or(|old| old.id == backend.id));
                    prop_assert!(!backend.fresh || before.backends.iter().all(|old| old.id != backend.id));
                }
                for ring in &tables.rings {
                    let old = before.rings.iter().find(|old| old.key == ring.key);
                    prop_assert_eq!(ring.fresh, old.is_none());
                    prop_assert!(old.is_none_or(|old| old.start == ring.start && Arc::ptr_eq(&old.ring, &ring.ring)));
                    if ring.fresh {
                        let end = ring.start + ring.key.slots;
                        let meets = |old: &PlacedRing| ring.start < old.start + old.key.slots && old.start < end;
                        prop_assert!(!before.rings.iter().any(meets));
                    }
                }
                let states = |tables: &Tables| -> BTreeMap<u16, (String, Vec<String>, Vec<String>)> {
                    let of = |DescribedService { name, syn_filter, .. }: DescribedService| {
                        (syn_filter.state, (name, syn_filter.signatures, syn_filter.conditions))
                    };
                    tables.description.services.clone().into_iter().map(of).collect()
                };
                let (was, now) = (states(before), states(&tables));
                prop_assert_eq!(now.len(), tables.description.services.len());
                for (state, of) in &now {
                    prop_assert!(was.get(state).is_none_or(|old| old == of));
                }
                let vips = |tables: &Tables| -> BTreeMap<String, u16> {
                    tables.description.services.iter().flat_map(|s| s.vips.clone()).map(|vip| (vip.vip, vip.id)).collect()
                };
                let (was, now) = (vips(before), vips(&tables));
                for (vip, id) in &now {
                    prop_assert_eq!(!was.contains_key(vip), tables.fresh_vips.contains(id));
                    prop_assert!(was.get(vip).is_none_or(|old| old == id));
                }
            }
            cache.keep(tables.kept_rings());
            before = Some(tables);
        }
    }
}

/// Services over distinct sets of backends, one of which has a backend with another weight.
pub(super) fn large(services: u32, sets: u32, backends: u32, heavier: Option<u32>) -> String {
    use std::fmt::Write;
    let mut text = "interface = \"eth0\"\nslots = 4096\n".to_owned();
    for service in 0..services {
        let set = service % sets;
        let backend = |host| {
            let weight = if host == 0 && heavier == Some(set) { 2 } else { 1 };
            format!("\"10.{set}.{}.{}*{weight}\"", host >> 8, host & 255)
        };
        let list = (0..backends).map(backend).collect::<Vec<_>>().join(", ");
        let (high, low) = (service >> 8, service & 255);
        let _ = writeln!(text, "[service.s{service}]\nvip = \"172.16.{high}.{low}:80\"\nbackends = [{list}]");
    }
    text
}

#[test]
fn services_with_equal_backends_share_a_ring_and_a_description() {
    let tables = plan(&config(&large(60, 5, 20, None)), NodeAddresses::default()).expect("tables");
    assert_eq!((tables.rings.len(), tables.backends.len(), tables.description.services.len()), (5, 100, 60));
    let text = serde_json::to_string(&tables.description).expect("JSON");
    assert_eq!(text.matches("\"10.3.0.7\"").count(), 1);
    let ids: Vec<_> = tables.backends.iter().map(|backend| backend.id).collect();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
}

#[test]
fn one_change_touches_one_ring() {
    let none = NodeAddresses::default();
    let before = plan(&config(&large(60, 5, 20, None)), none).expect("tables");
    let mut cache = RingCache::default();
    cache.keep(before.kept_rings());
    let wanted = config(&large(60, 5, 20, Some(3)));
    let after = plan_next(&wanted, none, Some(&before.allocation), &cache).expect("tables");
    let fresh: Vec<_> = after.rings.iter().filter(|ring| ring.fresh).collect();
    assert_eq!(fresh.len(), 1);
    // Made from the kept one, it is what it would be if built.
    let built = plan(&wanted, none).expect("tables");
    let twin = built.rings.iter().find(|ring| ring.key == fresh[0].key).expect("the same ring");
    assert_eq!(fresh[0].slots(), twin.slots());
    for (old, new) in before.rings.iter().zip(&after.rings).filter(|(_, new)| !new.fresh) {
        assert!(Arc::ptr_eq(&old.ring, &new.ring) && old.start == new.start);
    }
    assert!(after.backends.iter().all(|backend| !backend.fresh) && after.fresh_vips.is_empty());
}

#[test]
fn the_cache_keeps_what_it_may() {
    let none = NodeAddresses::default();
    // 4,096 slots and their scores are 80 KiB.
    let mut cache = RingCache::new(200 << 10);
    let config_of = |heavier| config(&large(10, 5, 8, heavier));
    let before = plan_next(&config_of(None), none, None, &cache).expect("tables");
    cache.keep(before.kept_rings());
    assert_eq!(cache.len(), 2);
    let after = plan_next(&config_of(Some(4)), none, Some(&before.allocation), &cache).expect("tables");
    assert_eq!(owners(&after), owners(&plan(&config_of(Some(4)), none).expect("tables")));
    cache.keep([].into_iter());
    assert!(cache.is_empty());
}

fn refusal(text: &str, previous: &Allocation) -> String {
    let tables = plan_next(&config(text), NodeAddresses::default(), Some(previous), &RingCache::default());
    tables.err().expect("there is no room").to_string()
}

#[test]
fn what_is_full_is_named_with_the_way_out() {
    let two = &large(2, 2, 3, None);
    assert_eq!(
        refusal(two, &Allocation::with_room(1, 100, MIN_ARENA)),
        "VIP entries: 2 are asked for, at most 1 are possible: spread the services over several instances (--pins)"
    );
    assert_eq!(
        refusal(two, &Allocation::with_room(100, 5, MIN_ARENA)),
        "backends: 6 are asked for, at most 5 are possible: spread the services over several instances (--pins)"
    );
    assert_eq!(
        refusal(two, &Allocation::with_room(100, 100, 6_000)),
        "rings: 8192 slots are asked for beside 0 in use, the arena has 6000 (a ring needs its slots in one piece): set \
         arena = 16384 in the configuration, and start `weir run` anew: it makes a new arena"
    );
}

#[test]
fn ids_that_packets_may_meet_are_not_given_away() {
    let (none, cache) = (NodeAddresses::default(), RingCache::default());
    let backends = |third: u8| {
        format!(
            "interface = \"eth0\"\nslots = 256\n[service.web]\nvip = \"192.0.2.1:80\"\nbackends = \"10.0.{third}.1-2\"\n"
        )
    };
    let start = Allocation::with_room(1, 2, 1024);
    let next = |text: &str, previous: &Allocation| plan_next(&config(text), none, Some(previous), &cache);
    let one = next(&backends(1), &start).expect("tables").allocation;
    let two = next(&backends(2), &one).expect("tables").allocation;
    assert_eq!(two.ids()[1], (vec![2, 3], &[0, 1].into()));
    assert_eq!(
        refusal(&backends(3), &two),
        "backends: 2 are asked for beside 4 that packets may still meet, room is for 4: change less at once, or try again \
         in a moment"
    );
    let three = next(&backends(3), &two.settled()).expect("tables").allocation;
    assert_eq!(three.ids()[1].0, [0, 1]);
    // And the first piece of the arena is taken again.
    assert_eq!(three.pieces().0, [(0, 256)]);
}

#[test]
fn the_arena_has_room_for_a_change_of_everything() {
    let arena = |head: &str| {
        let text = format!("{head}{}", large(3, 3, 2, None));
        plan(&config(&text), NodeAddresses::default()).expect("tables").allocation.arena()
    };
    assert_eq!(arena(""), MIN_ARENA);
    assert_eq!(arena("arena = 30000\n"), 30_000);
    let text = large(3, 3, 2, None).replace("slots = 4096", "slots = 1048576");
    assert_eq!(plan(&config(&text), NodeAddresses::default()).expect("tables").allocation.arena(), 6 << 20);
}

const PAIR: &str = "interface = \"eth0\"\nslots = 1024\n[service.web]\nvip = [\"192.0.2.1:80\", \"192.0.2.2:80\"]\n\
backends = [\"10.0.0.1-2\", \"10.0.0.3*2\"]\n[service.dns]\nvip = \"192.0.2.1:53/udp\"\nbackends = \"10.0.0.4-5\"\n";

fn fingerprint_of(config: &Config) -> String {
    let node = NodeAddresses { v4: Some([192, 0, 2, 77].into()), v6: None };
    plan(config, node).expect("tables").description.tables
}

/// Another value here means that all siblings disagree after an upgrade, though they may send packets the same way.
#[test]
fn the_fingerprint_of_tables_is_stable() {
    assert_eq!(fingerprint_of(&config(PAIR)), "130056d0bde96d53");
}

#[test]
fn the_fingerprint_is_of_what_tables_do() {
    // Another name of a service, another interface, another address of the node, a set of backends that the ring forgets.
    let same = [
        PAIR.replace("web", "shop"),
        PAIR.replace("eth0", "eth1"),
        PAIR.replace("slots = 1024", "slots = 1024\narena = 1048576"),
        format!("{PAIR}forward = \"l2\"\n"),
        PAIR.replace("\"10.0.0.1-2\",", "\"10.0.0.1-2\", \"10.0.0.9*0\","),
    ];
    for text in &same {
        assert_eq!(fingerprint_of(&config(text)), fingerprint_of(&config(PAIR)), "{text}");
    }
    let tunnel = |source: [u8; 4]| {
        let config = config(&format!("{PAIR}forward = \"ipip\"\n"));
        plan(&config, NodeAddresses { v4: Some(source.into()), v6: None }).expect("tables").description.tables
    };
    assert_eq!(tunnel([192, 0, 2, 77]), tunnel([192, 0, 2, 78]));

    let mut drained = config(PAIR);
    let web = Arc::make_mut(drained.services.get_mut("web").expect("web"));
    Arc::make_mut(&mut web.backends)[0].part /= 2;
    let others = [
        PAIR.replace("slots = 1024", "slots = 2048"),
        PAIR.replace("slots = 1024", "slots = 1024\nbad_flags = \"pass\""),
        PAIR.replace("slots = 1024", "slots = 1024\nhash_key = \"6f1d0c5be29a4783b1f4d2905e3ac718\""),
        PAIR.replace("slots = 1024", "slots = 1024\nannounce = \"none\""),
        PAIR.replace("10.0.0.3*2", "10.0.0.3*3"),
        PAIR.replace("10.0.0.3*2", "10.0.0.7*2"),
        PAIR.replace("192.0.2.2:80", "192.0.2.2:81"),
        PAIR.replace("192.0.2.2:80", "192.0.2.1:81"),
        format!("{PAIR}forward = \"ipip\"\n"),
        format!("{PAIR}hash = \"source\"\n"),
        format!("{PAIR}syn = \"drop\"\n"),
    ];
    let mut found = BTreeSet::from([fingerprint_of(&config(PAIR)), fingerprint_of(&drained)]);
    found.extend(others.iter().map(|text| fingerprint_of(&config(text))));
    assert_eq!(found.len(), 2 + others.len());
}
