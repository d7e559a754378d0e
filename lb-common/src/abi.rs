//! Every struct that crosses a map, and nothing else.
//!
//! No padding, sizes asserted beside the struct, and one version for the whole. Addresses are kept as they
//! stand in a packet, as words loaded in the byte order of a little-endian host, so that the kernel side compares
//! without swapping.

use core::{
    mem::offset_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The layout's version: raised whenever a struct or the meaning of a map changes.
pub const ABI_VERSION: u32 = 8;
/// The oldest layout whose [`Counts`] mean what these do, and whose [`Live`] begins as this one does up to its interfaces.
pub const COUNTS_SINCE: u32 = 2;

/// Entries in one half of the services' table; a power of two. Bare addresses have the upper half of it to themselves: packets
/// look for them only after a miss, and what they look for first should lie close together. A full configuration leaves none free.
pub const SERVICE_POSITIONS: u32 = 2 * MAX_VIPS;
/// Displacements of its keys ([`crate::place`]); a power of two. Of these, too, bare addresses have the upper half.
pub const DISPLACEMENTS: u32 = 4_096;
/// Places in one half that say of the addresses which fall there whether one may be a VIP; a power of two.
pub const VIP_PLACES: u32 = 32_768;
/// VIP entries (address, port, protocol) that a configuration may have.
pub const MAX_VIPS: u32 = 4_096;
/// Distinct backends (address and forwarding method) that a configuration may have.
pub const MAX_BACKENDS: u32 = 8_192;
/// Entries in the backends' table: room for a new configuration's beside those of the live one.
pub const BACKEND_ENTRIES: u32 = 2 * MAX_BACKENDS;
/// Entries in the VIPs' counters, for the same reason.
pub const VIP_ENTRIES: u32 = 2 * MAX_VIPS;
/// Elements of FRAGMENTS: the ports of as many datagrams are remembered at most; a power of two.
pub const FRAGMENT_ENTRIES: u32 = 65_536;
/// Interfaces that one instance may attach to.
pub const MAX_INTERFACES: u32 = 8;
/// The smallest and largest ring.
pub const MIN_SLOTS: u32 = 256;
/// See [`MIN_SLOTS`].
pub const MAX_SLOTS: u32 = 1 << 20;
/// Slots that the arena behind all rings may have, both generations together (4 bytes each).
pub const MAX_ARENA_SLOTS: u32 = 1 << 28;
/// Signatures of SYNs that a configuration may have, the built-in one among them; a power of two.
pub const MAX_SIGNATURES: u32 = 32;
/// Signatures that a service may look for; a power of two.
pub const SERVICE_SIGNATURES: usize = 8;
/// Prefixes that a configuration may exempt from the SYN filter.
pub const MAX_ALLOWED: u32 = 4_096;
/// The largest weight of a backend; 0 takes it out of the ring.
pub const MAX_WEIGHT: u16 = 256;

/// A struct that crosses a map: it may be copied as bytes either way.
///
/// # Safety
/// Any bit pattern must be a valid value, without padding, and its size a multiple of 8, as elements of arrays are.
pub unsafe trait Abi: Copy + 'static {}

macro_rules! abi {
    ($($name:ty = $size:literal,)*) => {
        $(
            const _: () = assert!(size_of::<$name>() == $size && $size % 8 == 0);
            // SAFETY: integers and arrays of them alone, laid out by hand without padding; the size asserted is their sum.
            unsafe impl Abi for $name {}
        )*
    };
}

abi! {
    Active = 8,
    Settings = 104,
    Service = 16,
    Ids = 8,
    Backend = 32,
    Interface = 40,
    VipEvents = 128,
    Signature = 24,
    SynPolicy = 32,
    SynState = 256,
    Matches = 16,
    SynSeen = 1_048_576,
    Forwarded = 16,
    Counts = 1_442_048,
    Page = 4096,
    Served = 24,
    BenchTraffic = 176,
    BenchTurn = 24,
    Pace = 16,
    Capture = 1_040,
    Sampler = 40,
    Sample = 288,
    Stream = 88,
    Arrivals = 131_080,
    Half = 521_088,
    Live = 1_566_872,
    LiveHead = 328,
    u64 = 8,
}

/// One element of DESCRIPTION: JSON that names what the tables hold, for people; the kernel never reads it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Page(pub [u8; 4096]);

/// Stands for "no backend" in a [`Slot`] and for "none" in ids.
pub const NO_BACKEND: u16 = u16::MAX;

const _: () = assert!(BACKEND_ENTRIES < NO_BACKEND as u32 && SERVICE_POSITIONS.is_power_of_two());
const _: () = assert!(FRAGMENT_ENTRIES.is_power_of_two());

/// An address as the services' table keeps it: IPv6 as it is, IPv4 in the last word with zeros before it. The family is part
/// of [`Match`], so `::192.0.2.1` and `192.0.2.1` never meet.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Address(pub [u32; 4]);

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Address([0, 0, 0, u32::from_ne_bytes(address.octets())])
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(address.octets().as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        Address(words)
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

/// What a key of the services' table matches besides its address: 32 bits, compared at once.
///
/// | bits | holds |
/// |---|---|
/// | 0-15 | destination port, network byte order as loaded; 0 unless `kind` is [`Match::PORT`] |
/// | 16-23 | IP protocol (6, 17); 0 if `kind` is [`Match::ADDRESS`] |
/// | 24-27 | kind |
/// | 28-31 | IP version (4, 6) |
///
/// An entry that is 0 is empty: no key has version 0.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Match(pub u32);

impl Match {
    /// One port of an address.
    pub const PORT: u32 = 1;
    /// All ports of an address.
    pub const ALL_PORTS: u32 = 2;
    /// The bare address: that it is a VIP at all.
    pub const ADDRESS: u32 = 3;

    /// One port; `port` as it stands in the packet (network byte order, loaded as it is).
    #[inline(always)]
    pub const fn port(version: u32, protocol: u8, port: u16) -> Self {
        Match(version << 28 | Self::PORT << 24 | (protocol as u32) << 16 | port as u32)
    }

    /// All ports.
    #[inline(always)]
    pub const fn all_ports(version: u32, protocol: u8) -> Self {
        Match(version << 28 | Self::ALL_PORTS << 24 | (protocol as u32) << 16)
    }

    /// Whether it is a bare address.
    #[inline(always)]
    pub const fn is_address(self) -> bool {
        self.0 >> 24 & 0xf == Self::ADDRESS
    }

    /// The bare address.
    #[inline(always)]
    pub const fn address(version: u32) -> Self {
        Match(version << 28 | Self::ADDRESS << 24)
    }
}

/// One entry of a half of `services` in [`Live`]: what every packet to a service needs, and no more. With thousands of services, each
/// packet looks at another one, and waits while it is fetched.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// The last word of the VIP's address; those before it are in `prefixes`.
    pub last: u32,
    /// Port, protocol, kind and IP version.
    pub matches: Match,
    /// Where the ring begins in RINGS, in slots; a multiple of [`SLOTS_PER_ELEMENT`].
    pub ring: u32,
    /// Which entry of the VIPs' counters.
    pub id: u16,
    /// The ring's size as a power of two: see [`Service::ring_mask`]. In an entry of kind [`Match::ADDRESS`] the ring is that
    /// of all UDP services on this address, if they share one ([`Service::UDP_RING`]).
    pub ring_bits: u8,
    /// `Service::*` bits.
    pub flags: u8,
}

impl Service {
    /// The end of the address and what else is matched, in one word: the whole key of an IPv4 entry.
    #[inline(always)]
    pub fn key(&self) -> u64 {
        self.last as u64 | (self.matches.0 as u64) << 32
    }

    /// Hash by the source address alone.
    pub const HASH_SOURCE: u8 = 1 << 0;
    /// The first of its signatures is window 0 without options, and what matches it may be dropped without asking for its source.
    pub const SYN_BARE: u8 = 1 << 1;
    /// Its [`SynPolicy`] has something to say of SYNs.
    pub const SYN_LOOK: u8 = 1 << 2;
    /// On a port, or all ports: segments of TCP are answered by a reset where no backend has a slot.
    pub const RESET: u8 = 1 << 3;
    /// On an address, where the bit has another meaning: some service here has a backend that takes traffic, so that echo
    /// requests are answered.
    pub const LIVE: u8 = 1 << 3;
    /// On an address: a service on all TCP ports exists.
    pub const ALL_TCP: u8 = 1 << 4;
    /// On an address: a service on all UDP ports exists.
    pub const ALL_UDP: u8 = 1 << 5;
    /// On an address: the driver answers ARP and neighbour solicitations for it.
    pub const ANNOUNCE: u8 = 1 << 6;
    /// On an address: every UDP service here shares `ring`, so that fragments can be placed.
    pub const UDP_RING: u8 = 1 << 7;

    /// Slots of the ring less one.
    #[inline(always)]
    pub const fn ring_mask(&self) -> u32 {
        1u32.wrapping_shl(self.ring_bits as u32).wrapping_sub(1)
    }
}

/// Who owns a slot of a ring, and who would if the owner were not there.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// The backend with the best score, or [`NO_BACKEND`].
    pub first: u16,
    /// The one with the second best, or [`NO_BACKEND`].
    pub second: u16,
}

