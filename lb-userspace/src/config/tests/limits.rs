//! What the tables hold, and what is allowed but warned about.

use std::fmt::Write as _;

use lb_common::abi;

use super::*;

/// A file with this many services, the text of each made by `service`.
fn file(services: usize, service: impl Fn(usize) -> String) -> String {
    let mut text = format!("interface = \"eth0\"\n{KEY}");
    for number in 0..services {
        writeln!(text, "[service.s{number}]\n{}", service(number)).expect("a string takes text");
    }
    text
}

fn only_message(text: &str) -> (String, usize) {
    let error = fault(text);
    assert_eq!(error.diagnostics.len(), 1, "{error}");
    let line = error.diagnostics[0].place().1.expect("a place").0;
    (error.diagnostics[0].message().to_owned(), line)
}

#[test]
fn vip_entries() {
    let most = abi::MAX_VIPS as usize;
    let service = |number: usize| format!("vip = \"192.0.2.1:{}\"\nbackends = \"10.0.0.11\"", number + 1);
    assert_eq!(valid(&file(most, service)).services.len(), most);
    let (message, line) = only_message(&file(most + 1, service));
    assert_eq!(message, "4097 VIP entries, at most 4096 are possible");
    // Two lines before the first service, three a service, its VIP on the second.
    assert_eq!(line, 2 + 3 * most + 2);
}

#[test]
fn distinct_backends() {
    // 32 ranges of 256 make 8,192.
    let many = |last: &str| {
        let ranges: Vec<String> = (0..32).map(|c| format!("\"10.0.{c}.0-255\"")).collect();
        format!("vip = \"192.0.2.1:1\"\nslots = 1048576\nbackends = [{}{last}]", ranges.join(", "))
    };
    let second = |forward: &str, backend: &str| {
        format!("vip = \"192.0.2.1:2\"\nforward = \"{forward}\"\nbackends = \"{backend}\"")
    };
    let both = |forward: &'static str, backend: &'static str| {
        file(2, move |number| if number == 0 { many("") } else { second(forward, backend) })
    };
    valid(&file(1, |_| many("")));
    valid(&both("l2", "10.0.31.255"));
    let expected = "8193 distinct backends, at most 8192 are possible";
    assert_eq!(only_message(&file(1, |_| many(", \"10.0.32.0\""))), (expected.to_owned(), 6));
    assert_eq!(only_message(&both("l2", "10.0.32.0")), (expected.to_owned(), 10), "another address");
    assert_eq!(only_message(&both("ipip", "10.0.31.255")), (expected.to_owned(), 10), "another encapsulation");
}

#[test]
fn ring_slots() {
    let shared =
        |number: usize| format!("vip = \"192.0.2.1:{}\"\nslots = 1048576\nbackends = \"10.0.0.11\"", number + 1);
    let own =
        |number: usize| format!("vip = \"192.0.2.1:{}\"\nslots = 1048576\nbackends = \"10.0.0.{number}\"", number + 1);
    valid(&file(200, shared));
    valid(&file(128, own));
    let (message, line) = only_message(&file(130, own));
    assert_eq!(
        message,
        "service \"s128\": the rings up to this one have 135266304 slots, at most 134217728 are possible"
    );
    assert_eq!(line, 2 + 4 * 128 + 3);
}

#[test]
fn arena() {
    let with = |arena: i64| format!("interface = \"eth0\"\narena = {arena}\n{KEY}{SERVICE}");
    assert_eq!(valid(&with(131_072)).arena, Some(131_072));
    assert_eq!(valid(&with(1 << 28)).arena, Some(1 << 28));
    let few = "arena 131070: too few: the rings take 65536 slots, and a change is written beside them";
    for (arena, message) in [
        (131_070, few),
        (131_074, "arena 131074: not a multiple of four"),
        (-2, "arena -2: too few"),
        ((1 << 28) + 4, "arena 268435460: too many"),
        (1 << 40, "arena 1099511627776: too many"),
    ] {
        assert_eq!(only_message(&with(arena)), (message.to_owned(), 2));
    }
}

