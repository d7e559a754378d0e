//! The SYN filter's part of a configuration: signatures, what services do about them, whose SYNs are never dropped.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use lb_common::{
    abi::{self, SERVICE_SIGNATURES, Span16},
    filter::Options,
};
use toml::Spanned;

use super::{
    Syn, SynOptions, Word as _,
    check::{Faults, at_most, once_each},
    error::{Diagnostic, Source, Span, closest, quoted},
    fingerprints::FINGERPRINTS,
    raw::{self, Bounds, Strings},
    syntax,
};

/// The name of the built-in signature, which is the first of all.
pub const BUILT_IN: &str = "window-zero-bare";
/// Matches a second above which `auto` drops, unless the file says otherwise.
const DEFAULT_THRESHOLD: u32 = 1_000;
/// Matches a second that are let through, unless the file says otherwise.
const DEFAULT_BUDGET: u32 = 100;
/// Bytes of a TCP packet over IPv4 without options.
const LEAST_LENGTH: u16 = 40;

/// What SYNs may be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Signature {
    /// No other has it; as a service's.
    pub name: String,
    /// What must hold, as the kernel reads it.
    pub conditions: abi::Signature,
}

impl Signature {
    /// Window 0 and no options: the flood that Weir was made for.
    fn built_in() -> Self {
        let conditions = abi::Signature { window: Span16::new(0, 0), options: Options::NONE, ..everything() };
        Signature { name: BUILT_IN.to_owned(), conditions }
    }
}

/// Its conditions, as they are written; those that every SYN meets are left out.
impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let (own, every) = (&self.conditions, everything());
        let range = |low: u32, width: u32| {
            if width == 0 { low.to_string() } else { format!("{low}-{}", low + width) }
        };
        let span = |span: Span16| range(span.low.into(), span.width.into());
        let mut conditions = Vec::new();
        for (key, own, every) in [
            ("window", own.window, every.window),
            ("length", own.length, every.length),
            ("source_port", own.source_port, every.source_port),
            ("port", own.port, every.port),
        ] {
            if own != every {
                conditions.push(format!("{key} {}", span(own)));
            }
        }
        if (own.ttl_low, own.ttl_width) != (every.ttl_low, every.ttl_width) {
            conditions.push(format!("ttl {}", range(own.ttl_low.into(), own.ttl_width.into())));
        }
        if own.options != every.options {
            let named = [(Options::NONE, "none"), (Options::PADDING, "padding"), (Options::SOME, "some")];
            let named = named.into_iter().filter(|(bit, _)| own.options & bit != 0).map(|(_, name)| name);
            conditions.push(format!("options {}", named.collect::<Vec<_>>().join(" or ")));
        }
        if own.payload != every.payload {
            conditions.push(format!("payload {}", own.payload & 2 != 0));
        }
        formatter.write_str(&conditions.join(", "))
    }
}

/// What every SYN matches that a service gets to see.
fn everything() -> abi::Signature {
    abi::Signature {
        window: Span16::new(0, u16::MAX),
        length: Span16::new(0, u16::MAX),
        source_port: Span16::new(0, u16::MAX),
        port: Span16::new(0, u16::MAX),
        ttl_low: 0,
        ttl_width: u8::MAX,
        options: Options::NONE | Options::PADDING | Options::SOME,
        payload: 3,
        reserved: 0,
    }
}

/// What a service does about SYNs besides its mode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Which of the configuration's signatures, by their numbers, sorted; at most [`SERVICE_SIGNATURES`].
    pub signatures: Vec<usize>,
    /// Matches a second above which `auto` drops.
    pub threshold: u32,
    /// Matches a second that are let through all the same.
    pub budget: u32,
    /// Other SYNs a second, if they are bounded.
    pub rate: Option<u32>,
}

impl Default for Filter {
    fn default() -> Self {
        Filter { signatures: vec![0], threshold: DEFAULT_THRESHOLD, budget: DEFAULT_BUDGET, rate: None }
    }
}

