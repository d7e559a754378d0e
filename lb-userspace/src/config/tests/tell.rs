//! Whom a node tells: metrics and notifications.

use super::*;

fn with(text: &str) -> String {
    format!("interface = \"eth0\"\n{KEY}{text}\n{SERVICE}")
}

#[test]
fn metrics_are_on_loopback_unless_said_otherwise() {
    for (text, addresses, asked) in [
        ("", &["127.0.0.1:9580"][..], false),
        ("metrics = \"off\"", &[], true),
        ("metrics = [\"off\"]", &[], true),
        ("metrics = \"[::1]:80\"", &["[::1]:80"], true),
        ("metrics = [\"127.0.0.2:9580\", \"127.0.0.1:9580\"]", &["127.0.0.1:9580", "127.0.0.2:9580"], true),
    ] {
        let config = valid(&with(text));
        let found: Vec<_> = config.metrics.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            (found, config.metrics.asked),
            (addresses.iter().map(ToString::to_string).collect(), asked),
            "{text}"
        );
        assert_eq!(config.warnings.len(), 0, "{text}");
    }
}

#[test]
fn metrics_for_others_are_warned_of() {
    for address in ["10.0.0.1:9580", "0.0.0.0:9580", "[::]:9580"] {
        let config = valid(&with(&format!("metrics = [\"127.0.0.1:9580\", \"{address}\"]")));
        let warnings: Vec<_> = config.warnings.iter().map(Diagnostic::one_line).collect();
        assert!(
            matches!(&warnings[..], [only] if only.contains(&format!("metrics {address}: whoever"))),
            "{warnings:?}"
        );
    }
}

#[test]
fn receivers_are_read() {
    let config = valid(&with(
        r#"
[notify]
webhook = ["https://hooks.example.net/a?b=c", "http://[2001:db8::1]:81"]
alertmanager = "http://192.0.2.30:9093/am/"
command = ["/bin/true", "x y"]
"#,
    ));
    let shown: Vec<_> = config.receivers.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "alertmanager http://192.0.2.30:9093",
            "webhook http://[2001:db8::1]:81",
            "webhook https://hooks.example.net",
            "command /bin/true"
        ]
    );
    let urls: Vec<_> = config.receivers.iter().filter_map(url).collect();
    assert_eq!(
        urls.iter().map(|url| (url.tls, &url.host[..], url.port, &url.path[..])).collect::<Vec<_>>(),
        [
            (false, "192.0.2.30", 9093, "/am/"),
            (false, "2001:db8::1", 81, "/"),
            (true, "hooks.example.net", 443, "/a?b=c")
        ]
    );
    assert_eq!(config.receivers[3], Receiver::Command(vec!["/bin/true".into(), "x y".into()]));
}

fn url(receiver: &Receiver) -> Option<&Url> {
    match receiver {
        Receiver::Alertmanager(url) | Receiver::Webhook(url) => Some(url),
        Receiver::Command(_) => None,
    }
}

/// A sibling may tell others, at other addresses.
#[test]
fn whom_a_node_tells_is_its_own_matter() {
    let (one, other) = (valid(&with("")), valid(&with("metrics = \"off\"\n[notify]\nwebhook = \"http://192.0.2.1\"")));
    assert_eq!(one.fingerprint(), other.fingerprint());
    assert!(one != other);
}

#[test]
fn faults_are_named() {
    for (text, fault) in [
        ("metrics = \"9580\"", "metrics \"9580\": not ADDRESS:PORT"),
        ("metrics = \"localhost:9580\"", "not ADDRESS:PORT"),
        ("metrics = \"127.0.0.1:0\"", "port 0"),
        ("metrics = \"127.0.0.1:99999\"", "not ADDRESS:PORT"),
        ("metrics = \"224.0.0.1:9580\"", "a multicast address"),
        ("metrics = []", "metrics: no address"),
        ("metrics = [\"off\", \"127.0.0.1:9580\"]", "\"off\" among addresses"),
        ("metrics = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", "metrics 127.0.0.1:1 is given twice"),
        ("metrics = 9580", "wrong type, expected a string or a list of strings"),
        (
            "metrics = [\"[::1]:1\", \"[::1]:2\", \"[::1]:3\", \"[::1]:4\", \"[::1]:5\", \"[::1]:6\", \"[::1]:7\", \"[::1]:8\", \"[::1]:9\"]",
            "9 addresses for metrics, at most 8 are possible",
        ),
        ("notify = \"http://192.0.2.1\"", "expected the table of notify"),
        (
            "[notify]\nwebhok = \"http://192.0.2.1\"",
            "did you mean webhook? Keys here are alertmanager, webhook, command",
        ),
        ("[notify]\nwebhook = \"192.0.2.1:80\"", "not a URL"),
        ("[notify]\nwebhook = \"\"", "not a URL"),
        ("[notify]\nwebhook = \"ftp://192.0.2.1\"", "scheme \"ftp\""),
        ("[notify]\nwebhook = \"http://\"", "not a URL"),
        ("[notify]\nwebhook = \"http://a:99999/\"", "not a host and a port"),
        ("[notify]\nwebhook = \"http://a:0/\"", "not a host and a port"),
        ("[notify]\nwebhook = \"http://me:secret@192.0.2.1\"", "a user in a URL is not sent"),
        ("[notify]\nwebhook = [\"http://a\", \"http://a\"]", "webhook http://a is given twice"),
        ("[notify]\ncommand = []", "command: no program"),
        ("[notify]\ncommand = \"tell --weir\"", "command \"tell --weir\": not an absolute path"),
        ("[notify]\ncommand = [\"/bin/true\", \"\\u0000\"]", "a zero byte"),
    ] {
        let said = rendered(&with(text));
        assert!(said.contains(fault), "{text}:\n{said}");
        assert!(said.contains("weir.toml:3:") || said.contains("weir.toml:4:"), "{text}:\n{said}");
        assert!(said.contains("= help:"), "{text}:\n{said}");
    }
}

#[test]
fn places_in_parts_are_theirs() {
    let texts = [
        ("a.toml".to_owned(), format!("interface = \"eth0\"\n{KEY}[notify]\nwebhook = \"http://a\"\n{SERVICE}")),
        ("b.toml".to_owned(), "metrics = \"1\"\n[notify]\nwebhook = \"2\"".to_owned()),
    ];
    let said = parse_all(&texts).expect_err("a fault is found").to_string();
    for part in ["b.toml:1:12", "key \"notify\" stands in two files", "b.toml:2:1"] {
        assert!(said.contains(part), "{said}");
    }
}
