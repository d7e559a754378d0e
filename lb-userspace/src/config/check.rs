//! From the file as written to valid types. Every fault is noted and the check goes on, so that one run shows them all.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::abi;
use toml::Spanned;

use super::checks::policy;
use super::error::{ConfigError, Diagnostic, Source, Span, closest, quoted};
use super::host::Spans;
use super::raw::{self, Number, Strings};
use super::syntax::{self, PrefixOf, SyntaxError};
use super::{
    Announce, Backend, BadFlags, Config, DEFAULT_ICMP_RATE, DEFAULT_SLOTS, Forward, Hash, HashKey, HealthPolicy,
    MAX_MSS, MIN_ARENA, MIN_MSS, Protocol, SLOTS_PER_BACKEND, Service, Syn, TunnelSource, Vip, Word,
};
use super::{syn, tell};

/// The valid configuration with its warnings, or every fault; both in file order.
pub fn check(source: &Arc<Source>, root: raw::Root, twice: Vec<(String, Span, Span)>) -> Result<Config, ConfigError> {
    let mut faults = Faults { source, errors: Vec::new() };
    for (message, first, second) in twice {
        faults.add_pair(second, message, "remove one", first);
    }
    let interfaces = interfaces(&mut faults, root.interface.as_ref());
    let hash_key = hash_key(&mut faults, root.hash_key.as_ref());
    let announce = faults.word("announce", root.announce.as_ref(), Announce::Arp);
    let macs = macs(&mut faults, root.macs.as_ref());
    let bad_flags = faults.word("bad_flags", root.bad_flags.as_ref(), BadFlags::Drop);
    let icmp_rate = icmp_rate(&mut faults, root.icmp_rate.as_ref());
    let tunnel_source = tunnel_source(&mut faults, root.tunnel_source.as_ref());
    let metrics = tell::metrics(&mut faults, root.metrics.as_ref());
    let receivers = tell::notify(&mut faults, root.notify.as_ref().map(Spanned::get_ref));
    let default_slots = slots(&mut faults, root.slots.as_ref(), Slots { value: DEFAULT_SLOTS, span: None });
    let programs = root.service.iter().flat_map(raw::Services::programs).cloned().collect();
    let syn = syn::defaults(&mut faults, root.syn);
    let drafts = services(&mut faults, root.service, &default_slots, &syn);
    let vips = distinct_vips(&mut faults, &drafts);
    let ring_slots = limits(&mut faults, &vips, &drafts);
    let arena_span = root.arena.as_ref().map(Spanned::span);
    let arena = arena(&mut faults, root.arena.as_ref(), ring_slots);

    let metrics_warnings = tell::metrics_warnings(&faults, root.metrics.as_ref());
    let mut errors = faults.errors;
    if !errors.is_empty() {
        errors.sort_by_key(Diagnostic::offset);
        return Err(errors.into());
    }
    let mut warnings: Vec<Diagnostic> = key_warning(source, &hash_key, root.hash_key.as_ref()).into_iter().collect();
    warnings.extend(drafts.iter().filter_map(|draft| backend_warning(source, draft)));
    warnings.extend(metrics_warnings);
    warnings.extend(arena_warning(source, arena_span, arena, ring_slots, &drafts));
    warnings.extend(syn.warnings(source));
    warnings.extend(syn.wrong_ports(source, |signature| looked_for_at(&drafts, signature)));
    warnings.sort_by_key(Diagnostic::offset);
    let mut config = Config {
        interfaces: sorted(&interfaces),
        hash_key,
        announce,
        macs: sorted(&macs),
        bad_flags,
        icmp_rate,
        tunnel_source,
        arena,
        signatures: syn.signatures,
        allowed: syn.allowed,
        metrics,
        receivers,
        files: Vec::new(),
        services: finished(drafts),
        withdrawn: BTreeSet::new(),
        warnings,
        spans: Arc::new(Spans { source: Arc::clone(source), interfaces, vips, programs }),
        fingerprint: 0,
    };
    config.fingerprint = config.hash_meaning();
    Ok(config)
}