/// Slots that share an element of RINGS and SECONDS, because elements of arrays round up to 8 bytes; a power of two. Rings
/// begin at multiples of it.
pub const SLOTS_PER_ELEMENT: u32 = 4;

/// One element of RINGS (who owns a slot) or SECONDS (who would, see [`Slot`]): the backends of [`SLOTS_PER_ELEMENT`] slots
/// of neighbouring indices, the lowest in the lowest bits. Two arrays, because packets read only the first: what they touch
/// at random should be small.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ids(pub u64);

impl Ids {
    /// Of so many slots.
    pub const fn new(ids: [u16; SLOTS_PER_ELEMENT as usize]) -> Self {
        let [a, b, c, d] = ids;
        Ids(a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48)
    }

    /// The one of the slot `index` of the arena.
    #[inline(always)]
    pub const fn of(self, index: u32) -> u16 {
        // A shift, where a branch would be guessed wrong.
        (self.0 >> ((index % SLOTS_PER_ELEMENT) * 16)) as u16
    }
}

/// A next hop's MAC and what is known of it, in one `u64`, so that one store replaces it: bytes 0-5 in memory
/// are the MAC, bits 48-63 are flags.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NextHop(pub u64);

impl NextHop {
    /// The MAC is known.
    pub const RESOLVED: u64 = 1 << 48;
    /// The backend is this host: its packets go up the stack.
    pub const LOCAL: u64 = 1 << 49;
    /// The bits that are the MAC.
    pub const MAC: u64 = (1 << 48) - 1;

