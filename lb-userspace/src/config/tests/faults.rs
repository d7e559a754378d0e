//! Every fault of a file, and all that is said about it.

use super::{rendered, without_first_newline};

#[test]
fn faults_are_shown_with_their_place() {
    for (name, text, expected) in FILES {
        let (text, expected) = (without_first_newline(text), without_first_newline(expected));
        assert_eq!(rendered(text), expected.trim_end(), "{name}");
    }
}

#[test]
fn odd_text_keeps_the_place() {
    for (name, text, expected) in ODD_TEXT {
        assert!(rendered(text).contains(without_first_newline(expected).trim_end()), "{name}:\n{}", rendered(text));
    }
}

const FILES: &[(&str, &str, &str)] = &[
    (
        "empty file",
        "",
        r#"
error: no interface
 --> weir.toml:1:1
  |
1 |
  | ^
  |
  = help: name the interface that takes the traffic: interface = "eth0"

error: no service
 --> weir.toml:1:1
  |
1 |
  | ^
  |
  = help: add one: [service.web] with vip = "192.0.2.10:80" and backends = ["10.0.0.11"]
"#,
    ),
    (
        "no interface",
        r#"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: no interface
 --> weir.toml:1:1
  |
1 | [service.web]
  | ^
  |
  = help: name the interface that takes the traffic: interface = "eth0"
"#,
    ),
    (
        "interface list empty",
        r#"
interface = []
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: no interface
 --> weir.toml:1:13
  |
1 | interface = []
  |             ^^
  |
  = help: name at least one: interface = "eth0"
"#,
    ),
    (
        "no service",
        r#"
interface = "eth0"
"#,
        r#"
error: no service
 --> weir.toml:2:1
  |
2 |
  | ^
  |
  = help: add one: [service.web] with vip = "192.0.2.10:80" and backends = ["10.0.0.11"]
"#,
    ),
    (
        "service table empty",
        r#"
interface = "eth0"
[service]
"#,
        r#"
error: no service
 --> weir.toml:3:1
  |
3 |
  | ^
  |
  = help: add one: [service.web] with vip = "192.0.2.10:80" and backends = ["10.0.0.11"]
"#,
    ),
    (
        "string without quotes",
        r#"
interface = eth0
"#,
        r#"
error: not valid TOML: a string without quotes
 --> weir.toml:1:13
  |
1 | interface = eth0
  |             ^^^^
  |
  = help: write "eth0"
"#,
    ),
    (
        "string not closed",
        r#"
interface = "eth0
"#,
        r#"
error: not valid TOML: invalid basic string, expected `"`
 --> weir.toml:1:18
  |
1 | interface = "eth0
  |                  ^
  |
  = help: look for a missing quote, comma or bracket here or before
"#,
    ),
    (
        "list not closed",
        r#"
interface = "eth0"
[service.web]
vip = ["192.0.2.10:80",
backends = "10.0.0.11"
"#,
        r#"
error: not valid TOML: unexpected `=` in array, expected value, `]`
 --> weir.toml:4:10
  |
4 | backends = "10.0.0.11"
  |          ^
  |
  = help: look for a missing quote, comma or bracket here or before
"#,
    ),
    (
        "key twice",
        r#"
interface = "eth0"
interface = "eth1"
"#,
        r#"
error: key "interface" stands twice in its table
 --> weir.toml:2:1
  |
2 | interface = "eth1"
  | ^^^^^^^^^
  |
  = help: remove one of the two
"#,
    ),
    (
        "service twice",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: key "web" stands twice in its table
 --> weir.toml:5:10
  |
5 | [service.web]
  |          ^^^
  |
  = help: remove one of the two
"#,
    ),
    (
        "unknown key",
        r#"
intreface = "eth0"
"#,
        r#"
error: unknown key "intreface"
 --> weir.toml:1:1
  |
1 | intreface = "eth0"
  | ^^^^^^^^^
  |
  = help: did you mean interface? Keys here are interface, slots, arena, hash_key, announce, macs, bad_flags, icmp_rate, tunnel_source, metrics, notify, syn, service
"#,
    ),
    (
        "unknown key, nothing close",
        r#"
colour = "blue"
interface = "eth0"
"#,
        r#"
error: unknown key "colour"
 --> weir.toml:1:1
  |
1 | colour = "blue"
  | ^^^^^^
  |
  = help: keys here are interface, slots, arena, hash_key, announce, macs, bad_flags, icmp_rate, tunnel_source, metrics, notify, syn, service
"#,
    ),
    (
        "unknown key in a service",
        r#"
interface = "eth0"
[service.web]
vips = "192.0.2.10:80"
"#,
        r#"
error: unknown key "vips" in service.web
 --> weir.toml:3:1
  |
3 | vips = "192.0.2.10:80"
  | ^^^^
  |
  = help: did you mean vip? Keys here are vip, backends, forward, hash, syn, syn_rate, slots, mss, check, quorum, required, on_empty, sorry, slow_start
"#,
    ),
    (
        "a key that is like no other",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
persistence = { minutes = 5 }
"#,
        r#"
error: unknown key "persistence" in service.web
 --> weir.toml:5:1
  |
5 | persistence = { minutes = 5 }
  | ^^^^^^^^^^^
  |
  = help: keys here are vip, backends, forward, hash, syn, syn_rate, slots, mss, check, quorum, required, on_empty, sorry, slow_start
"#,
    ),
    (
        "key of a service at the top",
        r#"
vip = "192.0.2.10:80"
"#,
        r#"
error: unknown key "vip"
 --> weir.toml:1:1
  |
1 | vip = "192.0.2.10:80"
  | ^^^
  |
  = help: vip belongs under [service.NAME]; keys here are interface, slots, arena, hash_key, announce, macs, bad_flags, icmp_rate, tunnel_source, metrics, notify, syn, service
"#,
    ),
    (
        "key of the top in a service",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
hash_key = "00"
"#,
        r#"
error: unknown key "hash_key" in service.web
 --> weir.toml:5:1
  |
5 | hash_key = "00"
  | ^^^^^^^^
  |
  = help: hash_key belongs at the top, before the first table; keys here are vip, backends, forward, hash, syn, syn_rate, slots, mss, check, quorum, required, on_empty, sorry, slow_start
"#,
    ),
    (
        "wrong type: interface",
        r#"
interface = 5
"#,
        r#"
error: interface: wrong type, expected a string or a list of strings
 --> weir.toml:1:13
  |
1 | interface = 5
  |             ^
  |
  = help: for example interface = "eth0", or interface = ["eth0", "eth1"]
"#,
    ),
    (
        "wrong type in a list",
        r#"
interface = ["eth0", 5]
"#,
        r#"
error: interface: wrong type, expected a string
 --> weir.toml:1:22
  |
1 | interface = ["eth0", 5]
  |                      ^
  |
  = help: for example interface = "eth0", or interface = ["eth0", "eth1"]
"#,
    ),
    (
        "wrong type: slots",
        r#"
slots = "64k"
"#,
        r#"
error: slots: wrong type, expected a whole number
 --> weir.toml:1:9
  |
1 | slots = "64k"
  |         ^^^^^
  |
  = help: for example slots = 65536
"#,
    ),
    (
        "wrong type: a date",
        r#"
slots = 2026-01-01
"#,
        r#"
error: slots: wrong type, expected a whole number
 --> weir.toml:1:9
  |
1 | slots = 2026-01-01
  |         ^^^^^^^^^^
  |
  = help: for example slots = 65536
"#,
    ),
    (
        "wrong type: hash_key",
        r#"
hash_key = 5
"#,
        r#"
error: hash_key: wrong type, expected a string
 --> weir.toml:1:12
  |
1 | hash_key = 5
  |            ^
  |
  = help: for example hash_key = "...", 32 hex digits as `openssl rand -hex 16` prints them
"#,
    ),
    (
        "wrong type: vip",
        r#"
interface = "eth0"
[service.web]
vip = { address = "192.0.2.10" }
"#,
        r#"
error: service.web.vip: wrong type, expected a string or a list of strings
 --> weir.toml:3:7
  |
3 | vip = { address = "192.0.2.10" }
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: for example vip = ["192.0.2.10:80", "192.0.2.10:443"]
"#,
    ),
    (
        "wrong type: service",
        r#"
interface = "eth0"
service = "web"
"#,
        r#"
error: service: wrong type, expected tables, one for each service
 --> weir.toml:2:11
  |
2 | service = "web"
  |           ^^^^^
  |
  = help: for example [service.web] with vip = "192.0.2.10:80" and backends = "10.0.0.11"
"#,
    ),
    (
        "services as a list",
        r#"
interface = "eth0"
[[service]]
name = "web"
"#,
        r#"
error: service: wrong type, expected tables, one for each service
 --> weir.toml:2:1
  |
2 | [[service]]
  | ^^^^^^^^^^^
  |
  = help: for example [service.web] with vip = "192.0.2.10:80" and backends = "10.0.0.11"
"#,
    ),
    (
        "service without a name",
        r#"
interface = "eth0"
[service]
vip = "192.0.2.10:80"
"#,
        r#"
error: service.vip: wrong type, expected the table of a service
 --> weir.toml:3:7
  |
3 | vip = "192.0.2.10:80"
  |       ^^^^^^^^^^^^^^^
  |
  = help: vip belongs under [service.NAME]
"#,
    ),
    (
        "service is no table",
        r#"
interface = "eth0"
service.web = "192.0.2.10:80"
"#,
        r#"
error: service.web: wrong type, expected the table of a service
 --> weir.toml:2:15
  |
2 | service.web = "192.0.2.10:80"
  |               ^^^^^^^^^^^^^^^
  |
  = help: a service is a table, headed [service.NAME]
"#,
    ),
    (
        "integer beyond 128 bits",
        r#"
slots = 99999999999999999999999999999999999999999999999999
"#,
        r#"
error: slots: integer number overflowed
 --> weir.toml:1:9
  |
1 | slots = 99999999999999999999999999999999999999999999999999
  |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: for example slots = 65536
"#,
    ),
    (
        "too many interfaces",
        r#"
interface = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: 9 interfaces, at most 8 are possible
 --> weir.toml:1:54
  |
1 | interface = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
  |                                                      ^^^
  |
  = help: remove those that are not needed
"#,
    ),
    (
        "interface twice",
        r#"
interface = ["eth0", "eth1", "eth0"]
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: interface "eth0" is given twice
 --> weir.toml:1:30
  |
1 | interface = ["eth0", "eth1", "eth0"]
  |              ------          ^^^^^^
  |              |
  |              first here
  |
  = help: remove one
"#,
    ),
    (
        "too many MACs",
        r#"
interface = "eth0"
macs = [
  "02:00:00:00:00:01",
  "02:00:00:00:00:02",
  "02:00:00:00:00:03",
  "02:00:00:00:00:04",
]
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: 4 MACs, at most 3 are possible
 --> weir.toml:6:3
  |
6 |   "02:00:00:00:00:04",
  |   ^^^^^^^^^^^^^^^^^^^
  |
  = help: remove those that are not needed
"#,
    ),
    (
        "MAC twice",
        r#"
interface = "eth0"
macs = ["02:00:00:00:00:0a", "02:00:00:00:00:0A"]
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: MAC 02:00:00:00:00:0a is given twice
 --> weir.toml:2:30
  |
2 | macs = ["02:00:00:00:00:0a", "02:00:00:00:00:0A"]
  |         -------------------  ^^^^^^^^^^^^^^^^^^^
  |         |
  |         first here
  |
  = help: remove one
"#,
    ),
    (
        "slots below",
        r#"
slots = 128
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: slots 128: too few
 --> weir.toml:1:9
  |
1 | slots = 128
  |         ^^^
  |
  = help: write 256, the fewest
"#,
    ),
    (
        "slots negative",
        r#"
slots = -1
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: slots -1: too few
 --> weir.toml:1:9
  |
1 | slots = -1
  |         ^^
  |
  = help: write 256, the fewest
"#,
    ),
    (
        "slots above",
        r#"
slots = 2_097_152
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: slots 2_097_152: too many
 --> weir.toml:1:9
  |
1 | slots = 2_097_152
  |         ^^^^^^^^^
  |
  = help: write 1048576, the most
"#,
    ),
    (
        "slots far above",
        r#"
slots = 99999999999999999999
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: slots 99999999999999999999: too many
 --> weir.toml:1:9
  |
1 | slots = 99999999999999999999
  |         ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write 1048576, the most
"#,
    ),
    (
        "mss below",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
mss = 535
"#,
        r#"
error: mss 535: too small
 --> weir.toml:5:7
  |
5 | mss = 535
  |       ^^^
  |
  = help: write 536, the least, or leave `mss` out
"#,
    ),
    (
        "mss negative",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
mss = -1
"#,
        r#"
error: mss -1: too small
 --> weir.toml:5:7
  |
5 | mss = -1
  |       ^^
  |
  = help: write 536, the least, or leave `mss` out
"#,
    ),
    (
        "mss above",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
mss = 9001
"#,
        r#"
error: mss 9001: too large
 --> weir.toml:5:7
  |
5 | mss = 9001
  |       ^^^^
  |
  = help: write 9000, the most, or leave `mss` out
"#,
    ),
    (
        "mss far above",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
mss = 0x1_0000
"#,
        r#"
error: mss 0x1_0000: too large
 --> weir.toml:5:7
  |
5 | mss = 0x1_0000
  |       ^^^^^^^^
  |
  = help: write 9000, the most, or leave `mss` out
"#,
    ),
    (
        "icmp_rate negative",
        r#"
interface = "eth0"
icmp_rate = -1
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: icmp_rate -1: too small
 --> weir.toml:2:13
  |
2 | icmp_rate = -1
  |             ^^
  |
  = help: write 0 to send none
"#,
    ),
    (
        "icmp_rate above",
        r#"
interface = "eth0"
icmp_rate = 4294967296
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: icmp_rate 4294967296: too large
 --> weir.toml:2:13
  |
2 | icmp_rate = 4294967296
  |             ^^^^^^^^^^
  |
  = help: write 4294967295, which is no limit
"#,
    ),
    (
        "slots no power of two",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
slots = 100_000
"#,
        r#"
error: slots 100_000: not a power of two
 --> weir.toml:5:9
  |
5 | slots = 100_000
  |         ^^^^^^^
  |
  = help: write 65536 or 131072
"#,
    ),
    (
        "announce",
        r#"
announce = "apr"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: announce "apr": not one of arp, manual, none
 --> weir.toml:1:12
  |
1 | announce = "apr"
  |            ^^^^^
  |
  = help: did you mean "arp"?
"#,
    ),
    (
        "bad_flags",
        r#"
bad_flags = "reject"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: bad_flags "reject": not one of drop, pass
 --> weir.toml:1:13
  |
1 | bad_flags = "reject"
  |             ^^^^^^^^
  |
  = help: without this key it is "drop"
"#,
    ),
    (
        "forward",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
forward = "TUN"
"#,
        r#"
error: forward "TUN": not one of l2, ipip
 --> weir.toml:5:11
  |
5 | forward = "TUN"
  |           ^^^^^
  |
  = help: without this key it is "l2"
"#,
    ),
    (
        "hash",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
hash = "sources"
"#,
        r#"
error: hash "sources": not one of flow, source
 --> weir.toml:5:8
  |
5 | hash = "sources"
  |        ^^^^^^^^^
  |
  = help: did you mean "source"?
"#,
    ),
    (
        "syn",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
syn = ""
"#,
        r#"
error: syn "": not one of off, count, drop, auto
 --> weir.toml:5:7
  |
5 | syn = ""
  |       ^^
  |
  = help: without this key it is "auto"
"#,
    ),
    (
        "two tunnel sources of a family",
        r#"
tunnel_source = ["10.1.0.0/16", "2001:db8::/96", "10.2.0.0/16"]
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: tunnel_source: a second IPv4 prefix
 --> weir.toml:1:50
  |
1 | tunnel_source = ["10.1.0.0/16", "2001:db8::/96", "10.2.0.0/16"]
  |                  ------------- first here        ^^^^^^^^^^^^^
  |
  = help: one of each family is possible: remove one
"#,
    ),
    (
        "no vip",
        r#"
interface = "eth0"
[service.web]
backends = "10.0.0.11"
"#,
        r#"
error: service "web": no vip
 --> weir.toml:2:10
  |
2 | [service.web]
  |          ^^^
  |
  = help: for example vip = "192.0.2.10:80"
"#,
    ),
    (
        "vip list empty",
        r#"
interface = "eth0"
[service.web]
vip = []
backends = "10.0.0.11"
"#,
        r#"
error: service "web": no vip
 --> weir.toml:3:7
  |
3 | vip = []
  |       ^^
  |
  = help: for example vip = "192.0.2.10:80"
"#,
    ),
    (
        "no backends",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
"#,
        r#"
error: service "web": no backends
 --> weir.toml:2:10
  |
2 | [service.web]
  |          ^^^
  |
  = help: for example backends = ["10.0.0.11", "10.0.0.12"]
"#,
    ),
    (
        "backends list empty",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = []
"#,
        r#"
error: service "web": no backends
 --> weir.toml:4:12
  |
4 | backends = []
  |            ^^
  |
  = help: for example backends = ["10.0.0.11", "10.0.0.12"]
"#,
    ),
    (
        "VIP in two services",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = "10.0.0.11"

[service.shop]
vip = ["192.0.2.11:80", "192.0.2.10:80/tcp"]
backends = "10.0.0.11"
"#,
        r#"
error: service "shop": VIP 192.0.2.10:80 is already that of service "web"
 --> weir.toml:7:25
  |
7 | vip = ["192.0.2.11:80", "192.0.2.10:80/tcp"]
  |                         ^^^^^^^^^^^^^^^^^^^
  |
 ::: weir.toml:3:7
  |
3 | vip = "192.0.2.10:80"
  |       --------------- first here
  |
  = help: a VIP belongs to one service: remove one
"#,
    ),
    (
        "VIP twice in a service",
        r#"
interface = "eth0"
[service.web]
vip = ["192.0.2.10:80", "192.0.2.10:80"]
backends = "10.0.0.11"
"#,
        r#"
error: service "web": VIP 192.0.2.10:80 is given twice
 --> weir.toml:3:25
  |
3 | vip = ["192.0.2.10:80", "192.0.2.10:80"]
  |        ---------------  ^^^^^^^^^^^^^^^
  |        |
  |        first here
  |
  = help: a VIP belongs to one service: remove one
"#,
    ),
    (
        "backend twice",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = ["10.0.0.11", "10.0.0.11*2"]
"#,
        r#"
error: service "web": backend 10.0.0.11 is given twice
 --> weir.toml:4:26
  |
4 | backends = ["10.0.0.11", "10.0.0.11*2"]
  |             -----------  ^^^^^^^^^^^^^
  |             |
  |             first here
  |
  = help: remove one; a weight makes a share larger: "10.0.0.11*2"
"#,
    ),
    (
        "backend twice by ranges",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = [
  "10.0.0.21-24",
  "10.0.0.22-30",
]
"#,
        r#"
error: service "web": backend 10.0.0.22 is given twice
 --> weir.toml:6:3
  |
6 |   "10.0.0.22-30",
  |   ^^^^^^^^^^^^^^
  |
 ::: weir.toml:5:3
  |
5 |   "10.0.0.21-24",
  |   -------------- first here
  |
  = help: remove one; a weight makes a share larger: "10.0.0.11*2"
"#,
    ),
    (
        "backend is the VIP",
        r#"
interface = "eth0"
[service.web]
vip = "192.0.2.10:80"
backends = ["10.0.0.11", "192.0.2.10"]
"#,
        r#"
error: service "web": backend 192.0.2.10 is the service's own VIP
 --> weir.toml:4:26
  |
4 | backends = ["10.0.0.11", "192.0.2.10"]
  |                          ^^^^^^^^^^^^
  |
 ::: weir.toml:3:7
  |
3 | vip = "192.0.2.10:80"
  |       --------------- the VIP
  |
  = help: name the backend by an address of its own: the VIP is on every backend's loopback
"#,
    ),
    (
        "service name",
        r#"
interface = "eth0"
[service."my web"]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: service "my web": ' ' cannot stand in a name
 --> weir.toml:2:13
  |
2 | [service."my web"]
  |             ^
  |
  = help: a name is 1 to 64 of the letters A-Z and a-z, digits, _ . and -
"#,
    ),
    (
        "service name empty",
        r#"
interface = "eth0"
[service.""]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: service "": empty name
 --> weir.toml:2:10
  |
2 | [service.""]
  |          ^^
  |
  = help: a name is 1 to 64 of the letters A-Z and a-z, digits, _ . and -
"#,
    ),
    (
        "service name too long",
        r#"
interface = "eth0"
[service.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: service "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"...: 65 characters in a name
 --> weir.toml:2:10
  |
2 | [service.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]
  |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: a name is 1 to 64 of the letters A-Z and a-z, digits, _ . and -
"#,
    ),
    (
        "columns count characters",
        r#"
interface = "eth0"
[service."größe/ü"]
vip = "192.0.2.10:80"
backends = "10.0.0.11"
"#,
        r#"
error: service "größe/ü": 'ö' cannot stand in a name
 --> weir.toml:2:13
  |
2 | [service."größe/ü"]
  |             ^
  |
  = help: a name is 1 to 64 of the letters A-Z and a-z, digits, _ . and -
"#,
    ),
    (
        "all at once, in file order",
        r#"
slots = 1000
hash_key = "xyz"

[service.web]
vip = "192.0.2.10:0"
backends = ["10.0.0.11*300", "10.0.0.12-"]

[service.dns]
vip = ["192.0.2.53:53/upd", "192.0.2.53:53"]
forward = "gre"
backends = ["10.0.0.11"]
"#,
        r#"
error: no interface
 --> weir.toml:1:1
  |
1 | slots = 1000
  | ^
  |
  = help: name the interface that takes the traffic: interface = "eth0"

error: slots 1000: not a power of two
 --> weir.toml:1:9
  |
1 | slots = 1000
  |         ^^^^
  |
  = help: write 512 or 1024

error: hash_key "xyz": not a hex digit
 --> weir.toml:2:13
  |
2 | hash_key = "xyz"
  |             ^
  |
  = help: make a key with `openssl rand -hex 16`

error: VIP "192.0.2.10:0": not a port
 --> weir.toml:5:19
  |
5 | vip = "192.0.2.10:0"
  |                   ^
  |
  = help: a port is 1 to 65535, or * for all of them

error: backend "10.0.0.11*300": weight out of range
 --> weir.toml:6:24
  |
6 | backends = ["10.0.0.11*300", "10.0.0.12-"]
  |                        ^^^
  |
  = help: a weight is 0 to 256, and 0 drains

error: backend "10.0.0.12-": not the last octet of a range
 --> weir.toml:6:41
  |
6 | backends = ["10.0.0.11*300", "10.0.0.12-"]
  |                                         ^
  |
  = help: a range is in the last octet, like "10.0.0.21-24"

error: VIP "192.0.2.53:53/upd": protocol is neither tcp nor udp
 --> weir.toml:9:23
  |
9 | vip = ["192.0.2.53:53/upd", "192.0.2.53:53"]
  |                       ^^^
  |
  = help: write "192.0.2.53:53" for TCP or "192.0.2.53:53/udp"

error: forward "gre": not one of l2, ipip
  --> weir.toml:10:11
   |
10 | forward = "gre"
   |           ^^^^^
   |
   = help: without this key it is "l2"
"#,
    ),
];

const ODD_TEXT: &[(&str, &str, &str)] = &[
    (
        "escapes hide the part",
        "interface = \"\\u0065th/0\"\n",
        r#"
error: interface "eth/0": '/' cannot stand in the name of an interface
 --> weir.toml:1:13
  |
1 | interface = "\u0065th/0"
  |             ^^^^^^^^^^^^
  |
  = help: name an interface as `ip link` shows it
"#,
    ),
    (
        "CRLF",
        "interface = \"eth/0\"\r\n",
        r#"
error: interface "eth/0": '/' cannot stand in the name of an interface
 --> weir.toml:1:17
  |
1 | interface = "eth/0"
  |                 ^
  |
  = help: name an interface as `ip link` shows it
"#,
    ),
    (
        "byte order mark",
        "\u{feff}interface = \"eth/0\"\n",
        r#"
error: interface "eth/0": '/' cannot stand in the name of an interface
 --> weir.toml:1:17
  |
1 | interface = "eth/0"
  |                 ^
  |
  = help: name an interface as `ip link` shows it
"#,
    ),
];