/// A prefix whose SYNs are never dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Allowed {
    /// The first address.
    pub address: IpAddr,
    /// Bits.
    pub length: u8,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// What holds where a service says nothing else.
pub struct Defaults {
    mode: Syn,
    filter: Filter,
    /// The built-in one, then those of the file.
    pub signatures: Vec<Signature>,
    /// Sorted.
    pub allowed: Vec<Allowed>,
    /// Where the names of the file's signatures stand.
    spans: Vec<Span>,
}

/// Reads `[syn]`.
pub fn defaults(faults: &mut Faults, raw: Option<Spanned<raw::Syn>>) -> Defaults {
    let mut defaults = Defaults {
        mode: Syn::Auto,
        filter: Filter::default(),
        signatures: vec![Signature::built_in()],
        allowed: Vec::new(),
        spans: Vec::new(),
    };
    let Some(raw) = raw.map(Spanned::into_inner) else { return defaults };
    let raw::Syn { mode, signatures, threshold, budget, allow, signature } = raw;
    for signature in signature.unwrap_or_default() {
        if let Some((read, span)) = read_signature(faults, &signature) {
            defaults.signatures.push(read);
            defaults.spans.push(span);
        }
    }
    distinct(faults, &defaults);
    let allow = faults.list("allow", allow.as_ref(), syntax::any_prefix);
    let allow: Vec<_> = allow
        .into_iter()
        .map(|prefix| {
            let (span, (address, length)) = (prefix.span(), *prefix.get_ref());
            Spanned::new(span, Allowed { address, length })
        })
        .collect();
    once_each(faults, &allow, |prefix| format!("allow {prefix}"));
    if let Some(prefix) = allow.get(abi::MAX_ALLOWED as usize) {
        let message = format!("{} prefixes in allow, at most {} are possible", allow.len(), abi::MAX_ALLOWED);
        faults.add(prefix.span(), message, "join neighbouring prefixes, or remove those that are not needed");
    }
    defaults.allowed = allow.into_iter().map(Spanned::into_inner).collect();
    defaults.allowed.sort_unstable();
    let policy = raw::Policy { mode, signatures, threshold, budget };
    (defaults.mode, defaults.filter) = defaults.of_service(faults, Some(&policy), None);
    defaults
}

fn distinct(faults: &mut Faults, defaults: &Defaults) {
    let mut seen: BTreeMap<&str, Option<Span>> = [(BUILT_IN, None)].into();
    for (signature, span) in defaults.signatures[1..].iter().zip(&defaults.spans) {
        let name = quoted(&signature.name);
        match seen.insert(&signature.name, Some(span.clone())) {
            None => {}
            Some(None) => {
                let message = format!("signature {name}: a built-in signature has this name");
                faults.add(span.clone(), message, "choose another name");
            }
            Some(Some(first)) => {
                let message = format!("signature {name}: the name is given twice");
                faults.add_pair(span.clone(), message, "choose another name", first);
            }
        }
    }
    if let Some(span) = defaults.spans.get(abi::MAX_SIGNATURES as usize - 1) {
        let (have, most) = (defaults.signatures.len() - 1, abi::MAX_SIGNATURES - 1);
        faults.add(span.clone(), format!("{have} signatures, at most {most} are possible"), "remove some");
    }
}