fn finished(drafts: Vec<Draft>) -> BTreeMap<String, Arc<Service>> {
    let mut lists: BTreeSet<Arc<Vec<Backend>>> = BTreeSet::new();
    let finish = |draft: Draft| {
        let mut service = draft.finish();
        match lists.get(&service.backends) {
            Some(list) => service.backends = Arc::clone(list),
            None => drop(lists.insert(Arc::clone(&service.backends))),
        }
        (service.name.clone(), Arc::new(service))
    };
    drafts.into_iter().map(finish).collect()
}

/// Where faults gather.
pub struct Faults<'a> {
    source: &'a Arc<Source>,
    errors: Vec<Diagnostic>,
}

impl Faults<'_> {
    /// What places are places in.
    pub fn source(&self) -> &Arc<Source> {
        self.source
    }

    /// One fault.
    pub fn add(&mut self, span: Span, message: String, help: impl Into<String>) {
        self.errors.push(Diagnostic::error(self.source, span, message).help(help));
    }

    /// A fault that two places make together: `first` was there before.
    pub fn add_pair(&mut self, span: Span, message: String, help: &str, first: Span) {
        self.errors.push(Diagnostic::error(self.source, span, message).help(help).label(first, "first here"));
    }

    /// Every valid string of a list; the others become faults. `what` is the name of the thing.
    pub fn list<T>(
        &mut self,
        what: &str,
        list: Option<&Strings>,
        parse: impl Fn(&str) -> Result<T, SyntaxError>,
    ) -> Vec<Spanned<T>> {
        let items = list.map_or(&[][..], |list| &list.items);
        items.iter().filter_map(|item| self.item(what, item, &parse)).collect()
    }

    /// One string.
    pub fn item<T>(
        &mut self,
        what: &str,
        item: &Spanned<String>,
        parse: impl Fn(&str) -> Result<T, SyntaxError>,
    ) -> Option<Spanned<T>> {
        match parse(item.get_ref()) {
            Ok(value) => Some(Spanned::new(item.span(), value)),
            Err(SyntaxError { at, reason, help }) => {
                let span = self.within(item, at);
                self.add(span, format!("{what} {}: {reason}", quoted(item.get_ref())), help);
                None
            }
        }
    }

    /// A variant of an enum, by its word.
    pub fn word<T: Word + Display>(&mut self, key: &str, value: Option<&Spanned<String>>, default: T) -> T {
        let Some(value) = value else { return default };
        if let Some(variant) = T::from_word(value.get_ref()) {
            return variant;
        }
        let words = || T::WORDS.iter().map(|(word, _)| *word);
        let help = match closest(value.get_ref(), words()) {
            Some(close) => format!("did you mean {close:?}?"),
            None => format!("without this key it is \"{default}\""),
        };
        let list = words().collect::<Vec<_>>().join(", ");
        self.add(value.span(), format!("{key} {}: not one of {list}", quoted(value.get_ref())), help);
        default
    }

    /// The place of a part of a string, or of all of it where escapes hide the part.
    fn within(&self, item: &Spanned<String>, at: Span) -> Span {
        let (span, text) = (item.span(), self.source.slice(&item.span()));
        match text.find(item.get_ref().as_str()) {
            Some(offset) if !item.get_ref().is_empty() => span.start + offset + at.start..span.start + offset + at.end,
            _ => span,
        }
    }
}

fn interfaces(faults: &mut Faults, list: Option<&Strings>) -> Vec<Spanned<String>> {
    let parse = |text: &str| syntax::interface(text).map(|()| text.to_owned());
    let interfaces = faults.list("interface", list, parse);
    once_each(faults, &interfaces, |name| format!("interface {name:?}"));
    let most = abi::MAX_INTERFACES as usize;
    match list {
        None => faults.add(
            0..0,
            "no interface".to_owned(),
            "name the interface that takes the traffic: interface = \"eth0\"",
        ),
        Some(list) if list.items.is_empty() => {
            faults.add(list.span.clone(), "no interface".to_owned(), "name at least one: interface = \"eth0\"");
        }
        Some(list) => at_most(faults, "interfaces", most, list),
    }
    interfaces
}

