//! What tells whether a backend works: the checks of a service, as valid types. `raw` holds them as written, `read` the way
//! from there to here.

mod policy;
mod raw;
mod read;
#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, time::Duration};

use super::{Protocol, Word};

pub use raw::{CHECK_KEYS, Checks as RawChecks};

pub use policy::policy;

/// How often a backend is checked unless the file says otherwise.
pub const DEFAULT_EVERY: Duration = Duration::from_secs(2);
/// How long a check may take unless the file says otherwise; no longer than the interval.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Successes in a row that bring a backend back.
pub const DEFAULT_RISE: u32 = 2;
/// Failures in a row that take it away.
pub const DEFAULT_FALL: u32 = 3;
/// The shortest interval.
pub const MIN_EVERY: Duration = Duration::from_millis(100);
/// The longest interval.
pub const MAX_EVERY: Duration = Duration::from_secs(3_600);
/// The shortest timeout.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(10);

/// One check of a service. Every backend must pass all of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What is asked, and what answer is a good one.
    pub kind: Kind,
    /// The address that is asked.
    pub via: Via,
    /// From the begin of one to the begin of the next.
    pub every: Duration,
    /// The longest that one may take; at most `every`.
    pub timeout: Duration,
    /// Successes in a row that bring a backend back; at least 1.
    pub rise: u32,
    /// Failures in a row that take it away; at least 1.
    pub fall: u32,
    /// Another port than that of the VIP.
    pub port: Option<u16>,
    /// What a backend is before it was checked.
    pub start: Start,
}

/// What is asked, and what answer is a good one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A connection is accepted.
    Tcp,
    /// HTTP/1.1, with or without TLS.
    Http(Http),
    /// A TLS handshake comes to its end.
    Tls(Tls),
    /// A DNS answer.
    Dns(Dns),
    /// A dialogue in lines: FTP, SMTP, Redis and others.
    Line(Line),
    /// An echo reply.
    Ping,
    /// No ICMP error comes back; or, if something is expected, a datagram with it.
    Udp(Udp),
    /// The exit code of a program.
    Command(Command),
}

impl Kind {
    /// What the file calls it: a short word without spaces, for errors and labels.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Http(Http { tls: None, .. }) => "http",
            Kind::Http(Http { tls: Some(_), .. }) => "https",
            Kind::Tls(_) => "tls",
            Kind::Dns(_) => "dns",
            Kind::Line(line) => line.name,
            Kind::Ping => "ping",
            Kind::Udp(_) => "udp",
            Kind::Command(_) => "command",
        }
    }

    /// The protocol that it is asked by: that of the VIPs that it is for. `None` if any will do.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            Kind::Tcp | Kind::Http(_) | Kind::Tls(_) | Kind::Line(_) => Some(Protocol::Tcp),
            Kind::Udp(_) => Some(Protocol::Udp),
            Kind::Dns(dns) => dns.over,
            Kind::Ping | Kind::Command(_) => None,
        }
    }

    /// Where such servers usually listen.
    pub fn usual_port(&self) -> Option<u16> {
        match self.name() {
            "http" => Some(80),
            "https" | "tls" => Some(443),
            "dns" => Some(53),
            "ftp" => Some(21),
            "smtp" => Some(25),
            "redis" => Some(6379),
            _ => None,
        }
    }

    /// It goes to a port.
    pub fn has_port(&self) -> bool {
        !matches!(self, Kind::Ping | Kind::Command(_))
    }
}

/// A request over HTTP/1.1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// With TLS (`https`).
    pub tls: Option<Tls>,
    /// The method, such as `GET`.
    pub method: String,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// The `Host` header; without one, the address.
    pub host: Option<String>,
    /// Statuses that are good.
    pub status: Statuses,
    /// Text that the body must hold.
    pub body: Option<String>,
}

/// Sorted ranges of statuses, both ends included, which do not touch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statuses(pub Vec<(u16, u16)>);

