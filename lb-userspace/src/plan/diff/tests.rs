//! What a plan says of changes.

use proptest::prelude::*;

use super::*;
use crate::{
    config::Config,
    plan::{
        Allocation, NodeAddresses, RingCache, plan, plan_next,
        tests::{config, model, text},
    },
};

const HEAD: &str = "interface = \"eth0\"\nhash_key = \"6f1d0c5be29a4783b1f4d2905e3ac718\"\nslots = 4096\n";
const WEB: &str = "[service.web]\nvip = \"192.0.2.10:80\"\nbackends = [\"10.0.0.11-14\"]\n";

fn tables(config: &Config) -> Tables {
    plan(config, NodeAddresses::default()).expect("tables")
}

fn changes(old: &str, new: &str) -> Changes {
    diff_tables(&tables(&config(old)), &tables(&config(new)))
}

/// The one service that changes.
fn only(new: &str) -> ServiceChange {
    let mut changes = changes(&format!("{HEAD}{WEB}"), new);
    assert_eq!((changes.settings.len(), changes.services.len()), (0, 1), "{changes:?}");
    changes.services.remove(0)
}

#[test]
fn nothing_changes_with_the_order_of_lines() {
    let same =
        format!("{HEAD}[service.web]\nbackends = [\"10.0.0.13-14\", \"10.0.0.11-12\"]\nvip = \"192.0.2.10:80\"\n");
    assert!(changes(&format!("{HEAD}{WEB}"), &same).is_empty());
}

#[test]
fn a_backend_more_takes_its_part() {
    let change = only(&format!("{HEAD}{}", WEB.replace("11-14", "11-15")));
    assert_eq!((change.change, change.backends.len(), change.slots.among_unchanged), (Kind::Changed, 1, 0));
    let new = &change.backends[0];
    let owned = new.to.as_ref().expect("it is there").owned;
    assert_eq!((new.from.as_ref(), new.gives, new.takes, change.slots.moved), (None, 0, owned, owned));
    assert!((700..950).contains(&owned), "{owned}");
    assert_eq!(change.slots.share, f64::from(owned) / 4096.0);
}

#[test]
fn a_new_weight_moves_one_way() {
    let change =
        only(&format!("{HEAD}{}", WEB.replace("\"10.0.0.11-14\"", "\"10.0.0.11\", \"10.0.0.12*2\", \"10.0.0.13-14\"")));
    let backend = &change.backends[0];
    assert_eq!((change.backends.len(), backend.gives, backend.takes), (1, 0, change.slots.moved));
    let (from, to) = (backend.from.as_ref().expect("before"), backend.to.as_ref().expect("after"));
    assert_eq!((from.weight, to.weight, to.owned - from.owned), (1, 2, change.slots.moved));
}

#[test]
fn more_slots_move_what_is_beyond_the_old_ones() {
    let change = only(&format!("{HEAD}{WEB}slots = 8192\n"));
    assert_eq!(change.settings, [SettingChange { key: "slots", from: "4096".into(), to: "8192".into() }]);
    assert_eq!((change.slots.slots, change.slots.moved), (8192, change.slots.among_unchanged));
    // Slots keep their owners as far as the old ring went; of those beyond, a quarter falls to the same of four.
    assert!((0.33..0.42).contains(&change.slots.share), "{:?}", change.slots);
}

#[test]
fn a_new_key_moves_all() {
    let changes = changes(&format!("{HEAD}{WEB}"), &format!("{}{WEB}", HEAD.replace("6f1d", "6f1e")));
    assert_eq!(
        changes.settings,
        [SettingChange { key: "hash_key", from: "a secret one".into(), to: "another secret one".into() }]
    );
    let slots = changes.services[0].slots;
    assert_eq!((slots.rehashed, slots.moved, slots.slots), (true, 4096, 4096));
    // One flow in four meets the same backend by chance.
    assert!((0.74..0.76).contains(&slots.share), "{slots:?}");
}

#[test]
fn a_vip_that_changes_hands_brings_its_connections() {
    let two = "[service.web]\nvip = \"192.0.2.10:80\"\nbackends = \"10.0.0.11-14\"\n";
    let renamed = changes(&format!("{HEAD}{two}"), &format!("{HEAD}{}", two.replace("web", "shop")));
    let [shop, web] = &renamed.services[..] else { panic!("{renamed:?}") };
    assert_eq!((shop.change, web.change, web.slots.moved), (Kind::Added, Kind::Removed, 0));
    let from = shop.vips_added[0].from.as_ref().expect("it was web's");
    assert_eq!((from.service.as_str(), from.slots.moved, from.slots.slots), ("web", 0, 4096));
    let gone = changes(&format!("{HEAD}{two}"), &format!("{HEAD}{}", two.replace("web", "shop").replace(":80", ":81")));
    assert_eq!((gone.services[1].slots.moved, gone.services[1].slots.share), (4096, 1.0));
    assert_eq!(gone.services[0].vips_added[0].from, None);
}

