//! A message in its forms: plain JSON for webhooks and commands, and alerts as Alertmanager's API v2 has them. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Subject;
use crate::clock::utc;

/// How long an alert lasts that nobody repeats: as many times as Prometheus gives it.
const LASTS_MS: u64 = 4 * 60_000;
/// Subjects of a kind that a message's text names.
const NAMED: usize = 3;

/// How something is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What.
    pub subject: Subject,
    /// Whether all is well with it.
    pub ok: bool,
    /// How it is, in a few words.
    pub text: String,
    /// Since when, by the wall clock, milliseconds since 1970.
    pub since_ms: u64,
    /// How often it has changed since it was last told.
    pub times: u32,
}

/// What a message is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Those that are listed.
    pub changes: Vec<Change>,
    /// How many more there are.
    pub left_out: u64,
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    host: String,
    time_ms: u64,
    about: Changes,
}

impl Message {
    /// From this host, at this time.
    pub fn new(host: String, time_ms: u64, about: Changes) -> Self {
        Message { host, time_ms, about }
    }

    /// An object whose `text` is for people and whose `changes` are for programs.
    pub fn plain(&self) -> Value {
        let change = |change: &Change| {
            let Change { subject, ok, text, since_ms, times } = change;
            let mut object = labels(subject);
            object.insert("kind".into(), json!(kind(subject)));
            for (key, value) in
                [("ok", json!(ok)), ("text", json!(text)), ("since_ms", json!(since_ms)), ("times", json!(times))]
            {
                object.insert(key.into(), value);
            }
            Value::Object(object)
        };
        json!({
            "version": 1, "host": self.host, "time_ms": self.time_ms, "text": self.text(),
            "changes": self.about.changes.iter().map(change).collect::<Vec<_>>(), "left_out": self.about.left_out,
        })
    }

    /// Alerts: one for each change, which ends now if all is well.
    pub fn alerts(&self) -> Value {
        let alert = |change: &Change| {
            let Change { subject, ok, text, since_ms, .. } = change;
            let mut labels = labels(subject);
            labels.insert("alertname".into(), json!(alert_name(subject)));
            labels.insert("instance".into(), json!(self.host));
            labels.insert("job".into(), json!("weir"));
            let ends_ms = if *ok { self.time_ms } else { self.time_ms + LASTS_MS };
            json!({
                "labels": labels, "annotations": { "summary": format!("{}: {}: {text}", self.host, name(subject)) },
                // What is over began before it ended.
                "startsAt": utc(if *ok { since_ms.saturating_sub(1) } else { *since_ms }), "endsAt": utc(ends_ms),
            })
        };
        self.about.changes.iter().map(alert).collect()
    }

    /// What has changed, in a line for each kind of it.
    fn text(&self) -> String {
        let mut kinds: BTreeMap<(bool, &str, &str), Vec<&Change>> = BTreeMap::new();
        for change in &self.about.changes {
            kinds.entry((change.ok, kind(&change.subject), service(&change.subject))).or_default().push(change);
        }
        let mut lines: Vec<String> = kinds.into_iter().map(|(key, changes)| line(key, &changes)).collect();
        if self.about.left_out > 0 {
            lines.push(format!("and {} more changes", self.about.left_out));
        }
        format!("weir on {}: {}", self.host, lines.join("; "))
    }
}

fn line((ok, kind, service): (bool, &str, &str), changes: &[&Change]) -> String {
    let one = |change: &&Change| {
        let often = if change.times > 2 { format!(", changed {} times", change.times) } else { String::new() };
        format!("{}: {}{often}", name(&change.subject), change.text)
    };
    let mut named: Vec<_> = changes.iter().take(NAMED).map(one).collect();
    if changes.len() <= NAMED {
        return named.join("; ");
    }
    named.push("...".to_owned());
    let of = if service.is_empty() { String::new() } else { format!(" of {service}") };
    let how = if ok { "are well again" } else { "are not well" };
    let kinds = if kind == "address" { "addresses".to_owned() } else { format!("{kind}s") };
    format!("{} {kinds}{of} {how} ({})", changes.len(), named.join("; "))
}

fn kind(subject: &Subject) -> &'static str {
    match subject {
        Subject::Configuration => "configuration",
        Subject::Interface(_) => "interface",
        Subject::Address(_) => "address",
        Subject::Service(_) => "service",
        Subject::Flood(_) => "flood",
        Subject::Backend(..) => "backend",
    }
}

