//! The programs and tables in the kernel: loading, attaching, pinning, filling, reading. No other module knows a map's
//! name.

mod attach;
pub mod backend;
mod link;
mod load;
mod mapped;
mod objects;
mod pins;
pub mod requirements;
pub mod steering;

use std::{cell::RefCell, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Pod, TestRun as _, TestRunOptions,
    maps::{LpmTrie, Map, MapData, MapError},
    pin::PinError,
    programs::Xdp,
};
use lb_common::{
    abi::{
        ABI_VERSION, Abi, Active, Backend, Counts, Explanation, Forwarded, Ids, Interface, Live, LiveHead,
        MAX_INTERFACES, Match, NextHop, Page, SERVICE_POSITIONS, SLOTS_PER_ELEMENT, Settings, Slot, SynSeen, SynState,
        VipEvents, mac_bits,
    },
    verdict::Verdict,
};

use nix::time::{ClockId, clock_gettime};

pub use self::{
    adopt::{Adopted, Found, find},
    apply::{Beside, grace_period},
    attach::attach_again,
    capture::{Capturing, LEASE, Lost},
    load::{Attachment, Events, Loaded, Started, load},
    mapped::{Access, Mapped},
    objects::{BACKEND_OBJECT, BALANCER_OBJECT, TRAFFIC_OBJECT},
    pins::{DEFAULT as DEFAULT_PINS, DEFAULT_BACKEND as DEFAULT_BACKEND_PINS, Lock, Pins},
};
use crate::{
    links, next_hops,
    plan::{DescribedService, Description},
};

/// What one CPU has counted for a VIP entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VipCounts {
    /// Packets forwarded.
    pub packets: u64,
    /// Their IP bytes.
    pub bytes: u64,
    /// What befell others.
    pub events: VipEvents,
}

/// Pins are root's.
#[derive(Debug, thiserror::Error)]
#[error("{}: permission denied: run as root (sudo weir ...)", .0.display())]
pub struct Denied(std::path::PathBuf);

/// Reads a place in the one value of LIVE: the value itself is far too large to be moved about.
macro_rules! read {
    ($live:expr, $($path:tt)+) => {{
        let live: *const Live = $live.at(0);
        // SAFETY: `at` points to the mapped value, indexing an array inside it checks the index, and any bytes are valid.
        unsafe { (&raw const (*live).$($path)+).read_volatile() }
    }};
}

/// Writes a place in the one value of LIVE; up to 8 bytes by one store.
macro_rules! write {
    ($live:expr, $value:expr, $($path:tt)+) => {{
        let value = $value;
        let live: *mut Live = $live.at_mut(0);
        // SAFETY: `at_mut` points to the mapped value, which may be written; indexing an array inside it checks the index.
        unsafe { (&raw mut (*live).$($path)+).write_volatile(value) }
    }};
}

/// Reads a place in COUNTS, by CPU.
macro_rules! counted {
    ($counts:expr, $($path:tt)+) => {
        (0..$counts.entries())
            .map(|cpu| {
                let counts: *const Counts = $counts.at(cpu);
                // SAFETY: as in `read`; each counter is an aligned word, and a sum over them is of no one moment anyway.
                unsafe { (&raw const (*counts).$($path)+).read_volatile() }
            })
            .collect::<Vec<_>>()
    };
}

// After the macros, which they use.
mod adopt;
mod apply;
mod capture;
mod carry;
pub mod syn;

/// The tables of a running instance.
pub struct Datapath {
    pins: Pins,
    live: Mapped<Live>,
    rings: Mapped<Ids>,
    seconds: Mapped<Ids>,
    description: Mapped<Page>,
    counts: Mapped<Counts>,
    states: Mapped<SynState>,
    seen: Mapped<SynSeen>,
    allowed: RefCell<LpmTrie<MapData, [u32; 5], u32>>,
}

/// A struct of lb-common as aya wants values of maps to be.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Plain<T>(pub T);

// SAFETY: `Abi` promises what `Pod` asks for: plain bytes, any pattern valid.
unsafe impl<T: Abi> Pod for Plain<T> {}

impl Datapath {
    /// Opens what an agent, running or not, has left pinned.
    pub fn open(pins: &Pins, access: Access) -> Result<Self> {
        if let Err(error) = std::fs::metadata(pins.tables())
            && error.kind() == std::io::ErrorKind::PermissionDenied
        {
            bail!(Denied(pins.tables()));
        }
        ensure!(
            pins.tables().exists(),
            "{}: nothing is loaded here (weir run --config FILE loads it; --pins names another place)",
            pins.root().display()
        );
        let version = Self::head(pins)?.get(0).active.version;
        ensure!(
            version == ABI_VERSION,
            "{}: tables of layout {version}, this weir reads layout {ABI_VERSION}: use the weir that loaded them",
            pins.root().display()
        );
        Self::from_directory(pins, &pins.tables(), access)
    }

    /// What LIVE begins with, of whatever layout the tables are.
    fn head(pins: &Pins) -> Result<Mapped<LiveHead>> {
        Ok(Mapped::head(&open_map(&pins.tables(), "LIVE")?)?)
    }