/// One `[[syn.signature]]` and where its name stands.
fn read_signature(faults: &mut Faults, raw: &Spanned<raw::Signature>) -> Option<(Signature, Span)> {
    let raw::Signature { name, window, options, length, ttl, source_port, port, payload } = raw.get_ref();
    let Some(name) = name else {
        faults.add(raw.span(), "a signature without a name".to_owned(), "for example name = \"mine\"");
        return None;
    };
    faults.item("signature", name, syntax::service_name)?;
    let mut span = |key, value: &Option<Spanned<Bounds>>, least, most| {
        let Some(value) = value else { return Some(Span16::new(0, u16::MAX)) };
        let text = Spanned::new(value.span(), value.get_ref().0.clone());
        let bounds = faults.item(key, &text, |text| syntax::bounds(text, least, most))?;
        let (low, high) = *bounds.get_ref();
        Some(Span16::new(low, high))
    };
    let window = span("window", window, 0, u16::MAX);
    let length = span("length", length, LEAST_LENGTH, u16::MAX);
    let ttl = match ttl {
        None => Some(Span16::new(0, u8::MAX.into())),
        ttl => span("ttl", ttl, 1, u8::MAX.into()),
    };
    let source_port = span("source_port", source_port, 1, u16::MAX);
    let port = span("port", port, 1, u16::MAX);
    let options = read_options(faults, options.as_ref());
    let (window, length, ttl, source_port, port, options) = (window?, length?, ttl?, source_port?, port?, options?);
    let conditions = abi::Signature {
        window,
        length,
        source_port,
        port,
        ttl_low: ttl.low as u8,
        ttl_width: ttl.width as u8,
        options,
        payload: payload.as_ref().map_or(3, |payload| 1 << u8::from(*payload.get_ref())),
        reserved: 0,
    };
    sense(faults, name, &conditions)?;
    Some((Signature { name: name.get_ref().clone(), conditions }, name.span()))
}

/// A signature that says something, and nothing impossible.
fn sense(faults: &mut Faults, name: &Spanned<String>, conditions: &abi::Signature) -> Option<()> {
    let quoted = quoted(name.get_ref());
    let full = |span: Span16, least| span.low <= least && span.low.saturating_add(span.width) == u16::MAX;
    let abi::Signature { window, length, source_port, port, ttl_low, ttl_width, options, payload, .. } = *conditions;
    if full(window, 0)
        && full(length, LEAST_LENGTH)
        && full(source_port, 1)
        && full(port, 1)
        && ttl_low <= 1
        && ttl_low.saturating_add(ttl_width) == u8::MAX
        && options == everything().options
        && payload == 3
    {
        let help = "add a condition, such as window = 0 or options = [\"none\"]; syn_rate bounds all SYNs of a service";
        faults.add(name.span(), format!("signature {quoted}: matches every SYN"), help);
        return None;
    }
    let least = LEAST_LENGTH + if options & Options::NONE == 0 { 4 } else { 0 } + u16::from(payload == 2);
    if length.low + length.width < least {
        let message = format!("signature {quoted}: matches nothing, such a SYN has at least {least} bytes");
        faults.add(name.span(), message, format!("let length reach {least}, or leave it out"));
        return None;
    }
    Some(())
}

fn read_options(faults: &mut Faults, list: Option<&Strings>) -> Option<u8> {
    let Some(list) = list else { return Some(everything().options) };
    if list.items.is_empty() {
        let help = "name at least one of none, padding, some, or leave it out";
        faults.add(list.span.clone(), "options: matches nothing".to_owned(), help);
        return None;
    }
    let mut bits = Some(0);
    for item in &list.items {
        if SynOptions::from_word(item.get_ref()).is_none() {
            bits = None;
        }
        let word = faults.word("options", Some(item), SynOptions::None);
        let bit = match word {
            SynOptions::None => Options::NONE,
            SynOptions::Padding => Options::PADDING,
            SynOptions::Some => Options::SOME,
        };
        bits = bits.map(|bits| bits | bit);
    }
    bits
}

impl Defaults {
    /// What a service does, by its own words or as the others.
    pub fn of_service(
        &self,
        faults: &mut Faults,
        raw: Option<&raw::Policy>,
        rate: Option<&Spanned<String>>,
    ) -> (Syn, Filter) {
        let mut filter = self.filter.clone();
        filter.rate = rate.and_then(|rate| read_rate(faults, "syn_rate", rate, true));
        let Some(raw::Policy { mode, signatures, threshold, budget }) = raw else { return (self.mode, filter) };
        let mode = faults.word("syn", mode.as_ref(), self.mode);
        let threshold = threshold.as_ref().and_then(|rate| read_rate(faults, "threshold", rate, false));
        filter.threshold = threshold.unwrap_or(filter.threshold);
        let budget = budget.as_ref().and_then(|rate| read_rate(faults, "budget", rate, false));
        filter.budget = budget.unwrap_or(filter.budget);
        if let Some(list) = signatures {
            filter.signatures = self.named(faults, list);
        }
        (mode, filter)
    }

