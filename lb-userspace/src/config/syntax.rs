//! The small languages inside the strings of a configuration: VIPs, backends, prefixes, MACs, keys, names. Each parser
//! is a pure function from a string to a valid value, or to what is wrong with which part of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use lb_common::abi;

use super::{Backend, Prefix, Protocol, Vip, Word as _};

/// What is wrong with a string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    /// Which bytes of it.
    pub at: Range<usize>,
    /// The fault.
    pub reason: String,
    /// The way out.
    pub help: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.help)
    }
}

impl std::error::Error for SyntaxError {}

type Parsed<T> = Result<T, SyntaxError>;

/// `192.0.2.10:80`, `192.0.2.10:53/udp`, `192.0.2.21:*`, `[2001:db8::53]:53/udp`.
pub fn vip(text: &str) -> Parsed<Vip> {
    let (place, word) = text.split_once('/').unwrap_or((text, "tcp"));
    let (host, port_text) = vip_parts(text, place)?;
    let address = match host.parse() {
        Ok(address) => address,
        Err(_) => return Err(not_an_address(text, host, "192.0.2.10:80")),
    };
    unicast(text, host, address)?;
    let port = port(text, port_text)?;
    let protocol = Protocol::from_word(word).ok_or_else(|| {
        fault(text, word, "protocol is neither tcp nor udp", format!("write {place:?} for TCP or \"{place}/udp\""))
    })?;
    Ok(Vip { address, port, protocol })
}

/// Host and port of a VIP, IPv6 without its brackets.
fn vip_parts<'a>(text: &str, place: &'a str) -> Parsed<(&'a str, &'a str)> {
    if let Some(rest) = place.strip_prefix('[') {
        let parts = rest.split_once("]:").filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok());
        let help = "an IPv6 VIP is written like \"[2001:db8::53]:53\"";
        return parts.ok_or_else(|| fault(text, place, "not an IPv6 address in brackets and a port", help));
    }
    if let Some((host, tail)) = place.rsplit_once(':').filter(|(host, _)| host.contains(':')) {
        let help = match (host.parse::<Ipv6Addr>(), place.parse::<Ipv6Addr>()) {
            (Ok(_), _) => format!("write \"[{host}]:{tail}\""),
            (_, Ok(_)) => format!("write \"[{place}]:80\""),
            _ => return Err(not_an_address(text, place, "192.0.2.10:80")),
        };
        return Err(fault(text, place, "an IPv6 address needs brackets before its port", help));
    }
    match place.split_once(':') {
        Some(parts) => Ok(parts),
        None if place.parse::<Ipv4Addr>().is_ok() => {
            let help = format!("write \"{place}:80\", or \"{place}:*\" for all ports");
            Err(fault(text, place, "no port", help))
        }
        None => Err(not_an_address(text, place, "192.0.2.10:80")),
    }
}

fn port(text: &str, port: &str) -> Parsed<Option<u16>> {
    if port == "*" {
        return Ok(None);
    }
    match digits(port).and_then(|number| u16::try_from(number).ok()) {
        Some(number) if number > 0 => Ok(Some(number)),
        _ => Err(fault(text, port, "not a port", "a port is 1 to 65535, or * for all of them")),
    }
}

/// `10.0.0.11`, `10.0.0.13*2`, `10.0.0.21-24*3` (the range is in the last octet), `2001:db8::1*2`.
pub fn backends(text: &str) -> Parsed<Vec<Backend>> {
    let (place, weight) = match text.split_once('*') {
        Some((place, digits)) => (place, weight(text, digits)?),
        None => (text, 1),
    };
    let addresses = match place.split_once('-') {
        Some((first, last)) => range(text, first, last)?,
        None => vec![backend_address(text, place)?],
    };
    Ok(addresses.into_iter().map(|address| Backend::new(address, weight)).collect())
}

/// One address, no range and no weight.
pub fn backend_address(text: &str, place: &str) -> Parsed<IpAddr> {
    if let Ok(address) = place.parse() {
        unicast(text, place, address)?;
        return Ok(address);
    }
    let bare = place.trim_start_matches('[').split(']').next().unwrap_or_default();
    let without_port = place.split_once(':').filter(|(host, _)| host.parse::<Ipv4Addr>().is_ok());
    if let Some((host, port)) = without_port {
        let help = format!("it receives on the port that the client used: write {host:?}");
        Err(fault(text, port, "a backend has no port", help))
    } else if place.starts_with('[') && bare.parse::<Ipv6Addr>().is_ok() {
        Err(fault(text, place, "a backend has neither brackets nor a port", format!("write {bare:?}")))
    } else {
        Err(not_an_address(text, place, "10.0.0.11"))
    }
}