    fn from_directory(pins: &Pins, directory: &Path, access: Access) -> Result<Self> {
        let map = |name: &str| open_map(directory, name);
        fn mapped<T: Abi>(map: Result<MapData>, access: Access) -> Result<Mapped<T>> {
            Ok(Mapped::new(&map?, access)?)
        }
        Ok(Datapath {
            pins: pins.clone(),
            live: mapped(map("LIVE"), access)?,
            rings: mapped(map("RINGS"), access)?,
            seconds: mapped(map("SECONDS"), access)?,
            description: mapped(map("DESCRIPTION"), access)?,
            counts: mapped(map("COUNTS"), access)?,
            states: mapped(map("SYN_STATES"), access)?,
            seen: mapped(map("SYN_SEEN"), access)?,
            allowed: RefCell::new(LpmTrie::try_from(Map::LpmTrie(map("ALLOWED")?))?),
        })
    }

    /// Where they are pinned.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// What the live tables hold, in words.
    pub fn description(&self) -> Result<Description> {
        description_in(&self.description, self.half())
    }

    fn active(&self) -> Active {
        read!(self.live, active)
    }

    /// Which half is live.
    pub fn half(&self) -> u32 {
        self.active().half & 1
    }

    /// The live settings.
    pub fn settings(&self) -> Settings {
        read!(self.live, halves[self.half() as usize].settings)
    }

    /// A slot in the ring of a VIP entry.
    pub fn slot(&self, vip: u16, slot: u32) -> Option<Slot> {
        let half = self.half() as usize;
        let mut entries =
            (0..SERVICE_POSITIONS as usize).map(|position| read!(self.live, halves[half].services[position]));
        let service = entries.find(|entry| {
            let kind = entry.matches.0 >> 24 & 0xf;
            entry.id == vip && matches!(kind, Match::PORT | Match::ALL_PORTS)
        })?;
        let index = service.ring + (slot & service.ring_mask());
        Some(self.slot_at(index))
    }

    /// The ring of a service of the live tables.
    pub fn ring(&self, service: &DescribedService) -> Vec<Slot> {
        let end = service.ring.saturating_add(service.slots).min(self.arena());
        (service.ring..end).map(|index| self.slot_at(index)).collect()
    }

    fn slot_at(&self, index: u32) -> Slot {
        let id = |of: &Mapped<Ids>| of.get(index / SLOTS_PER_ELEMENT).of(index);
        Slot { first: id(&self.rings), second: id(&self.seconds) }
    }

    /// Slots in the arena of all rings.
    pub fn arena(&self) -> u32 {
        SLOTS_PER_ELEMENT * self.rings.entries()
    }

    /// An entry of the backends' table.
    pub fn backend(&self, id: u16) -> Backend {
        read!(self.live, backends[id as usize])
    }

    /// Says where backends' packets go. One store each if only the MAC or what is known of it changes; where
    /// the way leads over another interface, packets are dropped (and counted) until none that has read the old way is under way.
    pub fn set_next_hops(&self, ways: &[(u16, Way)]) {
        let moves = |id: usize, interface| {
            read!(self.live, backends[id].interface) != interface
                && read!(self.live, backends[id].next_hop) != NextHop::default()
        };
        let moved: Vec<_> = ways.iter().filter(|(id, way)| moves((*id).into(), way.interface)).collect();
        for (id, _) in &moved {
            write!(self.live, NextHop::default(), backends[*id as usize].next_hop);
        }
        if !moved.is_empty() {
            grace_period();
        }
        for (id, way) in ways {
            let id = *id as usize;
            write!(self.live, way.interface, backends[id].interface);
            write!(self.live, way.vlan, backends[id].vlan);
            write!(self.live, way.mtu, backends[id].mtu);
            write!(self.live, way.next_hop, backends[id].next_hop);
        }
    }

    /// The attached interfaces, by their numbers.
    pub fn interfaces(&self) -> Vec<Interface> {
        let all = (0..MAX_INTERFACES as usize).map(|number| read!(self.live, interfaces[number]));
        all.filter(|entry| entry.index != 0).collect()
    }

    /// Says what MAC an interface has now: one store.
    pub fn set_mac(&self, number: u32, mac: [u8; 6]) {
        write!(self.live, mac_bits(mac), interfaces[number as usize].mac);
    }

    /// Writes what is known of an interface.
    pub fn set_interface(&self, number: u32, interface: Interface) {
        write!(self.live, interface, interfaces[number as usize]);
    }

    /// Answers ARP and neighbour solicitations for VIPs on all interfaces, or stops.
    pub fn set_announce(&self, announce: bool) {
        for number in 0..MAX_INTERFACES as usize {
            write!(self.live, announce.into(), interfaces[number].announce);
        }
    }

    /// Says that an agent looks after the tables.
    pub fn beat(&self) {
        write!(self.live, since_boot_ns(), heartbeat_ns);
    }

    /// For how long nobody has said so.
    pub fn unattended(&self) -> Duration {
        Duration::from_nanos(since_boot_ns().saturating_sub(read!(self.live, heartbeat_ns)))
    }

