//! The SYN filter: modes, signatures, rates, prefixes.

use lb_common::abi::Span16;

use super::{super::fingerprints::FINGERPRINTS, *};

/// Line 4 is the first of the text.
fn with(text: &str, service: &str) -> String {
    format!("interface = \"eth0\"\n{KEY}\n{text}\n{SERVICE}{service}")
}

fn web(text: &str, service: &str) -> (Syn, Filter) {
    let config = valid(&with(text, service));
    let web = &config.services["web"];
    (web.syn, web.filter.clone())
}

#[test]
fn a_service_says_what_it_wants_else_all_do_the_same() {
    let standard = Filter::default();
    assert_eq!((standard.threshold, standard.budget, standard.rate), (1_000, 100, None));
    assert_eq!(web("", ""), (Syn::Auto, standard.clone()));
    assert_eq!(web("", "syn = \"off\""), (Syn::Off, standard.clone()));
    assert_eq!(web("[syn]\nmode = \"drop\"\nbudget = \"7/s\"", "").0, Syn::Drop);
    let (mode, filter) =
        web("[syn]\nmode = \"drop\"\nbudget = \"7/s\"", "syn = { threshold = \"2k/s\" }\nsyn_rate = \"1M/s\"");
    assert_eq!(mode, Syn::Drop);
    assert_eq!(filter, Filter { threshold: 2_000, budget: 7, rate: Some(1_000_000), ..standard.clone() });
    assert_eq!(web("", "syn = { mode = \"count\", budget = \"0/s\" }"), (Syn::Count, Filter { budget: 0, ..standard }));
}

#[test]
fn signatures_are_read() {
    let text = "[[syn.signature]]\nname = \"a\"\nwindow = 5\n[[syn.signature]]\nname = \"b\"\nwindow = \"1-1024\"\noptions = [\"none\", \"some\"]\n\
                length = \"40-60\"\nttl = 255\nsource_port = 80\nport = \"1-2\"\npayload = true\n[syn]\nallow = [\"198.51.100.0/24\", \"2001:db8::/32\", \"192.0.2.7\"]";
    let config = valid(&with(text, "syn = { signatures = [\"b\", \"window-zero-bare\"] }"));
    assert_eq!(config.signatures.iter().map(|of| of.name.as_str()).collect::<Vec<_>>(), [BUILT_IN, "a", "b"]);
    let [_, a, b] = [0, 1, 2].map(|number| config.signatures[number].conditions);
    assert_eq!((a.window, a.options, a.payload, a.ttl_width), (Span16::new(5, 5), 7, 3, 255));
    assert_eq!((b.window, b.length, b.port), (Span16::new(1, 1024), Span16::new(40, 60), Span16::new(1, 2)));
    assert_eq!((b.options, b.payload, b.ttl_low, b.ttl_width), (5, 2, 255, 0));
    // Tried in the order in which they are defined.
    assert_eq!(config.services["web"].filter.signatures, [0, 2]);
    let allowed: Vec<_> = config.allowed.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/32"]);
}

#[test]
fn faults_are_named() {
    let signature = |conditions: &str| format!("[[syn.signature]]\nname = \"x\"\n{conditions}");
    for (text, service, fault) in [
        ("", "syn = \"auto!\"", "syn \"auto!\": not one of off, count, drop, auto"),
        ("", "syn = 5", "wrong type, expected a mode or a table"),
        ("", "syn = { mod = \"drop\" }", "did you mean mode? Keys here are mode, signatures, threshold, budget"),
        ("", "syn = { budget = \"100\" }", "budget \"100\": not a number a second"),
        ("", "syn = { budget = 100 }", "wrong type"),
        ("", "syn = { threshold = \"100/m\" }", "threshold \"100/m\": not a number a second"),
        ("", "syn = { threshold = \"1kb/s\" }", "not a number a second"),
        ("", "syn = { threshold = \"5000M/s\" }", "too many"),
        ("", "syn = { threshold = \"-1/s\" }", "not a number a second"),
        ("", "syn_rate = \"0/s\"", "syn_rate \"0/s\": no connection could be opened"),
        ("", "syn_rate = \"50k\"", "syn_rate \"50k\": not a number a second"),
        ("", "syn = { signatures = [\"window-zero-bar\"] }", "did you mean \"window-zero-bare\"?"),
        ("", "syn = { signatures = [\"mine\"] }", "signature \"mine\": no such signature"),
        ("", "syn = { signatures = [] }", "signatures: none is named"),
        ("", "syn = { signatures = [\"window-zero-bare\", \"window-zero-bare\"] }", "is given twice"),
        (
            "[syn]\nmodes = 1",
            "",
            "did you mean mode? Keys here are mode, signatures, threshold, budget, allow, signature",
        ),
        ("[syn]\nallow = [\"198.51.100.7/24\"]", "", "address has host bits set"),
        ("[syn]\nallow = [\"198.51.100.0/33\"]", "", "prefix length out of range"),
        ("[syn]\nallow = [\"::/0\"]", "", "prefix length out of range"),
        ("[syn]\nallow = [\"::ffff:192.0.2.0/120\"]", "", "an IPv4-mapped address"),
        ("[syn]\nallow = [\"10.0.0.0/8\", \"10.0.0.0/8\"]", "", "allow 10.0.0.0/8 is given twice"),
        ("[[syn.signature]]\nwindow = 0", "", "a signature without a name"),
        (&signature(""), "", "signature \"x\": matches every SYN"),
        (
            &signature("window = \"0-65535\"\nttl = \"1-255\"\nport = \"1-65535\""),
            "",
            "signature \"x\": matches every SYN",
        ),
        (&signature("options = []"), "", "options: matches nothing"),
        (&signature("options = [\"none\", \"other\"]"), "", "options \"other\": not one of none, padding, some"),
        (
            &signature("options = [\"some\"]\nlength = \"40-43\""),
            "",
            "matches nothing, such a SYN has at least 44 bytes",
        ),
        (&signature("payload = true\nlength = 40"), "", "matches nothing, such a SYN has at least 41 bytes"),
        (&signature("window = \"9-3\""), "", "a range that ends before it starts, 3 before 9"),
        (&signature("window = 65536"), "", "out of range"),
        (&signature("window = -1"), "", "not a number or a range"),
        (&signature("window = \"a\""), "", "not a number or a range"),
        (&signature("length = 39"), "", "here it is 40 to 65535"),
        (&signature("ttl = 0"), "", "here it is 1 to 255"),
        (&signature("port = 0"), "", "here it is 1 to 65535"),
        (&signature("windows = 0"), "", "did you mean window?"),
        ("[[syn.signature]]\nname = \"window-zero-bare\"\nwindow = 1", "", "a built-in signature has this name"),
        ("[[syn.signature]]\nname = \"a b\"\nwindow = 1", "", "cannot stand in a name"),
        (&format!("{}{}", signature("window = 1\n"), signature("window = 2")), "", "the name is given twice"),
    ] {
        let said = rendered(&with(text, service));
        assert!(said.contains(fault), "{text} {service}:\n{said}");
        assert!(said.contains(" --> weir.toml:") && said.contains('^'), "{text} {service}:\n{said}");
        assert!(said.contains("= help:"), "{text} {service}:\n{said}");
    }
    let many: String = (0..32).map(|number| format!("[[syn.signature]]\nname = \"s{number}\"\nwindow = 1\n")).collect();
    assert!(rendered(&with(&many, "")).contains("32 signatures, at most 31 are possible"));
    let nine: Vec<_> = (0..9).map(|number| format!("\"s{number}\"")).collect();
    let service = format!("syn = {{ signatures = [{}] }}", nine.join(", "));
    assert!(rendered(&with(&many[..], &service)).contains("9 signatures, at most 8 are possible"));
}