fn range(text: &str, first: &str, last: &str) -> Parsed<Vec<IpAddr>> {
    let start: Ipv4Addr = match backend_address(text, first)? {
        IpAddr::V4(start) => start,
        IpAddr::V6(_) => {
            return Err(fault(text, last, "a range of IPv6 addresses", "ranges are for IPv4: name each address"));
        }
    };
    let [a, b, c, low] = start.octets();
    let high = match digits(last).and_then(|number| u8::try_from(number).ok()) {
        Some(high) => high,
        None => return Err(range_end(text, first, last, start)),
    };
    if high < low {
        let help = format!("write \"{a}.{b}.{c}.{high}-{low}\"");
        return Err(fault(text, last, format!("a range that ends before it starts, {high} before {low}"), help));
    }
    let addresses = (low..=high).map(|d| IpAddr::from([a, b, c, d]));
    addresses.map(|address| unicast(text, text, address).map(|()| address)).collect()
}

fn range_end(text: &str, first: &str, last: &str, start: Ipv4Addr) -> SyntaxError {
    let same_network = |end: &Ipv4Addr| end.octets()[..3] == start.octets()[..3];
    let help = match last.parse().ok().filter(same_network) {
        Some(end) => format!("write \"{first}-{}\"", end.octets()[3]),
        None => "a range is in the last octet, like \"10.0.0.21-24\"".to_owned(),
    };
    fault(text, last, "not the last octet of a range", help)
}

/// 0 to 256.
pub fn weight(text: &str, weight: &str) -> Parsed<u16> {
    let help = format!("a weight is 0 to {}, and 0 drains", abi::MAX_WEIGHT);
    match digits(weight).and_then(|number| u16::try_from(number).ok()) {
        Some(number) if number <= abi::MAX_WEIGHT => Ok(number),
        _ if digits(weight.trim_start_matches('-')).is_some() => Err(fault(text, weight, "weight out of range", help)),
        _ => Err(fault(text, weight, "weight is not a number", without_spaces(text).unwrap_or(help))),
    }
}

/// A prefix that outer headers take their source from.
pub fn prefix(text: &str) -> Parsed<PrefixOf> {
    let example = "10.255.0.0/16";
    let Some((host, length_text)) = text.split_once('/') else {
        let Ok(address) = text.parse::<IpAddr>() else { return Err(not_an_address(text, text, example)) };
        let help = format!("for this address alone write \"{text}/{}\"", width(address));
        return Err(fault(text, text, "no prefix length", help));
    };
    let Ok(address) = host.parse::<IpAddr>() else { return Err(not_an_address(text, host, example)) };
    let shortest = if address.is_ipv6() { 96 } else { 0 };
    let length = match digits(length_text).and_then(|number| u8::try_from(number).ok()) {
        Some(length) if (shortest..=width(address)).contains(&length) => length,
        _ => {
            let help = format!("here it is {shortest} to {}", width(address));
            return Err(fault(text, length_text, "prefix length out of range", help));
        }
    };
    let network = network(address, length);
    if network != address {
        return Err(fault(text, host, "address has host bits set", format!("write \"{network}/{length}\"")));
    }
    match special(address, length) {
        Some(kind) => Err(fault(text, host, format!("holds {kind} addresses"), "name a prefix of unicast addresses")),
        None => Ok(match address {
            IpAddr::V4(address) => PrefixOf::V4(Prefix { address, length }),
            IpAddr::V6(address) => PrefixOf::V6(Prefix { address, length }),
        }),
    }
}