    /// A next hop whose MAC is known.
    pub const fn resolved(mac: [u8; 6]) -> Self {
        NextHop(mac_bits(mac) | Self::RESOLVED)
    }

    /// The MAC, if known.
    pub fn mac(self) -> Option<[u8; 6]> {
        (self.0 & Self::RESOLVED != 0).then(|| mac_from_bits(self.0))
    }
}

/// A MAC as the low 48 bits of a little-endian word.
pub const fn mac_bits(mac: [u8; 6]) -> u64 {
    u64::from_le_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
}

/// The inverse of [`mac_bits`]; what stands above bit 47 is ignored.
pub const fn mac_from_bits(bits: u64) -> [u8; 6] {
    let b = bits.to_le_bytes();
    [b[0], b[1], b[2], b[3], b[4], b[5]]
}

/// How a packet reaches a backend.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Encapsulation {
    /// None: the MACs are rewritten.
    L2 = 0,
    /// An IPv4 header in front.
    Ip4 = 1,
    /// An IPv6 header in front.
    Ip6 = 2,
}

/// One entry of `backends` in [`Live`].
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backend {
    /// Where its packets go on the wire.
    pub next_hop: NextHop,
    /// The tunnel's destination; the backend's address in any case.
    pub address: Address,
    /// Which entry of the interfaces' table the next hop lies on.
    pub interface: u16,
    /// The number of the VLAN on it that the next hop lies in, 0 without one. Packets of clients bring their tag along; checks get it.
    pub vlan: u16,
    /// The largest IP packet, outer header included, that the way there takes; bytes.
    pub mtu: u16,
    /// An [`Encapsulation`].
    pub encapsulation: u8,
    /// Always 0.
    pub reserved: u8,
}

/// One entry of `interfaces` in [`Live`]: an interface that a program of this instance is attached to.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// The interface's MAC ([`mac_bits`]).
    pub mac: u64,
    /// Further MACs whose frames are ours (VRRP's virtual one), 0 where unused.
    pub more_macs: [u64; 3],
    /// The kernel's index of it.
    pub index: u32,
    /// 1 while VIPs are announced here by ARP and neighbour advertisement.
    pub announce: u32,
}

