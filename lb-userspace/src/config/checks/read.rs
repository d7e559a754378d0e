//! From checks as written to valid ones.

use std::{path::PathBuf, time::Duration};

use toml::Spanned;

use super::super::check::Faults;
use super::super::error::{Span, quoted};
use super::super::raw::{Number, Strings};
use super::super::syntax::SyntaxError;
use super::raw::{Check as Raw, Checks as RawChecks};
use super::*;

/// Keys that every kind has.
const COMMON: &[&str] = &["every", "timeout", "rise", "fall", "via", "port", "start"];

/// Kinds by the key that names them, with the keys that they have besides.
const KINDS: &[(&str, &[&str])] = &[
    ("tcp", &[]),
    ("http", &["host", "method", "status", "body"]),
    ("https", &["host", "method", "status", "body", "verify", "sni", "ca"]),
    ("tls", &["host", "verify", "sni", "ca"]),
    ("dns", &["record", "rcode", "answer", "over"]),
    ("ftp", &[]),
    ("smtp", &[]),
    ("redis", &[]),
    ("ping", &[]),
    ("udp", &["send", "expect"]),
    ("command", &["dynamic_weight"]),
    // A dialogue of the user's own, named by what it waits for.
    ("expect", &["send"]),
];

/// The valid checks of a service; faults of the others are noted.
pub fn checks(faults: &mut Faults, service: &str, raw: Option<&RawChecks>) -> Vec<Check> {
    let items = raw.map_or(&[][..], |raw| &raw.items);
    items.iter().map(|item| check(faults, service, item)).collect()
}

fn check(faults: &mut Faults, service: &str, item: &Spanned<Raw>) -> Check {
    let raw = item.get_ref();
    let kind = kind(faults, service, item);
    let every = time(faults, "every", raw.every.as_ref(), DEFAULT_EVERY, MIN_EVERY, MAX_EVERY);
    let timeout = time(faults, "timeout", raw.timeout.as_ref(), DEFAULT_TIMEOUT.min(every), MIN_TIMEOUT, MAX_EVERY);
    if let Some(written) = raw.timeout.as_ref().filter(|_| timeout > every) {
        let message = format!("timeout {}: longer than the interval, {}", quoted(written.get_ref()), in_words(every));
        faults.add(written.span(), message, "a check must end before the next begins: lower it, or raise `every`");
    }
    let via = match kind {
        // A program is told both addresses and asks whom it likes.
        Kind::Command(_) => faults.word("via", raw.via.as_ref(), Via::Backend),
        _ => faults.word("via", raw.via.as_ref(), Via::Vip),
    };
    Check {
        via,
        every,
        timeout,
        rise: count(faults, "rise", raw.rise.as_ref(), DEFAULT_RISE),
        fall: count(faults, "fall", raw.fall.as_ref(), DEFAULT_FALL),
        port: port(faults, &kind, raw.port.as_ref()),
        start: faults.word("start", raw.start.as_ref(), Start::Up),
        kind,
    }
}

/// The kind that a table names, once it is clear that it has no keys of another.
fn kind(faults: &mut Faults, service: &str, item: &Spanned<Raw>) -> Kind {
    let raw = item.get_ref();
    let keys = raw.keys();
    let is_kind = |key: &str| KINDS.iter().any(|(name, _)| *name == key);
    let has_udp = raw.udp.is_some();
    let named: Vec<_> =
        keys.iter().filter(|(key, _)| is_kind(key) && !(*key == "expect" && has_udp)).cloned().collect();
    if let [(first, at), (second, other), ..] = &named[..] {
        let message = format!("service {}: a check of two kinds, {first} and {second}", quoted(service));
        let help = "one kind a check; a service may have a list: check = [{ ... }, { ... }]";
        faults.add_pair(other.clone(), message, help, at.clone());
    }
    let name = named.first().map_or("tcp", |(name, _)| *name);
    let own = KINDS.iter().find(|(kind, _)| *kind == name).map_or(&[][..], |(_, own)| own);
    for (key, span) in &keys {
        if !is_kind(key) && !COMMON.contains(key) && !own.contains(key) {
            let owners = KINDS.iter().filter(|(_, own)| own.contains(key)).map(|(kind, _)| *kind);
            let owners = owners.collect::<Vec<_>>().join(", ");
            let message = format!("service {}: {key} is not a key of a check by {name}", quoted(service));
            faults.add(span.clone(), message, format!("{key} is for {owners}"));
        }
    }
    for (key, value) in flags(raw) {
        if let Some(value) = value.filter(|value| !value.get_ref()) {
            faults.add(value.span(), format!("{key} = false"), "leave the key out");
        }
    }
    of_name(faults, name, item)
}