/// A prefix whose SYNs are never dropped: any length, any address.
pub fn any_prefix(text: &str) -> Parsed<(IpAddr, u8)> {
    let example = "198.51.100.0/24";
    let (host, length) = text.split_once('/').map_or((text, None), |(host, length)| (host, Some(length)));
    let Ok(address) = host.parse::<IpAddr>() else { return Err(not_an_address(text, host, example)) };
    let length_text = length.unwrap_or_default();
    let length = match length {
        None => width(address),
        Some(length) => match digits(length).and_then(|number| u8::try_from(number).ok()) {
            Some(length) if (1..=width(address)).contains(&length) => length,
            _ => {
                let help = format!("here it is 1 to {}", width(address));
                return Err(fault(text, length_text, "prefix length out of range", help));
            }
        },
    };
    let network = network(address, length);
    if network != address {
        return Err(fault(text, host, "address has host bits set", format!("write \"{network}/{length}\"")));
    }
    if let IpAddr::V6(v6) = address
        && v6.to_ipv4_mapped().is_some()
    {
        return Err(fault(text, host, "an IPv4-mapped address", "write the IPv4 prefix itself"));
    }
    Ok((address, length))
}

/// `1000/s`, `50k/s`, `2M/s`.
pub fn rate(text: &str) -> Parsed<u32> {
    let help = "write it like \"1000/s\", \"50k/s\" or \"2M/s\"";
    let Some(number) = text.strip_suffix("/s") else {
        let (start, end) = (text.find('/').unwrap_or(0), text.len());
        return Err(fault(text, &text[start..end], "not a number a second", help));
    };
    let (digits_of, times) = match number.strip_suffix(['k', 'M']) {
        Some(digits) if number.ends_with('k') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (number, 1),
    };
    match digits(digits_of).and_then(|value| value.checked_mul(times)) {
        Some(rate) if rate <= MAX_RATE => Ok(rate),
        Some(_) => Err(fault(text, number, "too many", format!("at most {}M/s are possible", MAX_RATE / 1_000_000))),
        None if digits(digits_of).is_some() => {
            Err(fault(text, number, "too many", format!("at most {}M/s are possible", MAX_RATE / 1_000_000)))
        }
        None => Err(fault(text, number, "not a number a second", help)),
    }
}

/// The highest rate: one in a nanosecond.
const MAX_RATE: u32 = 1_000_000_000;

/// `80`, `1-1024`: both ends belong to it.
pub fn bounds(text: &str, least: u16, most: u16) -> Parsed<(u16, u16)> {
    let (low_text, high_text) = text.split_once('-').filter(|(low, _)| !low.is_empty()).unwrap_or((text, text));
    let end = |part: &str| match digits(part) {
        Some(number) if (u32::from(least)..=most.into()).contains(&number) => Ok(number as u16),
        Some(_) => Err(fault(text, part, "out of range", format!("here it is {least} to {most}"))),
        None => Err(fault(text, part, "not a number or a range", "write it like 80 or \"1-1024\"")),
    };
    let (low, high) = (end(low_text)?, end(high_text)?);
    if low > high {
        let help = format!("write \"{high}-{low}\"");
        return Err(fault(text, text, format!("a range that ends before it starts, {high} before {low}"), help));
    }
    Ok((low, high))
}

/// A prefix of either family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrefixOf {
    /// IPv4.
    V4(Prefix<Ipv4Addr>),
    /// IPv6.
    V6(Prefix<Ipv6Addr>),
}

/// `00:00:5e:00:01:0a`.
pub fn mac(text: &str) -> Parsed<[u8; 6]> {
    let help = "a MAC is six pairs of hex digits, like \"00:00:5e:00:01:0a\"";
    let octet = |pair: &str| {
        let valid = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        u8::from_str_radix(pair, 16).ok().filter(|_| valid)
    };
    let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
    match octets.map(<[u8; 6]>::try_from) {
        Some(Ok([0, 0, 0, 0, 0, 0])) => Err(fault(text, text, "all zero is nobody's MAC", help)),
        Some(Ok(mac)) if mac[0] & 1 != 0 => {
            Err(fault(text, text, "a multicast MAC", "flooded frames are never taken: name a unicast MAC"))
        }
        Some(Ok(mac)) => Ok(mac),
        _ => Err(fault(text, text, "not a MAC", help)),
    }
}

/// 32 hex digits.
pub fn hash_key(text: &str) -> Parsed<[u8; 16]> {
    let help = "make a key with `openssl rand -hex 16`";
    if let Some((at, other)) = text.char_indices().find(|(_, c)| !c.is_ascii_hexdigit()) {
        let at = at..at + other.len_utf8();
        return Err(SyntaxError { at, reason: "not a hex digit".to_owned(), help: help.to_owned() });
    }
    match u128::from_str_radix(text, 16) {
        Ok(key) if text.len() == 32 => Ok(key.to_be_bytes()),
        _ => Err(fault(text, text, format!("{} hex digits instead of 32", text.len()), help)),
    }
}