impl Interface {
    /// Whether a MAC ([`mac_bits`]) is this interface's. A zero among `more_macs` is none.
    #[inline(always)]
    pub fn owns(&self, mac: u64) -> bool {
        mac == self.mac || mac != 0 && self.more_macs.contains(&mac)
    }
}

/// What holds for all packets of a configuration.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Seed of the keys of the services' table ([`crate::hash::key`]).
    pub service_seed: u64,
    /// The key of the flow hash ([`crate::hash`]).
    pub hash_key: [u32; 12],
    /// Source of IPv4 tunnels; the host bits are filled from the flow's hash.
    pub tunnel_source4: u32,
    /// Which bits of it vary by flow (as it stands in the packet).
    pub tunnel_vary4: u32,
    /// Source of IPv6 tunnels.
    pub tunnel_source6: Address,
    /// Which bits of its last word vary by flow.
    pub tunnel_vary6: u32,
    /// `Settings::*` bits.
    pub flags: u32,
    /// Always 0. Added to a number, it hides from the verifier which of a few constants that is, so that it walks
    /// what follows once and not once for each ([`crate::parse`]).
    pub zero: u64,
    /// ICMP errors that each CPU may send in a second; 0 is none, `u32::MAX` as many as there are.
    pub icmp_rate: u32,
    /// Always 0.
    pub reserved: u32,
}

impl Settings {
    /// TCP packets with flags that no stack sends are forwarded (`bad_flags = "pass"`).
    pub const PASS_BAD_FLAGS: u32 = 1 << 0;
}

/// Which half of services and settings is live. Its store makes a change visible.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Active {
    /// 0 or 1.
    pub half: u32,
    /// [`ABI_VERSION`] of whoever filled the tables.
    pub version: u32,
}

/// One of the two halves of [`Live`]: what a configuration replaces as a whole.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Half {
    /// What holds for all packets.
    pub settings: Settings,
    /// Always 0.
    pub reserved: [u64; 3],
    /// A bit for each place, 1 where a VIP falls ([`crate::hash::vip_place`]): whatever falls elsewhere is none. Place 0 is the
    /// lowest bit of the first word.
    pub vips: [u32; VIP_PLACES as usize / 32],
    /// What moves keys to a position of their own.
    pub displacements: [u16; DISPLACEMENTS as usize],
    /// Keys of services and what they lead to.
    pub services: [Service; SERVICE_POSITIONS as usize],
    /// The words of their addresses before the last, for IPv6.
    pub prefixes: [[u32; 3]; SERVICE_POSITIONS as usize],
    /// The largest MSS that a SYN may offer, by the VIP entry's id; 0 leaves it alone.
    pub mss: [u16; VIP_ENTRIES as usize],
    /// What services may look for in SYNs.
    pub signatures: [Signature; MAX_SIGNATURES as usize],
    /// By the VIP entry's id; only SYNs get here.
    pub policies: [SynPolicy; VIP_ENTRIES as usize],
}

/// What a SYN must be to match: every condition at once. Bounds are in host byte order and belong to the range.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Signature {
    /// The window's lowest value, and how far the highest lies above it.
    pub window: Span16,
    /// Bytes of the IP packet, header included, and what is longer than 65,535 as that.
    pub length: Span16,
    /// The client's port.
    pub source_port: Span16,
    /// The VIP's port.
    pub port: Span16,
    /// TTL or hop limit.
    pub ttl_low: u8,
    /// How far the highest lies above it.
    pub ttl_width: u8,
    /// Bits of [`crate::filter::Options`] that may be.
    pub options: u8,
    /// Bit 0: may be without payload; bit 1: may have some.
    pub payload: u8,
    /// Always 0.
    pub reserved: u32,
}

/// A range of 16-bit numbers.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span16 {
    /// The lowest.
    pub low: u16,
    /// The highest less the lowest.
    pub width: u16,
}

/// Stands for "none" in [`SynPolicy::signatures`].
pub const NO_SIGNATURE: u8 = u8::MAX;