impl Statuses {
    /// Whether a status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

/// As it is written: `200-399`, `200,204`.
impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |(first, last): &(u16, u16)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        f.pad(&self.0.iter().map(range).collect::<Vec<_>>().join(","))
    }
}

/// How a TLS handshake is made and judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The certificate must be valid for `name`, and come from somebody who is trusted.
    pub verify: bool,
    /// The server's name in the handshake (SNI), and in its certificate where that is verified.
    pub name: Option<String>,
    /// Who is trusted, a file in PEM; without one, whom the host trusts.
    pub ca: Option<PathBuf>,
}

/// A question to a DNS server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// The name, without the last dot.
    pub name: String,
    /// The type of the record.
    pub record: Record,
    /// The answer's code.
    pub rcode: Rcode,
    /// What one of the answer's records must be, in the form of a zone file; without it, the code is enough.
    pub answer: Option<String>,
    /// UDP or TCP; without one, as the VIP is.
    pub over: Option<Protocol>,
}

words! {
    /// Types of DNS records.
    Record {
        /// An IPv4 address.
        A = "A",
        /// An IPv6 address.
        Aaaa = "AAAA",
        /// Another name.
        Cname = "CNAME",
        /// Mail servers.
        Mx = "MX",
        /// Name servers.
        Ns = "NS",
        /// The name of an address.
        Ptr = "PTR",
        /// The begin of a zone.
        Soa = "SOA",
        /// Servers of a service.
        Srv = "SRV",
        /// Text.
        Txt = "TXT",
    }
}

words! {
    /// How a DNS server says that it answered (RFC 1035, 4.1.1).
    Rcode {
        /// 0: there is an answer.
        NoError = "NOERROR",
        /// 1: the question is none.
        FormErr = "FORMERR",
        /// 2: the server failed.
        ServFail = "SERVFAIL",
        /// 3: no such name.
        NxDomain = "NXDOMAIN",
        /// 4: no such kind of question.
        NotImp = "NOTIMP",
        /// 5: not for you.
        Refused = "REFUSED",
    }
}

impl Rcode {
    /// That which stands in a header.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::WORDS.iter().map(|(_, code)| *code).find(|code| code.number() == number)
    }

    /// As it stands in the header.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// A dialogue in lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// `ftp`, `smtp`, `redis` or `line`.
    pub name: &'static str,
    /// What is said and what is waited for, in turn.
    pub steps: Vec<Step>,
}

/// Of a dialogue. Both are as they go over the wire, ends of lines included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// What is sent first; may be empty.
    pub send: String,
    /// What some line of what comes must then begin with; nothing is waited for if it is empty.
    pub expect: String,
}

/// A datagram.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Udp {
    /// What it holds.
    pub send: String,
    /// What one that comes back must hold; nothing is waited for if it is empty, but an ICMP error.
    pub expect: String,
}

/// A program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Its path, and its arguments.
    pub argv: Vec<String>,
    /// Exit codes from 2 to 255 mean weights from 0 to 253; without it, a fault.
    pub dynamic_weight: bool,
}

words! {
    /// The address that a check asks.
    Via {
        /// The VIP, on the one backend, along the way that packets take.
        Vip = "vip",
        /// The backend's own.
        Backend = "backend",
    }
}

words! {
    /// What a backend is before it was checked.
    Start {
        /// It works until it has failed `fall` times in a row.
        Up = "up",
        /// It does not until it has passed `rise` times in a row.
        Down = "down",
    }
}

words! {
    /// What becomes of packets for a service none of whose backends works.
    #[derive(Default)]
    OnEmpty {
        /// The last that worked keep their slots.
        #[default]
        Last = "last",
        /// They are dropped (`no_backend`).
        Drop = "drop",
        /// The same, but segments of TCP are answered by a reset.
        Reset = "reset",
        /// They go to the sorry backends.
        Sorry = "sorry",
    }
}
