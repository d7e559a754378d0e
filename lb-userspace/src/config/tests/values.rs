//! Every value that a string can hold wrongly: one row each, with the caret as it must stand.

use super::*;

/// In `text` the value stands on the last line; what is drawn is that line, the caret below it, and the way out.
fn check_row(file: &str, key: &str, what: &str, (value, caret, reason, help): &(&str, &str, &str, &str)) {
    let line_number = file.lines().count() + 1;
    let line = format!("{key} = \"{value}\"");
    let indent = " ".repeat(key.len() + " = ".len());
    let column = indent.len() + caret.find('^').expect("a caret") + 1;
    let expected = format!(
        "error: {what} \"{value}\": {reason}\n --> weir.toml:{line_number}:{column}\n  |\n{line_number} | {line}\n  \
         | {indent}{caret}\n  |\n  = help: {help}"
    );
    assert_eq!(rendered(&format!("{file}{line}\n")), expected);
}

const VIP_HELP: &str = "an IPv6 VIP is written like \"[2001:db8::53]:53\"";
const PORT_HELP: &str = "a port is 1 to 65535, or * for all of them";
const UNICAST_HELP: &str = "name a unicast address that other hosts can reach";
const BRACKETS: &str = "an IPv6 address needs brackets before its port";

#[test]
fn vips() {
    let rows = [
        ("", "^^", "not an IP address", "write it like \"192.0.2.10:80\""),
        ("192.0.2.10", " ^^^^^^^^^^", "no port", "write \"192.0.2.10:80\", or \"192.0.2.10:*\" for all ports"),
        ("192.0.2.0/24", " ^^^^^^^^^", "no port", "write \"192.0.2.0:80\", or \"192.0.2.0:*\" for all ports"),
        ("192.0.2.300:80", " ^^^^^^^^^^^", "not an IP address", "write it like \"192.0.2.10:80\""),
        ("192.0.2.010:80", " ^^^^^^^^^^^", "not an IP address", "write it like \"192.0.2.10:80\""),
        ("www.example.net:80", " ^^^^^^^^^^^^^^^", "not an IP address", "names are not looked up: write the address"),
        ("192.0.2.10 :80", " ^^^^^^^^^^^", "not an IP address", "write \"192.0.2.10:80\", without spaces"),
        ("192.0.2.10:80:81", " ^^^^^^^^^^^^^^^^", "not an IP address", "write it like \"192.0.2.10:80\""),
        ("192.0.2.10:", "            ^", "not a port", PORT_HELP),
        ("192.0.2.10:0", "            ^", "not a port", PORT_HELP),
        ("192.0.2.10:65536", "            ^^^^^", "not a port", PORT_HELP),
        ("192.0.2.10:+80", "            ^^^", "not a port", PORT_HELP),
        ("192.0.2.10:http", "            ^^^^", "not a port", PORT_HELP),
        ("192.0.2.10:80,443", "            ^^^^^^", "not a port", PORT_HELP),
        (
            "192.0.2.10:80/sctp",
            "               ^^^^",
            "protocol is neither tcp nor udp",
            "write \"192.0.2.10:80\" for TCP or \"192.0.2.10:80/udp\"",
        ),
        (
            "192.0.2.10:80/UDP",
            "               ^^^",
            "protocol is neither tcp nor udp",
            "write \"192.0.2.10:80\" for TCP or \"192.0.2.10:80/udp\"",
        ),
        ("[2001:db8::53]", " ^^^^^^^^^^^^^^", "not an IPv6 address in brackets and a port", VIP_HELP),
        ("[2001:db8::53:53", " ^^^^^^^^^^^^^^^^", "not an IPv6 address in brackets and a port", VIP_HELP),
        ("[192.0.2.10]:80", " ^^^^^^^^^^^^^^^", "not an IPv6 address in brackets and a port", VIP_HELP),
        ("2001:db8::53", " ^^^^^^^^^^^^", BRACKETS, "write \"[2001:db8::53]:80\""),
        ("2001:db8::53:53", " ^^^^^^^^^^^^^^^", BRACKETS, "write \"[2001:db8::53]:53\""),
        ("2001:db8:0:0:0:0:0:53", " ^^^^^^^^^^^^^^^^^^^^^", BRACKETS, "write \"[2001:db8:0:0:0:0:0:53]:80\""),
        ("2001:db8:0:0:0:0:0:53:53/udp", " ^^^^^^^^^^^^^^^^^^^^^^^^", BRACKETS, "write \"[2001:db8:0:0:0:0:0:53]:53\""),
        ("[fe80::1%eth0]:80", " ^^^^^^^^^^^^^^^^^", "not an IPv6 address in brackets and a port", VIP_HELP),
        ("0.0.0.0:80", " ^^^^^^^", "unspecified address", UNICAST_HELP),
        ("127.0.0.1:80", " ^^^^^^^^^", "loopback address", UNICAST_HELP),
        ("169.254.1.1:80", " ^^^^^^^^^^^", "link-local address", UNICAST_HELP),
        ("224.0.0.18:80", " ^^^^^^^^^^", "multicast address", UNICAST_HELP),
        ("239.255.255.255:80", " ^^^^^^^^^^^^^^^", "multicast address", UNICAST_HELP),
        ("255.255.255.255:80", " ^^^^^^^^^^^^^^^", "broadcast address", UNICAST_HELP),
        ("[::]:80", "  ^^", "unspecified address", UNICAST_HELP),
        ("[::1]:80", "  ^^^", "loopback address", UNICAST_HELP),
        ("[fe80::1]:80", "  ^^^^^^^", "link-local address", UNICAST_HELP),
        ("[febf::1]:80", "  ^^^^^^^", "link-local address", UNICAST_HELP),
        ("[ff02::1]:80", "  ^^^^^^^", "multicast address", UNICAST_HELP),
        ("[::ffff:192.0.2.10]:80", "  ^^^^^^^^^^^^^^^^^", "an IPv4-mapped address", "write \"192.0.2.10\""),
    ];
    let file = "interface = \"eth0\"\n[service.web]\nbackends = \"10.0.0.11\"\n";
    rows.iter().for_each(|row| check_row(file, "vip", "VIP", row));
}

