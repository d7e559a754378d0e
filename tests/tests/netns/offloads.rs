//! What hardware does to frames, as the kernel tells it. No device here merges packets and no VLAN interface can be made,
//! so that refusals are tested where they are decided.

use lb_userspace::offloads::{self, Offloads};

use crate::net::*;

#[test]
fn offloads_are_read_from_the_kernel() {
    let net = Net::new("offloads", 0);
    let host = &net.balancer;
    let set =
        |interface: &str, what: &str, state: &str| host.output("ethtool", &["-K", interface, what, state]).unwrap();
    let read = |interface: &str| host.within(|| offloads::read(lb_userspace::links::find(interface)?.index)).unwrap();
    for (tags, service_tags) in [(true, true), (false, true), (false, false), (true, false)] {
        let word = |on| if on { "on" } else { "off" };
        set("eth0", "rxvlan", word(tags));
        set("eth0", "rx-vlan-stag-hw-parse", word(service_tags));
        let expected = Offloads { strips_tags: tags, strips_service_tags: service_tags, ..Offloads::default() };
        assert_eq!(read("eth0"), expected);
    }
    // Wanted is not active: what lies below cannot, for which ethtool fails.
    host.ip("link add above link eth0 type macvlan").unwrap();
    host.command("ethtool").args(["-K", "above", "lro", "on"]).output().unwrap();
    assert!(host.output("ethtool", &["-k", "above"]).unwrap().contains("large-receive-offload: off [requested on]"));
    assert!(!read("above").lro);

    let gone = host.within(|| offloads::read(4_711)).unwrap_err();
    assert!(format!("{gone:#}").starts_with("the kernel does not tell offloads: No such device"), "{gone:#}");
}

#[test]
fn status_shows_offloads_and_warns_of_none_that_do_no_harm() {
    let services = "[service.web]\nvip = \"10.1.0.100:80\"\nbackends = \"10.1.0.11\"";
    let net = Net::forwarding("shown", 1, &config(services));
    let status = net.json(&["status"]);
    let offloads = &status["interfaces"][0]["offloads"];
    assert_eq!((&offloads["lro"], &offloads["strips_tags"]), (&false.into(), &true.into()), "{status}");
    assert_eq!(status["warnings"], serde_json::json!([]), "{status}");
}