fn macs(faults: &mut Faults, list: Option<&Strings>) -> Vec<Spanned<[u8; 6]>> {
    let macs = faults.list("MAC", list, syntax::mac);
    once_each(faults, &macs, |mac| format!("MAC {}", mac.map(|octet| format!("{octet:02x}")).join(":")));
    if let Some(list) = list {
        at_most(faults, "MACs", size_of_val(&abi::Interface::default().more_macs) / size_of::<u64>(), list);
    }
    macs
}

/// A fault if a list is longer than it may be.
pub fn at_most(faults: &mut Faults, what: &str, most: usize, list: &Strings) {
    if let Some(item) = list.items.get(most) {
        let message = format!("{} {what}, at most {most} are possible", list.items.len());
        faults.add(item.span(), message, "remove those that are not needed");
    }
}

/// A fault for each item that was there before.
pub fn once_each<T: Ord>(faults: &mut Faults, items: &[Spanned<T>], name: impl Fn(&T) -> String) {
    let mut seen = BTreeMap::new();
    for item in items {
        let first = seen.entry(item.get_ref()).or_insert_with(|| item.span());
        if *first != item.span() {
            faults.add_pair(
                item.span(),
                format!("{} is given twice", name(item.get_ref())),
                "remove one",
                first.clone(),
            );
        }
    }
}

fn hash_key(faults: &mut Faults, key: Option<&Spanned<String>>) -> HashKey {
    let key = key.and_then(|key| faults.item("hash_key", key, syntax::hash_key));
    key.map_or(HashKey::PUBLIC, Spanned::into_inner).into()
}

fn tunnel_source(faults: &mut Faults, list: Option<&Strings>) -> TunnelSource {
    let mut source = TunnelSource::default();
    let mut first: [Option<Span>; 2] = [None, None];
    for prefix in faults.list("tunnel_source", list, syntax::prefix) {
        let (family, name) = match prefix.get_ref() {
            PrefixOf::V4(_) => (0, "IPv4"),
            PrefixOf::V6(_) => (1, "IPv6"),
        };
        if let Some(first) = &first[family] {
            let message = format!("tunnel_source: a second {name} prefix");
            faults.add_pair(prefix.span(), message, "one of each family is possible: remove one", first.clone());
            continue;
        }
        first[family] = Some(prefix.span());
        match prefix.into_inner() {
            PrefixOf::V4(prefix) => source.v4 = Some(prefix),
            PrefixOf::V6(prefix) => source.v6 = Some(prefix),
        }
    }
    source
}

fn icmp_rate(faults: &mut Faults, number: Option<&Spanned<Number>>) -> u32 {
    let Some(number) = number else { return DEFAULT_ICMP_RATE };
    let (span, value) = (number.span(), number.get_ref().0);
    u32::try_from(value).unwrap_or_else(|_| {
        let (reason, help) = if value < 0 {
            ("too small", "write 0 to send none".to_owned())
        } else {
            ("too large", format!("write {}, which is no limit", u32::MAX))
        };
        faults.add(span.clone(), format!("icmp_rate {}: {reason}", faults.source.slice(&span)), help);
        DEFAULT_ICMP_RATE
    })
}

/// A ring's size and where it is written, if it is.
#[derive(Clone)]
struct Slots {
    value: u32,
    span: Option<Span>,
}