fn alert_name(subject: &Subject) -> &'static str {
    match subject {
        Subject::Configuration => "WeirReloadFailed",
        Subject::Interface(_) => "WeirInterfaceLost",
        Subject::Address(_) => "WeirAddressWithdrawn",
        Subject::Service(_) => "WeirBelowQuorum",
        Subject::Flood(_) => "WeirSynFlood",
        Subject::Backend(..) => "WeirBackendDown",
    }
}

fn service(subject: &Subject) -> &str {
    match subject {
        Subject::Service(service) | Subject::Flood(service) | Subject::Backend(service, _) => service,
        Subject::Configuration | Subject::Interface(_) | Subject::Address(_) => "",
    }
}

fn name(subject: &Subject) -> String {
    match subject {
        Subject::Configuration => "configuration".to_owned(),
        Subject::Interface(name) => format!("interface {name}"),
        Subject::Address(address) => format!("address {address}"),
        Subject::Service(service) | Subject::Flood(service) => format!("service {service}"),
        Subject::Backend(service, address) => format!("{service} {address}"),
    }
}

/// What names it, for programs.
fn labels(subject: &Subject) -> Map<String, Value> {
    let mut labels = Map::new();
    match subject {
        Subject::Configuration => {}
        Subject::Interface(name) => _ = labels.insert("interface".into(), json!(name)),
        Subject::Address(address) => _ = labels.insert("address".into(), json!(address)),
        Subject::Service(service) | Subject::Flood(service) => _ = labels.insert("service".into(), json!(service)),
        Subject::Backend(service, address) => {
            labels.insert("service".into(), json!(service));
            labels.insert("backend".into(), json!(address));
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(subject: Subject, ok: bool, text: &str, times: u32) -> Change {
        Change { subject, ok, text: text.into(), since_ms: 1_000, times }
    }

    fn backend(number: u8) -> Subject {
        Subject::Backend("web".into(), [10, 0, 0, number].into())
    }

    fn message(changes: Vec<Change>, left_out: u64) -> Message {
        Message::new("lb1".into(), 61_000, Changes { changes, left_out })
    }

    #[test]
    fn many_of_a_kind_are_counted() {
        let down = |number| change(backend(number), false, "connect: refused", 1);
        let some = message(vec![down(11), change(Subject::Interface("eth0".into()), true, "up", 4)], 0);
        assert_eq!(some.text(), "weir on lb1: web 10.0.0.11: connect: refused; interface eth0: up, changed 4 times");
        let many = message((1..=200).map(down).collect(), 7);
        assert_eq!(
            many.text(),
            "weir on lb1: 200 backends of web are not well (web 10.0.0.1: connect: refused; web 10.0.0.2: connect: refused; \
             web 10.0.0.3: connect: refused; ...); and 7 more changes"
        );
    }

    #[test]
    fn the_plain_form_lists_all() {
        let plain = message(vec![change(backend(11), false, "connect: refused", 1)], 3).plain();
        assert_eq!(
            plain,
            json!({
                "version": 1, "host": "lb1", "time_ms": 61_000, "left_out": 3,
                "text": "weir on lb1: web 10.0.0.11: connect: refused; and 3 more changes",
                "changes": [{ "kind": "backend", "service": "web", "backend": "10.0.0.11", "ok": false,
                              "text": "connect: refused", "since_ms": 1_000, "times": 1 }],
            })
        );
    }

    #[test]
    fn alerts_end_when_all_is_well() {
        let changes = vec![
            change(backend(11), false, "connect: refused", 1),
            change(Subject::Configuration, true, "in effect", 1),
        ];
        assert_eq!(
            message(changes, 0).alerts(),
            json!([
                { "labels": { "alertname": "WeirBackendDown", "instance": "lb1", "job": "weir", "service": "web",
                              "backend": "10.0.0.11" },
                  "annotations": { "summary": "lb1: web 10.0.0.11: connect: refused" },
                  "startsAt": "1970-01-01T00:00:01.000Z", "endsAt": "1970-01-01T00:05:01.000Z" },
                { "labels": { "alertname": "WeirReloadFailed", "instance": "lb1", "job": "weir" },
                  "annotations": { "summary": "lb1: configuration: in effect" },
                  "startsAt": "1970-01-01T00:00:00.999Z", "endsAt": "1970-01-01T00:01:01.000Z" },
            ])
        );
    }
}
