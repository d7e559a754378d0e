//! The table of nftables on a backend: what it holds, as text, and what of it a listing lacks. One definition for both.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use serde_json::Value;

use super::needs::{Decapsulation, Needs, Tunnel};
use crate::config::{Protocol, Vip};

/// Its name, in the family inet.
pub const NAME: &str = "weir_backend";

/// The table. Displayed, it is what `nft -f` takes: it replaces the one that is there in one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    sets: Vec<Set>,
    chains: Vec<Chain>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Set {
    name: String,
    kind: String,
    elements: BTreeSet<Element>,
}

/// An address, perhaps with a protocol, perhaps with a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Element {
    address: IpAddr,
    protocol: Option<Protocol>,
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Chain {
    name: &'static str,
    hook: &'static str,
    /// Its name and its number.
    priority: (&'static str, i64),
    why: String,
    rules: Vec<Rule>,
}

/// What happens to packets that a set has.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    key: String,
    set: String,
    and: &'static str,
    statement: Statement,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Statement {
    Notrack,
    /// Lowers the size of segments that a SYN asks for; the kernel never raises it.
    Mss(u16),
}

impl Table {
    /// The table that a backend needs.
    pub fn new(needs: &Needs) -> Self {
        let mut table = Table { sets: Vec::new(), chains: chains(needs) };
        for v4 in [true, false] {
            table.add_services(&needs.vips, v4);
            if let Some(tunnel) = &needs.tunnel {
                table.add_tunnel(tunnel, v4);
            }
            for (mss, vips) in &needs.segments {
                let vips = vips.iter().copied().filter(|vip| vip.is_ipv4() == v4);
                table.add_mss(format!("segments{mss}_{}", Names::of(v4).n), addresses(vips), *mss, v4);
            }
        }
        table.chains.retain(|chain| !chain.rules.is_empty());
        table
    }

    fn add_services(&mut self, vips: &[Vip], v4: bool) {
        let Names { n, ip, address, icmp } = Names::of(v4);
        let of_family = || vips.iter().filter(|vip| vip.address.is_ipv4() == v4);
        let element = |vip: &Vip| Element { address: vip.address, protocol: Some(vip.protocol), port: vip.port };
        let (on_ports, all_ports) = (of_family().map(element)).partition(|element| element.port.is_some());
        let addresses = addresses(of_family().map(|vip| vip.address));
        let sets = [
            (format!("services{n}"), format!("{address} . inet_proto . inet_service"), on_ports),
            (format!("all_ports{n}"), format!("{address} . inet_proto"), all_ports),
            (format!("vips{n}"), address.to_owned(), addresses),
        ];
        for (name, kind, elements) in sets {
            for (chain, end, port) in [("prerouting", "daddr", "dport"), ("output", "saddr", "sport")] {
                let (key, and) = match &name[..name.len() - 1] {
                    "services" => (format!("{ip} {end} . meta l4proto . th {port}"), ""),
                    "all_ports" => (format!("{ip} {end} . meta l4proto"), ""),
                    _ => (format!("{ip} {end}"), icmp),
                };
                self.add_rule(chain, &elements, Rule { key, set: name.clone(), and, statement: Statement::Notrack });
            }
            self.add_set(name, kind, elements);
        }
    }

    fn add_tunnel(&mut self, tunnel: &Tunnel, v4: bool) {
        let Names { n, ip, address, .. } = Names::of(v4);
        if tunnel.decapsulation == Decapsulation::Kernel {
            let (set, ends) = (format!("ends{n}"), addresses(tunnel.ends_of(v4)));
            let rule = Rule {
                key: format!("{ip} daddr"),
                set: set.clone(),
                and: "meta l4proto { 4, 41 } ",
                statement: Statement::Notrack,
            };
            self.add_rule("prerouting", &ends, rule);
            self.add_set(set, address.to_owned(), ends);
        }
        let tcp = tunnel.vips.iter().filter(|vip| vip.address.is_ipv4() == v4 && vip.protocol == Protocol::Tcp);
        let vips = addresses(tcp.map(|vip| vip.address));
        self.add_mss(format!("tunnelled{n}"), vips, if v4 { tunnel.mss4() } else { tunnel.mss6() }, v4);
    }

    /// Limits segments to some addresses. Of several limits the smallest holds.
    fn add_mss(&mut self, set: String, vips: BTreeSet<Element>, mss: u16, v4: bool) {
        let Names { ip, address, .. } = Names::of(v4);
        let (key, and) = (format!("{ip} saddr"), "tcp flags & (syn | rst) == syn ");
        self.add_rule("mss", &vips, Rule { key, set: set.clone(), and, statement: Statement::Mss(mss) });
        self.add_set(set, address.to_owned(), vips);
    }

    fn add_set(&mut self, name: String, kind: String, elements: BTreeSet<Element>) {
        if !elements.is_empty() {
            self.sets.push(Set { name, kind, elements });
        }
    }

    /// Adds a rule, unless its set has nothing.
    fn add_rule(&mut self, chain: &str, elements: &BTreeSet<Element>, rule: Rule) {
        let chain = self.chains.iter_mut().find(|there| there.name == chain).filter(|_| !elements.is_empty());
        chain.into_iter().for_each(|chain| chain.rules.push(rule.clone()));
    }

    /// Whether it keeps segments small, for which there is no other place.
    pub fn limits_segments(&self) -> bool {
        self.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.statement != Statement::Notrack)
    }

    /// What of it `nft -j list table` did not list, a phrase each.
    pub fn missing(&self, listing: &Value) -> Vec<String> {
        let listed = Listed(listing["nftables"].as_array().map(Vec::as_slice).unwrap_or_default());
        let mut missing = Vec::new();
        for set in &self.sets {
            let there = listed.elements(&set.name);
            let mut lacks = set.elements.iter().filter(|element| !there.contains(element));
            if let Some(first) = lacks.next() {
                let more = lacks.count();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                missing.push(format!("{first}{more} in set {}", set.name));
            }
        }
        for chain in &self.chains {
            if !listed.has_chain(chain) {
                missing.push(format!("chain {} at {} {}", chain.name, chain.hook, chain.priority.0));
                continue;
            }
            let lacks = chain.rules.iter().filter(|rule| !listed.has_rule(chain.name, rule));
            missing.extend(lacks.map(|rule| format!("rule for @{} in chain {}", rule.set, chain.name)));
        }
        missing
    }
}

