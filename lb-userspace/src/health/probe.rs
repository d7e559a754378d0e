//! What a check finds out. Each ends within the check's timeout, whatever the other side does.

mod command;
mod deadline;
mod dial;
mod dns;
mod http;
mod line;
mod ping;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use self::{deadline::Deadline, dial::Way};
use crate::config::{Check, Forward, Kind, Via, Vip};

/// Whom a check asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The service's name.
    pub service: String,
    /// The VIP that clients use. Its port is the one that the check goes to; there is one unless the kind has none (`ping`,
    /// `command`).
    pub vip: Vip,
    /// The backend's own address.
    pub backend: IpAddr,
    /// How packets reach the backend.
    pub forward: Forward,
    /// The mark of packets to the VIP that are to reach this backend; none while its way is not known to the tables.
    pub mark: Option<u32>,
    /// The address that the VIP is asked from: one that backends answer to. Without one, the kernel chooses.
    pub source: Option<IpAddr>,
}

impl Target {
    /// Where the check goes; port 0 if it has none.
    fn way(&self, via: Via) -> Result<Way, Reason> {
        let to = |address| SocketAddr::new(address, self.vip.port.unwrap_or(0));
        match (via, self.mark) {
            (Via::Backend, _) => Ok(Way { to: to(self.backend), from: None, mark: None }),
            (Via::Vip, Some(mark)) => Ok(Way { to: to(self.vip.address), from: self.source, mark: Some(mark) }),
            (Via::Vip, None) => Err(Reason::new(ReasonKind::Local, "this host: checks of VIPs are not steered")),
        }
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It works; with another weight, if a command says so (0 to 253).
    Up {
        /// The weight.
        weight: Option<u16>,
    },
    /// It works, and keeps what weight a command gave it before.
    Keep,
    /// It does not.
    Down(Reason),
    /// Nobody could ask it, for want of something here: that says nothing of it.
    Unasked(Reason),
}

/// Why a backend does not work.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// For labels.
    pub kind: ReasonKind,
    /// For people, in a few words: `connect: refused`, `http: status 503, wanted 200-399`.
    pub text: String,
}

impl Reason {
    /// A kind and the words for it.
    pub fn new(kind: ReasonKind, text: impl Into<String>) -> Self {
        Reason { kind, text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $label:literal,)+) => {
        /// Why, as a label.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum ReasonKind { $($(#[$doc])* $variant,)+ }

        impl ReasonKind {
            /// Every one.
            pub const ALL: &'static [ReasonKind] = &[$(ReasonKind::$variant),+];

            /// One word in lower case.
            pub const fn label(self) -> &'static str {
                match self { $(ReasonKind::$variant => $label,)+ }
            }
        }
    };
}

reasons! {
    /// The port is closed.
    Refused = "refused",
    /// Nothing came in time.
    Timeout = "timeout",
    /// The connection was cut off.
    Reset = "reset",
    /// No way leads there.
    Unreachable = "unreachable",
    /// HTTP: another status.
    Status = "status",
    /// An answer without what it should hold.
    Mismatch = "mismatch",
    /// The handshake or the certificate.
    Tls = "tls",
    /// DNS: another code or answer.
    Dns = "dns",
    /// What came is not of the protocol, or too long.
    Protocol = "protocol",
    /// The program failed.
    Command = "command",
    /// This host could not check: its limits, its permissions.
    Local = "local",
}

/// Asks once. Ends within the check's timeout, and never panics.
pub async fn probe(check: &Check, target: &Target) -> Outcome {
    if let Kind::Command(command) = &check.kind {
        return Box::pin(command::probe(command, target, check.timeout)).await;
    }
    let way = match target.way(check.via) {
        Ok(way) => way,
        Err(reason) => return Outcome::Unasked(reason),
    };
    match ask(check, target, way).await {
        Ok(()) => Outcome::Up { weight: None },
        Err(reason) => Outcome::Down(reason),
    }
}

async fn ask(check: &Check, target: &Target, way: Way) -> Result<(), Reason> {
    let deadline = Deadline::after(check.timeout);
    match &check.kind {
        Kind::Tcp => tcp::connect(&way, deadline).await.map(drop),
        // Apart: what a handshake or an answer takes, several KB, need not be moved about where there is none.
        _ => Box::pin(talk(check, target, way, deadline)).await,
    }
}

async fn talk(check: &Check, target: &Target, way: Way, deadline: Deadline) -> Result<(), Reason> {
    match &check.kind {
        Kind::Http(http) => {
            let stream = tcp::connect(&way, deadline).await?;
            match &http.tls {
                None => http::ask(stream, http, &way, deadline).await,
                Some(tls) => {
                    http::ask(tls::handshake(stream, tls, way.to, deadline).await?, http, &way, deadline).await
                }
            }
        }
        Kind::Tls(tls) => {
            let stream = tcp::connect(&way, deadline).await?;
            tls::handshake(stream, tls, way.to, deadline).await.map(drop)
        }
        Kind::Dns(dns) => dns::probe(&way, dns, dns.over.unwrap_or(target.vip.protocol), deadline).await,
        Kind::Line(line) => line::talk(&mut tcp::connect(&way, deadline).await?, line, deadline).await,
        Kind::Ping => ping::probe(&way, deadline).await,
        Kind::Udp(udp) => udp::probe(&way, udp, deadline).await,
        // Connecting is all of the one, and the other asks nobody itself.
        Kind::Tcp | Kind::Command(_) => Ok(()),
    }
}
