//! What a user can write of checks, and what comes of it.

use std::time::Duration;

use super::super::{OnEmpty, parse};
use super::*;

fn service(lines: &str) -> Result<super::super::Service, String> {
    let text = format!(
        "interface = \"eth0\"\n[service.web]\nvip = [\"192.0.2.10:80\", \"192.0.2.10:53/udp\"]\nbackends = \"10.0.0.11-20\"\n{lines}\n"
    );
    let config = parse("weir.toml", &text).map_err(|error| error.to_string())?;
    Ok(super::super::Service::clone(&config.services["web"]))
}

fn checks_of(lines: &str) -> Vec<Check> {
    service(lines).unwrap_or_else(|error| panic!("{error}")).health.checks
}

#[test]
fn a_word_a_table_and_a_list_are_checks() {
    let word = checks_of("check = \"tcp\"");
    assert_eq!(word, checks_of("check = { tcp = true }"));
    assert_eq!(word, checks_of("check = [{ every = \"2s\" }]"));
    let [Check { kind, via, every, timeout, rise, fall, port, start }] = &word[..] else { panic!("{word:?}") };
    assert_eq!((kind, via, port, start), (&Kind::Tcp, &Via::Vip, &None, &Start::Up));
    assert_eq!((*every, *timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((*rise, *fall), (2, 3));
    let names: Vec<_> = checks_of("check = [\"ping\", { redis = true }, { expect = \"SSH-2\" }]")
        .iter()
        .map(|check| check.kind.name())
        .collect();
    assert_eq!(names, ["ping", "redis", "line"]);
}

#[test]
fn values_mean_what_they_say() {
    let check = &checks_of(
        r#"check = { https = "/a?b", host = "www.example.net:8443", status = ["200", "204-299", "201-203"], every = "500ms" }"#,
    )[0];
    let Kind::Http(http) = &check.kind else { panic!("{check:?}") };
    assert_eq!(http.status.to_string(), "200-299");
    assert_eq!(http.host.as_deref(), Some("www.example.net:8443"));
    assert_eq!(http.tls, Some(Tls { verify: true, name: Some("www.example.net".to_owned()), ca: None }));
    // The default is no longer than the interval.
    assert_eq!(check.timeout, Duration::from_millis(500));
    let dialogue = &checks_of(r#"check = { send = ["", "NOOP\r\n"], expect = ["220", "250"] }"#)[0];
    let Kind::Line(line) = &dialogue.kind else { panic!("{dialogue:?}") };
    assert_eq!((line.steps.len(), line.steps[1].send.as_str(), line.steps[1].expect.as_str()), (2, "NOOP\r\n", "250"));
    let command = &checks_of(r#"check = { command = ["/bin/true", "-x"], dynamic_weight = true }"#)[0];
    assert_eq!(
        command.kind,
        Kind::Command(Command { argv: vec!["/bin/true".into(), "-x".into()], dynamic_weight: true })
    );
    assert_eq!(command.via, Via::Backend);
    let health =
        service("check = \"tcp\"\nsorry = \"10.0.0.99\"\nrequired = true\nslow_start = \"1m\"").unwrap().health;
    assert_eq!((health.on_empty, health.quorum, health.slow_start), (OnEmpty::Sorry, Some(1), Duration::from_secs(60)));
}

/// What is wrong, where the caret points, and the way out.
#[test]
fn what_cannot_work_is_refused() {
    let rows = [
        (r#"check = { https = "/" }"#, "https: no host name, but the certificate is verified", "verify = false"),
        (r#"check = { tls = true, sni = "a_b" }"#, "sni \"a_b\": not a host name", "letters"),
        (r#"check = { command = "true" }"#, "command \"true\": not a whole path", "/..."),
        (r#"check = { command = "/bin/test -e" }"#, "a program and its arguments in one", "no shell"),
        (r#"check = { command = [] }"#, "command: no program", "for example"),
        (r#"check = { dns = "a..b" }"#, "dns \"a..b\": not a DNS name", "between dots"),
        (r#"check = { dns = "a.b", rcode = "NXDOMAIN", answer = "1" }"#, "answer: there is none", "remove"),
        (r#"check = { timeout = "3s" }"#, "timeout \"3s\": longer than the interval, 2s", "raise `every`"),
        (r#"check = { every = "10ms" }"#, "every \"10ms\": too short", "100ms"),
        (r#"check = { every = "2" }"#, "every \"2\": not a time", "write \"2s\""),
        (r#"check = { rise = 0 }"#, "rise 0: out of range", "1 to 100"),
        (r#"check = { http = "health" }"#, "path \"health\": does not begin with /", "write \"/health\""),
        (r#"check = { http = "/", status = "20x" }"#, "status \"20x\": not a status", "100 to 599"),
        (r#"check = { http = "/", method = "HEAD", body = "x" }"#, "body: an answer to HEAD has none", "GET"),
        (r#"check = { http = "/", dns = "a" }"#, "a check of two kinds, http and dns", "a list"),
        (r#"check = { tcp = true, host = "a" }"#, "host is not a key of a check by tcp", "http, https, tls"),
        (r#"check = { tcp = false }"#, "tcp = false", "leave the key out"),
        (r#"check = { ping = true, port = 7 }"#, "port: a check by ping goes to none", "remove it"),
        (r#"check = { tcp = true, port = 0 }"#, "port 0: not a port", "1 to 65535"),
        (r#"check = { via = "vips" }"#, "via \"vips\": not one of vip, backend", "did you mean \"vip\"?"),
        (r#"check = "tpc""#, "\"tpc\" is not one of", "tcp"),
        (r#"check = []"#, "no check", "leave the key out"),
        (r#"slow_start = "30s""#, "slow_start without a check", "check = \"tcp\""),
        ("check = \"tcp\"\nquorum = 11", "quorum 11: the service has 10 backends", "write 10 or less"),
        ("check = \"tcp\"\nquorum = 0", "quorum 0: no service is below that", "leave the key out"),
        ("check = \"tcp\"\non_empty = \"sorry\"", "on_empty = \"sorry\" without sorry backends", "name them"),
        (
            "check = \"tcp\"\non_empty = \"rst\"",
            "on_empty \"rst\": not one of last, drop, reset, sorry",
            "without this key",
        ),
        ("check = \"tcp\"\non_empty = \"reset\"\nsorry = \"10.0.0.99\"", "but on_empty = \"reset\"", "remove one"),
        ("check = \"tcp\"\non_empty = \"drop\"\nsorry = \"10.0.0.99\"", "but on_empty = \"drop\"", "remove one"),
        ("check = \"tcp\"\nsorry = \"10.0.0.11\"", "both a backend and a sorry backend", "remove one"),
    ];
    for (lines, reason, help) in rows {
        let said = service(lines).expect_err(lines);
        assert!(said.contains(reason) && said.contains(help) && said.contains("^"), "{lines}:\n{said}");
    }
}

#[test]
fn a_check_needs_a_vip_of_its_protocol_and_a_port() {
    let with = |vip: &str, check: &str| {
        let text =
            format!("interface = \"eth0\"\n[service.a]\nvip = \"{vip}\"\nbackends = \"10.0.0.11\"\ncheck = {check}\n");
        parse("weir.toml", &text).map(drop).map_err(|error| error.to_string())
    };
    assert!(with("192.0.2.1:53/udp", "\"tcp\"").unwrap_err().contains("no VIP is of tcp"));
    assert_eq!(with("192.0.2.1:53", "\"tcp\""), Ok(()));
    assert!(with("192.0.2.1:53/udp", "{ via = \"backend\" }").unwrap_err().contains("no port to check"));
    assert_eq!(with("192.0.2.1:53/udp", "{ via = \"backend\", port = 8080 }"), Ok(()));
    assert!(with("192.0.2.1:*", "\"tcp\"").unwrap_err().contains("no port to check"));
    assert_eq!(with("192.0.2.1:*", "{ port = 21 }"), Ok(()));
    assert_eq!(with("192.0.2.1:*", "\"ftp\""), Ok(()));
}

#[test]
fn only_tcp_is_reset() {
    let with = |vip: &str| {
        let text = format!(
            "interface = \"eth0\"\n[service.a]\nvip = \"{vip}\"\nbackends = \"10.0.0.11\"\non_empty = \"reset\"\n"
        );
        parse("weir.toml", &text).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(with("192.0.2.1:53"), Ok(()));
    let said = with("192.0.2.1:53/udp").unwrap_err();
    assert!(said.contains("on_empty = \"reset\", but no VIP is of tcp") && said.contains("5:12"), "{said}");
}

#[test]
fn checks_in_parts_keep_their_places() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let texts = [
        file("weir.toml", "interface = \"eth0\"\n"),
        file(
            "conf.d/a.toml",
            "[service.a]\nvip = \"192.0.2.1:80\"\nbackends = \"10.0.0.11\"\ncheck = [\"tcp\", { rise = 0 }]\n",
        ),
    ];
    let said = super::super::parse_all(&texts).expect_err("rise 0").to_string();
    assert!(said.contains("conf.d/a.toml:4:26"), "{said}");
}
