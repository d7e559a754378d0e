//! The configuration: a TOML file, or one and its parts in `conf.d`, turned into valid types once. After [`load`] nothing is checked again.
//!
//! `raw` holds the file as written, `syntax` the small languages inside its strings, `check` the way from there to the
//! types here, `error` what is said on that way, `host` what only the host can tell. Nothing here looks at the host or
//! at the kernel.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $name::$variant)),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $($name::$variant => $word,)+ })
            }
        }
    };
}

mod check;
mod checks;
mod error;
pub mod fingerprints;
mod host;
mod raw;
mod syn;
mod syntax;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lb_common::ring::WHOLE;
use serde::{Deserialize, Serialize};

pub use checks::{Check, Command, Dns, Http, Kind, Line, OnEmpty, Rcode, Record, Start, Statuses, Step, Tls, Udp, Via};
pub use error::{ConfigError, Diagnostic, Level};

pub use host::check_host;
pub use syn::{Allowed, BUILT_IN, Filter, Signature};
pub use syntax::SyntaxError;
pub use tell::{DEFAULT_METRICS, Metrics, Receiver, Url};

use error::Source;
use host::Spans;

/// The largest file that is read; the largest that makes sense is far below.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// Slots of a ring unless the file says otherwise.
pub const DEFAULT_SLOTS: u32 = 65_536;
/// Slots that the arena of all rings has at least, unless the file says otherwise: room for sixteen rings of that size, 4 MiB.
pub const MIN_ARENA: u32 = 1 << 20;
/// The smallest `mss`: what every host takes without having said so (RFC 9293).
pub const MIN_MSS: u16 = 536;
/// The largest: what a jumbo frame holds.
pub const MAX_MSS: u16 = 9000;
/// ICMP errors that each CPU may send in a second unless the file says otherwise.
pub const DEFAULT_ICMP_RATE: u32 = 1000;
/// Slots that a live backend should have at least: with fewer, the fullest gets over 1.13 times its share.
pub const SLOTS_PER_BACKEND: u32 = 512;

/// The directory beside a file whose `*.toml` are part of it.
pub const PARTS: &str = "conf.d";

/// The texts of a configuration's files, each with its name.
pub type Texts = Vec<(String, String)>;

/// Reads and checks a file, together with those in [`PARTS`] beside it.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    parse_all(&read_all(path)?)
}

/// Reads a file, together with those in [`PARTS`] beside it.
pub fn read_all(path: &Path) -> Result<Texts, ConfigError> {
    let mut faults = Vec::new();
    let mut texts = Vec::new();
    let mut room = MAX_FILE_BYTES;
    for path in [path.to_owned()].into_iter().chain(parts(path)?) {
        let name = path.display().to_string();
        match text(&name, &path, room) {
            Ok(text) => {
                room -= text.len() as u64;
                texts.push((name, text));
            }
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(texts) } else { Err(faults.into()) }
}

/// The files that are part of a configuration, by name: those in the directory beside it that end in `.toml` and do not begin
/// with a dot, as files do that editors are still at.
fn parts(path: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let directory = path.with_file_name(PARTS);
    let fault = |error: &io::Error| {
        let message = format!("cannot read the directory: {error}");
        Diagnostic::of_file(&directory.display().to_string(), message).help("make it readable, or remove it")
    };
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| fault(&error))?,
    };
    let mut parts = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| fault(&error))?.file_name();
        let shown = name.as_encoded_bytes();
        if shown.ends_with(b".toml") && !shown.starts_with(b".") {
            let path = directory.join(name);
            let other = std::fs::metadata(&path).is_ok_and(|found| !found.is_file() && !found.is_dir());
            if other {
                let fault =
                    Diagnostic::of_file(&path.display().to_string(), "cannot read the configuration: not a file");
                return Err(fault.help("remove it"));
            }
            parts.push(path);
        }
    }
    parts.sort();
    Ok(parts)
}

fn text(name: &str, path: &Path, room: u64) -> Result<String, Diagnostic> {
    let bytes = read(path, room).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > room {
        let together = if room < MAX_FILE_BYTES { ", together with the files before it" } else { "" };
        let message = format!("larger than {} MiB{together}: not a configuration", MAX_FILE_BYTES >> 20);
        return Err(Diagnostic::of_file(name, message).help("is this the right file?"));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| not_utf8(name, &error))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// A weight as it is typed: 0 to `abi::MAX_WEIGHT`.
pub fn parse_weight(text: &str) -> Result<u16, SyntaxError> {
    syntax::weight(text, text)
}

/// The address of a backend as it is typed: one that other hosts can reach.
pub fn parse_backend(text: &str) -> Result<IpAddr, SyntaxError> {
    syntax::backend_address(text, text)
}

/// Checks a text; `name` is what errors call it.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    parse_all(&[(name.to_owned(), text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())])
}

