//! What a service says of its health beside the checks.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use toml::Spanned;

use super::super::check::{Faults, distinct_backends, not_a_vip, sorted};
use super::super::error::{Span, quoted};
use super::super::raw::{Number, Service as Raw};
use super::super::{Backend, HealthPolicy, Protocol, Vip, syntax};
use super::read::{checks, time};
use super::{Check, OnEmpty, Via};

/// The longest slow start.
const MAX_SLOW_START: Duration = Duration::from_secs(24 * 3_600);

/// The valid policy of a service; faults of it are noted.
pub fn policy(
    faults: &mut Faults,
    name: &Spanned<String>,
    raw: &Raw,
    backends: &[Spanned<Backend>],
    vips: &[Spanned<Vip>],
) -> HealthPolicy {
    let found = checks(faults, name.get_ref(), raw.check.as_ref());
    for (check, item) in found.iter().zip(raw.check.iter().flat_map(|checks| &checks.items)) {
        goes_to_a_vip(faults, name.get_ref(), check, item.span(), vips);
    }
    needs_checks(faults, name.get_ref(), raw, &found);
    let (sorry, on_empty) = sorry(faults, name.get_ref(), raw, backends, vips);
    let quorum = quorum(faults, name.get_ref(), raw.quorum.as_ref(), backends);
    let required = raw.required.as_ref().is_some_and(|required| *required.get_ref());
    HealthPolicy {
        checks: found,
        // Below one backend there is nothing that could be required.
        quorum: quorum.or(required.then_some(1)),
        required,
        on_empty,
        sorry: sorted(&sorry),
        slow_start: time(
            faults,
            "slow_start",
            raw.slow_start.as_ref(),
            Duration::ZERO,
            Duration::from_secs(1),
            MAX_SLOW_START,
        ),
    }
}

/// Keys that mean nothing where every backend is taken to work.
fn needs_checks(faults: &mut Faults, service: &str, raw: &Raw, checks: &[Check]) {
    if !checks.is_empty() {
        return;
    }
    if let Some(list) = &raw.check {
        let message = format!("service {}: no check", quoted(service));
        faults.add(list.span.clone(), message, "for example check = \"tcp\", or leave the key out");
        return;
    }
    if let Some(slow_start) = &raw.slow_start {
        let message = format!("service {}: slow_start without a check", quoted(service));
        faults.add(slow_start.span(), message, "nobody sees a backend come back: add check = \"tcp\"");
    }
}

/// A check that goes to a VIP needs one of its protocol, and every check that goes to a port needs that.
fn goes_to_a_vip(faults: &mut Faults, service: &str, check: &Check, place: Span, vips: &[Spanned<Vip>]) {
    if vips.is_empty() {
        return;
    }
    let kind = check.kind.name();
    let fits = |vip: &&Spanned<Vip>| check.kind.protocol().is_none_or(|wanted| wanted == vip.get_ref().protocol);
    let mut fitting = vips.iter().filter(fits).peekable();
    let protocol = check.kind.protocol().map(|protocol| protocol.to_string()).unwrap_or_default();
    if check.via == Via::Vip && fitting.peek().is_none() {
        let message = format!("service {}: a check by {kind}, but no VIP is of {protocol}", quoted(service));
        faults.add(
            place,
            message,
            "add such a VIP, check by another kind, or check the backend itself: via = \"backend\"",
        );
    } else if check.kind.has_port()
        && check.port.is_none()
        && check.kind.usual_port().is_none()
        && !fitting.any(|vip| vip.get_ref().port.is_some())
    {
        let message = format!("service {}: a check by {kind}, but no port to check", quoted(service));
        faults.add(place, message, "name one: port = 8080");
    }
}

/// Sorry backends, and what happens if no other works.
fn sorry(
    faults: &mut Faults,
    service: &str,
    raw: &Raw,
    backends: &[Spanned<Backend>],
    vips: &[Spanned<Vip>],
) -> (Vec<Spanned<Backend>>, OnEmpty) {
    let entries = faults.list("sorry backend", raw.sorry.as_ref(), syntax::backends);
    let sorry = distinct_backends(faults, service, entries);
    not_a_vip(faults, service, &sorry, vips);
    let known: BTreeMap<IpAddr, Span> =
        backends.iter().map(|backend| (backend.get_ref().address, backend.span())).collect();
    for backend in &sorry {
        let address = backend.get_ref().address;
        if let Some(first) = known.get(&address) {
            let message = format!("service {}: {address} is both a backend and a sorry backend", quoted(service));
            faults.add_pair(backend.span(), message, "remove one", first.clone());
        }
    }
    let default = if raw.sorry.is_some() { OnEmpty::Sorry } else { OnEmpty::Last };
    let on_empty = faults.word("on_empty", raw.on_empty.as_ref(), default);
    let has_tcp = vips.iter().any(|vip| vip.get_ref().protocol == Protocol::Tcp);
    match (&raw.on_empty, &raw.sorry) {
        (Some(written), None) if on_empty == OnEmpty::Sorry => {
            let message = format!("service {}: on_empty = \"sorry\" without sorry backends", quoted(service));
            faults.add(written.span(), message, "name them: sorry = \"10.0.0.99\"");
        }
        (Some(written), Some(list)) if on_empty != OnEmpty::Sorry => {
            let message = format!("service {}: sorry backends, but on_empty = \"{on_empty}\"", quoted(service));
            faults.add_pair(written.span(), message, "remove one of the two keys", list.span.clone());
        }
        (Some(written), None) if on_empty == OnEmpty::Reset && !has_tcp && !vips.is_empty() => {
            let message = format!("service {}: on_empty = \"reset\", but no VIP is of tcp", quoted(service));
            faults.add(written.span(), message, "other packets are dropped: write on_empty = \"drop\"");
        }
        (_, Some(list)) if list.items.is_empty() => {
            let message = format!("service {}: no sorry backend", quoted(service));
            faults.add(list.span.clone(), message, "name one, or leave the key out");
        }
        _ => {}
    }
    (sorry, on_empty)
}

fn quorum(
    faults: &mut Faults,
    service: &str,
    number: Option<&Spanned<Number>>,
    backends: &[Spanned<Backend>],
) -> Option<u32> {
    let number = number?;
    let (span, value) = (number.span(), number.get_ref().0);
    let most = backends.iter().filter(|backend| backend.get_ref().weight > 0).count();
    let (reason, help) = match u32::try_from(value) {
        Ok(0) => ("no service is below that".to_owned(), "write 1 or more, or leave the key out".to_owned()),
        Ok(value) if value as usize > most => {
            (format!("the service has {most} backends that take traffic"), format!("write {most} or less"))
        }
        Ok(value) => return Some(value),
        Err(_) => ("out of range".to_owned(), "write 1 or more, or leave the key out".to_owned()),
    };
    let message = format!("service {}: quorum {}: {reason}", quoted(service), faults.source().slice(&span));
    faults.add(span, message, help);
    None
}
