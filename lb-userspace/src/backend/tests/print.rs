use super::*;

#[test]
fn a_script_for_l2() {
    let expected = r#"#!/bin/sh
# What a backend of web needs. Run it as root, as often as you like.
# Nothing of it outlives a reboot: run it at boot, or print files with --format networkd.
set -eu

# Before the VIPs are here: a host that answers ARP for them takes clients away from the balancer.
sysctl -qw net.ipv4.conf.all.arp_ignore=1
sysctl -qw net.ipv4.conf.eth0.arp_ignore=1
sysctl -qw net.ipv4.conf.all.arp_announce=2
sysctl -qw net.ipv4.conf.eth0.arp_announce=2
# Loose: strict drops a client whose route leads over another interface. The larger of this and all counts.
sysctl -qw net.ipv4.conf.eth0.rp_filter=2

nft -f - <<'END'
# The one that is there, if any, and its successor change places in one transaction.
table inet weir_backend
delete table inet weir_backend
table inet weir_backend {
	set services4 {
		type ipv4_addr . inet_proto . inet_service
		elements = {
			192.0.2.10 . tcp . 80,
			192.0.2.10 . tcp . 443,
		}
	}
	set vips4 {
		type ipv4_addr
		elements = {
			192.0.2.10,
		}
	}
	set services6 {
		type ipv6_addr . inet_proto . inet_service
		elements = {
			2001:db8::10 . tcp . 80,
		}
	}
	set vips6 {
		type ipv6_addr
		elements = {
			2001:db8::10,
		}
	}
	# conntrack stays out: its table would fill with clients' connections, and full it drops them.
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		ip daddr . meta l4proto . th dport @services4 notrack
		ip daddr @vips4 meta l4proto icmp notrack
		ip6 daddr . meta l4proto . th dport @services6 notrack
		ip6 daddr @vips6 meta l4proto icmpv6 notrack
	}
	# The answers too: untracked packets are neither new nor established to a firewall.
	chain output {
		type filter hook output priority raw; policy accept;
		ip saddr . meta l4proto . th sport @services4 notrack
		ip saddr @vips4 meta l4proto icmp notrack
		ip6 saddr . meta l4proto . th sport @services6 notrack
		ip6 saddr @vips6 meta l4proto icmpv6 notrack
	}
}
END

# On loopback the stack takes packets for the VIPs, and no link hears of them.
ip address replace 192.0.2.10/32 dev lo
ip address replace 2001:db8::10/128 dev lo nodad preferred_lft 0"#;
    assert_eq!(shell::script(&needs(&asked(&["web"]))), expected);
}

#[test]
fn what_tunnels_add_to_a_script() {
    let script = shell::script(&needs(&Asked { pins: Some("/sys/fs/bpf/my pins".into()), ..asked(&["dns"]) }));
    let notes = r#"
# Sizes: the outer header takes 20 bytes, so of a path of 1500 bytes 1480 are left for a packet of a client.
# Best is an MTU of 1520 or more from balancer to backend, on every switch between too: then say --path-mtu 1520.
# UDP has no segments to keep small: longer datagrams are dropped by the balancer (too_big).
set -eu
"#;
    let mss = r#"
	# Segments must fit a path of 1500 bytes with 20 more in front. Said in SYN-ACKs, it leaves routes and other traffic alone.
	chain mss {
		type filter hook output priority mangle; policy accept;
		ip saddr @tunnelled4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1440
	}
}
END
"#;
    let run = r#"
# Takes the outer headers off in the driver, before conntrack and the firewall see a packet.
weir --pins '/sys/fs/bpf/my pins' backend run \
	--interface eth0 \
	--vip 192.0.2.53 \
	--vip 2001:db8::53 \
	--once"#;
    assert!(script.contains(notes) && script.contains(mss) && script.ends_with(run), "{script}");
}

/// Segments of at most so many bytes for the web's addresses.
fn small(asked: &Asked, mss: u16) -> Needs {
    let web = ["192.0.2.10", "2001:db8::10"].map(|vip| vip.parse().unwrap());
    Needs { segments: [(mss, web.into())].into(), ..needs(asked) }
}

#[test]
fn small_segments_in_a_script() {
    let script = shell::script(&small(&asked(&["web"]), 1_360));
    let sets = r#"
	set segments1360_4 {
		type ipv4_addr
		elements = {
			192.0.2.10,
		}
	}
"#;
    let chain = r#"
	# Clients' segments must be as small as `mss` says. Said in SYN-ACKs, it leaves routes and other traffic alone.
	chain mss {
		type filter hook output priority mangle; policy accept;
		ip saddr @segments1360_4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1360
		ip6 saddr @segments1360_6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1360
	}
}
END
"#;
    assert!(script.contains(sets) && script.contains(chain), "{script}");
    // Beside those that leave room for an outer header.
    let script = shell::script(&small(&asked(&["dns", "web"]), 1_360));
    for (set, mss) in [("tunnelled4", 1_440), ("segments1360_4", 1_360), ("segments1360_6", 1_360)] {
        assert!(script.contains(&format!("@{set} tcp flags & (syn | rst) == syn tcp option maxseg size set {mss}\n")));
    }
}