/// Checks the texts of several files as one.
pub fn parse_all(texts: &[(String, String)]) -> Result<Config, ConfigError> {
    let source = Arc::new(Source::join(texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))));
    let (mut roots, mut faults, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for ((name, text), start) in texts.iter().zip(source.starts()) {
        match raw::read(name, text) {
            Ok(root) => {
                let services = root.service.as_ref().map_or(0, |services| services.0.len());
                files.push(ReadFile { file: name.clone(), services });
                roots.push(root.moved(start));
            }
            Err(fault) => faults.push(fault),
        }
    }
    let mut twice = Vec::new();
    let join = |here: raw::Root, there| here.join(there, &mut |what, first, second| twice.push((what, first, second)));
    let root = roots.into_iter().reduce(join).filter(|_| faults.is_empty()).ok_or(faults)?;
    Ok(Config { files, ..check::check(&source, root, twice)? })
}

fn read(path: &Path, room: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(room + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(name: &str, error: &io::Error) -> Diagnostic {
    let cannot = |reason: &str| Diagnostic::of_file(name, format!("cannot read the configuration: {reason}"));
    match error.kind() {
        io::ErrorKind::NotFound => cannot("no such file").help("name the file that holds it"),
        io::ErrorKind::PermissionDenied => cannot("permission denied").help("run as root, or make the file readable"),
        io::ErrorKind::IsADirectory => cannot("is a directory").help("name the file that holds it"),
        _ => cannot(&error.to_string()).help("name a file that can be read"),
    }
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Diagnostic {
    let at = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes());
    let message = format!("not UTF-8: byte 0x{:02x}", error.as_bytes()[at]);
    Diagnostic::error(&Arc::new(Source::new(name, &text)), at..at, message).help("save the file as UTF-8")
}

/// A valid configuration. Two are equal if they mean the same, wherever in the file it stands.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to attach, sorted; at least one, at most `abi::MAX_INTERFACES`.
    pub interfaces: Vec<String>,
    /// The key of the flow hash.
    pub hash_key: HashKey,
    /// Who answers ARP for VIPs.
    pub announce: Announce,
    /// MACs that are ours besides the interfaces', sorted; at most three.
    pub macs: Vec<[u8; 6]>,
    /// What happens to TCP flags that no stack sends.
    pub bad_flags: BadFlags,
    /// ICMP errors that each CPU may send in a second; `u32::MAX` is as many as there are.
    pub icmp_rate: u32,
    /// Where the sources of outer headers come from.
    pub tunnel_source: TunnelSource,
    /// Slots that the arena of all rings has, where the file says it: whole elements, at least twice those of all rings.
    pub arena: Option<u32>,
    /// Where metrics are served. No part of the fingerprint.
    pub metrics: Metrics,
    /// Who is notified of changes. No part of the fingerprint.
    pub receivers: Vec<Receiver>,
    /// What services may look for in SYNs: the built-in signature, then those of the file in its order.
    pub signatures: Vec<Signature>,
    /// Whose SYNs are never dropped, sorted.
    pub allowed: Vec<Allowed>,
    /// By name; at least one. Copies of a configuration share those in which they agree.
    pub services: BTreeMap<String, Arc<Service>>,
    /// Addresses that are not to be announced, for too few backends work; none in a file.
    pub withdrawn: BTreeSet<IpAddr>,
    /// What it was read from, in order.
    pub files: Vec<ReadFile>,
    /// What is allowed and probably not meant, in file order.
    pub warnings: Vec<Diagnostic>,
    /// Where things stand, for [`check_host`].
    spans: Arc<Spans>,
    fingerprint: u64,
}

/// A file that is part of a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReadFile {
    /// Its path.
    pub file: String,
    /// How many services stand in it.
    pub services: usize,
}