#[test]
fn backends() {
    let weight_help = "a weight is 0 to 256, and 0 drains";
    let range_help = "a range is in the last octet, like \"10.0.0.21-24\"";
    let port_help = "it receives on the port that the client used: write \"10.0.0.11\"";
    let rows = [
        ("", "^^", "not an IP address", "write it like \"10.0.0.11\""),
        ("10.0.0", " ^^^^^^", "not an IP address", "write it like \"10.0.0.11\""),
        ("10.0.0.0/24", " ^^^^^^^^^^^", "not an IP address", "write it like \"10.0.0.11\""),
        ("web-1", " ^^^", "not an IP address", "names are not looked up: write the address"),
        ("10.0.0.13 * 2", "            ^^", "weight is not a number", "write \"10.0.0.13*2\", without spaces"),
        ("10.0.0.13 *2", " ^^^^^^^^^^", "not an IP address", "write \"10.0.0.13*2\", without spaces"),
        ("10.0.0.11:8080", "           ^^^^", "a backend has no port", port_help),
        ("[2001:db8::1]", " ^^^^^^^^^^^^^", "a backend has neither brackets nor a port", "write \"2001:db8::1\""),
        ("[2001:db8::1]:80", " ^^^^^^^^^^^^^^^^", "a backend has neither brackets nor a port", "write \"2001:db8::1\""),
        ("10.0.0.13*", "           ^", "weight is not a number", weight_help),
        ("10.0.0.13*257", "           ^^^", "weight out of range", weight_help),
        ("10.0.0.13*99999999999", "           ^^^^^^^^^^^", "weight out of range", weight_help),
        ("10.0.0.13*-1", "           ^^", "weight out of range", weight_help),
        ("10.0.0.13*1.5", "           ^^^", "weight is not a number", weight_help),
        ("10.0.0.13*two", "           ^^^", "weight is not a number", weight_help),
        ("10.0.0.13*2*3", "           ^^^", "weight is not a number", weight_help),
        ("10.0.0.21-", "           ^", "not the last octet of a range", range_help),
        ("10.0.0.21-256", "           ^^^", "not the last octet of a range", range_help),
        ("10.0.0.21-24-26", "           ^^^^^", "not the last octet of a range", range_help),
        ("10.0.0.21-10.0.0.24", "           ^^^^^^^^^", "not the last octet of a range", "write \"10.0.0.21-24\""),
        ("10.0.0.21-10.0.1.24", "           ^^^^^^^^^", "not the last octet of a range", range_help),
        (
            "10.0.0.24-21*3",
            "           ^^",
            "a range that ends before it starts, 21 before 24",
            "write \"10.0.0.21-24\"",
        ),
        ("2001:db8::1-5", "             ^", "a range of IPv6 addresses", "ranges are for IPv4: name each address"),
        ("0.0.0.0", " ^^^^^^^", "unspecified address", UNICAST_HELP),
        ("127.0.0.1", " ^^^^^^^^^", "loopback address", UNICAST_HELP),
        ("169.254.0.1", " ^^^^^^^^^^^", "link-local address", UNICAST_HELP),
        ("224.0.0.1*2", " ^^^^^^^^^", "multicast address", UNICAST_HELP),
        ("255.255.255.254-255", " ^^^^^^^^^^^^^^^^^^^", "broadcast address", UNICAST_HELP),
        ("::1", " ^^^", "loopback address", UNICAST_HELP),
        ("fe80::1", " ^^^^^^^", "link-local address", UNICAST_HELP),
        ("ff02::1", " ^^^^^^^", "multicast address", UNICAST_HELP),
        ("::ffff:10.0.0.1", " ^^^^^^^^^^^^^^^", "an IPv4-mapped address", "write \"10.0.0.1\""),
    ];
    let file = "interface = \"eth0\"\n[service.web]\nvip = \"192.0.2.10:80\"\n";
    rows.iter().for_each(|row| check_row(file, "backends", "backend", row));
}