fn slots(faults: &mut Faults, number: Option<&Spanned<Number>>, default: Slots) -> Slots {
    let Some(number) = number else { return default };
    let (span, value) = (number.span(), number.get_ref().0);
    let (reason, help) = match u32::try_from(value) {
        Ok(value) if value > abi::MAX_SLOTS => ("too many", format!("write {}, the most", abi::MAX_SLOTS)),
        Ok(value) if value < abi::MIN_SLOTS => ("too few", format!("write {}, the fewest", abi::MIN_SLOTS)),
        Ok(value) if value.is_power_of_two() => return Slots { value, span: Some(span) },
        Ok(value) => ("not a power of two", format!("write {} or {}", 1 << value.ilog2(), value.next_power_of_two())),
        Err(_) if value < 0 => ("too few", format!("write {}, the fewest", abi::MIN_SLOTS)),
        Err(_) => ("too many", format!("write {}, the most", abi::MAX_SLOTS)),
    };
    let message = format!("slots {}: {reason}", faults.source.slice(&span));
    faults.add(span, message, help);
    default
}

fn mss(faults: &mut Faults, number: Option<&Spanned<Number>>) -> Option<u16> {
    let number = number?;
    let (span, value) = (number.span(), number.get_ref().0);
    let fits = u16::try_from(value).ok().filter(|mss| (MIN_MSS..=MAX_MSS).contains(mss));
    if fits.is_none() {
        let (reason, help) = if value < MIN_MSS.into() {
            ("too small", format!("write {MIN_MSS}, the least, or leave `mss` out"))
        } else {
            ("too large", format!("write {MAX_MSS}, the most, or leave `mss` out"))
        };
        faults.add(span.clone(), format!("mss {}: {reason}", faults.source.slice(&span)), help);
    }
    fits
}

/// A service under examination: every part that is valid, with its place.
struct Draft {
    name: Spanned<String>,
    vips: Vec<Spanned<Vip>>,
    backends: Vec<Spanned<Backend>>,
    backends_span: Span,
    forward: Forward,
    hash: Hash,
    syn: Syn,
    filter: syn::Filter,
    slots: Slots,
    mss: Option<u16>,
    health: HealthPolicy,
}

impl Draft {
    /// Who agrees in this shares a ring, as long as checks do not tell them apart.
    fn ring(&self) -> (Forward, u32, BTreeSet<Backend>) {
        (self.forward, self.slots.value, self.backends.iter().map(|backend| *backend.get_ref()).collect())
    }

    fn finish(self) -> Service {
        let (vips, backends) = (sorted(&self.vips), Arc::new(sorted(&self.backends)));
        let Draft { name, forward, hash, syn, filter, slots, mss, health, .. } = self;
        let (name, slots, removed) = (name.into_inner(), slots.value, Vec::new());
        Service {
            name,
            vips,
            backends,
            removed,
            forward,
            hash,
            syn,
            filter,
            slots,
            mss,
            health,
            seen: BTreeMap::new(),
            below_quorum: false,
        }
    }

    /// How many backends take traffic.
    fn live(&self) -> usize {
        self.backends.iter().filter(|backend| backend.get_ref().weight > 0).count()
    }
}

fn services(
    faults: &mut Faults,
    services: Option<raw::Services>,
    default_slots: &Slots,
    syn: &syn::Defaults,
) -> Vec<Draft> {
    let services = services.map(|services| services.0).unwrap_or_default();
    if services.is_empty() {
        let help = "add one: [service.web] with vip = \"192.0.2.10:80\" and backends = [\"10.0.0.11\"]";
        let end = faults.source.first_end();
        faults.add(end..end, "no service".to_owned(), help);
    }
    services.into_iter().map(|(name, service)| draft(faults, name, &service, default_slots, syn)).collect()
}

