//! The second program, on a backend: loading, attaching, saying which addresses concern it, reading what it counted.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    slice,
};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::{HashMap, Map, MapData, PerCpuArray},
    programs::Xdp,
};
use lb_common::{
    abi::{Address, Interface, SERVED_ENTRIES, Served},
    verdict::Stripping,
};

use super::{
    Attachment, BACKEND_OBJECT, Pins, Plain,
    attach::{attach_all, detach_others},
    load::{describe_load, load_program},
    pins,
    requirements::{FRAGS_KERNEL, Kernel},
};
use crate::links::{Link, Mode};

/// The addresses that concern a backend.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Addresses {
    /// The VIPs it serves.
    pub vips: BTreeSet<IpAddr>,
    /// Its own, at which tunnels end.
    pub ends: BTreeSet<IpAddr>,
}

impl Addresses {
    /// The VIPs, and of this host's addresses those that a tunnel can end at: a VIP is no such, though it is on loopback.
    pub fn new(vips: &BTreeSet<IpAddr>, local: impl IntoIterator<Item = IpAddr>) -> Self {
        let is_end = |address: &IpAddr| !address.is_loopback() && !vips.contains(address);
        Addresses { vips: vips.clone(), ends: local.into_iter().filter(is_end).collect() }
    }

    fn keys(&self) -> impl Iterator<Item = Served> {
        let vips = self.vips.iter().map(|vip| key(*vip, Served::VIP4, Served::VIP6));
        vips.chain(self.ends.iter().map(|end| key(*end, Served::ENDPOINT4, Served::ENDPOINT6)))
    }

    fn insert(&mut self, key: Served) {
        match key.role {
            Served::VIP4 => self.vips.insert(v4(key.address).into()),
            Served::VIP6 => self.vips.insert(v6(key.address).into()),
            Served::ENDPOINT4 => self.ends.insert(v4(key.address).into()),
            _ => self.ends.insert(v6(key.address).into()),
        };
    }
}

fn key(address: IpAddr, role4: u32, role6: u32) -> Served {
    Served::new(address.into(), if address.is_ipv4() { role4 } else { role6 })
}

fn v4(address: Address) -> Ipv4Addr {
    Ipv4Addr::from(address.0[3].to_ne_bytes())
}

fn v6(address: Address) -> Ipv6Addr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(address.0) {
        *bytes = word.to_ne_bytes();
    }
    octets.into()
}

/// The tables of a second program that runs or is about to.
pub struct Decapsulator {
    served: HashMap<MapData, Plain<Served>, u64>,
    strippings: PerCpuArray<MapData, u64>,
}

impl Decapsulator {
    /// Opens what `weir backend run`, running or not, has left pinned.
    pub fn open(pins: &Pins) -> Result<Self> {
        refuse_balancer(pins)?;
        ensure!(
            pins.tables().exists(),
            "{}: nothing is loaded here (weir backend run loads it; --pins names another place)",
            pins.root().display()
        );
        Self::from_directory(&pins.tables())
    }

    fn from_directory(directory: &Path) -> Result<Self> {
        let map = |name: &str| {
            let path = directory.join(name);
            MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))
        };
        Ok(Decapsulator {
            served: HashMap::try_from(Map::HashMap(map("SERVED")?))?,
            strippings: PerCpuArray::try_from(Map::PerCpuArray(map("STRIPPINGS")?))?,
        })
    }

    /// The addresses it knows.
    pub fn addresses(&self) -> Result<Addresses> {
        let mut addresses = Addresses::default();
        for key in self.served.keys() {
            addresses.insert(key?.0);
        }
        Ok(addresses)
    }

    /// Replaces the addresses: what is new comes before what is old goes, so that those in both are never missing.
    pub fn set_addresses(&mut self, addresses: &Addresses) -> Result<()> {
        let count = addresses.keys().count();
        ensure!(
            count <= SERVED_ENTRIES as usize,
            "{count} VIPs and addresses of this host: at most {SERVED_ENTRIES} have room"
        );
        let before = self.addresses()?;
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.keys().collect(), addresses.keys().collect());
        for key in new.difference(&old) {
            self.served.insert(Plain(*key), 1, 0)?;
        }
        for key in old.difference(&new) {
            self.served.remove(&Plain(*key))?;
        }
        Ok(())
    }

    /// What became of the packets seen, summed over CPUs.
    pub fn counts(&self) -> Result<Vec<(Stripping, u64)>> {
        let count =
            |stripping: &Stripping| Ok((*stripping, self.strippings.get(&(*stripping as u32), 0)?.iter().sum()));
        Stripping::ALL.iter().map(count).collect()
    }
}

