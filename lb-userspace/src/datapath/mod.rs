//! The programs and tables in the kernel: loading, attaching, pinning, filling, reading. No other module knows a map's
//! name.

pub mod backend;
mod link;
mod load;
mod mapped;
mod objects;
mod pins;
pub mod requirements;

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::{
    Pod, TestRun as _, TestRunOptions,
    maps::{Map, MapData, MapError, PerCpuArray},
    pin::PinError,
    programs::Xdp,
};
use lb_common::{
    abi::{
        ABI_VERSION, Abi, Active, Backend, BackendCounts, Explanation, Interface, MAX_INTERFACES, Match, NO_BACKEND,
        NextHop, Page, SERVICE_POSITIONS, Service, Settings, Slot, SlotPair, VipCounts, mac_bits,
    },
    ring,
    verdict::Verdict,
};

use self::mapped::Mapped;
pub use self::{
    load::{Attachment, Events, Loaded, Started, load},
    mapped::Access,
    objects::{BACKEND_OBJECT, BALANCER_OBJECT, TRAFFIC_OBJECT},
    pins::{DEFAULT as DEFAULT_PINS, DEFAULT_BACKEND as DEFAULT_BACKEND_PINS, Lock, Pins},
};
use crate::plan::{Description, Tables};

/// The tables of a running instance.
pub struct Datapath {
    pins: Pins,
    active: Mapped<Active>,
    settings: Mapped<Settings>,
    services: Mapped<Service>,
    rings: Mapped<SlotPair>,
    backends: Mapped<Backend>,
    interfaces: Mapped<Interface>,
    description: Mapped<Page>,
    verdicts: PerCpuArray<MapData, u64>,
    vip_counts: PerCpuArray<MapData, Plain<VipCounts>>,
    backend_counts: PerCpuArray<MapData, Plain<BackendCounts>>,
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
        ensure!(
            pins.tables().exists(),
            "{}: nothing is loaded here (weir run --config FILE loads it; --pins names another place)",
            pins.root().display()
        );
        let datapath = Self::from_directory(pins, &pins.tables(), access)?;
        let version = datapath.active.get(0).version;
        ensure!(
            version == ABI_VERSION,
            "{}: tables of layout {version}, this weir reads layout {ABI_VERSION}: use the weir that loaded them",
            pins.root().display()
        );
        Ok(datapath)
    }

    fn from_directory(pins: &Pins, directory: &std::path::Path, access: Access) -> Result<Self> {
        let map = |name: &str| {
            let path = directory.join(name);
            MapData::from_pin(&path).map_err(|error| match error {
                MapError::PinError { error: PinError::SyscallError(ref syscall), .. }
                | MapError::SyscallError(ref syscall)
                    if syscall.io_error.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    anyhow!("{}: permission denied: run as root (sudo weir ...)", path.display())
                }
                error => anyhow::Error::from(error).context(format!("cannot open {}", path.display())),
            })
        };
        fn mapped<T: Abi>(map: Result<MapData>, access: Access) -> Result<Mapped<T>> {
            Ok(Mapped::new(&map?, access)?)
        }
        Ok(Datapath {
            pins: pins.clone(),
            active: mapped(map("ACTIVE"), access)?,
            settings: mapped(map("SETTINGS"), access)?,
            services: mapped(map("SERVICES"), access)?,
            rings: mapped(map("RINGS"), access)?,
            backends: mapped(map("BACKENDS"), access)?,
            interfaces: mapped(map("INTERFACES"), access)?,
            description: mapped(map("DESCRIPTION"), access)?,
            verdicts: PerCpuArray::try_from(Map::PerCpuArray(map("VERDICTS")?))?,
            vip_counts: PerCpuArray::try_from(Map::PerCpuArray(map("VIP_COUNTS")?))?,
            backend_counts: PerCpuArray::try_from(Map::PerCpuArray(map("BACKEND_COUNTS")?))?,
        })
    }

    /// Writes tables into one half and shows them by one store. The rings go to the half's part of the arena.
    fn show(&self, half: u32, tables: &Tables) -> Result<()> {
        let arena = self.rings.entries() / 2 * half;
        let mut at = arena;
        let mut starts = Vec::with_capacity(tables.rings.len());
        for ring in &tables.rings {
            starts.push(at * 2);
            for pair in ring.chunks(2) {
                let second = pair.get(1).copied().unwrap_or(Slot { first: NO_BACKEND, second: NO_BACKEND });
                self.rings.set(at, SlotPair::new(pair[0], second));
                at += 1;
            }
        }
        ensure!(at <= arena + self.rings.entries() / 2, "rings of {} slots do not fit the arena", 2 * (at - arena));
        for (id, backend) in tables.backends.iter().enumerate() {
            self.backends.set(id as u32, *backend);
        }
        let base = half * SERVICE_POSITIONS;
        for position in 0..SERVICE_POSITIONS {
            self.services.set(base + position, Service::default());
        }
        for (service, position) in tables.services.iter().zip(&tables.positions) {
            let ring = starts[service.ring as usize];
            self.services.set(base + position, Service { ring, ..*service });
        }
        self.settings.set(half, tables.settings);
        self.describe(half, &tables.description)?;
        // What stands before must be seen before: the tables are complete when the half becomes live.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.active.set(0, Active { half, version: ABI_VERSION });
        Ok(())
    }

    fn describe(&self, half: u32, description: &Description) -> Result<()> {
        let mut text = Vec::new();
        text.extend([0; 8]);
        serde_json::to_writer(&mut text, description)?;
        let length = (text.len() - 8) as u64;
        text[..8].copy_from_slice(&length.to_ne_bytes());
        let pages = self.description.entries() / 2;
        ensure!(text.len() <= pages as usize * 4096, "the description of the tables does not fit {pages} pages");
        for (index, chunk) in text.chunks(4096).enumerate() {
            let mut page = Page([0; 4096]);
            page.0[..chunk.len()].copy_from_slice(chunk);
            self.description.set(half * pages + index as u32, page);
        }
        Ok(())
    }

    /// What the live tables hold, in words.
    pub fn description(&self) -> Result<Description> {
        let pages = self.description.entries() / 2;
        let first = self.half() * pages;
        let mut text = self.description.get(first).0.to_vec();
        let length = u64::from_ne_bytes(text[..8].try_into()?) as usize;
        ensure!(length + 8 <= pages as usize * 4096, "the description of the tables is damaged");
        for page in 1..(length + 8).div_ceil(4096) as u32 {
            text.extend(self.description.get(first + page).0);
        }
        serde_json::from_slice(&text[8..8 + length]).context("the description of the tables is damaged")
    }

    fn half(&self) -> u32 {
        self.active.get(0).half & 1
    }

    /// The live settings.
    pub fn settings(&self) -> Settings {
        self.settings.get(self.half())
    }

    /// A slot in the ring of a VIP entry.
    pub fn slot(&self, vip: u16, slot: u32) -> Option<Slot> {
        let base = self.half() * SERVICE_POSITIONS;
        let entries = (base..base + SERVICE_POSITIONS).map(|position| self.services.get(position));
        let service = entries.into_iter().find(|entry| {
            let kind = entry.matches.0 >> 24 & 0xf;
            entry.id == vip && matches!(kind, Match::PORT | Match::ALL_PORTS)
        })?;
        let index = service.ring + (slot & service.ring_mask);
        Some(ring::slot(self.rings.get(index / 2), index))
    }

    /// An entry of the backends' table.
    pub fn backend(&self, id: u16) -> Backend {
        self.backends.get(id as u32)
    }

    /// Says where a backend's packets go. One store if only the MAC or what is known of it changes; if the way leads over
    /// another interface, its packets are dropped (and counted) for the moment between.
    pub fn set_next_hop(&self, id: u16, next_hop: NextHop, interface: u32, mtu: u16) {
        let backend = self.backends.at(id as u32);
        // SAFETY: `at` checked the index; each field is written whole, by one aligned store.
        unsafe {
            if (*backend).interface != interface {
                (&raw mut (*backend).next_hop).write_volatile(NextHop::default());
                (&raw mut (*backend).interface).write_volatile(interface);
            }
            (&raw mut (*backend).mtu).write_volatile(mtu);
            (&raw mut (*backend).next_hop).write_volatile(next_hop);
        }
    }

    /// The attached interfaces, by their numbers.
    pub fn interfaces(&self) -> Vec<Interface> {
        (0..MAX_INTERFACES).map(|number| self.interfaces.get(number)).filter(|entry| entry.index != 0).collect()
    }

    /// Says what MAC an interface has now: one store.
    pub fn set_mac(&self, number: u32, mac: [u8; 6]) {
        let interface = self.interfaces.at(number);
        // SAFETY: `at` checked the number; the MAC is one aligned word.
        unsafe { (&raw mut (*interface).mac).write_volatile(mac_bits(mac)) };
    }

    /// Writes what is known of an interface.
    pub fn set_interface(&self, number: u32, interface: Interface) {
        self.interfaces.set(number, interface);
    }

    /// Answers ARP and neighbour solicitations for VIPs on all interfaces, or stops.
    pub fn set_announce(&self, announce: bool) {
        for number in 0..MAX_INTERFACES {
            let interface = self.interfaces.at(number);
            // SAFETY: `at` checked the number; the flag is one aligned word.
            unsafe { (&raw mut (*interface).announce).write_volatile(announce.into()) };
        }
    }

    /// How often each verdict was given, by CPU.
    pub fn verdicts(&self) -> Result<Vec<(Verdict, Vec<u64>)>> {
        let count = |verdict: &Verdict| Ok((*verdict, self.verdicts.get(&(*verdict as u32), 0)?.to_vec()));
        Verdict::ALL.iter().map(count).collect()
    }

    /// The counters of a VIP entry, by CPU.
    pub fn vip_counts(&self, id: u16) -> Result<Vec<VipCounts>> {
        Ok(self.vip_counts.get(&(id as u32), 0)?.iter().map(|counts| counts.0).collect())
    }

    /// The counters of a backend, by CPU.
    pub fn backend_counts(&self, id: u16) -> Result<Vec<BackendCounts>> {
        Ok(self.backend_counts.get(&(id as u32), 0)?.iter().map(|counts| counts.0).collect())
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
    let explanation =
        Explanation { verdict: word(0), vip: word(1), slot: word(2), backend: word(3), half: word(4), hash: word(5) };
    Ok((explanation, out[HEAD..size].to_vec()))
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
    pins.remove()?;
    Ok(interfaces)
}