fn draft(
    faults: &mut Faults,
    name: Spanned<String>,
    raw: &raw::Service,
    default_slots: &Slots,
    syn: &syn::Defaults,
) -> Draft {
    faults.item("service", &name, syntax::service_name);
    let vips = faults.list("VIP", raw.vip.as_ref(), syntax::vip);
    not_empty(faults, &name, "vip", "vip = \"192.0.2.10:80\"", raw.vip.as_ref());
    let entries = faults.list("backend", raw.backends.as_ref(), syntax::backends);
    not_empty(faults, &name, "backends", "backends = [\"10.0.0.11\", \"10.0.0.12\"]", raw.backends.as_ref());
    let backends = distinct_backends(faults, name.get_ref(), entries);
    not_a_vip(faults, name.get_ref(), &backends, &vips);
    let (syn, filter) = syn.of_service(faults, raw.syn.as_ref(), raw.syn_rate.as_ref());
    Draft {
        health: policy(faults, &name, raw, &backends, &vips),
        vips,
        backends,
        backends_span: raw.backends.as_ref().map_or(name.span(), |list| list.span.clone()),
        forward: faults.word("forward", raw.forward.as_ref(), Forward::L2),
        hash: faults.word("hash", raw.hash.as_ref(), Hash::Flow),
        syn,
        filter,
        slots: slots(faults, raw.slots.as_ref(), default_slots.clone()),
        mss: mss(faults, raw.mss.as_ref()),
        name,
    }
}

fn not_empty(faults: &mut Faults, service: &Spanned<String>, key: &str, example: &str, list: Option<&Strings>) {
    let span = match list {
        None => service.span(),
        Some(list) if list.items.is_empty() => list.span.clone(),
        Some(_) => return,
    };
    let message = format!("service {}: no {key}", quoted(service.get_ref()));
    faults.add(span, message, format!("for example {example}"));
}

/// Backends out of their ranges, each address once; an entry is blamed once however many of its addresses repeat.
pub fn distinct_backends(
    faults: &mut Faults,
    service: &str,
    entries: Vec<Spanned<Vec<Backend>>>,
) -> Vec<Spanned<Backend>> {
    let mut seen: BTreeMap<IpAddr, Span> = BTreeMap::new();
    let mut backends = Vec::new();
    for entry in entries {
        let span = entry.span();
        let mut repeated = None;
        for backend in entry.into_inner() {
            match seen.get(&backend.address) {
                Some(first) => repeated = repeated.or_else(|| Some((backend.address, first.clone()))),
                None => {
                    seen.insert(backend.address, span.clone());
                    backends.push(Spanned::new(span.clone(), backend));
                }
            }
        }
        if let Some((address, first)) = repeated {
            let message = format!("service {}: backend {address} is given twice", quoted(service));
            faults.add_pair(span, message, "remove one; a weight makes a share larger: \"10.0.0.11*2\"", first);
        }
    }
    backends
}

pub fn not_a_vip(faults: &mut Faults, service: &str, backends: &[Spanned<Backend>], vips: &[Spanned<Vip>]) {
    let mut addresses: BTreeMap<IpAddr, Span> = BTreeMap::new();
    for vip in vips {
        addresses.entry(vip.get_ref().address).or_insert(vip.span());
    }
    for backend in backends {
        let address = backend.get_ref().address;
        if let Some(vip) = addresses.get(&address) {
            let message = format!("service {}: backend {address} is the service's own VIP", quoted(service));
            let error = Diagnostic::error(faults.source, backend.span(), message);
            let help = "name the backend by an address of its own: the VIP is on every backend's loopback";
            faults.errors.push(error.help(help).label(vip.clone(), "the VIP"));
        }
    }
}