impl Config {
    /// A hash of what the file means, the same on every machine and for every order of lines; the names of interfaces are
    /// part of it, overrides are not.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn hash_meaning(&self) -> u64 {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        // Writing into a hash cannot fail.
        let _ = self.write_meaning(&mut hash);
        hash.0
    }

    /// Everything that counts for packets, in one form: equality and fingerprint both come from here. A change to this form
    /// changes every fingerprint.
    fn write_meaning(&self, to: &mut impl fmt::Write) -> fmt::Result {
        let Config {
            interfaces, hash_key, announce, macs, bad_flags, icmp_rate, tunnel_source, arena, services, ..
        } = self;
        writeln!(to, "weir 1\ninterface {}\nhash_key {:02x?}", interfaces.join(" "), hash_key.bytes)?;
        writeln!(to, "announce {announce}\nmacs {macs:02x?}\nbad_flags {bad_flags}")?;
        if *icmp_rate != DEFAULT_ICMP_RATE {
            writeln!(to, "icmp_rate {icmp_rate}")?;
        }
        for prefix in [tunnel_source.v4.map(|p| p.to_string()), tunnel_source.v6.map(|p| p.to_string())] {
            writeln!(to, "tunnel_source {}", prefix.as_deref().unwrap_or("none"))?;
        }
        if let Some(arena) = arena {
            writeln!(to, "arena {arena}")?;
        }
        self.allowed.iter().try_for_each(|prefix| writeln!(to, "syn allow {prefix}"))?;
        for service in services.values() {
            let Service { name, vips, backends, forward, hash, syn, filter, slots, mss, health, .. } = &**service;
            writeln!(to, "service {name} forward {forward} hash {hash} syn {syn} slots {slots}")?;
            if *filter != Filter::default() {
                writeln!(to, "syn threshold {} budget {} rate {:?}", filter.threshold, filter.budget, filter.rate)?;
                let names = filter.signatures.iter().map(|number| &self.signatures[*number]);
                names.into_iter().try_for_each(|signature| writeln!(to, "syn signature {signature:?}"))?;
            }
            mss.map_or(Ok(()), |mss| writeln!(to, "mss {mss}"))?;
            if *health != HealthPolicy::default() {
                writeln!(to, "health {health:?}")?;
            }
            vips.iter().try_for_each(|vip| writeln!(to, "vip {vip}"))?;
            for Backend { address, weight, part, .. } in backends.iter() {
                writeln!(to, "backend {address}*{weight}")?;
                if *part != WHOLE {
                    writeln!(to, "part {part}")?;
                }
            }
        }
        Ok(())
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        let meaning = |config: &Config| {
            let mut text = String::new();
            config.write_meaning(&mut text).map(|()| text)
        };
        meaning(self) == meaning(other) && (&self.metrics, &self.receivers) == (&other.metrics, &other.receivers)
    }
}

impl Eq for Config {}

/// FNV-1a, 64 bits: the standard library's hashes are free to change between versions.
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}

/// The key of the flow hash. Siblings must share it; who knows it can aim at one backend.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey {
    /// The key.
    pub bytes: [u8; 16],
    /// It is the one that everybody knows.
    pub public_default: bool,
}

impl HashKey {
    /// What is used where the file gives none.
    pub const PUBLIC: [u8; 16] = *b"weir-public-key!";
}

impl From<[u8; 16]> for HashKey {
    fn from(bytes: [u8; 16]) -> Self {
        HashKey { bytes, public_default: bytes == Self::PUBLIC }
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.public_default { "HashKey(public)" } else { "HashKey(secret)" })
    }
}

/// An enum whose variants are words of the file.
pub trait Word: Copy + 'static {
    /// Every variant with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The variant of a word.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
    }
}

words! {
    /// Who answers ARP and neighbour solicitations for VIPs.
    Announce {
        /// The driver, from the start.
        Arp = "arp",
        /// The driver, once `weir announce on` says so: for keepalived.
        Manual = "manual",
        /// Nobody: routing brings the traffic.
        None = "none",
    }
}

words! {
    /// What happens to TCP packets with flags that no stack sends.
    BadFlags {
        /// Dropped and counted.
        Drop = "drop",
        /// Forwarded.
        Pass = "pass",
    }
}

words! {
    /// How packets reach the backends of a service.
    Forward {
        /// The MACs are rewritten: the backend is on the same link.
        L2 = "l2",
        /// In a tunnel, its outer family that of the backend's address.
        Ipip = "ipip",
    }
}

words! {
    /// What picks a slot.
    Hash {
        /// Addresses, ports and protocol.
        Flow = "flow",
        /// The source address alone: a client stays on one backend.
        Source = "source",
    }
}

words! {
    /// What happens to SYNs that match a signature.
    Syn {
        /// Not looked for.
        Off = "off",
        /// Counted and forwarded.
        Count = "count",
        /// Counted and dropped.
        Drop = "drop",
        /// Dropped while there are many.
        Auto = "auto",
    }
}

words! {
    /// What options a SYN has.
    SynOptions {
        /// None at all.
        None = "none",
        /// NOPs, up to the end or an END.
        Padding = "padding",
        /// Others.
        Some = "some",
    }
}

words! {
    /// Of a VIP.
    Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
    }
}

impl Protocol {
    /// As IP headers name it.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

/// Where the sources of outer headers come from; without one, the node's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TunnelSource {
    /// For backends with an IPv4 address.
    pub v4: Option<Prefix<Ipv4Addr>>,
    /// For backends with an IPv6 address; the length is at least 96.
    pub v6: Option<Prefix<Ipv6Addr>>,
}