#[test]
fn a_path_that_takes_whole_packets_needs_no_advice() {
    let notes = |path_mtu| shell::size_notes(&needs(&Asked { path_mtu, ..asked(&["dns"]) }).tunnel.unwrap()).len();
    assert_eq!((notes(1519), notes(1520)), (3, 1));
}

#[test]
fn tunnel_devices_in_a_script() {
    let script = shell::script(&needs(&by_kernel(&["ftp"])));
    let expected = r#"
# Tunnels end at the one of these that is an address of this host.
end4=
for address in 10.0.0.31 10.0.0.32; do
	[ -n "$(ip -o address show to "$address")" ] || continue
	[ -z "$end4" ] || { echo "two backends here, $end4 and $address: say --backend" >&2; exit 1; }
	end4=$address
done
if [ -n "$end4" ]; then
	ip link show dev weir-ipip >/dev/null 2>&1 ||
		ip link add weir-ipip type ipip local "$end4" remote any
	ip link set dev weir-ipip up
	# The VIPs here too: without an IPv4 address the device's packets fail even a loose rp_filter.
	ip address replace 192.0.2.21/32 dev weir-ipip
	sysctl -qw net.ipv4.conf.weir-ipip.rp_filter=2
	ip link show dev weir-sit >/dev/null 2>&1 ||
		ip link add weir-sit type sit local "$end4" remote any
	ip link set dev weir-sit up
fi

# Tunnels end at the one of these that is an address of this host.
end6=
for address in fd00::33; do
	[ -n "$(ip -o address show to "$address")" ] || continue
	[ -z "$end6" ] || { echo "two backends here, $end6 and $address: say --backend" >&2; exit 1; }
	end6=$address
done
if [ -n "$end6" ]; then
	ip link show dev weir-ip6tnl >/dev/null 2>&1 ||
		ip link add weir-ip6tnl type ip6tnl mode any local "$end6" remote any
	ip link set dev weir-ip6tnl up
	# The VIPs here too: without an IPv4 address the device's packets fail even a loose rp_filter.
	ip address replace 192.0.2.21/32 dev weir-ip6tnl
	sysctl -qw net.ipv4.conf.weir-ip6tnl.rp_filter=2
fi
[ -n "${end4:-}${end6:-}" ] || { echo "not an address of this host: 10.0.0.31, 10.0.0.32, fd00::33" >&2; exit 1; }"#;
    assert!(script.ends_with(expected), "{script}");
    for line in [
        "\t\tip daddr . meta l4proto @all_ports4 notrack",
        "\t\tip daddr @ends4 meta l4proto { 4, 41 } notrack",
        "\t\tip6 daddr @ends6 meta l4proto { 4, 41 } notrack",
        "\t\tip6 saddr @tunnelled6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1400",
    ] {
        assert!(script.lines().any(|there| there == line), "{line}: {script}");
    }
    assert!(!script.contains("weir backend run"));
}

#[test]
fn files_for_tunnels_by_weir() {
    let files = networkd::files(&needs(&asked(&["dns"]))).unwrap();
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    let expected = [
        "/etc/sysctl.d/90-weir-backend.conf",
        "/etc/systemd/network/10-weir-lo.network",
        "/etc/weir/backend.nft",
        "/etc/systemd/system/weir-backend.service",
    ];
    assert_eq!(paths, expected);
    let text = networkd::text(&needs(&asked(&["dns"]))).unwrap();
    for path in expected {
        assert!(text.lines().any(|line| line == format!("# {path}")), "{path}: {text}");
    }
    assert_eq!(
        files[0].content,
        "\
# This host has the VIPs and must not say so: no answers to ARP for them, no questions in their name.
net.ipv4.conf.all.arp_ignore = 1
net.ipv4.conf.eth0.arp_ignore = 1
net.ipv4.conf.all.arp_announce = 2
net.ipv4.conf.eth0.arp_announce = 2
# Loose: strict drops a client whose route leads over another interface. The larger of this and all counts.
net.ipv4.conf.eth0.rp_filter = 2
"
    );
    assert_eq!(
        files[1].content,
        "\
# On loopback the stack takes packets for the VIPs, and no link hears of them.
[Match]
Name=lo

[Address]
Address=192.0.2.53/32

[Address]
Address=2001:db8::53/128
DuplicateAddressDetection=none
PreferredLifetime=0
"
    );
    assert_eq!(
        files[3].content,
        r#"# Sizes: the outer header takes 20 bytes, so of a path of 1500 bytes 1480 are left for a packet of a client.
# Best is an MTU of 1520 or more from balancer to backend, on every switch between too: then say --path-mtu 1520.
# UDP has no segments to keep small: longer datagrams are dropped by the balancer (too_big).
[Unit]
Description=Backend of dns
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/weir/backend.nft
ExecStart=/usr/bin/weir backend run \
    --interface eth0 \
    --vip 192.0.2.53 \
    --vip 2001:db8::53 \
    --once
# Rules, program and addresses are replaced without a gap.
ExecReload=/usr/sbin/nft -f /etc/weir/backend.nft
ExecReload=/usr/bin/weir backend run \
    --interface eth0 \
    --vip 192.0.2.53 \
    --vip 2001:db8::53 \
    --once
ExecStop=/usr/bin/weir backend stop

[Install]
WantedBy=multi-user.target
"#
    );
}