#[test]
fn tunnel_sources() {
    let unicast = "name a prefix of unicast addresses";
    let rows = [
        ("10.1.0.0", " ^^^^^^^^", "no prefix length", "for this address alone write \"10.1.0.0/32\""),
        ("2001:db8::", " ^^^^^^^^^^", "no prefix length", "for this address alone write \"2001:db8::/128\""),
        ("10.1.0.0/33", "          ^^", "prefix length out of range", "here it is 0 to 32"),
        ("10.1.0.0/", "          ^", "prefix length out of range", "here it is 0 to 32"),
        ("10.1.0.0/255.255.0.0", "          ^^^^^^^^^^^", "prefix length out of range", "here it is 0 to 32"),
        ("2001:db8::/64", "            ^^", "prefix length out of range", "here it is 96 to 128"),
        ("2001:db8::/129", "            ^^^", "prefix length out of range", "here it is 96 to 128"),
        ("10.1.2.0/16", " ^^^^^^^^", "address has host bits set", "write \"10.1.0.0/16\""),
        ("2001:db8::1/96", " ^^^^^^^^^^^", "address has host bits set", "write \"2001:db8::/96\""),
        ("tunnels/16", " ^^^^^^^", "not an IP address", "names are not looked up: write the address"),
        ("0.0.0.0/0", " ^^^^^^^", "holds unspecified addresses", unicast),
        ("126.0.0.0/7", " ^^^^^^^^^", "holds loopback addresses", unicast),
        ("169.254.7.0/24", " ^^^^^^^^^^^", "holds link-local addresses", unicast),
        ("224.0.0.0/3", " ^^^^^^^^^", "holds multicast addresses", unicast),
        ("255.255.255.254/31", " ^^^^^^^^^^^^^^^", "holds broadcast addresses", unicast),
        ("::/96", " ^^", "holds unspecified addresses", unicast),
        ("fe80::/96", " ^^^^^^", "holds link-local addresses", unicast),
        ("ff02::/128", " ^^^^^^", "holds multicast addresses", unicast),
    ];
    rows.iter().for_each(|row| {
        check_row(
            "interface = \"eth0\"\nservice.web = { vip = \"192.0.2.10:80\", backends = \"10.0.0.11\" }\n",
            "tunnel_source",
            "tunnel_source",
            row,
        )
    });
}