/// The program and its filled tables, that no packet meets yet. Dropped, they vanish; attached, they take over.
pub struct Loaded {
    pins: Pins,
    decapsulator: Decapsulator,
    object: Ebpf,
    program: &'static str,
    interface: Attachment,
}

/// Loads the program for an interface. What runs already goes on untouched.
pub fn load(pins: &Pins, kernel: Kernel, link: &Link, addresses: &Addresses) -> Result<Loaded> {
    refuse_balancer(pins)?;
    pins.clear_next()?;
    let loaded = load_next(pins, kernel, link, addresses);
    if loaded.is_err() {
        // The error at hand matters more than one about leftovers, which the next start removes.
        let _ = pins.clear_next();
    }
    loaded
}

fn load_next(pins: &Pins, kernel: Kernel, link: &Link, addresses: &Addresses) -> Result<Loaded> {
    for directory in [pins.next_tables(), pins.next_programs()] {
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut loader = EbpfLoader::new();
    for name in ["SERVED", "STRIPPINGS"] {
        loader.map_pin_path(name, pins.next_tables().join(name));
    }
    let mut object = loader.load(BACKEND_OBJECT).map_err(|error| describe_load(error.into()))?;
    let mut decapsulator = Decapsulator::from_directory(&pins.next_tables())?;
    decapsulator.set_addresses(addresses)?;

    let program = if kernel >= FRAGS_KERNEL { "weir_backend_frags" } else { "weir_backend" };
    load_program(&mut object, program)?.pin(pins.next_programs().join(pins::program_name(&link.name)))?;
    let entry = Interface { index: link.index, ..Interface::default() };
    let interface = Attachment { name: link.name.clone(), entry, xdp: link.xdp };
    Ok(Loaded { pins: pins.clone(), decapsulator, object, program, interface })
}

impl Loaded {
    /// Takes over from what ran before; an error leaves that running.
    pub fn attach(mut self, mode: Option<Mode>) -> Result<(Decapsulator, Mode)> {
        let (object, interface) = (slice::from_mut(&mut self.object), slice::from_ref(&self.interface));
        let modes = match attach_all(&self.pins, object, self.program, interface, mode) {
            Ok(modes) => modes,
            Err(error) => {
                let _ = self.pins.clear_next();
                return Err(error);
            }
        };
        self.pins.promote()?;
        detach_others(&self.pins, interface)?;
        Ok((self.decapsulator, *modes.first().context("attached to one interface")?))
    }

    /// Runs the program once on a frame. Returns the kernel's action (`XDP_*`) and the frame as it left.
    pub fn run(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let program: &Xdp = self.object.program(self.program).context("the program was loaded above")?.try_into()?;
        let mut out = vec![0; frame.len()];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = program.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    /// The tables.
    pub fn decapsulator(&self) -> &Decapsulator {
        &self.decapsulator
    }
}

/// Detaches and removes everything. Returns the interface it was attached to.
pub fn stop(pins: &Pins) -> Result<Vec<String>> {
    refuse_balancer(pins)?;
    let _lock = if pins.root().exists() { Some(pins.lock()?) } else { None };
    super::detach(pins)
}

fn refuse_balancer(pins: &Pins) -> Result<()> {
    ensure!(
        !pins.tables().join("LIVE").exists(),
        "{}: a balancer's tables are here: choose another place with --pins",
        pins.root().display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn tunnels_end_at_neither_vips_nor_loopback() {
        let local = set(&["127.0.0.1", "::1", "192.0.2.53", "10.0.0.21", "fd00::21"]);
        let addresses = Addresses::new(&set(&["192.0.2.53", "2001:db8::53"]), local);
        assert_eq!(addresses.ends, set(&["10.0.0.21", "fd00::21"]));
    }

    #[test]
    fn addresses_survive_their_keys() {
        let vips = set(&["192.0.2.53", "2001:db8::53", "::192.0.2.53"]);
        let addresses = Addresses { vips, ends: set(&["10.0.0.21", "fd00::21"]) };
        let mut read = Addresses::default();
        addresses.keys().for_each(|key| read.insert(key));
        assert_eq!(read, addresses);
    }
}