    /// Signatures by their names.
    fn named(&self, faults: &mut Faults, list: &Strings) -> Vec<usize> {
        if list.items.is_empty() {
            let help = "name at least one, or say syn = \"off\"";
            faults.add(list.span.clone(), "signatures: none is named".to_owned(), help);
        }
        at_most(faults, "signatures", SERVICE_SIGNATURES, list);
        let mut found = Vec::new();
        for item in &list.items {
            match self.signatures.iter().position(|signature| signature.name == *item.get_ref()) {
                Some(number) => found.push(Spanned::new(item.span(), number)),
                None => self.unknown(faults, item),
            }
        }
        once_each(faults, &found, |number| format!("signature {:?}", self.signatures[*number].name));
        let mut numbers: Vec<_> = found.into_iter().map(Spanned::into_inner).collect();
        numbers.sort_unstable();
        numbers
    }

    fn unknown(&self, faults: &mut Faults, item: &Spanned<String>) {
        let names = || self.signatures.iter().map(|signature| signature.name.as_str());
        let help = match closest(item.get_ref(), names()) {
            Some(close) => format!("did you mean {close:?}?"),
            None => format!("there are {}; more by [[syn.signature]]", names().collect::<Vec<_>>().join(", ")),
        };
        faults.add(item.span(), format!("signature {}: no such signature", quoted(item.get_ref())), help);
    }

    /// What of it is allowed and probably not meant.
    pub fn warnings(&self, source: &Arc<Source>) -> Vec<Diagnostic> {
        let warn = |(signature, span): (&Signature, &Span)| {
            let matched = FINGERPRINTS.iter().filter(|system| system.is_matched(&signature.conditions));
            let systems: Vec<_> = matched.map(|system| system.system).collect();
            let message = format!("signature {}: matches the SYN of {}", quoted(&signature.name), systems.join(", "));
            let help = "make it narrower, unless these are not to connect; mode \"count\" drops nothing";
            (!systems.is_empty()).then(|| Diagnostic::warning(source, span.clone(), message).help(help))
        };
        self.signatures[1..].iter().zip(&self.spans).filter_map(warn).collect()
    }

    /// Signatures for ports that no service which looks for them has; `ports` tells which those are, `None` standing for all.
    pub fn wrong_ports(&self, source: &Arc<Source>, ports: impl Fn(usize) -> Vec<Option<u16>>) -> Vec<Diagnostic> {
        let warn = |(number, (signature, span)): (usize, (&Signature, &Span))| {
            let (wanted, ports) = (signature.conditions.port, ports(number));
            let fits = |port: &Option<u16>| port.is_none_or(|port| port.wrapping_sub(wanted.low) <= wanted.width);
            if ports.is_empty() || ports.iter().any(fits) {
                return None;
            }
            let message = format!("signature {}: matches nothing at any port of its services", quoted(&signature.name));
            let help = "let port reach one of theirs, or leave it out";
            Some(Diagnostic::warning(source, span.clone(), message).help(help))
        };
        (1..).zip(self.signatures[1..].iter().zip(&self.spans)).filter_map(warn).collect()
    }
}

fn read_rate(faults: &mut Faults, key: &str, text: &Spanned<String>, positive: bool) -> Option<u32> {
    let rate = faults.item(key, text, syntax::rate)?.into_inner();
    if positive && rate == 0 {
        let help = format!("write at least \"1/s\", or leave `{key}` out");
        faults.add(text.span(), format!("{key} {}: no connection could be opened", quoted(text.get_ref())), help);
        return None;
    }
    Some(rate)
}