/// An address whose host bits are zero, and how many bits are not host bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prefix<A> {
    /// The first address.
    pub address: A,
    /// Bits.
    pub length: u8,
}

impl<A: fmt::Display> fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Backends, and the VIPs that are spread over them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// At most 64 of `A-Z a-z 0-9 _ . -`.
    pub name: String,
    /// Sorted, at least one; no other service has any of them.
    pub vips: Vec<Vip>,
    /// Sorted by address, no address twice; at least one, unless overrides took it away. Services with the same ones share this.
    pub backends: Arc<Vec<Backend>>,
    /// Backends of the file that overrides took away, sorted.
    pub removed: Vec<IpAddr>,
    /// How packets reach the backends.
    pub forward: Forward,
    /// What picks a slot.
    pub hash: Hash,
    /// What happens to SYNs that match a signature.
    pub syn: Syn,
    /// Which signatures, and how many SYNs.
    pub filter: Filter,
    /// The ring's size, a power of two.
    pub slots: u32,
    /// The largest MSS that a SYN may offer, [`MIN_MSS`] to [`MAX_MSS`]; without one, it is left alone.
    pub mss: Option<u16>,
    /// How it is told which backends work, and what follows from that.
    pub health: HealthPolicy,
    /// What is known of backends that are checked; nothing in a file.
    pub seen: BTreeMap<IpAddr, Seen>,
    /// Fewer backends take traffic than its quorum; never so in a file.
    pub below_quorum: bool,
}

/// What is known of a backend that is checked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Whether it works.
    pub state: SeenState,
    /// When it began, or ceased, to: milliseconds since 1970.
    pub since_ms: u64,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why its last check failed, though it works: not often enough in a row yet. Only the agent knows, and no table has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
}

/// Whether a backend works.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeenState {
    /// It does.
    Up,
    /// It does again, and takes its slots over time.
    Slow,
    /// It does not.
    Down,
    /// It does not, and keeps its slots, for no other does either.
    Kept,
}

impl SeenState {
    /// In a word or two.
    pub fn text(self) -> &'static str {
        match self {
            SeenState::Up => "up",
            SeenState::Slow => "slow start",
            SeenState::Down => "down",
            SeenState::Kept => "down, kept",
        }
    }
}

/// How it is told which backends of a service work, and what follows from that.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HealthPolicy {
    /// A backend must pass all of them; without any, all backends work.
    pub checks: Vec<Check>,
    /// With fewer backends that take traffic the service no longer wants its addresses announced; 1 or more.
    pub quorum: Option<u32>,
    /// Below quorum it takes its addresses from other services too.
    pub required: bool,
    /// What becomes of packets if no backend works.
    pub on_empty: OnEmpty,
    /// Who takes them then, if that is [`OnEmpty::Sorry`]; sorted.
    pub sorry: Vec<Backend>,
    /// Over what time a backend that comes back takes its slots.
    pub slow_start: Duration,
}

/// What clients connect to. Displayed and parsed as in the file: `192.0.2.10:80`, `[2001:db8::53]:53/udp`,
/// `192.0.2.21:*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vip {
    /// A unicast address.
    pub address: IpAddr,
    /// `None` is all ports, written `*`; never 0.
    pub port: Option<u16>,
    /// TCP unless written.
    pub protocol: Protocol,
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match self.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let port = self.port.map_or("*".to_owned(), |port| port.to_string());
        let protocol = if self.protocol == Protocol::Udp { "/udp" } else { "" };
        f.pad(&format!("{address}:{port}{protocol}"))
    }
}

impl std::str::FromStr for Vip {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        syntax::vip(text)
    }
}

/// Where packets go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Backend {
    /// A unicast address.
    pub address: IpAddr,
    /// Its share, 0 to `abi::MAX_WEIGHT`; 0 is drained.
    pub weight: u16,
    /// The part of its slots that it takes, of `lb_common::ring::WHOLE`: all, unless an override drains it.
    pub part: u32,
    /// What an override says of it.
    pub overridden: Option<Overridden>,
    /// It takes traffic only while no other does.
    pub sorry: bool,
}

impl Backend {
    /// One as the file has it.
    pub fn new(address: IpAddr, weight: u16) -> Self {
        Backend { address, weight, part: WHOLE, overridden: None, sorry: false }
    }
}

/// In what a backend differs from the file, by the operator's word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overridden {
    /// The file does not have it.
    pub added: bool,
    /// The weight that the file gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_weight: Option<u16>,
    /// Out of service, or on the way there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Out>,
}

/// How a backend is taken out of service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Out {
    /// By giving its slots up, at once or over time.
    Drain,
    /// At once.
    Maint,
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Out::Drain => "drain",
            Out::Maint => "maint",
        })
    }
}