/// Keys whose presence alone names the kind.
fn flags(raw: &Raw) -> [(&'static str, Option<&Spanned<bool>>); 7] {
    [
        ("tcp", raw.tcp.as_ref()),
        ("tls", raw.tls.as_ref()),
        ("ftp", raw.ftp.as_ref()),
        ("smtp", raw.smtp.as_ref()),
        ("redis", raw.redis.as_ref()),
        ("ping", raw.ping.as_ref()),
        ("udp", raw.udp.as_ref()),
    ]
}

fn of_name(faults: &mut Faults, name: &str, item: &Spanned<Raw>) -> Kind {
    let raw = item.get_ref();
    let step = |send: &str, expect: &str| Step { send: send.to_owned(), expect: expect.to_owned() };
    match name {
        "http" => Kind::Http(http(faults, raw.http.as_ref(), None, raw)),
        "https" => {
            let tls = tls(faults, raw, raw.https.as_ref().map_or(item.span(), Spanned::span), "https");
            Kind::Http(http(faults, raw.https.as_ref(), Some(tls), raw))
        }
        "tls" => {
            let place = raw.tls.as_ref().map(Spanned::span).filter(|span| !span.is_empty()).unwrap_or(item.span());
            Kind::Tls(tls(faults, raw, place, "tls"))
        }
        "dns" => Kind::Dns(dns(faults, raw)),
        "ftp" => Kind::Line(Line { name: "ftp", steps: vec![step("", "220"), step("QUIT\r\n", "221")] }),
        "smtp" => {
            let steps = vec![step("", "220"), step("EHLO weir\r\n", "250"), step("QUIT\r\n", "221")];
            Kind::Line(Line { name: "smtp", steps })
        }
        "redis" => Kind::Line(Line { name: "redis", steps: vec![step("PING\r\n", "+PONG")] }),
        "expect" => Kind::Line(Line { name: "line", steps: dialogue(faults, raw) }),
        "ping" => Kind::Ping,
        "udp" => Kind::Udp(udp(faults, raw)),
        "command" => Kind::Command(command(faults, raw)),
        _ => Kind::Tcp,
    }
}

fn http(faults: &mut Faults, path: Option<&Spanned<String>>, tls: Option<Tls>, raw: &Raw) -> Http {
    let path = text(faults, "path", path, |text| {
        let visible = |c: char| c.is_ascii_graphic();
        if !text.starts_with('/') {
            Err(fault(text, "does not begin with /", format!("write {:?}", format!("/{text}"))))
        } else if !text.chars().all(visible) {
            Err(fault(text, "holds what a request cannot", "encode it, a space as %20"))
        } else {
            Ok(text.to_owned())
        }
    });
    let method = text(faults, "method", raw.method.as_ref(), |text| {
        let upper = text.to_ascii_uppercase();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            Err(fault(text, "not a method", "for example \"GET\" or \"HEAD\""))
        } else if text != upper {
            Err(fault(text, "methods are in upper case", format!("write {upper:?}")))
        } else {
            Ok(upper)
        }
    });
    let body = raw.body.as_ref().map(|body| body.get_ref().clone());
    if let (Some(written), Some("HEAD")) = (&raw.body, method.as_deref()) {
        faults.add(written.span(), "body: an answer to HEAD has none".to_owned(), "use method = \"GET\"");
    }
    Http {
        tls,
        method: method.unwrap_or_else(|| "GET".to_owned()),
        path: path.unwrap_or_else(|| "/".to_owned()),
        host: text(faults, "host", raw.host.as_ref(), authority),
        status: statuses(faults, raw.status.as_ref()),
        body,
    }
}

/// `place` is where the check says that it is one with TLS.
fn tls(faults: &mut Faults, raw: &Raw, place: Span, kind: &str) -> Tls {
    let verify = raw.verify.as_ref().is_none_or(|verify| *verify.get_ref());
    let sni = text(faults, "sni", raw.sni.as_ref(), host_name);
    let host = raw.host.as_ref().and_then(|host| authority(host.get_ref()).ok());
    let name = sni.or_else(|| host.and_then(|host| host_name(host.split(':').next().unwrap_or_default()).ok()));
    if verify && name.is_none() && raw.sni.is_none() {
        let message = format!("{kind}: no host name, but the certificate is verified");
        faults.add(place, message, "add host = \"www.example.net\", or verify = false");
    }
    let ca = raw.ca.as_ref().and_then(|ca| absolute(faults, "ca", ca));
    if let (Some(ca), false) = (&raw.ca, verify) {
        faults.add(ca.span(), "ca: certificates are not verified here".to_owned(), "remove it, or verify = false");
    }
    Tls { verify, name, ca }
}

