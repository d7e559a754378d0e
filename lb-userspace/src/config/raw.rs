//! A file as it is written: keys and TOML types, each value with its place. What the values mean is not judged here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::checks::{CHECK_KEYS, RawChecks};
use super::error::{Diagnostic, Source, Span, closest, quoted};

/// Reads the TOML of one file. The first fault ends it: behind one, the rest is guesswork.
pub fn read(name: &str, text: &str) -> Result<Root, Diagnostic> {
    let root = toml::Deserializer::parse(text).and_then(Root::deserialize);
    root.map_err(|error| diagnose(&Arc::new(Source::new(name, text)), error))
}

/// Keys above the first table, with an example of each.
pub const TOP_KEYS: &[(&str, &str)] = &[
    ("interface", r#"interface = "eth0", or interface = ["eth0", "eth1"]"#),
    ("slots", "slots = 65536"),
    ("arena", "arena = 4194304"),
    ("hash_key", r#"hash_key = "...", 32 hex digits as `openssl rand -hex 16` prints them"#),
    ("announce", r#"announce = "arp""#),
    ("macs", r#"macs = ["00:00:5e:00:01:0a"]"#),
    ("bad_flags", r#"bad_flags = "drop""#),
    ("icmp_rate", "icmp_rate = 1000"),
    ("tunnel_source", r#"tunnel_source = ["10.255.0.0/16", "2001:db8:ffff::/96"]"#),
    ("metrics", r#"metrics = "127.0.0.1:9580""#),
    ("notify", r#"[notify] with alertmanager = "http://192.0.2.30:9093""#),
    ("syn", r#"[syn] with mode = "auto""#),
    ("service", r#"[service.web] with vip = "192.0.2.10:80" and backends = "10.0.0.11""#),
];

/// Keys of a service, with an example of each.
pub const SERVICE_KEYS: &[(&str, &str)] = &[
    ("vip", r#"vip = ["192.0.2.10:80", "192.0.2.10:443"]"#),
    ("backends", r#"backends = ["10.0.0.11", "10.0.0.12"]"#),
    ("forward", r#"forward = "l2""#),
    ("hash", r#"hash = "flow""#),
    ("syn", r#"syn = "auto", or syn = { mode = "auto", budget = "100/s" }"#),
    ("syn_rate", r#"syn_rate = "50k/s""#),
    ("slots", "slots = 65536"),
    ("mss", "mss = 1360"),
    ("check", r#"check = { http = "/health", host = "www.example.net" }"#),
    ("quorum", "quorum = 2"),
    ("required", "required = true"),
    ("on_empty", r#"on_empty = "last""#),
    ("sorry", r#"sorry = "10.0.0.99""#),
    ("slow_start", r#"slow_start = "30s""#),
];

/// Keys of `[notify]`, with an example of each.
pub const NOTIFY_KEYS: &[(&str, &str)] = &[
    ("alertmanager", r#"alertmanager = "http://192.0.2.30:9093""#),
    ("webhook", r#"webhook = "https://hooks.example.net/weir""#),
    ("command", r#"command = ["/usr/local/bin/tell", "--weir"]"#),
];

/// Keys of a service's `syn`, where it is a table, with an example of each.
pub const POLICY_KEYS: &[(&str, &str)] = &[
    ("mode", r#"mode = "auto""#),
    ("signatures", r#"signatures = ["window-zero-bare"]"#),
    ("threshold", r#"threshold = "1000/s""#),
    ("budget", r#"budget = "100/s""#),
];

/// Keys of `[syn]`, with an example of each.
pub const SYN_KEYS: &[(&str, &str)] = &[
    ("mode", r#"mode = "auto""#),
    ("signatures", r#"signatures = ["window-zero-bare"]"#),
    ("threshold", r#"threshold = "1000/s""#),
    ("budget", r#"budget = "100/s""#),
    ("allow", r#"allow = ["198.51.100.0/24", "2001:db8:aa::/48"]"#),
    ("signature", r#"[[syn.signature]] with name = "mine" and window = "1-1024""#),
];

/// Keys of `[[syn.signature]]`, with an example of each.
pub const SIGNATURE_KEYS: &[(&str, &str)] = &[
    ("name", r#"name = "mine""#),
    ("window", r#"window = 0, or window = "1-1024""#),
    ("options", r#"options = ["none", "padding"]"#),
    ("length", r#"length = 40, or length = "40-44""#),
    ("ttl", r#"ttl = "200-255""#),
    ("source_port", r#"source_port = "1-1023""#),
    ("port", "port = 80"),
    ("payload", "payload = false"),
];

/// What serde is told to expect where a [`Service`] stands.
const TABLE_OF_A_SERVICE: &str = "the table of a service";

/// A whole file, or several joined.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    pub interface: Option<Strings>,
    pub slots: Option<Spanned<Number>>,
    pub arena: Option<Spanned<Number>>,
    pub hash_key: Option<Spanned<String>>,
    pub announce: Option<Spanned<String>>,
    pub macs: Option<Strings>,
    pub bad_flags: Option<Spanned<String>>,
    pub icmp_rate: Option<Spanned<Number>>,
    pub tunnel_source: Option<Strings>,
    pub metrics: Option<Strings>,
    pub notify: Option<Spanned<Notify>>,
    pub syn: Option<Spanned<Syn>>,
    pub service: Option<Services>,
}

impl Root {
    /// The same, with every place so much further on: behind the files before it.
    pub fn moved(self, by: usize) -> Root {
        let Root { interface, slots, arena, hash_key, announce, macs, bad_flags, icmp_rate, tunnel_source, .. } = self;
        Root {
            interface: interface.map(|list| list.moved(by)),
            slots: moved(slots, by),
            arena: moved(arena, by),
            hash_key: moved(hash_key, by),
            announce: moved(announce, by),
            macs: macs.map(|list| list.moved(by)),
            bad_flags: moved(bad_flags, by),
            icmp_rate: moved(icmp_rate, by),
            tunnel_source: tunnel_source.map(|list| list.moved(by)),
            metrics: self.metrics.map(|list| list.moved(by)),
            notify: moved(self.notify, by).map(|notify| Spanned::new(notify.span(), notify.into_inner().moved(by))),
            syn: moved(self.syn, by).map(|syn| Spanned::new(syn.span(), syn.into_inner().moved(by))),
            service: self.service.map(|services| services.moved(by)),
        }
    }

    /// Both together. `twice` is told of each thing that stands in both, with its places here and there; what stands here
    /// counts.
    pub fn join(self, other: Root, twice: &mut impl FnMut(String, Span, Span)) -> Root {
        fn one<T>(
            key: &str,
            here: Option<T>,
            there: Option<T>,
            span: impl Fn(&T) -> Span,
            twice: &mut impl FnMut(String, Span, Span),
        ) -> Option<T> {
            if let (Some(here), Some(there)) = (&here, &there) {
                twice(format!("key {key:?} stands in two files"), span(here), span(there));
            }
            here.or(there)
        }
        let list = |list: &Strings| list.span.clone();
        Root {
            interface: one("interface", self.interface, other.interface, list, twice),
            slots: one("slots", self.slots, other.slots, Spanned::span, twice),
            arena: one("arena", self.arena, other.arena, Spanned::span, twice),
            hash_key: one("hash_key", self.hash_key, other.hash_key, Spanned::span, twice),
            announce: one("announce", self.announce, other.announce, Spanned::span, twice),
            macs: one("macs", self.macs, other.macs, list, twice),
            bad_flags: one("bad_flags", self.bad_flags, other.bad_flags, Spanned::span, twice),
            icmp_rate: one("icmp_rate", self.icmp_rate, other.icmp_rate, Spanned::span, twice),
            tunnel_source: one("tunnel_source", self.tunnel_source, other.tunnel_source, list, twice),
            metrics: one("metrics", self.metrics, other.metrics, list, twice),
            notify: one("notify", self.notify, other.notify, Spanned::span, twice),
            syn: one("syn", self.syn, other.syn, Spanned::span, twice),
            service: match (self.service, other.service) {
                (Some(here), Some(there)) => Some(here.join(there, twice)),
                (here, there) => here.or(there),
            },
        }
    }
}

fn moved<T>(value: Option<Spanned<T>>, by: usize) -> Option<Spanned<T>> {
    value.map(|value| move_one(value, by))
}

fn move_one<T>(value: Spanned<T>, by: usize) -> Spanned<T> {
    let span = value.span();
    Spanned::new(span.start + by..span.end + by, value.into_inner())
}

/// `[notify]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "the table of notify")]
pub struct Notify {
    pub alertmanager: Option<Strings>,
    pub webhook: Option<Strings>,
    pub command: Option<Strings>,
}

impl Notify {
    fn moved(self, by: usize) -> Notify {
        let Notify { alertmanager, webhook, command } = self;
        let [alertmanager, webhook, command] =
            [alertmanager, webhook, command].map(|list| list.map(|list| list.moved(by)));
        Notify { alertmanager, webhook, command }
    }
}

/// `[syn]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "the table of syn")]
pub struct Syn {
    pub mode: Option<Spanned<String>>,
    pub signatures: Option<Strings>,
    pub threshold: Option<Spanned<String>>,
    pub budget: Option<Spanned<String>>,
    pub allow: Option<Strings>,
    pub signature: Option<Vec<Spanned<Signature>>>,
}

impl Syn {
    fn moved(self, by: usize) -> Syn {
        let Syn { mode, signatures, threshold, budget, allow, signature } = self;
        let move_signature = |signature: Spanned<Signature>| {
            let signature = move_one(signature, by);
            Spanned::new(signature.span(), signature.into_inner().moved(by))
        };
        Syn {
            mode: moved(mode, by),
            signatures: signatures.map(|list| list.moved(by)),
            threshold: moved(threshold, by),
            budget: moved(budget, by),
            allow: allow.map(|list| list.moved(by)),
            signature: signature.map(|list| list.into_iter().map(move_signature).collect()),
        }
    }
}

/// One `[[syn.signature]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "the table of a signature")]
pub struct Signature {
    pub name: Option<Spanned<String>>,
    pub window: Option<Spanned<Bounds>>,
    pub options: Option<Strings>,
    pub length: Option<Spanned<Bounds>>,
    pub ttl: Option<Spanned<Bounds>>,
    pub source_port: Option<Spanned<Bounds>>,
    pub port: Option<Spanned<Bounds>>,
    pub payload: Option<Spanned<bool>>,
}

impl Signature {
    fn moved(self, by: usize) -> Signature {
        let Signature { name, window, options, length, ttl, source_port, port, payload } = self;
        let [window, length, ttl, source_port, port] =
            [window, length, ttl, source_port, port].map(|bounds| moved(bounds, by));
        let (name, options) = (moved(name, by), options.map(|list| list.moved(by)));
        Signature { name, window, options, length, ttl, source_port, port, payload: moved(payload, by) }
    }
}

/// A number, or a string with a range, as it is written.
pub struct Bounds(pub String);

impl<'de> Deserialize<'de> for Bounds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Bounds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a range")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bounds, E> {
                Ok(Bounds(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Bounds, E> {
                Ok(Bounds(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Bounds, E> {
                Ok(Bounds(number.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// A service's `syn`: a mode alone, or a table.
pub struct Policy {
    pub mode: Option<Spanned<String>>,
    pub signatures: Option<Strings>,
    pub threshold: Option<Spanned<String>>,
    pub budget: Option<Spanned<String>>,
}

impl Policy {
    fn moved(self, by: usize) -> Policy {
        let Policy { mode, signatures, threshold, budget } = self;
        let [mode, threshold, budget] = [mode, threshold, budget].map(|text| moved(text, by));
        Policy { mode, signatures: signatures.map(|list| list.moved(by)), threshold, budget }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTable {
    mode: Option<Spanned<String>>,
    signatures: Option<Strings>,
    threshold: Option<Spanned<String>>,
    budget: Option<Spanned<String>>,
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        enum WordOrTable {
            Word(String),
            Table(PolicyTable),
        }
        impl<'de> Deserialize<'de> for WordOrTable {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> Visitor<'de> for Either {
                    type Value = WordOrTable;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a mode or a table")
                    }

                    fn visit_str<E: Error>(self, word: &str) -> Result<WordOrTable, E> {
                        Ok(WordOrTable::Word(word.to_owned()))
                    }

                    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<WordOrTable, A::Error> {
                        PolicyTable::deserialize(MapAccessDeserializer::new(table)).map(WordOrTable::Table)
                    }
                }
                deserializer.deserialize_any(Either)
            }
        }
        let value = Spanned::<WordOrTable>::deserialize(deserializer)?;
        let span = value.span();
        Ok(match value.into_inner() {
            WordOrTable::Word(word) => {
                Policy { mode: Some(Spanned::new(span, word)), signatures: None, threshold: None, budget: None }
            }
            WordOrTable::Table(PolicyTable { mode, signatures, threshold, budget }) => {
                Policy { mode, signatures, threshold, budget }
            }
        })
    }
}

/// One `[service.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "the table of a service")]
pub struct Service {
    pub vip: Option<Strings>,
    pub backends: Option<Strings>,
    pub forward: Option<Spanned<String>>,
    pub hash: Option<Spanned<String>>,
    pub syn: Option<Policy>,
    pub syn_rate: Option<Spanned<String>>,
    pub slots: Option<Spanned<Number>>,
    pub mss: Option<Spanned<Number>>,
    pub check: Option<RawChecks>,
    pub quorum: Option<Spanned<Number>>,
    pub required: Option<Spanned<bool>>,
    pub on_empty: Option<Spanned<String>>,
    pub sorry: Option<Strings>,
    pub slow_start: Option<Spanned<String>>,
}

/// A string or a list of strings. Not an untagged enum: those forget places and blur errors.
pub struct Strings {
    /// The whole value.
    pub span: Span,
    /// What it holds.
    pub items: Vec<Spanned<String>>,
}

/// A value whose places can be moved.
pub trait Move {
    /// The same, so much further on.
    fn moved(self, by: usize) -> Self;
}

impl<T> Move for Spanned<T> {
    fn moved(self, by: usize) -> Self {
        move_one(self, by)
    }
}

impl Move for Strings {
    fn moved(self, by: usize) -> Strings {
        let span = self.span.start + by..self.span.end + by;
        Strings { span, items: self.items.into_iter().map(|item| move_one(item, by)).collect() }
    }
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Spanned::<OneOrMany>::deserialize(deserializer)?;
        let span = value.span();
        let items = match value.into_inner() {
            OneOrMany::One(item) => vec![Spanned::new(span.clone(), item)],
            OneOrMany::Many(items) => items,
        };
        Ok(Strings { span, items })
    }
}

enum OneOrMany {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, item: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(item.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMany::Many(items))
            }
        }
        deserializer.deserialize_any(Strings)
    }
}

/// A whole number, held to the range of `i64`: what lies outside is out of every range here.
pub struct Number(pub i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_i128<E: Error>(self, number: i128) -> Result<Number, E> {
                Ok(Number(if number < 0 { i64::MIN } else { i64::MAX }))
            }

            fn visit_u128<E: Error>(self, _: u128) -> Result<Number, E> {
                Ok(Number(i64::MAX))
            }
        }
        deserializer.deserialize_any(Whole)
    }
}

/// The tables under `service`, each with its name.
pub struct Services(pub Vec<(Spanned<String>, Service)>);

impl Services {
    /// The programs of all checks.
    pub fn programs(&self) -> impl Iterator<Item = &Spanned<String>> {
        let checks = self.0.iter().filter_map(|(_, service)| service.check.as_ref()).flat_map(|checks| &checks.items);
        checks.filter_map(|check| check.get_ref().command.as_ref()?.items.first())
    }

    fn moved(self, by: usize) -> Services {
        let moved = |(name, service): (Spanned<String>, Service)| {
            let Service {
                vip,
                backends,
                forward,
                hash,
                syn,
                syn_rate,
                slots,
                mss,
                check,
                quorum,
                required,
                on_empty,
                sorry,
                slow_start,
            } = service;
            let service = Service {
                vip: vip.map(|list| list.moved(by)),
                backends: backends.map(|list| list.moved(by)),
                forward: moved(forward, by),
                hash: moved(hash, by),
                syn: syn.map(|policy| policy.moved(by)),
                syn_rate: moved(syn_rate, by),
                slots: moved(slots, by),
                mss: moved(mss, by),
                check: check.map(|checks| checks.moved(by)),
                quorum: moved(quorum, by),
                required: moved(required, by),
                on_empty: moved(on_empty, by),
                sorry: sorry.map(|list| list.moved(by)),
                slow_start: moved(slow_start, by),
            };
            (move_one(name, by), service)
        };
        Services(self.0.into_iter().map(moved).collect())
    }

    fn join(mut self, other: Services, twice: &mut impl FnMut(String, Span, Span)) -> Services {
        let known: HashMap<String, Span> =
            self.0.iter().map(|(name, _)| (name.get_ref().clone(), name.span())).collect();
        for (name, service) in other.0 {
            match known.get(name.get_ref()) {
                Some(first) => {
                    twice(
                        format!("service {} stands in two files", quoted(name.get_ref())),
                        first.clone(),
                        name.span(),
                    );
                }
                None => self.0.push((name, service)),
            }
        }
        self
    }
}

impl<'de> Deserialize<'de> for Services {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tables;
        impl<'de> Visitor<'de> for Tables {
            type Value = Services;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tables, one for each service")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut tables: A) -> Result<Services, A::Error> {
                let mut services = Vec::new();
                while let Some(service) = tables.next_entry()? {
                    services.push(service);
                }
                Ok(Services(services))
            }
        }
        deserializer.deserialize_map(Tables)
    }
}

/// Says what TOML or serde found in the words of this file format.
fn diagnose(source: &Arc<Source>, mut error: toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let message = error.message().to_owned();
    error.set_input(None);
    let path = path(&error);
    let here = quoted(source.slice(&span));
    let at = |message: String| Diagnostic::error(source, span.clone(), message);
    if message.starts_with("unknown field") {
        unknown_key(source, span, path.as_deref())
    } else if let Some((_, expected)) = message.strip_prefix("invalid type").and_then(|m| m.rsplit_once(", expected "))
    {
        let path = path.unwrap_or_default();
        at(format!("{path}: wrong type, expected {expected}")).help(way_out(&path, expected))
    } else if message == "duplicate key" {
        at(format!("key {here} stands twice in its table")).help("remove one of the two")
    } else if message.starts_with("string values must be quoted") {
        at("not valid TOML: a string without quotes".to_owned()).help(format!("write {here}"))
    } else if let Some(path) = path {
        at(format!("{path}: {message}")).help(way_out(&path, ""))
    } else {
        at(format!("not valid TOML: {message}")).help("look for a missing quote, comma or bracket here or before")
    }
}

/// The table or key an error lies in. Without its input, the error's text ends with a line that names it.
fn path(error: &toml::de::Error) -> Option<String> {
    let text = error.to_string();
    let path = text.trim_end().rsplit_once("\nin `")?.1.strip_suffix('`')?;
    Some(path.to_owned())
}

/// An example of the key that `path` ends with.
fn way_out(path: &str, expected: &str) -> String {
    let key = path.rsplit('.').next().unwrap_or(path);
    let keys = keys_behind(path.rsplit_once('.').map(|(table, _)| table));
    match keys.iter().find(|(name, _)| *name == key) {
        Some((name, _)) if expected == TABLE_OF_A_SERVICE => format!("{name} belongs under [service.NAME]"),
        Some((_, example)) => format!("for example {example}"),
        None if path.starts_with("syn") => "[syn] is a table, and each [[syn.signature]] one below it".to_owned(),
        None if path.starts_with("notify") => "[notify] is a table with alertmanager, webhook or command".to_owned(),
        None => "a service is a table, headed [service.NAME]".to_owned(),
    }
}

/// Tables of the file, with the words for where their keys stand.
const PLACES: [(&[(&str, &str)], &str); 4] = [
    (TOP_KEYS, "at the top, before the first table"),
    (SERVICE_KEYS, "under [service.NAME]"),
    (NOTIFY_KEYS, "under [notify]"),
    (CHECK_KEYS, "in a check of a service"),
];

/// The keys of a table, by its path.
fn keys_behind(table: Option<&str>) -> &'static [(&'static str, &'static str)] {
    match table {
        None => TOP_KEYS,
        Some("notify") => NOTIFY_KEYS,
        Some("syn") => SYN_KEYS,
        Some(table) if table.starts_with("syn.signature") => SIGNATURE_KEYS,
        Some(table) if table.starts_with("service.") && table.ends_with(".syn") => POLICY_KEYS,
        Some(path) if path.split('.').any(|part| part == "check") => CHECK_KEYS,
        Some(_) => SERVICE_KEYS,
    }
}

fn unknown_key(source: &Arc<Source>, span: Span, table: Option<&str>) -> Diagnostic {
    let key = source.slice(&span).trim_matches(['"', '\'']);
    let here = keys_behind(table);
    let elsewhere = PLACES.iter().filter(|(keys, _)| !std::ptr::eq(*keys, here));
    let other_place = elsewhere.into_iter().find(|(keys, _)| keys.iter().any(|(name, _)| *name == key));
    let names = || here.iter().map(|(name, _)| *name);
    let list = names().collect::<Vec<_>>().join(", ");
    let help = if let Some(close) = closest(key, names()) {
        format!("did you mean {close}? Keys here are {list}")
    } else if let Some((_, place)) = other_place {
        format!("{key} belongs {place}; keys here are {list}")
    } else {
        format!("keys here are {list}")
    };
    let place = table.map(|table| format!(" in {table}")).unwrap_or_default();
    Diagnostic::error(source, span, format!("unknown key {}{place}", quoted(key))).help(help)
}