#[test]
fn files_for_tunnels_by_the_kernel_are_for_one_backend() {
    let several = networkd::files(&needs(&by_kernel(&["ftp"]))).unwrap_err().to_string();
    let sentence = "2 backends: a tunnel device of systemd-networkd names its own: say which with --backend \
                    (have: 10.0.0.31, 10.0.0.32, fd00::33)";
    assert_eq!(several, sentence);

    let one = Asked { backend: Some("fd00::33".parse().unwrap()), ..by_kernel(&["ftp"]) };
    let files = networkd::files(&needs(&one)).unwrap();
    let file = |path: &str| files.iter().find(|file| file.path == path).unwrap().content.clone();
    assert_eq!(
        file("/etc/systemd/network/10-weir-ip6tnl.netdev"),
        "\
[NetDev]
Name=weir-ip6tnl
Kind=ip6tnl

[Tunnel]
Local=fd00::33
Remote=any
Mode=any
Independent=yes
"
    );
    assert_eq!(
        file("/etc/systemd/network/10-weir-ip6tnl.network"),
        "\
# The VIPs here too: without an IPv4 address the device's packets fail even a loose rp_filter.
[Match]
Name=weir-ip6tnl

[Network]
LinkLocalAddressing=no

[Address]
Address=192.0.2.21/32
"
    );
    assert!(file("/etc/sysctl.d/90-weir-backend.conf").ends_with("net.ipv4.conf.weir-ip6tnl.rp_filter = 2\n"));
    assert!(!file("/etc/systemd/system/weir-backend.service").contains("backend run"));
}

#[test]
fn an_object() {
    let object = json::object(&needs(&asked(&["dns"])));
    let expected = serde_json::json!({
        "services": { "dns": ["10.0.0.21", "10.0.0.22"] },
        "interface": "eth0",
        "vips": ["192.0.2.53:53", "192.0.2.53:53/udp", "[2001:db8::53]:53/udp"],
        "addresses": [
            { "address": "192.0.2.53/32", "device": "lo" },
            { "address": "2001:db8::53/128", "device": "lo" },
        ],
        "sysctls": {
            "net.ipv4.conf.all.arp_ignore": 1,
            "net.ipv4.conf.eth0.arp_ignore": 1,
            "net.ipv4.conf.all.arp_announce": 2,
            "net.ipv4.conf.eth0.arp_announce": 2,
            "net.ipv4.conf.eth0.rp_filter": 2,
        },
        "nftables": nftables::Table::new(&needs(&asked(&["dns"]))).to_string(),
        "tunnel": {
            "ends": ["10.0.0.21", "10.0.0.22"],
            "path_mtu": 1500,
            "outer_bytes": 20,
            "notes": shell::size_notes(&needs(&asked(&["dns"])).tunnel.unwrap()),
            "command": "weir backend run --interface eth0 --vip 192.0.2.53 --vip 2001:db8::53 --once",
            "devices": [],
        },
    });
    assert_eq!(object, expected);

    let devices = &json::object(&needs(&by_kernel(&["dns"])))["tunnel"]["devices"];
    let expected = serde_json::json!([
        {
            "name": "weir-ipip",
            "kind": "ipip",
            "local": ["10.0.0.21", "10.0.0.22"],
            "remote": "any",
            "addresses": ["192.0.2.53/32"],
        },
        { "name": "weir-sit", "kind": "sit", "local": ["10.0.0.21", "10.0.0.22"], "remote": "any", "addresses": [] },
    ]);
    assert_eq!(*devices, expected);
}
