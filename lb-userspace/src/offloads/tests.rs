//! Answers of the kernel, recorded and made, and what is decided by them.

use super::ethtool::*;
use super::*;
use crate::links::Vlan;

const NOTHING: Offloads = Offloads { lro: false, hardware_gro: false, strips_tags: false, strips_service_tags: false };

/// The answer of Linux 6.18 about a virtio interface that has hardware GRO and knows no LRO.
const VIRTIO: &[u8] = include_bytes!("virtio.attributes");

#[test]
fn a_recorded_answer_is_read() {
    assert_eq!(active(VIRTIO), Some(Offloads { hardware_gro: true, ..NOTHING }));
}

#[test]
fn an_answer_that_is_cut_short_is_never_more_than_the_whole_one() {
    for length in 0..VIRTIO.len() {
        let offloads = active(&VIRTIO[..length]);
        assert!(offloads.is_none_or(|offloads| !offloads.lro && !offloads.strips_tags), "{length}: {offloads:?}");
    }
    assert_eq!(active(&[]), None);
}

/// An answer in which these are active; with a mask, others are listed as known and off.
fn answer(names: &[&str], off: &[&str], mask: bool) -> Vec<u8> {
    let bit = |name: &str, set: bool| {
        let name = attribute(BIT_NAME, format!("{name}\0").as_bytes());
        let value = if mask && set { attribute(BIT_VALUE, &[]) } else { Vec::new() };
        attribute(BIT | NESTED, &[name, value].concat())
    };
    let on = names.iter().map(|name| bit(name, true));
    let bits: Vec<u8> = on.chain(off.iter().map(|name| bit(name, false))).flatten().collect();
    let mask = if mask { Vec::new() } else { attribute(BITSET_WITHOUT_MASK, &[]) };
    let set = [mask, attribute(BITSET_BITS | NESTED, &bits)].concat();
    // What hardware could do, and what was asked for, stand beside it.
    let known = attribute(2 | NESTED, &[]);
    [known, attribute(FEATURES_ACTIVE | NESTED, &set)].concat()
}

#[test]
fn every_offload_is_known_by_its_name() {
    for (name, expected) in [
        ("rx-lro", Offloads { lro: true, ..NOTHING }),
        ("rx-gro-hw", Offloads { hardware_gro: true, ..NOTHING }),
        ("rx-vlan-hw-parse", Offloads { strips_tags: true, ..NOTHING }),
        ("rx-vlan-stag-hw-parse", Offloads { strips_service_tags: true, ..NOTHING }),
        ("rx-gro", NOTHING),
        ("rx-lro-of-tomorrow", NOTHING),
    ] {
        assert_eq!(active(&answer(&["highdma", name, "rx-hashing"], &[], false)), Some(expected), "{name}");
        assert_eq!(active(&answer(&[name], &["highdma"], true)), Some(expected), "{name}, with a mask");
        assert_eq!(active(&answer(&["highdma"], &[name], true)), Some(NOTHING), "{name}, off");
    }
}

const LRO: Offloads = Offloads { lro: true, ..NOTHING };
const GRO: Offloads = Offloads { hardware_gro: true, ..NOTHING };
const TAGS: Offloads = Offloads { strips_tags: true, ..NOTHING };
const SERVICE_TAGS: Offloads = Offloads { strips_service_tags: true, ..NOTHING };

#[test]
fn lro_is_refused_unless_forced() {
    assert_eq!(
        check_merging("eth0", LRO, false).unwrap_err().to_string(),
        "interface \"eth0\": LRO is on, merged packets cannot be forwarded: ethtool -K eth0 lro off (--force goes on)"
    );
    assert!(check_merging("eth0", LRO, true).is_ok());
    for fine in [NOTHING, GRO, TAGS] {
        assert!(check_merging("eth0", fine, false).is_ok(), "{fine:?}");
    }
}

fn link(name: &str, index: u32, vlan: Option<(u32, u16)>) -> Link {
    Link {
        name: name.into(),
        index,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1_500,
        up: true,
        carrier: true,
        ethernet: true,
        vlan: vlan.map(|(parent, protocol)| Vlan { parent, id: 7, protocol }),
        xdp: None,
        addresses: Vec::new(),
    }
}

/// eth0 with a VLAN, one in that, and one of a provider; eth1 with one of its own.
fn links() -> Vec<Link> {
    vec![
        link("eth0", 2, None),
        link("eth1", 3, None),
        link("eth0.7.8", 4, Some((5, 0x8100))),
        link("eth0.7", 5, Some((2, 0x8100))),
        link("eth0.s", 6, Some((2, 0x88a8))),
        link("eth1.7", 7, Some((3, 0x8100))),
    ]
}

const BACKEND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 11));

#[test]
fn stripped_tags_are_refused_where_backends_lie_behind_them() {
    let links = links();
    let check = |offloads, interface| check_tags(&links[0], offloads, &links, &[(BACKEND, 2), (BACKEND, interface)]);
    for (offloads, interface, refused) in [
        (TAGS, 5, Some("\"eth0.7\": ethtool -K eth0 rxvlan off")),
        (TAGS, 4, Some("\"eth0.7\": ethtool -K eth0 rxvlan off")),
        (SERVICE_TAGS, 6, Some("\"eth0.s\": ethtool -K eth0 rx-vlan-stag-hw-parse off")),
        // Untagged, on another interface, by the other kind of tag, nowhere.
        (TAGS, 2, None),
        (TAGS, 7, None),
        (TAGS, 6, None),
        (SERVICE_TAGS, 5, None),
        (TAGS, 99, None),
        (NOTHING, 5, None),
    ] {
        let said = check(offloads, interface).err().map(|error| error.to_string());
        let expected = refused.map(|way_out| {
            format!("interface \"eth0\": its hardware strips VLAN tags, but backend 10.0.0.11 is on VLAN interface {way_out}")
        });
        assert_eq!(said, expected, "{offloads:?} by {interface}");
    }
}

#[test]
fn ways_matter_only_where_there_is_a_vlan_that_is_stripped() {
    let links = links();
    assert!(may_strip(&links[0], TAGS, &links) && may_strip(&links[0], SERVICE_TAGS, &links));
    assert!(!may_strip(&links[0], NOTHING, &links) && !may_strip(&links[1], SERVICE_TAGS, &links));
    assert!(!may_strip(&links[0], TAGS, &links[..2]));
}

#[test]
fn status_warns_of_what_hurts_as_it_runs() {
    let links = links();
    let warn = |offloads, mode| warnings(&links[0], offloads, mode, &links, &[(BACKEND, 5)]);
    for mode in [None, Some(Mode::Native), Some(Mode::Generic)] {
        assert!(warn(NOTHING, mode).is_empty());
        let lro = warn(LRO, mode);
        assert!(lro.len() == 1 && lro[0].starts_with("interface eth0: LRO IS ON"), "{lro:?}");
        let tags = warn(TAGS, mode);
        assert!(tags.len() == 1 && tags[0].contains("rxvlan off"), "{tags:?}");
        // A driver that runs programs sees to it by itself.
        let gro = warn(GRO, mode);
        assert_eq!(gro.len(), usize::from(mode == Some(Mode::Generic)), "{gro:?}");
    }
}