/// What the service of a VIP entry does about SYNs.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SynPolicy {
    /// Which of the signatures, in the order in which they are tried; from the first [`NO_SIGNATURE`] on there are none.
    pub signatures: [u8; SERVICE_SIGNATURES],
    /// Nanoseconds between two SYNs that are let through though they match; [`SynPolicy::NEVER`] lets none.
    pub budget_ns: u64,
    /// Nanoseconds between two SYNs of those that do not match; 0 is no bound.
    pub cap_ns: u64,
    /// Matches a second above which [`SynPolicy::AUTO`] drops.
    pub threshold: u32,
    /// Which [`SynState`]: VIP entries of one service share it.
    pub state: u16,
    /// [`SynPolicy::COUNT`], [`SynPolicy::DROP`] or [`SynPolicy::AUTO`].
    pub mode: u8,
    /// 1 if there are prefixes that are never dropped.
    pub allows: u8,
}

impl SynPolicy {
    /// Matches are counted.
    pub const COUNT: u8 = 0;
    /// Matches are dropped.
    pub const DROP: u8 = 1;
    /// Matches are dropped from where there are more than the threshold until a minute after there were.
    pub const AUTO: u8 = 2;
    /// A time between two that no bucket holds.
    pub const NEVER: u64 = 1 << 40;
}

/// What matches of one signature have left behind, for all CPUs. Words are loaded and stored whole, without locks.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SignatureState {
    /// Matches; each CPU adds its own every few milliseconds.
    pub total: u64,
    /// Upper half: the second that is being measured; lower half: `total` when it began.
    pub mark: u64,
    /// Until when [`SynPolicy::AUTO`] drops, ns of [`crate::packet::Tables::now`].
    pub until: u64,
}

/// An element of SYN_STATES: what SYNs to one service have left behind, for all CPUs.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SynState {
    /// By the place in [`SynPolicy::signatures`].
    pub signatures: [SignatureState; SERVICE_SIGNATURES],
    /// Up to when SYNs that were let through are paid for ([`crate::rate`]).
    pub budget_paid: u64,
    /// The same of those that did not match.
    pub cap_paid: u64,
    /// Always 0; rounds up to a power of two.
    pub reserved: [u64; 6],
}

/// How often a signature was matched at one VIP entry, on one CPU.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Matches {
    /// How often.
    pub matched: u64,
    /// Lower half: what `matched` was when it was last added to [`SignatureState::total`]. Upper half: in which span of
    /// [`crate::syn::TOLD_SHIFT`] that was, and in the lowest two bits, whether a match was dropped in it, and by which half's policy.
    pub told: u64,
}

/// An element of SYN_SEEN: what one CPU has counted of signatures.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct SynSeen {
    /// By the VIP entry's id, then by the place in its [`SynPolicy::signatures`].
    pub vips: [[Matches; SERVICE_SIGNATURES]; VIP_ENTRIES as usize],
}

/// The one value of LIVE: everything that packets are judged by but rings. Its address stands in the programs, the rest is
/// arithmetic. No backend and no service lies in two cache lines, in either half.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Live {
    /// Which half is live.
    pub active: Active,
    /// The attached interfaces.
    pub interfaces: [Interface; MAX_INTERFACES as usize],
    /// Not 0 while somebody captures: then no packet takes the short way, which takes no samples.
    pub listening: u64,
    /// Always 0.
    pub reserved: [u64; 6],
    /// By id.
    pub backends: [Backend; BACKEND_ENTRIES as usize],
    /// Both halves, of which `active` names the live one.
    pub halves: [Half; 2],
    /// When an agent last said that it looks after the tables: nanoseconds since the start of the host, sleep included.
    pub heartbeat_ns: u64,
    /// A hash of the object that the attached programs come from.
    pub programs: u64,
    /// 1 while nothing is dropped for being a SYN, whatever the policies say. The last word of LIVE in every layout that has it.
    pub syn_off: u64,
}

const CACHE_LINE: usize = 64;
const _: () = assert!(offset_of!(Live, backends).is_multiple_of(CACHE_LINE) && size_of::<Backend>() == CACHE_LINE / 2);
const _: () =
    assert!(offset_of!(Live, halves).is_multiple_of(CACHE_LINE) && size_of::<Half>().is_multiple_of(CACHE_LINE));
const _: () = assert!(offset_of!(Half, services).is_multiple_of(CACHE_LINE) && size_of::<Service>() == CACHE_LINE / 4);