    /// How often each verdict was given, by CPU; behind those, as in all counters, what tables before these had counted.
    pub fn verdicts(&self) -> Result<Vec<(Verdict, Vec<u64>)>> {
        Ok(Verdict::ALL.iter().map(|&verdict| (verdict, counted!(self.counts, verdicts[verdict as usize]))).collect())
    }

    /// The counters of a VIP entry, by CPU.
    pub fn vip_counts(&self, id: u16) -> Result<Vec<VipCounts>> {
        let forwarded = counted!(self.counts, vips[id as usize]);
        let events = counted!(self.counts, events[id as usize]);
        let both = forwarded.into_iter().zip(events);
        Ok(both
            .map(|(Forwarded { packets, bytes }, events)| VipCounts { packets, bytes, events: events.spread() })
            .collect())
    }

    /// The counters of a backend, by CPU.
    pub fn backend_counts(&self, id: u16) -> Result<Vec<Forwarded>> {
        Ok(counted!(self.counts, backends[id as usize]))
    }

    /// What the kernel would do with a frame, by the same path over the live tables; nothing is counted. Returns
    /// the decision and the frame as it would leave.
    pub fn explain(&self, frame: &[u8]) -> Result<(Explanation, Vec<u8>)> {
        let path = self.pins.programs().join(pins::EXPLAIN);
        let program = Xdp::from_pin(&path, aya_obj::programs::XdpAttachType::Interface)
            .with_context(|| format!("cannot open {}", path.display()))?;
        run_explain(&program, frame)
    }
}

fn description_in(described: &Mapped<Page>, half: u32) -> Result<Description> {
    let pages = described.entries() / 2;
    let first = half * pages;
    let mut text = described.get(first).0.to_vec();
    let length = u64::from_ne_bytes(text[..8].try_into()?) as usize;
    ensure!(length + 8 <= pages as usize * 4096, "the description of the tables is damaged");
    for page in 1..(length + 8).div_ceil(4096) as u32 {
        text.extend(described.get(first + page).0);
    }
    serde_json::from_slice(&text[8..8 + length]).context("the description of the tables is damaged")
}

/// Since the start of the host, sleep included.
fn since_boot_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

fn open_map(directory: &Path, name: &str) -> Result<MapData> {
    let path = directory.join(name);
    MapData::from_pin(&path).map_err(|error| match error {
        MapError::PinError { error: PinError::SyscallError(ref syscall), .. } | MapError::SyscallError(ref syscall)
            if syscall.io_error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Denied(path.clone()).into()
        }
        error => anyhow::Error::from(error).context(format!("cannot open {}", path.display())),
    })
}

fn run_explain(program: &Xdp, frame: &[u8]) -> Result<(Explanation, Vec<u8>)> {
    let mut out = vec![0; frame.len() + 256];
    let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
    let result = program.test_run(options).context("the kernel did not run weir_explain")?;
    let size = result.data_size_out as usize;
    const HEAD: usize = size_of::<Explanation>();
    if size < HEAD {
        bail!("weir_explain returned {size} bytes");
    }
    let word = |i: usize| u32::from_ne_bytes([out[i * 4], out[i * 4 + 1], out[i * 4 + 2], out[i * 4 + 3]]);
    let (half, hash, now) = (word(4), word(5), [word(6), word(7)]);
    let explanation = Explanation { verdict: word(0), vip: word(1), slot: word(2), backend: word(3), half, hash, now };
    Ok((explanation, out[HEAD..size].to_vec()))
}

/// Ends a pinned link and leaves its pin, as somebody with the rights could: for tests of what is done about it.
#[doc(hidden)]
pub fn force_away(pin: &Path) -> Result<()> {
    link::force_away(pin)
}

/// Where packets for a backend go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// What is known of its next hop.
    pub next_hop: NextHop,
    /// The number of the interface that it lies on.
    pub interface: u16,
    /// The VLAN there, 0 without one.
    pub vlan: u16,
    /// Bytes that the way takes.
    pub mtu: u16,
}

/// Removes programs, tables and links of an instance. Returns the interfaces it was attached to.
pub fn detach(pins: &Pins) -> Result<Vec<String>> {
    let interfaces = pins.linked();
    ensure!(
        !interfaces.is_empty() || pins.tables().exists(),
        "{}: nothing is loaded here (--pins names another place)",
        pins.root().display()
    );
    for interface in &interfaces {
        link::detach(&pins.link(interface))?;
    }
    steering::end(pins)?;
    pins.remove()?;
    forget_neighbours(&interfaces);
    Ok(interfaces)
}

/// Deletes the neighbour entries that were made for backends on these interfaces and VLANs on them.
pub fn forget_neighbours(interfaces: &[String]) {
    let forget = || -> Result<()> {
        let own = next_hops::own_interfaces(&links::list()?, |link| interfaces.contains(&link.name));
        Ok(next_hops::forget(&own)?)
    };
    if let Err(error) = forget() {
        tracing::warn!("cannot delete the neighbours that were resolved for backends: {error:#}");
    }
}