/// What the kernel takes for the name of an interface.
pub fn interface(text: &str) -> Parsed<()> {
    let help = "name an interface as `ip link` shows it";
    if text.is_empty() || text == "." || text == ".." {
        Err(fault(text, text, "not the name of an interface", help))
    } else if text.len() > 15 {
        Err(fault(text, text, format!("{} bytes, but names of interfaces have at most 15", text.len()), help))
    } else if let Some((at, bad)) = text.char_indices().find(|(_, c)| matches!(c, '/' | ':') || c.is_whitespace()) {
        let (at, reason) = (at..at + bad.len_utf8(), format!("{bad:?} cannot stand in the name of an interface"));
        Err(SyntaxError { at, reason, help: help.to_owned() })
    } else {
        Ok(())
    }
}

/// The name of a service or a signature.
pub fn service_name(text: &str) -> Parsed<()> {
    let help = "a name is 1 to 64 of the letters A-Z and a-z, digits, _ . and -";
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if text.is_empty() {
        Err(fault(text, text, "empty name", help))
    } else if let Some((at, bad)) = text.char_indices().find(|(_, c)| !allowed(*c)) {
        let (at, reason) = (at..at + bad.len_utf8(), format!("{bad:?} cannot stand in a name"));
        Err(SyntaxError { at, reason, help: help.to_owned() })
    } else if text.len() > 64 {
        Err(fault(text, text, format!("{} characters in a name", text.len()), help))
    } else {
        Ok(())
    }
}

/// Address blocks that are no one host's: VIPs, backends and tunnel sources keep out of them.
const SPECIAL: &[(&str, IpAddr, u8)] = &[
    ("unspecified", IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    ("loopback", IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    ("link-local", IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    ("multicast", IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    ("broadcast", IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    ("unspecified", IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
    ("loopback", IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    ("IPv4-mapped", IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96),
    ("link-local", IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    ("multicast", IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

/// The kind of special block that a prefix touches.
fn special(address: IpAddr, length: u8) -> Option<&'static str> {
    let touches = |(_, block, block_length): &&(&str, IpAddr, u8)| {
        let shared = length.min(*block_length);
        network(address, shared) == network(*block, shared)
    };
    SPECIAL.iter().find(touches).map(|(kind, _, _)| *kind)
}

fn unicast(text: &str, part: &str, address: IpAddr) -> Parsed<()> {
    match special(address, width(address)) {
        Some("IPv4-mapped") => {
            Err(fault(text, part, "an IPv4-mapped address", format!("write \"{}\"", address.to_canonical())))
        }
        Some(kind) => {
            Err(fault(text, part, format!("{kind} address"), "name a unicast address that other hosts can reach"))
        }
        None => Ok(()),
    }
}

/// The address with its host bits cleared.
fn network(address: IpAddr, length: u8) -> IpAddr {
    let keep = |width: u8| u128::MAX.checked_shl((width - length).into()).unwrap_or(0);
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & keep(32) as u32).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & keep(128)).into(),
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A decimal number without sign or spaces; what is too large to matter becomes the largest.
fn digits(text: &str) -> Option<u32> {
    let valid = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| text.parse().unwrap_or(u32::MAX))
}

fn not_an_address(text: &str, part: &str, example: &str) -> SyntaxError {
    let is_name = |part: &str| part.chars().any(|c| c.is_alphabetic() && !c.is_ascii_hexdigit()) && !part.contains(':');
    let help = match without_spaces(text) {
        Some(help) => help,
        None if is_name(part) => "names are not looked up: write the address".to_owned(),
        None => format!("write it like {example:?}"),
    };
    fault(text, part, "not an IP address", help)
}

/// The way out for a value that has spaces in it.
fn without_spaces(text: &str) -> Option<String> {
    let bare: String = text.split_whitespace().collect();
    (bare.len() < text.len()).then(|| format!("write {bare:?}, without spaces"))
}

/// A fault in `part`, which must be a slice of `text`: where in it is told by the addresses of the two.
fn fault(text: &str, part: &str, reason: impl Into<String>, help: impl Into<String>) -> SyntaxError {
    let start = part.as_ptr().addr().saturating_sub(text.as_ptr().addr()).min(text.len());
    let end = (start + part.len()).min(text.len());
    SyntaxError { at: start..end, reason: reason.into(), help: help.into() }
}