fn dns(faults: &mut Faults, raw: &Raw) -> Dns {
    let name = text(faults, "dns", raw.dns.as_ref(), dns_name);
    let rcode = faults.word("rcode", raw.rcode.as_ref(), Rcode::NoError);
    if let Some(answer) = raw.answer.as_ref().filter(|_| rcode != Rcode::NoError) {
        let message = format!("answer: there is none where the code is {rcode}");
        faults.add(answer.span(), message, "remove `answer` or `rcode`");
    }
    Dns {
        name: name.unwrap_or_default(),
        record: faults.word("record", raw.record.as_ref(), Record::A),
        rcode,
        answer: raw.answer.as_ref().map(|answer| answer.get_ref().clone()),
        over: raw.over.as_ref().map(|over| faults.word("over", Some(over), Protocol::Udp)),
    }
}

/// What is said and what is waited for, in turn.
fn dialogue(faults: &mut Faults, raw: &Raw) -> Vec<Step> {
    let send = strings(raw.send.as_ref());
    let expect = strings(raw.expect.as_ref());
    if let Some(list) = raw.expect.as_ref().filter(|_| expect.iter().all(String::is_empty)) {
        faults.add(list.span.clone(), "expect: nothing to wait for".to_owned(), "for example expect = \"220\"");
    }
    let turns = send.len().max(expect.len());
    let at = |list: &[String], turn: usize| list.get(turn).cloned().unwrap_or_default();
    (0..turns).map(|turn| Step { send: at(&send, turn), expect: at(&expect, turn) }).collect()
}

fn udp(faults: &mut Faults, raw: &Raw) -> Udp {
    let mut one = |key: &str, list: Option<&Strings>| {
        let items = strings(list);
        if let Some(second) = list.and_then(|list| list.items.get(1)) {
            let message = format!("{key}: a check by udp sends one datagram and waits for one");
            faults.add(second.span(), message, "write one string");
        }
        items.into_iter().next().unwrap_or_default()
    };
    Udp { send: one("send", raw.send.as_ref()), expect: one("expect", raw.expect.as_ref()) }
}

fn command(faults: &mut Faults, raw: &Raw) -> Command {
    let argv = strings(raw.command.as_ref());
    if let Some(list) = &raw.command {
        match list.items.first() {
            None => faults.add(
                list.span.clone(),
                "command: no program".to_owned(),
                "for example command = [\"/usr/local/bin/is-alive\"]",
            ),
            Some(program) => {
                let words = program.get_ref().split_whitespace().collect::<Vec<_>>();
                if list.items.len() == 1 && words.len() > 1 && program.get_ref().starts_with('/') {
                    let message = format!("command {}: a program and its arguments in one", quoted(program.get_ref()));
                    faults.add(program.span(), message, format!("there is no shell: write {words:?}"));
                } else {
                    absolute(faults, "command", program);
                }
            }
        }
        for item in &list.items {
            if item.get_ref().contains('\0') {
                faults.add(item.span(), "command: holds a zero byte".to_owned(), "no program can be given that");
            }
        }
    }
    Command { argv, dynamic_weight: raw.dynamic_weight.as_ref().is_some_and(|on| *on.get_ref()) }
}

fn strings(list: Option<&Strings>) -> Vec<String> {
    list.map_or(Vec::new(), |list| list.items.iter().map(|item| item.get_ref().clone()).collect())
}

fn statuses(faults: &mut Faults, list: Option<&Strings>) -> Statuses {
    let mut ranges: Vec<(u16, u16)> =
        faults.list("status", list, status).into_iter().flat_map(Spanned::into_inner).collect();
    if let Some(list) = list.filter(|list| list.items.is_empty()) {
        faults.add(list.span.clone(), "status: none is good".to_owned(), "for example status = \"200-399\"");
    }
    if ranges.is_empty() {
        ranges.push((200, 399));
    }
    ranges.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    Statuses(joined)
}

/// `200`, `200-299`, `200,204,300-399`.
fn status(text: &str) -> Result<Vec<(u16, u16)>, SyntaxError> {
    let help = "a status is 100 to 599: \"200\", \"200-399\" or [\"200\", \"204\"]";
    let one = |digits: &str| {
        let valid = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|status| valid && (100..=599).contains(status))
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((one(first.trim())?, one(last.trim())?))
    };
    let ranges: Option<Vec<(u16, u16)>> = text.split(',').map(|part| range(part.trim())).collect();
    match ranges {
        None => Err(fault(text, "not a status", help)),
        Some(ranges) if ranges.iter().any(|(first, last)| first > last) => {
            Err(fault(text, "a range that ends before it starts", help))
        }
        Some(ranges) => Ok(ranges),
    }
}

