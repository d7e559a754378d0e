//! What a valid file means, and that only its meaning counts.

use super::*;

const EXAMPLE: &str = include_str!("../../../../examples/weir.toml");

/// Two services as most people have them.
const TWO_SERVICES: &str = r#"
interface = "eth0"

[service.web]
vip      = ["192.0.2.10:80", "192.0.2.10:443"]        # tcp unless /udp
backends = ["10.0.0.11", "10.0.0.12", "10.0.0.13*2"]  # *N is a weight, *0 is drained

[service.dns]
vip      = ["192.0.2.53:53/udp", "192.0.2.53:53/tcp", "[2001:db8::53]:53/udp"]
backends = ["10.0.0.21-24"]
forward  = "ipip"                                     # default "l2"; the outer family is the backend's
"#;

#[test]
fn defaults_fill_a_short_file() {
    let config = valid(TWO_SERVICES);
    assert_eq!(config.interfaces, ["eth0"]);
    assert_eq!(config.hash_key, HashKey { bytes: HashKey::PUBLIC, public_default: true });
    assert_eq!((config.announce, config.bad_flags), (Announce::Arp, BadFlags::Drop));
    assert_eq!(config.icmp_rate, 1000);
    assert_eq!((config.macs.len(), config.tunnel_source), (0, TunnelSource::default()));
    assert_eq!(config.services.keys().collect::<Vec<_>>(), ["dns", "web"]);

    let web = &config.services["web"];
    assert_eq!(web.name, "web");
    assert_eq!((web.forward, web.hash, web.syn, web.slots), (Forward::L2, Hash::Flow, Syn::Auto, 65_536));
    assert_eq!(web.mss, None);
    assert_eq!(web.vips.iter().map(Vip::to_string).collect::<Vec<_>>(), ["192.0.2.10:80", "192.0.2.10:443"]);
    assert_eq!(web.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [1, 1, 2]);

    let dns = &config.services["dns"];
    let vips: Vec<String> = dns.vips.iter().map(Vip::to_string).collect();
    assert_eq!(vips, ["192.0.2.53:53", "192.0.2.53:53/udp", "[2001:db8::53]:53/udp"]);
    assert_eq!((dns.forward, dns.backends.len()), (Forward::Ipip, 4));
}

#[test]
fn every_key_is_taken() {
    let config = valid(
        r#"
interface = ["eth1", "eth0"]
slots = 1024
hash_key = "000102030405060708090a0b0c0d0e0F"
announce = "manual"
macs = ["00:00:5e:00:01:0b", "00:00:5e:00:01:0A"]
bad_flags = "pass"
icmp_rate = 4_294_967_295
tunnel_source = ["2001:db8:ffff::/96", "10.255.0.0/16"]

[service.ftp]
vip = "192.0.2.21:*"
backends = "2001:db8::1"
forward = "ipip"
hash = "source"
syn = "drop"
slots = 512
mss = 536

[service."a.b_c-D"]
vip = ["192.0.2.21:80", "192.0.2.21:*/udp"]
backends = "10.0.0.11"
syn = "off"
mss = 9000
"#,
    );
    assert_eq!(config.interfaces, ["eth0", "eth1"]);
    let bytes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    assert_eq!(config.hash_key, HashKey { bytes, public_default: false });
    assert_eq!((config.announce, config.bad_flags), (Announce::Manual, BadFlags::Pass));
    assert_eq!(config.macs, [[0, 0, 0x5e, 0, 1, 0xa], [0, 0, 0x5e, 0, 1, 0xb]]);
    assert_eq!(config.tunnel_source.v4.map(|prefix| prefix.to_string()).as_deref(), Some("10.255.0.0/16"));
    assert_eq!(config.tunnel_source.v6.map(|prefix| prefix.to_string()).as_deref(), Some("2001:db8:ffff::/96"));
    assert_eq!(config.icmp_rate, u32::MAX);
    let ftp = &config.services["ftp"];
    assert_eq!((ftp.forward, ftp.hash, ftp.syn, ftp.slots), (Forward::Ipip, Hash::Source, Syn::Drop, 512));
    let other = &config.services["a.b_c-D"];
    assert_eq!((other.forward, other.hash, other.syn, other.slots), (Forward::L2, Hash::Flow, Syn::Off, 1024));
    assert_eq!((ftp.mss, other.mss), (Some(536), Some(9000)));
    assert_eq!(config.warnings.len(), 0);
}

#[test]
fn the_example_is_valid() {
    let config = valid(EXAMPLE);
    assert_eq!(config.warnings.len(), 0, "{:?}", config.warnings.iter().map(Diagnostic::one_line).collect::<Vec<_>>());
    assert_eq!(config.services.keys().collect::<Vec<_>>(), ["dns", "ftp", "web"]);
}