/// All VIPs in file order, each once; that no two services share one.
fn distinct_vips(faults: &mut Faults, drafts: &[Draft]) -> Vec<Spanned<Vip>> {
    let of_draft =
        |draft: &'_ Draft| draft.vips.iter().map(|vip| (vip.clone(), draft.name.clone())).collect::<Vec<_>>();
    let mut all: Vec<(Spanned<Vip>, Spanned<String>)> = drafts.iter().flat_map(of_draft).collect();
    all.sort_by_key(|(vip, _)| vip.span().start);
    let mut seen: BTreeMap<Vip, (Span, Spanned<String>)> = BTreeMap::new();
    let mut vips = Vec::new();
    for (vip, service) in all {
        let Some((first, other)) = seen.get(vip.get_ref()) else {
            seen.insert(*vip.get_ref(), (vip.span(), service));
            vips.push(vip);
            continue;
        };
        let (here, there) = (quoted(service.get_ref()), quoted(other.get_ref()));
        let message = if service == *other {
            format!("service {here}: VIP {} is given twice", vip.get_ref())
        } else {
            format!("service {here}: VIP {} is already that of service {there}", vip.get_ref())
        };
        faults.add_pair(vip.span(), message, "a VIP belongs to one service: remove one", first.clone());
    }
    vips
}

/// What the tables in the kernel hold. Returns the slots of all rings.
fn limits(faults: &mut Faults, vips: &[Spanned<Vip>], drafts: &[Draft]) -> u64 {
    if let Some(vip) = vips.get(abi::MAX_VIPS as usize) {
        let message = format!("{} VIP entries, at most {} are possible", vips.len(), abi::MAX_VIPS);
        faults.add(vip.span(), message, "use all ports of an address, \"192.0.2.10:*\", or a second instance");
    }

    let mut in_file_order: Vec<&Draft> = drafts.iter().collect();
    in_file_order.sort_by_key(|draft| draft.name.span().start);
    let mut backends: HashSet<(IpAddr, Forward)> = HashSet::new();
    let mut over = None;
    let mut rings = HashSet::new();
    let mut ring_slots = 0;
    for draft in in_file_order {
        for backend in &draft.backends {
            // The outer family is that of the address, so address and method tell the encapsulation.
            backends.insert((backend.get_ref().address, draft.forward));
            if over.is_none() && backends.len() > abi::MAX_BACKENDS as usize {
                over = Some(backend.span());
            }
        }
        if rings.insert(draft.ring()) {
            let before = ring_slots;
            ring_slots += u64::from(draft.slots.value);
            too_many_slots(faults, draft, before, ring_slots);
        }
    }
    if let Some(span) = over {
        let message = format!("{} distinct backends, at most {} are possible", backends.len(), abi::MAX_BACKENDS);
        faults.add(span, message, "spread the services over several instances");
    }
    ring_slots
}

/// Room for all rings: twice what they take, because a change is written beside what it replaces.
fn arena(faults: &mut Faults, number: Option<&Spanned<Number>>, ring_slots: u64) -> Option<u32> {
    let (span, value) = (number?.span(), number?.get_ref().0);
    let (fewest, most) = (2 * ring_slots, i64::from(abi::MAX_ARENA_SLOTS));
    let (reason, help) = match u32::try_from(value) {
        Ok(value) if u64::from(value) < fewest => {
            let reason = format!("too few: the rings take {ring_slots} slots, and a change is written beside them");
            (reason, format!("write {fewest} or more"))
        }
        Ok(value) if value % abi::SLOTS_PER_ELEMENT != 0 => {
            ("not a multiple of four".to_owned(), format!("write {}", value - value % abi::SLOTS_PER_ELEMENT))
        }
        Ok(value) if i64::from(value) <= most => return Some(value),
        _ if value < 0 => ("too few".to_owned(), format!("write {fewest} or more")),
        _ => ("too many".to_owned(), format!("write {most}, the most")),
    };
    faults.add(span.clone(), format!("arena {}: {reason}", faults.source.slice(&span)), help);
    None
}