#[test]
fn an_arena_too_small_for_checks_warns() {
    let warned = |arena: &str, checks: [&str; 3]| {
        let service = |(number, check): (usize, &str)| {
            format!("[service.s{number}]\nvip = \"192.0.2.{number}:80\"\nbackends = \"10.0.0.1-3\"\n{check}\n")
        };
        let services: String = (1..).zip(checks).map(service).collect();
        let warnings = valid(&format!("interface = \"eth0\"\n{arena}\n{KEY}{services}")).warnings;
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let (checked, plain) = ("check = \"tcp\"", "");
    let said = warned("arena = 131072", [checked, checked, plain]);
    assert!(said.starts_with("warning: the arena has 131072 slots: too few"), "{said}");
    assert!(said.contains("2 | arena = 131072\n  |         ^^^^^^"), "{said}");
    assert!(
        said.ends_with("which take 196608 slots, and a change is written beside them: set arena = 393216"),
        "{said}"
    );
    assert_eq!(warned("arena = 393216", [checked, checked, plain]), "");
    assert!(warned("arena = 131072", [checked, plain, plain]).contains("set arena = 262144"));
    assert_eq!(warned("arena = 131072", [plain, plain, plain]), "");
    assert_eq!(warned("", [checked, checked, checked]), "", "unless said otherwise there is room for sixteen");
}

/// Exactly these warnings.
fn assert_warnings(text: &str, expected: &[&str]) {
    let warnings: Vec<String> = valid(text).warnings.iter().map(ToString::to_string).collect();
    let expected: Vec<&str> = expected.iter().map(|text| without_first_newline(text).trim_end()).collect();
    assert_eq!(warnings, expected);
}

#[test]
fn public_key_warns() {
    assert_warnings(&format!("interface = \"eth0\"\n{KEY}{SERVICE}"), &[]);
    assert_warnings(
        &format!("interface = \"eth0\"\n{SERVICE}"),
        &[r#"
warning: hash_key is the public default: anybody can aim at one backend
 --> weir.toml:1:1
  |
1 | interface = "eth0"
  | ^ add `hash_key` here
  |
  = help: make a key with `openssl rand -hex 16` and give it to every sibling: hash_key = "..."
"#],
    );
    // Writing it down does not make it secret.
    assert_warnings(
        &format!("interface = \"eth0\"\nhash_key = \"776569722D7075626c69632d6b657921\"\n{SERVICE}"),
        &[r#"
warning: hash_key is the public default: anybody can aim at one backend
 --> weir.toml:2:12
  |
2 | hash_key = "776569722D7075626c69632d6b657921"
  |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: make a key with `openssl rand -hex 16` and give it to every sibling: hash_key = "..."
"#],
    );
}

#[test]
fn drained_service_warns() {
    assert_warnings(
        &format!(
            "interface = \"eth0\"\n{KEY}[service.web]\nvip = \"192.0.2.10:80\"\nbackends = [\n  \"10.0.0.11-12*0\",\n]\n"
        ),
        &[r#"
warning: service "web": every backend has weight 0, none takes traffic
 --> weir.toml:5:12
  |
5 | backends = [
  |            ^
  |
  = help: give at least one a weight of 1 to 256
"#],
    );
}

#[test]
fn few_slots_warn() {
    let file = |slots: &str, backends: &str, own: &str| {
        format!(
            "interface = \"eth0\"\n{KEY}{slots}[service.web]\nvip = \"192.0.2.10:80\"\nbackends = {backends}\n{own}"
        )
    };
    // Drained backends take no slots.
    assert_warnings(&file("slots = 1024\n", "[\"10.0.0.11-12\", \"10.0.0.13*0\"]", ""), &[]);
    assert_warnings(&file("", "\"10.0.0.1-128\"", ""), &[]);
    assert_warnings(
        &file("", "\"10.0.0.1-129\"", ""),
        &[r#"
warning: service "web": 65536 slots for 129 backends, shares will be uneven
 --> weir.toml:3:10
  |
3 | [service.web]
  |          ^^^
  |
  = help: set slots = 131072
"#],
    );
    assert_warnings(
        &file("slots = 1024\n", "\"10.0.0.11-13\"", ""),
        &[r#"
warning: service "web": 1024 slots for 3 backends, shares will be uneven
 --> weir.toml:3:9
  |
3 | slots = 1024
  |         ^^^^
  |
  = help: set slots = 2048
"#],
    );
    assert_warnings(
        &file("", "\"10.0.0.11-13\"", "slots = 256\n"),
        &[r#"
warning: service "web": 256 slots for 3 backends, shares will be uneven
 --> weir.toml:6:9
  |
6 | slots = 256
  |         ^^^
  |
  = help: set slots = 2048
"#],
    );
    let ranges: Vec<String> = (0..9).map(|c| format!("\"10.0.{c}.0-255\"")).collect();
    let most = valid(&file("slots = 1048576\n", &format!("[{}]", ranges.join(", ")), "")).warnings;
    assert!(most[0].to_string().ends_with("= help: spread the backends over several services"), "{}", most[0]);
}