impl Live {
    /// Whether somebody captures.
    #[inline(always)]
    pub fn is_listened_to(&self) -> bool {
        // SAFETY: a reference is valid to read; whoever captures may store at any time, so the word is read once, whole.
        (unsafe { (&raw const self.listening).read_volatile() }) != 0
    }
}

/// What [`Live`] begins with in every layout since [`COUNTS_SINCE`].
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct LiveHead {
    /// As there.
    pub active: Active,
    /// As there.
    pub interfaces: [Interface; MAX_INTERFACES as usize],
}

/// What befell the packets of one VIP entry besides being forwarded, one set a CPU.
///
/// Those of SYNs come first: eight words from there are all within, whichever of eight numbers a verifier thinks the kind
/// of a SYN may have.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VipEvents {
    /// SYNs with window 0 and no options: the flood's signature, dropped or not.
    pub syn_zero_bare: u64,
    /// SYNs with window 0 and nothing but padding for options.
    pub syn_zero_padding: u64,
    /// SYNs with window 0 and options.
    pub syn_zero_options: u64,
    /// SYNs with a window and no options.
    pub syn_open_bare: u64,
    /// SYNs with a window and nothing but padding for options.
    pub syn_open_padding: u64,
    /// SYNs with a window and options: what nearly every client sends.
    pub syn_open_options: u64,
    /// Packets dropped, for any reason.
    pub dropped: u64,
    /// Packets that matched and went up the stack (the backend is this host).
    pub passed: u64,
    /// ICMP errors among the packets: sent to the backend of the flow that they quote.
    pub icmp_errors: u64,
    /// Of those, too bigs with an MTU that no link may have.
    pub small_mtu: u64,
    /// SYNs whose MSS was lowered.
    pub mss_lowered: u64,
    /// SYNs dropped for matching a signature.
    pub syn_dropped: u64,
    /// SYNs that would have been, but were within the budget.
    pub syn_let: u64,
    /// SYNs that would have been, but came from a prefix that is never dropped.
    pub syn_allowed: u64,
    /// SYNs dropped for being more than the service takes.
    pub syn_capped: u64,
    /// SYNs with window 0 and no options that were dropped for that by the short way: one word instead of three. Whoever reads adds
    /// them to `syn_zero_bare`, `syn_dropped` and `dropped` ([`VipEvents::spread`]).
    pub bare_dropped: u64,
}

impl VipEvents {
    /// With what the short way has counted where it belongs.
    pub fn spread(self) -> Self {
        let bare = self.bare_dropped;
        VipEvents {
            syn_zero_bare: self.syn_zero_bare.wrapping_add(bare),
            syn_dropped: self.syn_dropped.wrapping_add(bare),
            dropped: self.dropped.wrapping_add(bare),
            bare_dropped: 0,
            ..self
        }
    }
}

/// What was forwarded by one VIP entry, or to one backend, one set a CPU.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Forwarded {
    /// Packets.
    pub packets: u64,
    /// Their IP bytes, without what a tunnel adds.
    pub bytes: u64,
}

/// Places for verdicts' counters, more than there are verdicts.
pub const VERDICT_PLACES: usize = 32;
const _: () = assert!(crate::verdict::Verdict::COUNT < VERDICT_PLACES);

/// One element of COUNTS: what one CPU has counted.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Counts {
    /// By the number of a [`crate::verdict::Verdict`].
    pub verdicts: [u64; VERDICT_PLACES],
    /// By the backend's id.
    pub backends: [Forwarded; BACKEND_ENTRIES as usize],
    /// By the VIP entry's id. Apart from the rest, so that what each forwarded packet touches lies close together.
    pub vips: [Forwarded; VIP_ENTRIES as usize],
    /// By the VIP entry's id.
    pub events: [VipEvents; VIP_ENTRIES as usize],
}

/// A key of SERVED, on a backend: an address that concerns it, and how.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Served {
    /// The address.
    pub address: Address,
    /// One of `Served::*`, for its family.
    pub role: u32,
    /// Always 0.
    pub reserved: u32,
}

impl Served {
    /// An IPv4 VIP served here.
    pub const VIP4: u32 = 0x14;
    /// An IPv6 VIP served here.
    pub const VIP6: u32 = 0x16;
    /// An IPv4 address that tunnels end at.
    pub const ENDPOINT4: u32 = 0x24;
    /// An IPv6 address that tunnels end at.
    pub const ENDPOINT6: u32 = 0x26;