/// A name, or a name and a port: what a `Host` header may hold.
fn authority(text: &str) -> Result<String, SyntaxError> {
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => text,
    };
    let address = text.parse::<std::net::IpAddr>().is_ok() || (name.starts_with('[') && name.ends_with(']'));
    if address { Ok(text.to_owned()) } else { host_name(name).map(|_| text.to_owned()) }
}

/// The name of a host (RFC 1123, 2.1).
fn host_name(text: &str) -> Result<String, SyntaxError> {
    let help = "a host name is letters, digits and -, in parts of 1 to 63, such as \"www.example.net\"";
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let valid = name.len() <= 253 && name.split('.').all(part);
    if valid { Ok(name.to_owned()) } else { Err(fault(text, "not a host name", help)) }
}

/// A name that a DNS server can be asked for: underscores too, and the root.
fn dns_name(text: &str) -> Result<String, SyntaxError> {
    let help = "a DNS name is parts of 1 to 63 letters, digits, - and _ between dots, at most 253 in all";
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let valid = text == "." || (name.len() <= 253 && name.split('.').all(part));
    if valid { Ok(name.to_owned()) } else { Err(fault(text, "not a DNS name", help)) }
}

/// A path that means the same wherever the agent is started.
fn absolute(faults: &mut Faults, key: &str, path: &Spanned<String>) -> Option<PathBuf> {
    let found = PathBuf::from(path.get_ref());
    if found.is_absolute() {
        return Some(found);
    }
    let message = format!("{key} {}: not a whole path", quoted(path.get_ref()));
    faults.add(path.span(), message, "write it from the root on: /...");
    None
}

fn text<T>(
    faults: &mut Faults,
    key: &str,
    value: Option<&Spanned<String>>,
    parse: impl Fn(&str) -> Result<T, SyntaxError>,
) -> Option<T> {
    value.and_then(|value| faults.item(key, value, parse)).map(Spanned::into_inner)
}

fn fault(text: &str, reason: impl Into<String>, help: impl Into<String>) -> SyntaxError {
    SyntaxError { at: 0..text.len(), reason: reason.into(), help: help.into() }
}

fn port(faults: &mut Faults, kind: &Kind, number: Option<&Spanned<Number>>) -> Option<u16> {
    let number = number?;
    let (span, value) = (number.span(), number.get_ref().0);
    let port = u16::try_from(value).ok().filter(|port| *port > 0);
    if !kind.has_port() {
        faults.add(span, format!("port: a check by {} goes to none", kind.name()), "remove it");
    } else if port.is_none() {
        faults.add(span.clone(), format!("port {}: not a port", faults.source().slice(&span)), "a port is 1 to 65535");
    }
    port
}

/// The most results in a row that may be asked for.
const MOST_IN_A_ROW: u32 = 100;

fn count(faults: &mut Faults, key: &str, number: Option<&Spanned<Number>>, default: u32) -> u32 {
    let Some(number) = number else { return default };
    let (span, value) = (number.span(), number.get_ref().0);
    match u32::try_from(value) {
        Ok(value) if (1..=MOST_IN_A_ROW).contains(&value) => value,
        _ => {
            let message = format!("{key} {}: out of range", faults.source().slice(&span));
            faults.add(span, message, format!("it is 1 to {MOST_IN_A_ROW} results in a row"));
            default
        }
    }
}

/// A time of the file between two others.
pub fn time(
    faults: &mut Faults,
    key: &str,
    value: Option<&Spanned<String>>,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Duration {
    let Some(value) = value else { return default };
    let within = |text: &str| match duration(text)? {
        time if time < least => Err(fault(text, "too short", format!("write \"{}\" or more", in_words(least)))),
        time if time > most => Err(fault(text, "too long", format!("write \"{}\" or less", in_words(most)))),
        time => Ok(time),
    };
    faults.item(key, value, within).map_or(default, Spanned::into_inner)
}

/// `500ms`, `2s`, `5m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, SyntaxError> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<u64> = digits.parse().ok().filter(|_| valid);
    let all = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    all.map(Duration::from_millis).ok_or_else(|| {
        let help = match (number, unit) {
            (Some(number), None) if digits == text => format!("write \"{number}s\" for seconds"),
            _ => "write it like \"500ms\", \"2s\" or \"5m\"".to_owned(),
        };
        fault(text, "not a time", help)
    })
}

/// A time as the file has it.
pub fn in_words(time: Duration) -> String {
    const UNITS: [(u128, &str); 3] = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let ms = time.as_millis();
    match UNITS.iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}