fn chains(needs: &Needs) -> Vec<Chain> {
    let chain = |name, hook, priority, why: &str| Chain { name, hook, priority, why: why.into(), rules: Vec::new() };
    let why = needs.tunnel.as_ref().map_or("Clients' segments must be as small as `mss` says.".to_owned(), |tunnel| {
        let (path, outer) = (tunnel.path_mtu, tunnel.outer_bytes());
        format!("Segments must fit a path of {path} bytes with {outer} more in front.")
    });
    let mss = format!("{why} Said in SYN-ACKs, it leaves routes and other traffic alone.");
    vec![
        chain(
            "prerouting",
            "prerouting",
            ("raw", -300),
            "conntrack stays out: its table would fill with clients' connections, and full it drops them.",
        ),
        chain(
            "output",
            "output",
            ("raw", -300),
            "The answers too: untracked packets are neither new nor established to a firewall.",
        ),
        chain("mss", "output", ("mangle", -150), &mss),
    ]
}

struct Names {
    n: u8,
    ip: &'static str,
    address: &'static str,
    icmp: &'static str,
}

impl Names {
    const fn of(v4: bool) -> Self {
        if v4 {
            Names { n: 4, ip: "ip", address: "ipv4_addr", icmp: "meta l4proto icmp " }
        } else {
            Names { n: 6, ip: "ip6", address: "ipv6_addr", icmp: "meta l4proto icmpv6 " }
        }
    }
}

fn addresses(addresses: impl IntoIterator<Item = IpAddr>) -> BTreeSet<Element> {
    addresses.into_iter().map(|address| Element { address, protocol: None, port: None }).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The one that is there, if any, and its successor change places in one transaction.")?;
        writeln!(f, "table inet {NAME}\ndelete table inet {NAME}\ntable inet {NAME} {{")?;
        for Set { name, kind, elements } in &self.sets {
            writeln!(f, "\tset {name} {{\n\t\ttype {kind}\n\t\telements = {{")?;
            elements.iter().try_for_each(|element| writeln!(f, "\t\t\t{element},"))?;
            writeln!(f, "\t\t}}\n\t}}")?;
        }
        for Chain { name, hook, priority, why, rules } in &self.chains {
            writeln!(f, "\t# {why}")?;
            writeln!(f, "\tchain {name} {{\n\t\ttype filter hook {hook} priority {}; policy accept;", priority.0)?;
            for Rule { key, set, and, statement } in rules {
                writeln!(f, "\t\t{key} @{set} {and}{statement}")?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.protocol.iter().try_for_each(|protocol| write!(f, " . {protocol}"))?;
        self.port.iter().try_for_each(|port| write!(f, " . {port}"))
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Notrack => f.write_str("notrack"),
            Statement::Mss(bytes) => write!(f, "tcp option maxseg size set {bytes}"),
        }
    }
}

/// The objects of `nft -j list table`.
struct Listed<'a>(&'a [Value]);

impl Listed<'_> {
    fn elements(&self, set: &str) -> BTreeSet<Element> {
        let sets = self.0.iter().filter(|object| object["set"]["name"] == set);
        sets.filter_map(|object| object["set"]["elem"].as_array()).flatten().filter_map(element).collect()
    }

    fn has_chain(&self, chain: &Chain) -> bool {
        self.0.iter().map(|object| &object["chain"]).any(|there| {
            there["name"] == chain.name && there["hook"] == chain.hook && there["prio"] == chain.priority.1
        })
    }

    fn has_rule(&self, chain: &str, rule: &Rule) -> bool {
        let set = format!("@{}", rule.set);
        let rules = self.0.iter().map(|object| &object["rule"]).filter(|there| there["chain"] == chain);
        rules.filter_map(|there| there["expr"].as_array()).any(|expressions| {
            let matches = expressions.iter().any(|expression| expression["match"]["right"] == set.as_str());
            matches && expressions.iter().any(|expression| rule.statement.is(expression))
        })
    }
}

impl Statement {
    fn is(self, expression: &Value) -> bool {
        match self {
            Statement::Notrack => expression.get("notrack").is_some(),
            Statement::Mss(bytes) => {
                let maxseg = expression["mangle"]["key"]["tcp option"]["name"] == "maxseg";
                maxseg && expression["mangle"]["value"].as_u64().is_some_and(|value| value <= bytes.into())
            }
        }
    }
}

/// `"192.0.2.10"`, `{"concat": ["192.0.2.10", "tcp"]}` or `{"concat": ["192.0.2.10", "tcp", 80]}`.
fn element(value: &Value) -> Option<Element> {
    let parts = value["concat"].as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let protocol = |part: &Value| match (part.as_str(), part.as_u64()) {
        (Some("tcp"), _) | (_, Some(6)) => Some(Protocol::Tcp),
        (Some("udp"), _) | (_, Some(17)) => Some(Protocol::Udp),
        _ => None,
    };
    Some(Element {
        address: parts.first()?.as_str()?.parse().ok()?,
        protocol: parts.get(1).and_then(protocol),
        port: parts.get(2).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()),
    })
}