    /// The key of an address in a role.
    #[inline(always)]
    pub const fn new(address: Address, role: u32) -> Self {
        Served { address, role, reserved: 0 }
    }
}

/// Addresses that a backend may have in SERVED.
pub const SERVED_ENTRIES: u32 = 8_192;

/// Length of the frames that the bench generates, bytes: up to the end of the last word.
pub const BENCH_FRAME: usize = bench_place(BENCH_WORDS - 1) + 8;

/// Words of such a frame.
pub const BENCH_WORDS: usize = 16;

/// Where a word of such a frame stands. They lie as headers do behind an Ethernet header, so that nothing that is read lies in two
/// that were just written, which processors must wait for; a packet from a NIC never makes them. The first two overlap, and the
/// first is written last.
pub const fn bench_place(word: usize) -> usize {
    (8 * word).saturating_sub(2)
}

/// Programs that the bench runs in turns.
pub const BENCH_PROGRAMS: u32 = 3;

/// Segments of a bench's run that are timed.
pub const BENCH_SEGMENTS: u32 = 4_096;

/// What the bench generates for one of its programs: a frame, and where in it flows and VIPs differ.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BenchTraffic {
    /// How many have been generated.
    pub generated: u64,
    /// The frame; 0 where it differs.
    pub frame: [u64; BENCH_WORDS],
    /// Number of flows, at most 2^24.
    pub flows: u32,
    /// How many of them have been visited in this pass over all.
    pub visited: u32,
    /// The (last 4 bytes of the) source, to which the flow's number is added.
    pub source: BenchAddress,
    /// The (last 4 bytes of the) destination, to which the VIP's number is added.
    pub destination: BenchAddress,
    /// Number of VIPs less one: a power of two.
    pub vip_mask: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Four bytes of a frame that the bench generates.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BenchAddress {
    /// The word that they are in.
    pub word: u32,
    /// Bits that stand before them in that word, 0 or 32.
    pub shift: u32,
    /// The first of them, as a number.
    pub first: u32,
}

/// Whose turn it is in the bench: each program gets a segment of packets, then the next one.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BenchTurn {
    /// The program.
    pub program: u32,
    /// Packets left in its segment.
    pub left: u32,
    /// Packets in a segment.
    pub segment: u32,
    /// Segments timed so far.
    pub timed: u32,
    /// When this one began, ns.
    pub since: u64,
}

/// Bytes of a frame that a sample holds at most.
pub const SAMPLE_BYTES: usize = 256;
/// Samples that each CPU takes in a second at most.
pub const SAMPLE_RATE: u32 = 10_000;
/// Bytes of EVENTS, the ring buffer of samples.
pub const EVENTS_BYTES: u32 = 1 << 20;

/// What is wanted of packets by whoever captures. The one value of CAPTURE.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capture {
    /// Nobody captures from then on, by the kernel's monotonic clock: whoever does keeps putting it off.
    pub until_ns: u64,
    /// By the number of a verdict, whether it is wanted.
    pub verdicts: u32,
    /// Not 0 if packets are wanted whatever their VIP entry, and without one.
    pub any_vip: u32,
    /// Else by the id of a VIP entry, whether it is wanted.
    pub vips: [u64; VIP_ENTRIES as usize / 64],
}

impl Capture {
    /// Whether a packet is wanted by its verdict and its VIP entry (`u32::MAX` without one).
    #[inline(always)]
    pub fn wants(&self, verdict: u32, vip: u32) -> bool {
        let word = self.vips[(vip / 64) as usize & (VIP_ENTRIES as usize / 64 - 1)];
        self.verdicts >> (verdict & 31) & 1 != 0
            && (self.any_vip != 0 || vip < VIP_ENTRIES && word >> (vip & 63) & 1 != 0)
    }
}

/// What one CPU knows of its samples. An element of SAMPLER.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sampler {
    /// Of the packet that is being sampled, the number of its verdict...
    pub verdict: u32,
    /// ... its VIP entry, or `u32::MAX`...
    pub vip: u32,
    /// ... its backend, or `u32::MAX`...
    pub backend: u32,
    /// ... and what the kernel is to do with it (`XDP_*`).
    pub action: u32,
    /// What the budget is paid up to ([`crate::rate`]).
    pub paid: u64,
    /// Samples that were not taken because there was no budget.
    pub over_budget: u64,
    /// Samples that were not taken because nobody had made room for them.
    pub ring_full: u64,
}