#[test]
fn settings_of_all_are_named() {
    let head = HEAD.replace("eth0", "eth1");
    let new = format!(
        "{head}announce = \"none\"\nmacs = \"00:00:5e:00:01:0a\"\nbad_flags = \"pass\"\ntunnel_source = [\"10.1.0.0/16\", \"2001:db8::/96\"]\narena = 2097152\n{WEB}"
    );
    let changes = changes(&format!("{HEAD}{WEB}"), &new);
    let settings: Vec<_> =
        changes.settings.iter().map(|change| format!("{} {} {}", change.key, change.from, change.to)).collect();
    assert_eq!(
        settings,
        [
            "interface eth0 eth1",
            "announce arp none",
            "macs none 00:00:5e:00:01:0a",
            "bad_flags drop pass",
            "tunnel_source none 10.1.0.0/16, 2001:db8::/96",
            "arena 1048576 2097152"
        ]
    );
    assert!(changes.services.is_empty());
}

/// What decides who is dropped or answered shows, also under an old name.
#[test]
fn what_services_do_about_packets_is_named() {
    let of = |conditions: &str, on_empty: &str| {
        let signature = format!("[[syn.signature]]\nname = \"mine\"\n{conditions}\n");
        format!(
            "{HEAD}{WEB}syn = {{ mode = \"drop\", signatures = [\"mine\"] }}\non_empty = \"{on_empty}\"\n{signature}"
        )
    };
    let old = of("window = \"1-47\"\nttl = 64", "last");
    for (new, expected) in [
        (
            of("window = \"1-65535\"\noptions = [\"none\", \"some\"]", "last"),
            ("syn signatures", "mine (window 1-47, ttl 64)", "mine (window 1-65535, options none or some)"),
        ),
        (of("window = \"1-47\"\nttl = 64", "reset"), ("on_empty", "last", "reset")),
    ] {
        let changes = changes(&old, &new);
        assert_eq!(changes.services.len(), 1, "{changes:?}");
        let SettingChange { key, from, to } = &changes.services[0].settings[0];
        assert_eq!((*key, &from[..], &to[..]), expected);
    }
}

/// What an override would change, and a drain's step after step: only slots that the backend owned.
#[test]
fn overrides_show_and_move_their_own() {
    use crate::overrides::{Overrides, Verb};
    let (config, address) = (config(&format!("{HEAD}{WEB}")), "10.0.0.12".parse().expect("an address"));
    let mut overrides = Overrides::default();
    let drain = Verb::Drain { over: std::time::Duration::from_secs(40), steps: Some(5) };
    overrides.change(&config, "web", address, drain, 0).expect("it is drained");
    let mut before = tables(&config);
    let mut given = Vec::new();
    for step in 0..5 {
        let (effective, _) = overrides.apply(&config, step * 10_000);
        let next = plan_next(&effective, NodeAddresses::default(), Some(&before.allocation), &RingCache::default());
        let next = next.expect("tables");
        let changes = diff_tables(&before, &next);
        let [service] = &changes.services[..] else { panic!("{changes:?}") };
        let [backend] = &service.backends[..] else { panic!("{service:?}") };
        assert_eq!((backend.backend, backend.takes, service.slots.among_unchanged), (address, 0, 0));
        assert_eq!(backend.gives, service.slots.moved);
        let words = ["drain, 80 % left", "drain, 60 % left", "drain, 40 % left", "drain, 20 % left", "drain"];
        assert_eq!(backend.to.as_ref().and_then(|to| to.overridden.as_deref()), Some(words[step as usize]));
        given.push(backend.gives);
        before = next;
    }
    // A fifth each of some thousand slots, give or take.
    assert!(given.iter().all(|slots| (150..260).contains(slots)), "{given:?}");
    assert_eq!(
        Allocation::of(&before.description, before.allocation.arena()).expect("it is whole"),
        before.allocation.settled()
    );
    // Nobody is left: the slots are nobody's.
    for host in 11..15 {
        let address = format!("10.0.0.{host}").parse().expect("an address");
        overrides.change(&config, "web", address, Verb::Remove, 0).expect("it is removed");
    }
    let (effective, _) = overrides.apply(&config, 0);
    let none = plan_next(&effective, NodeAddresses::default(), Some(&before.allocation), &RingCache::default());
    let changes = diff_tables(&before, &none.expect("tables"));
    assert_eq!((changes.services[0].slots.moved, changes.services[0].slots.share), (4096, 1.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever changes among backends: slots move from and to those that change, and no others; and numbers have no say in it.
    #[test]
    fn moves_are_those_of_changed_backends(old in model(), new in model()) {
        let (old, new) = (tables(&config(&text(&old))), config(&text(&new)));
        let alone = tables(&new);
        let next = plan_next(&new, NodeAddresses::default(), Some(&old.allocation), &RingCache::default()).expect("tables");
        let changes = diff_tables(&old, &next);
        prop_assert_eq!(&changes, &diff_tables(&old, &alone));
        prop_assert!(diff_tables(&next, &alone).is_empty());
        let found = Allocation::of(&old.description, old.allocation.arena()).expect("an allocation");
        prop_assert_eq!(found, old.allocation.settled());
        for service in changes.services.iter().filter(|service| service.change == Kind::Changed) {
            let Moves { moved, among_unchanged, slots, .. } = service.slots;
            let resized = service.settings.iter().any(|setting| setting.key == "slots");
            prop_assert!(resized || among_unchanged == 0, "{:?}", service);
            prop_assert!(moved <= slots);
            if !resized {
                for backend in &service.backends {
                    let owned = |state: &Option<BackendState>| state.as_ref().map_or(0, |state| i64::from(state.owned));
                    let gained = i64::from(backend.takes) - i64::from(backend.gives);
                    prop_assert_eq!(owned(&backend.to) - owned(&backend.from), gained, "{:?}", backend);
                }
            }
        }
    }
}