/// Where services share rings because they have the same backends, and checks may take that from them: each service has checks of its
/// own.
fn arena_warning(
    source: &Arc<Source>,
    span: Option<Span>,
    arena: Option<u32>,
    ring_slots: u64,
    drafts: &[Draft],
) -> Option<Diagnostic> {
    let mut shared = HashSet::new();
    let rings = drafts.iter().filter(|draft| !draft.health.checks.is_empty() || shared.insert(draft.ring()));
    let apart: u64 = rings.map(|draft| u64::from(draft.slots.value)).sum();
    let has = arena.map_or_else(|| (2 * ring_slots).max(MIN_ARENA.into()), u64::from);
    if apart <= ring_slots || 2 * apart <= has {
        return None;
    }
    let message =
        format!("the arena has {has} slots: too few where checks find backends up in one service and down in another");
    let most = abi::MAX_ARENA_SLOTS.into();
    let help = if 2 * apart <= most { format!("set arena = {}", 2 * apart) } else { "lower `slots`".to_owned() };
    let help =
        format!("then services share no rings, which take {apart} slots, and a change is written beside them: {help}");
    let warning = Diagnostic::warning(source, span.clone().unwrap_or(0..0), message).help(help);
    Some(if span.is_none() { warning.at_caret("add `arena` here") } else { warning })
}

/// Ports at which some service looks for a signature; `None` stands for all of them.
fn looked_for_at(drafts: &[Draft], signature: usize) -> Vec<Option<u16>> {
    let looking = drafts.iter().filter(|draft| draft.syn != Syn::Off && draft.filter.signatures.contains(&signature));
    let vips = looking.flat_map(|draft| draft.vips.iter().map(Spanned::get_ref));
    vips.filter(|vip| vip.protocol == Protocol::Tcp).map(|vip| vip.port).collect()
}

/// Blames the service whose ring is the first that does not fit. Half of the arena is for the generation to come.
fn too_many_slots(faults: &mut Faults, draft: &Draft, before: u64, after: u64) {
    let most = u64::from(abi::MAX_ARENA_SLOTS / 2);
    if before <= most && after > most {
        let span = draft.slots.span.clone().unwrap_or(draft.name.span());
        let name = quoted(draft.name.get_ref());
        let message =
            format!("service {name}: the rings up to this one have {after} slots, at most {most} are possible");
        faults.add(span, message, "lower `slots`, or give services the same backends: they share a ring");
    }
}

fn key_warning(source: &Arc<Source>, key: &HashKey, written: Option<&Spanned<String>>) -> Option<Diagnostic> {
    let span = written.map_or(0..0, Spanned::span);
    let warning = Diagnostic::warning(source, span, "hash_key is the public default: anybody can aim at one backend");
    let warning =
        warning.help("make a key with `openssl rand -hex 16` and give it to every sibling: hash_key = \"...\"");
    let warning = if written.is_none() { warning.at_caret("add `hash_key` here") } else { warning };
    key.public_default.then_some(warning)
}

fn backend_warning(source: &Arc<Source>, draft: &Draft) -> Option<Diagnostic> {
    let (name, live, slots) = (quoted(draft.name.get_ref()), draft.live(), draft.slots.value);
    if live == 0 {
        let message = format!("service {name}: every backend has weight 0, none takes traffic");
        let warning = Diagnostic::warning(source, draft.backends_span.clone(), message);
        return Some(warning.help(format!("give at least one a weight of 1 to {}", abi::MAX_WEIGHT)));
    }
    let wanted = live as u64 * u64::from(SLOTS_PER_BACKEND);
    if u64::from(slots) >= wanted {
        return None;
    }
    let span = draft.slots.span.clone().unwrap_or(draft.name.span());
    let message = format!("service {name}: {slots} slots for {live} backends, shares will be uneven");
    let help = match wanted.next_power_of_two() {
        enough if enough <= abi::MAX_SLOTS.into() => format!("set slots = {enough}"),
        _ if slots < abi::MAX_SLOTS => format!("set slots = {}, the most", abi::MAX_SLOTS),
        _ => "spread the backends over several services".to_owned(),
    };
    Some(Diagnostic::warning(source, span, message).help(help))
}

pub fn sorted<T: Ord + Clone>(items: &[Spanned<T>]) -> Vec<T> {
    let mut values: Vec<T> = items.iter().map(|item| item.get_ref().clone()).collect();
    values.sort();
    values
}