/// Each line that is commented out there is a key with a value, and the whole is still valid with all of them.
#[test]
fn the_example_is_valid_with_its_comments_taken_out() {
    let is_key = |line: &str| raw::TOP_KEYS.iter().any(|(key, _)| line.starts_with(&format!("# {key} = ")));
    let lines = EXAMPLE.lines().map(|line| if is_key(line) { &line[2..] } else { line });
    let config = valid(&lines.collect::<Vec<_>>().join("\n"));
    assert_eq!(
        (config.macs.len(), config.tunnel_source.v4.is_some(), config.tunnel_source.v6.is_some()),
        (1, true, true)
    );
    assert_eq!(EXAMPLE.lines().filter(|line| is_key(line)).count(), 8);
}

/// The tables of keys, from which errors quote, are the keys that serde takes.
#[test]
fn tables_of_keys_are_complete() {
    let listed = |error: toml::de::Error| -> Vec<String> {
        // unknown field `x`, expected one of `a`, `b`
        error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect()
    };
    let root = toml::from_str::<raw::Root>("x = 1").err().expect("x is unknown");
    assert_eq!(listed(root), raw::TOP_KEYS.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    let notify = toml::from_str::<raw::Notify>("x = 1").err().expect("x is unknown");
    assert_eq!(listed(notify), raw::NOTIFY_KEYS.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    let syn = toml::from_str::<raw::Syn>("x = 1").err().expect("x is unknown");
    assert_eq!(listed(syn), raw::SYN_KEYS.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    let signature = toml::from_str::<raw::Signature>("x = 1").err().expect("x is unknown");
    assert_eq!(listed(signature), raw::SIGNATURE_KEYS.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    let service = toml::from_str::<raw::Service>("x = 1").err().expect("x is unknown");
    assert_eq!(listed(service), raw::SERVICE_KEYS.iter().map(|(key, _)| *key).collect::<Vec<_>>());
}

#[test]
fn the_order_of_lines_means_nothing() {
    let same = r#"
[service.dns]
forward  = "ipip"
backends = ["10.0.0.24", "10.0.0.21-22", "10.0.0.23*1"]
vip      = ["[2001:0db8::0053]:53/udp", "192.0.2.53:53", "192.0.2.53:53/udp"]
syn      = "auto"
[service.web]
slots    = 0x1_0000
backends = ["10.0.0.13*2", "10.0.0.11-12"]
vip      = ["192.0.2.10:443/tcp", "192.0.2.10:80"]
"#;
    let (one, other) = (valid(TWO_SERVICES), valid(&format!("announce = \"arp\"\ninterface = [\"eth0\"]\n{same}")));
    assert_eq!(one.services, other.services);
    assert!(one == other);
    assert_eq!(one.fingerprint(), other.fingerprint());
}

/// Another value here means that all siblings disagree after an upgrade.
#[test]
fn the_fingerprint_is_stable() {
    assert_eq!(format!("{:016x}", valid(TWO_SERVICES).fingerprint()), "7da28d7da3cadf62");
}

#[test]
fn every_change_of_meaning_shows() {
    let base = format!("interface = \"eth0\"\n{SERVICE}");
    let files = [
        base.clone(),
        base.replace("eth0", "eth1"),
        format!("{KEY}{base}"),
        format!("announce = \"none\"\n{base}"),
        format!("macs = \"02:00:00:00:00:01\"\n{base}"),
        format!("bad_flags = \"pass\"\n{base}"),
        format!("tunnel_source = \"10.1.0.0/16\"\n{base}"),
        format!("tunnel_source = \"2001:db8::/96\"\n{base}"),
        format!("slots = 1024\n{base}"),
        format!("arena = 1048576\n{base}"),
        base.replace("web", "shop"),
        base.replace(":80", ":81"),
        base.replace(":80", ":80/udp"),
        base.replace(":80", ":*"),
        base.replace("10.0.0.11", "10.0.0.12"),
        base.replace("10.0.0.11", "10.0.0.11*2"),
        format!("{base}forward = \"ipip\""),
        format!("{base}hash = \"source\""),
        format!("{base}syn = \"drop\""),
        format!("{base}mss = 1360"),
        format!("icmp_rate = 0\n{base}"),
        format!("{base}{}", SERVICE.replace("web", "shop").replace(":80", ":81")),
    ];
    for (index, one) in files.iter().enumerate() {
        for other in &files[..index] {
            let (one, other) = (valid(one), valid(other));
            assert!(one != other && one.fingerprint() != other.fingerprint(), "{one:?}\n{other:?}");
        }
    }
}

#[test]
fn one_vip_may_stand_beside_all_ports() {
    let config = valid(&format!(
        "interface = \"eth0\"\n{SERVICE}[service.rest]\nvip = \"192.0.2.10:*\"\nbackends = \"10.0.0.12\"\n"
    ));
    assert_eq!(config.services.len(), 2);
}

#[test]
fn keys_are_not_printed() {
    let config = valid(&format!("interface = \"eth0\"\n{KEY}{SERVICE}"));
    assert_eq!(format!("{:?}", config.hash_key), "HashKey(secret)");
}
