//! Frames: too short, of other kinds, for others, tagged, padded.

use lb_common::{filter::Syn, verdict::Verdict::*};

use super::{Case, row};
use crate::{
    frames::{
        BROADCAST, L3, L4, OURS, PRIORITY, ROUTER, SERVICE_VLAN, STRANGER, VIRTUAL, VLAN, bare_syn, cut, ethernet,
        poke, tcp, udp,
    },
    setup::{GUARDED, TUNNEL4, TUNNEL6_V6, WEB, WEB_UDP, WEB_UDP_V6, WEB_V6},
};

const BACKEND: &str = "10.0.0.10";

pub fn cases() -> Vec<Case> {
    let too_short = "the kernel's test run takes no frame shorter than an Ethernet header";
    let web = || tcp(WEB).frame();
    let web_v6 = || tcp(WEB_V6).frame();
    let cdp = [&[0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00][..], &[0; 38]].concat();
    let mut cases = vec![
        row("1", "no byte at all", Vec::new()).host_only(too_short).gets(ShortFrame),
        row("1", "ends within the Ethernet header", cut(web(), 13)).host_only(too_short).gets(ShortFrame),
        row("1", "an Ethernet header alone", cut(web(), L3)).gets(ShortFrame),
        row("1", "ends within the IPv4 header", cut(web(), L3 + 19)).gets(ShortFrame),
        row("1", "ends within the IPv6 header", cut(web_v6(), L3 + 39)).gets(ShortFrame),
        row("1", "ends within an ARP packet", cut(ethernet(BROADCAST, ROUTER, &[], 0x0806, &[0; 28]), L3 + 27))
            .gets(ShortFrame),
        row("3", "LLDP", ethernet([0x01, 0x80, 0xc2, 0, 0, 0x0e], ROUTER, &[], 0x88cc, &[2; 46])).gets(NotIp),
        row("3", "802.3, its length where Ethernet II has a kind", ethernet(OURS, ROUTER, &[], 46, &cdp)).gets(NotIp),
        row("3", "MPLS with a VIP's packet inside", under(0x8847, &[0, 0x01, 0x01, 0x40])).gets(NotIp),
        row("3", "PPPoE with a VIP's packet inside", under(0x8864, &[0x11, 0, 0, 1, 0, 42, 0, 0x21])).gets(NotIp),
        row("3", "an unknown kind", poke(web(), 12, &[0x88, 0xb5])).gets(NotIp),
        row("4", "to another MAC", tcp(WEB).to_mac(STRANGER)).gets(NotOurs),
        row("4", "to another MAC, IPv6", tcp(WEB_V6).to_mac(STRANGER)).gets(NotOurs),
        row("4", "to another MAC, tagged", tcp(WEB).to_mac(STRANGER).tags(&[VLAN])).gets(NotOurs),
        row("4", "to the broadcast MAC", tcp(WEB).to_mac(BROADCAST)).gets(NotOurs),
        row("4", "to a multicast MAC", udp(WEB_UDP).to_mac([0x01, 0, 0x5e, 0, 0, 1])).gets(NotOurs),
        row("4", "to a multicast MAC, IPv6", udp(WEB_UDP_V6).to_mac([0x33, 0x33, 0, 0, 0, 1])).gets(NotOurs),
        row("4", "to the MAC of zeros, which stands for none in the tables", tcp(WEB).to_mac([0; 6])).gets(NotOurs),
        row("4", "to a configured MAC", tcp(WEB).to_mac(VIRTUAL)).reaches(BACKEND),
        row("6", "priority tag", tcp(WEB).tags(&[PRIORITY])).reaches(BACKEND),
        row("6", "priority tag, into a tunnel", tcp(TUNNEL4).tags(&[PRIORITY])).reaches_by_tunnel("10.0.0.40"),
        row("7", "three tags", tcp(WEB).tags(&[SERVICE_VLAN, VLAN, VLAN])).gets(NotIp),
        row("7", "three tags, IPv6", tcp(WEB_V6).tags(&[VLAN, VLAN, VLAN])).gets(NotIp),
        row("8", "ends where the tag begins", cut(tcp(WEB).tags(&[VLAN]).frame(), 14)).gets(ShortFrame),
        row("8", "ends within the tag", cut(tcp(WEB).tags(&[VLAN]).frame(), 17)).gets(ShortFrame),
        row("8", "ends within the second tag", cut(tcp(WEB).tags(&[VLAN, VLAN]).frame(), 20)).gets(ShortFrame),
        row("8", "ends behind the tag", cut(tcp(WEB).tags(&[VLAN]).frame(), 18)).gets(ShortFrame),
        row("10", "padding, forwarded with it", tcp(WEB).padded(60)).reaches(BACKEND),
        row("10", "padding, IPv6", tcp(WEB_V6).padded(100)).reaches(BACKEND),
        row("10", "padding, into a tunnel: the outer length leaves it out", tcp(TUNNEL4).padded(60))
            .reaches_by_tunnel("10.0.0.40"),
        row("10", "padding, IPv6 into a tunnel", tcp(TUNNEL6_V6).padded(100)).reaches_by_tunnel("2001:db8:1::60"),
        row(
            "10 46",
            "the flood's signature in a padded frame",
            bare_syn(GUARDED).tcp(|tcp| tcp.window_size = 0).padded(60),
        )
        .gets_from_service(SynFlood)
        .syn(Syn::ZeroBare),
        row("10 45", "TCP options that would lie in the padding", tcp(WEB).padded(60).poked(L4 + 12, &[0x60]))
            .gets_from_service(Malformed),
        row("10 58", "UDP length that would count the padding", udp(WEB_UDP).padded(60).poked(L4 + 4, &[0, 26]))
            .gets_from_service(Malformed),
        row("10 16", "a header that would lie in the padding", tcp(WEB).padded(60).poked(L3 + 2, &[0, 39]))
            .gets(Malformed),
    ];
    for (rows, tags, name) in [
        ("5", &[VLAN][..], "a tag"),
        ("5 7", &[SERVICE_VLAN, VLAN], "two tags"),
        ("7", &[VLAN, VLAN], "two tags of one kind"),
    ] {
        for vip in [WEB, WEB_V6] {
            cases.push(row(rows, format!("{name}, {vip}"), tcp(vip).tags(tags)).reaches(BACKEND));
        }
        for vip in [WEB_UDP, WEB_UDP_V6] {
            cases.push(row(rows, format!("{name}, {vip}"), udp(vip).tags(tags)).reaches(BACKEND));
        }
    }
    cases
}

/// A VIP's packet under another header.
fn under(ethertype: u16, header: &[u8]) -> Vec<u8> {
    ethernet(OURS, ROUTER, &[], ethertype, &[header, &tcp(WEB).frame()[L3..]].concat())
}
