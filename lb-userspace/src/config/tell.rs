//! Whom a node tells what it knows: where metrics are read, and who is notified of changes. That is each node's own matter, so
//! it is not part of what siblings have in common.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use toml::Spanned;

use super::{
    check::{Faults, at_most, once_each},
    error::Diagnostic,
    raw::{self, Strings},
    syntax::SyntaxError,
};

/// Where metrics are served unless the file says otherwise.
pub const DEFAULT_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9580);
/// Addresses that metrics are served at, at most.
const MAX_ADDRESSES: usize = 8;
/// Receivers of one kind, at most.
const MAX_RECEIVERS: usize = 8;

/// Where metrics are served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metrics {
    /// Sorted, none twice; none at all is off.
    pub addresses: Vec<SocketAddr>,
    /// The file says so. Without that, an address that somebody else has is no reason not to start.
    pub asked: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { addresses: vec![DEFAULT_METRICS], asked: false }
    }
}

/// Somebody who is notified.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Receiver {
    /// An Alertmanager, by the URL that its API lies below.
    Alertmanager(Url),
    /// Somebody who takes an object of JSON by POST.
    Webhook(Url),
    /// A program with its arguments, which reads the same object.
    Command(Vec<String>),
}

/// As metrics and log name it: without what may be secret.
impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Receiver::Alertmanager(url) => write!(f, "alertmanager {}", url.place()),
            Receiver::Webhook(url) => write!(f, "webhook {}", url.place()),
            Receiver::Command(words) => write!(f, "command {}", words[0]),
        }
    }
}

/// A URL that something can be posted to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Url {
    /// https rather than http.
    pub tls: bool,
    /// A name or an address, IPv6 without its brackets.
    pub host: String,
    /// The port, the scheme's if none is written.
    pub port: u16,
    /// The path with what follows, from its slash on.
    pub path: String,
    /// Host and port as they are written.
    authority: String,
}

impl Url {
    /// What `Host` says.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Scheme, host and port: paths of webhooks are often secrets.
    pub fn place(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

impl std::str::FromStr for Url {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let fault = |part: &str, reason: String, help: &str| {
            let at = text.find(part).unwrap_or(0);
            SyntaxError { at: at..at + part.len(), reason, help: help.to_owned() }
        };
        let example = "write it like \"http://192.0.2.30:9093\"";
        let uri: hyper::Uri = text.parse().map_err(|_| fault(text, "not a URL".to_owned(), example))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(other) => return Err(fault(other, format!("scheme {other:?}"), "http and https are known")),
            None => return Err(fault(text, "not a URL".to_owned(), example)),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if let Some((user, _)) = authority.rsplit_once('@') {
            let reason = "a user in a URL is not sent".to_owned();
            return Err(fault(user, reason, "have the receiver trust this host, or use a path that only you know"));
        }
        let host = uri.host().unwrap_or("").trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        // `uri` also takes `http://host:/` and ports beyond their range.
        let has_port = authority.rsplit_once("]").map_or(authority, |(_, rest)| rest).contains(':');
        if host.is_empty() || port == 0 || has_port != uri.port_u16().is_some() {
            return Err(fault(authority, "not a host and a port".to_owned(), example));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Url { tls, host: host.to_owned(), port, path: path.to_owned(), authority: authority.to_owned() })
    }
}

/// `metrics`.
pub fn metrics(faults: &mut Faults, list: Option<&Strings>) -> Metrics {
    let Some(list) = list else { return Metrics::default() };
    let off = list.items.iter().find(|item| item.get_ref() == "off");
    if let Some(off) = off {
        if list.items.len() > 1 {
            faults.add(
                off.span(),
                "metrics: \"off\" among addresses".to_owned(),
                "write metrics = \"off\", or remove it",
            );
        }
        return Metrics { addresses: Vec::new(), asked: true };
    }
    if list.items.is_empty() {
        faults.add(list.span.clone(), "metrics: no address".to_owned(), "write metrics = \"off\" to serve none");
    }
    let addresses = faults.list("metrics", Some(list), listen_address);
    once_each(faults, &addresses, |address| format!("metrics {address}"));
    at_most(faults, "addresses for metrics", MAX_ADDRESSES, list);
    let mut addresses: Vec<_> = addresses.into_iter().map(Spanned::into_inner).collect();
    addresses.sort();
    Metrics { addresses, asked: true }
}

fn listen_address(text: &str) -> Result<SocketAddr, SyntaxError> {
    let fault = |reason: &str, help: &str| {
        Err(SyntaxError { at: 0..text.len(), reason: reason.to_owned(), help: help.to_owned() })
    };
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => fault("port 0", "name the port: \"127.0.0.1:9580\""),
        Ok(address) if address.ip().is_multicast() => fault("a multicast address", "name one of this host's"),
        Ok(address) => Ok(address),
        Err(_) => fault("not ADDRESS:PORT", "write it like \"127.0.0.1:9580\", or \"off\""),
    }
}

/// Who can reach an address that is not this host's alone can read there whom it balances for.
pub fn metrics_warnings(faults: &Faults, list: Option<&Strings>) -> Vec<Diagnostic> {
    let items = list.map_or(&[][..], |list| &list.items).iter();
    let open = items.filter(|item| item.get_ref().parse().is_ok_and(|address: SocketAddr| !is_loopback(address)));
    open.map(|item| {
        let message = format!("metrics {}: whoever reaches this address reads VIPs and backends there", item.get_ref());
        let help = "let a firewall allow your Prometheus alone, or serve on loopback: metrics = \"127.0.0.1:9580\"";
        Diagnostic::warning(faults.source(), item.span(), message).help(help)
    })
    .collect()
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// `[notify]`.
pub fn notify(faults: &mut Faults, raw: Option<&raw::Notify>) -> Vec<Receiver> {
    let Some(raw) = raw else { return Vec::new() };
    let mut receivers = Vec::new();
    receivers.extend(urls(faults, "alertmanager", raw.alertmanager.as_ref()).into_iter().map(Receiver::Alertmanager));
    receivers.extend(urls(faults, "webhook", raw.webhook.as_ref()).into_iter().map(Receiver::Webhook));
    receivers.extend(raw.command.as_ref().and_then(|words| command(faults, words)).map(Receiver::Command));
    receivers
}

fn urls(faults: &mut Faults, key: &str, list: Option<&Strings>) -> Vec<Url> {
    let urls = faults.list(key, list, str::parse::<Url>);
    once_each(faults, &urls, |url| format!("{key} {}", url.place()));
    if let Some(list) = list {
        at_most(faults, &format!("receivers under {key}"), MAX_RECEIVERS, list);
    }
    let mut urls: Vec<_> = urls.into_iter().map(Spanned::into_inner).collect();
    urls.sort();
    urls
}

fn command(faults: &mut Faults, words: &Strings) -> Option<Vec<String>> {
    let Some(program) = words.items.first() else {
        faults.add(words.span.clone(), "command: no program".to_owned(), "name it, or remove the key");
        return None;
    };
    let path = program.get_ref();
    if !Path::new(path).is_absolute() {
        let message = format!("command {path:?}: not an absolute path");
        let help = "no shell runs it: write the program and each argument as a string of its own, \
                    command = [\"/usr/local/bin/tell\", \"--weir\"]";
        faults.add(program.span(), message, help);
        return None;
    }
    if let Some(word) = words.items.iter().find(|word| word.get_ref().contains('\0')) {
        faults.add(word.span(), "command: a zero byte".to_owned(), "remove it: no program can be given one");
        return None;
    }
    Some(words.items.iter().map(|word| word.get_ref().clone()).collect())
}