#[test]
fn what_common_systems_send_is_warned_of() {
    let warnings = |conditions: &str| {
        let text = format!("[[syn.signature]]\nname = \"x\"\n{conditions}");
        valid(&with(&text, "")).warnings.iter().map(Diagnostic::one_line).collect::<Vec<_>>().join("\n")
    };
    let said = warnings("window = \"60000-65535\"");
    assert!(said.contains("signature \"x\": matches the SYN of Linux 3 and later"), "{said}");
    assert!(said.contains("macOS") && said.contains("FreeBSD") && !said.contains("OpenBSD"), "{said}");
    assert!(warnings("window = 8192\nttl = \"100-128\"").contains("Windows 7 and 8"));
    assert!(warnings("window = 0").contains("tcptraceroute"));
    assert!(warnings("window = 0\npayload = true").contains("RIPE Atlas"));
    assert_eq!(warnings("window = \"1-47\"\nttl = \"1-80\"\noptions = [\"none\"]\nsource_port = \"1-1023\""), "");
}

#[test]
fn a_signature_for_ports_that_no_service_has_is_warned_of() {
    let warned = |port: &str, service: &str| {
        let text = format!("[[syn.signature]]\nname = \"x\"\nwindow = \"1-3\"\nttl = \"1-40\"\nport = {port}\n");
        let said =
            valid(&with(&text, service)).warnings.iter().map(Diagnostic::one_line).collect::<Vec<_>>().join("\n");
        said.contains("signature \"x\": matches nothing at any port of its services")
    };
    let looks = "syn = { signatures = [\"x\"] }";
    assert!(warned("443", looks) && warned("\"81-65535\"", looks) && warned("\"1-79\"", looks));
    assert!(!warned("80", looks) && !warned("\"1-80\"", looks) && !warned("\"80-90\"", looks));
    assert!(!warned("443", ""), "nobody looks for it");
}

/// No common system is among the flood, but for some that probe networks.
#[test]
fn the_built_in_signature_matches_no_common_system() {
    let built_in = valid(&with("", "")).signatures.remove(0);
    let matched: Vec<_> = FINGERPRINTS.iter().filter(|system| system.is_matched(&built_in.conditions)).collect();
    assert!(matched.iter().all(|system| system.probes));
    let names: Vec<_> = matched.iter().map(|system| system.system).collect();
    assert_eq!(names, ["masscan, early", "scamper trace -P TCP", "RIPE Atlas traceroute over TCP", "tcptraceroute"]);
}

#[test]
fn what_it_says_is_part_of_the_fingerprint() {
    let texts = [
        ("", ""),
        ("", "syn = \"count\""),
        ("", "syn = { budget = \"1/s\" }"),
        ("", "syn_rate = \"1/s\""),
        ("[syn]\nallow = \"10.0.0.0/8\"", ""),
        ("[syn]\nthreshold = \"1/s\"", ""),
        ("[[syn.signature]]\nname = \"x\"\nwindow = 1", "syn = { signatures = [\"x\"] }"),
        ("[[syn.signature]]\nname = \"x\"\nwindow = 2", "syn = { signatures = [\"x\"] }"),
    ];
    let prints: std::collections::BTreeSet<_> =
        texts.iter().map(|(text, service)| valid(&with(text, service)).fingerprint()).collect();
    assert_eq!(prints.len(), texts.len());
}
