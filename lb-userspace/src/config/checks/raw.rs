//! Checks as they are written: one table, a word that stands for one, or a list of these.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::super::error::Span;
use super::super::raw::{Move, Number, Strings};

/// Keys of a check, with an example of each.
pub const CHECK_KEYS: &[(&str, &str)] = &[
    ("tcp", "tcp = true"),
    ("http", r#"http = "/health""#),
    ("https", r#"https = "/health""#),
    ("tls", "tls = true"),
    ("dns", r#"dns = "www.example.net""#),
    ("ftp", "ftp = true"),
    ("smtp", "smtp = true"),
    ("redis", "redis = true"),
    ("ping", "ping = true"),
    ("udp", "udp = true"),
    ("command", r#"command = ["/usr/local/bin/is-alive", "--fast"]"#),
    ("every", r#"every = "2s""#),
    ("timeout", r#"timeout = "1s""#),
    ("rise", "rise = 2"),
    ("fall", "fall = 3"),
    ("via", r#"via = "vip""#),
    ("port", "port = 8080"),
    ("start", r#"start = "up""#),
    ("host", r#"host = "www.example.net""#),
    ("method", r#"method = "GET""#),
    ("status", r#"status = "200-399""#),
    ("body", r#"body = "all is well""#),
    ("verify", "verify = true"),
    ("sni", r#"sni = "www.example.net""#),
    ("ca", r#"ca = "/etc/weir/ca.pem""#),
    ("record", r#"record = "A""#),
    ("rcode", r#"rcode = "NOERROR""#),
    ("answer", r#"answer = "192.0.2.1""#),
    ("over", r#"over = "udp""#),
    ("send", r#"send = "PING\r\n""#),
    ("expect", r#"expect = "+PONG""#),
    ("dynamic_weight", "dynamic_weight = true"),
];

/// Declares a table whose keys may all be missing, and how its places move.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $(pub $key: Option<$type>,)+ }

        impl Move for $name {
            fn moved(self, by: usize) -> Self {
                $name { $($key: self.$key.map(|value| value.moved(by)),)+ }
            }
        }

        impl $name {
            /// Every key that is there, with the place of its value.
            pub fn keys(&self) -> Vec<(&'static str, Span)> {
                let keys = [$((stringify!($key), self.$key.as_ref().map(|value| Place::place(value))),)+];
                keys.into_iter().filter_map(|(key, span)| Some((key, span?))).collect()
            }
        }
    };
}

table! {
    /// One check.
    Check {
        tcp: Spanned<bool>,
        http: Spanned<String>,
        https: Spanned<String>,
        tls: Spanned<bool>,
        dns: Spanned<String>,
        ftp: Spanned<bool>,
        smtp: Spanned<bool>,
        redis: Spanned<bool>,
        ping: Spanned<bool>,
        udp: Spanned<bool>,
        command: Strings,
        every: Spanned<String>,
        timeout: Spanned<String>,
        rise: Spanned<Number>,
        fall: Spanned<Number>,
        via: Spanned<String>,
        port: Spanned<Number>,
        start: Spanned<String>,
        host: Spanned<String>,
        method: Spanned<String>,
        status: Strings,
        body: Spanned<String>,
        verify: Spanned<bool>,
        sni: Spanned<String>,
        ca: Spanned<String>,
        record: Spanned<String>,
        rcode: Spanned<String>,
        answer: Spanned<String>,
        over: Spanned<String>,
        send: Strings,
        expect: Strings,
        dynamic_weight: Spanned<bool>,
    }
}

/// Where a value stands.
trait Place {
    fn place(&self) -> Span;
}

impl<T> Place for Spanned<T> {
    fn place(&self) -> Span {
        self.span()
    }
}

impl Place for Strings {
    fn place(&self) -> Span {
        self.span.clone()
    }
}

/// The checks of a service, each with its place.
pub struct Checks {
    /// The whole value.
    pub span: Span,
    /// What it holds.
    pub items: Vec<Spanned<Check>>,
}

impl Move for Checks {
    fn moved(self, by: usize) -> Self {
        let span = self.span.start + by..self.span.end + by;
        let moved = |item: Spanned<Check>| {
            let span = item.span();
            Spanned::new(span.start + by..span.end + by, item.into_inner().moved(by))
        };
        Checks { span, items: self.items.into_iter().map(moved).collect() }
    }
}

impl<'de> Deserialize<'de> for Checks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Spanned::<OneOrMany>::deserialize(deserializer)?;
        let span = value.span();
        let items = match value.into_inner() {
            OneOrMany::One(item) => vec![Spanned::new(span.clone(), *item)],
            OneOrMany::Many(items) => items,
        };
        Ok(Checks { span, items })
    }
}

const EXPECTED: &str = r#"a check such as { http = "/health" }, a word such as "tcp", or a list of these"#;

enum OneOrMany {
    One(Box<Check>),
    Many(Vec<Spanned<Check>>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<OneOrMany, E> {
                of_word(word).map(|check| OneOrMany::One(Box::new(check)))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<OneOrMany, A::Error> {
                Check::deserialize(MapAccessDeserializer::new(table)).map(|check| OneOrMany::One(Box::new(check)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element::<Spanned<One>>()? {
                    items.push(Spanned::new(item.span(), item.into_inner().0));
                }
                Ok(OneOrMany::Many(items))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

struct One(Check);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = One;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a check such as { http = "/health" }, or a word such as "tcp""#)
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<One, E> {
                of_word(word).map(One)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<One, A::Error> {
                Check::deserialize(MapAccessDeserializer::new(table)).map(One)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The check that a word stands for.
fn of_word<E: Error>(word: &str) -> Result<Check, E> {
    let yes = || Some(Spanned::new(0..0, true));
    let mut check = Check::default();
    let key = match word {
        "tcp" => &mut check.tcp,
        "tls" => &mut check.tls,
        "ftp" => &mut check.ftp,
        "smtp" => &mut check.smtp,
        "redis" => &mut check.redis,
        "ping" => &mut check.ping,
        "udp" => &mut check.udp,
        _ => return Err(E::custom(format!("{word:?} is not one of tcp, tls, ftp, smtp, redis, ping, udp"))),
    };
    *key = yes();
    Ok(check)
}