#[test]
fn keys_macs_and_interfaces() {
    let service = "service.web = { vip = \"192.0.2.10:80\", backends = \"10.0.0.11\" }\n";
    let file = format!("interface = \"eth0\"\n{service}");

    let help = "make a key with `openssl rand -hex 16`";
    let rows = [
        ("", "^^", "0 hex digits instead of 32", help),
        ("6f1d0c5be29a4783", " ^^^^^^^^^^^^^^^^", "16 hex digits instead of 32", help),
        ("6f1d0c5b-e29a4783b1f4d2905e3ac71", "         ^", "not a hex digit", help),
        ("0x1d0c5be29a4783b1f4d2905e3ac718", "  ^", "not a hex digit", help),
    ];
    rows.iter().for_each(|row| check_row(&file, "hash_key", "hash_key", row));

    let help = "a MAC is six pairs of hex digits, like \"00:00:5e:00:01:0a\"";
    let rows = [
        ("", "^^", "not a MAC", help),
        ("00:00:5e:00:01", " ^^^^^^^^^^^^^^", "not a MAC", help),
        ("00:00:5e:00:01:0a:0b", " ^^^^^^^^^^^^^^^^^^^^", "not a MAC", help),
        ("00:00:5e:00:01:a", " ^^^^^^^^^^^^^^^^", "not a MAC", help),
        ("00:00:5e:00:01:+a", " ^^^^^^^^^^^^^^^^^", "not a MAC", help),
        ("00-00-5e-00-01-0a", " ^^^^^^^^^^^^^^^^^", "not a MAC", help),
        ("00:00:00:00:00:00", " ^^^^^^^^^^^^^^^^^", "all zero is nobody's MAC", help),
        (
            "01:00:5e:00:00:12",
            " ^^^^^^^^^^^^^^^^^",
            "a multicast MAC",
            "flooded frames are never taken: name a unicast MAC",
        ),
    ];
    rows.iter().for_each(|row| check_row(&file, "macs", "MAC", row));

    let help = "name an interface as `ip link` shows it";
    let rows = [
        ("", "^^", "not the name of an interface", help),
        ("..", " ^^", "not the name of an interface", help),
        ("abcdefghijklmnop", " ^^^^^^^^^^^^^^^^", "16 bytes, but names of interfaces have at most 15", help),
        ("eth 0", "    ^", "' ' cannot stand in the name of an interface", help),
        ("eth0:1", "     ^", "':' cannot stand in the name of an interface", help),
    ];
    rows.iter().for_each(|row| check_row(service, "interface", "interface", row));
}

#[test]
fn valid_vips() {
    let rows = [
        ("192.0.2.10:80", "192.0.2.10", Some(80), Protocol::Tcp),
        ("192.0.2.10:80/tcp", "192.0.2.10", Some(80), Protocol::Tcp),
        ("192.0.2.10:65535/udp", "192.0.2.10", Some(65535), Protocol::Udp),
        ("192.0.2.21:*", "192.0.2.21", None, Protocol::Tcp),
        ("192.0.2.21:*/udp", "192.0.2.21", None, Protocol::Udp),
        ("[2001:db8::53]:53/udp", "2001:db8::53", Some(53), Protocol::Udp),
        ("[2001:DB8:0:0::53]:*", "2001:db8::53", None, Protocol::Tcp),
        ("250.0.0.1:1", "250.0.0.1", Some(1), Protocol::Tcp),
    ];
    for (text, address, port, protocol) in rows {
        let vip = Vip { address: address.parse().expect("an address"), port, protocol };
        assert_eq!(service_with(&format!("\"{text}\""), "\"10.0.0.11\"").vips, [vip], "{text}");
        assert_eq!(vip.to_string().parse(), Ok(vip), "{text}");
    }
}

#[test]
fn valid_backends() {
    let rows: [(&str, &[(&str, u16)]); 8] = [
        (r#""10.0.0.11""#, &[("10.0.0.11", 1)]),
        (r#"["10.0.0.11*0", "10.0.0.12*256"]"#, &[("10.0.0.11", 0), ("10.0.0.12", 256)]),
        (r#""10.0.0.21-23""#, &[("10.0.0.21", 1), ("10.0.0.22", 1), ("10.0.0.23", 1)]),
        (r#""10.0.0.254-255*3""#, &[("10.0.0.254", 3), ("10.0.0.255", 3)]),
        (r#""10.0.0.21-21""#, &[("10.0.0.21", 1)]),
        (r#""2001:db8::1*2""#, &[("2001:db8::1", 2)]),
        (r#"["10.0.0.13*2", "10.0.0.9"]"#, &[("10.0.0.9", 1), ("10.0.0.13", 2)]),
        (r#"["2001:db8::1", "10.0.0.9"]"#, &[("10.0.0.9", 1), ("2001:db8::1", 1)]),
    ];
    for (text, expected) in rows {
        let backends = service_with("\"192.0.2.10:80\"", text).backends;
        let expected = expected.iter().map(|(address, weight)| {
            let address = address.parse().expect("an address");
            Backend::new(address, *weight)
        });
        assert_eq!(*backends, expected.collect::<Vec<_>>(), "{text}");
    }
}