/// A packet, as it left, and what became of it. A record of EVENTS.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When, by the kernel's monotonic clock.
    pub time_ns: u64,
    /// Bytes of the frame.
    pub length: u32,
    /// How many of them are here.
    pub captured: u32,
    /// The number of the verdict.
    pub verdict: u32,
    /// The VIP entry, or `u32::MAX`.
    pub vip: u32,
    /// The backend, or `u32::MAX`.
    pub backend: u32,
    /// Which of the interfaces it came in by.
    pub interface: u32,
    /// The frame's beginning; behind `captured` anything.
    pub bytes: [u8; SAMPLE_BYTES],
}

/// How fast a flood is made.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pace {
    /// From one packet to the next: ns, of which [`Pace::FRACTION`] bits are behind the point. 0 is as fast as can be.
    pub interval: u64,
    /// When the next is due, by the kernel's monotonic clock, in the same unit.
    pub next: u64,
}

impl Pace {
    /// Bits behind the point.
    pub const FRACTION: u32 = 8;
    /// Packets that may follow each other at once where some were missed.
    pub const CATCH_UP: u64 = 32;
}

/// Length of the frames of a [`Stream`], bytes.
pub const STREAM_FRAME: usize = 64;
/// Flows of a stream, numbered; a power of two, below 2^16.
pub const STREAM_FLOWS: u32 = 16_384;
/// Places where frames of a stream may arrive. At 0 are counted those that were for nobody.
pub const STREAM_PLACES: u32 = 16;
/// What the sources of a stream begin with; the flow's number follows.
pub const STREAM_NETWORK: [u8; 2] = [10, 64];

/// Numbered frames without an end, and how they are paced: not more are under way than a veth's ring holds.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stream {
    /// How many have been sent. Flows take turns.
    pub sent: u64,
    /// Frame of flow 0: TCP over IPv4, no options.
    pub frame: [u64; STREAM_FRAME / 8],
    /// Frames that are no longer waited for.
    pub given_up: u64,
    /// How long frames are waited for, ns.
    pub patience_ns: u32,
    /// Since when, the low bits of a clock in ns; 0 while none are waited for.
    pub waiting_since: u32,
}

/// What has arrived at a place.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Arrivals {
    /// All of it.
    pub total: u64,
    /// By flow.
    pub flows: [u64; STREAM_FLOWS as usize],
}

/// What `weir_explain` puts in front of the packet it was given: the decision, and how it came about.
#[repr(C, packed(2))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Explanation {
    /// A [`crate::verdict::Verdict`], as a number.
    pub verdict: u32,
    /// Which entry of the VIPs' counters, or `u32::MAX`.
    pub vip: u32,
    /// The slot in the ring, or `u32::MAX`.
    pub slot: u32,
    /// Which entry of the backends' table, or `u32::MAX`.
    pub backend: u32,
    /// The half of the services' table that answered.
    pub half: u32,
    /// The flow's hash.
    pub hash: u32,
    /// When it was decided, ns of [`crate::packet::Tables::now`]: low half, then high half.
    pub now: [u32; 2],
}

impl Explanation {
    /// When it was decided.
    pub fn now(&self) -> u64 {
        self.now[0] as u64 | (self.now[1] as u64) << 32
    }
}

const _: () = assert!(size_of::<Explanation>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_wants_what_it_names() {
        let mut capture = Capture { until_ns: 0, verdicts: 1 << 3 | 1 << 20, any_vip: 1, vips: [0; _] };
        for (verdict, expected) in [(3, true), (20, true), (4, false), (0, false)] {
            assert_eq!(capture.wants(verdict, u32::MAX), expected, "{verdict}");
        }
        (capture.any_vip, capture.vips[1]) = (0, 1 << 2);
        for (vip, expected) in [(66, true), (65, false), (2, false), (66 + VIP_ENTRIES, false), (u32::MAX, false)] {
            assert_eq!(capture.wants(3, vip), expected, "{vip}");
        }
        assert!(!capture.wants(4, 66));
    }
}
