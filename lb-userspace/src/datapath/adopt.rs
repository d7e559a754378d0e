//! What an earlier start has left running: whether a new agent can go on with it as it is.

use anyhow::{Result, bail, ensure};
use aya::programs::Xdp;
use lb_common::abi::ABI_VERSION;

use super::{Access, Attachment, Datapath, Events, Pins, link, load, objects, open_map, pins};
use crate::{links::Mode, plan::Description};

/// What there is.
pub enum Found {
    /// Nothing to go on with.
    Nothing,
    /// Programs and tables as this weir would make them.
    Same(Box<Adopted>),
    /// Something else, and what is different about it: it runs until its place is taken.
    Other(String),
}

/// Programs that go on running, and their tables.
pub struct Adopted {
    /// The tables, to be written.
    pub datapath: Datapath,
    /// What they hold.
    pub description: Description,
    /// The mode on each interface, in the order given.
    pub modes: Vec<Mode>,
    /// What the programs log.
    pub events: Events,
}

/// Looks at what is pinned. What a newer weir made is an error: nothing of it may be touched.
pub fn find(pins: &Pins, interfaces: &[Attachment], mode: Option<Mode>) -> Result<Found> {
    finish_promotion(pins, interfaces)?;
    if !pins.tables().join("LIVE").exists() {
        return Ok(Found::Nothing);
    }
    let version = Datapath::head(pins)?.get(0).active.version;
    if version > ABI_VERSION {
        bail!(
            "{}: tables of layout {version}, made by a newer weir, this one knows layout {ABI_VERSION}: nothing was changed: run \
             that weir, or end forwarding first (weir detach)",
            pins.root().display()
        );
    }
    if version < ABI_VERSION {
        return Ok(Found::Other(format!("tables of layout {version}, now it is {ABI_VERSION}")));
    }
    Ok(adopt(pins, interfaces, mode).map_or_else(|error| Found::Other(format!("{error:#}")), Found::Same))
}

/// An error says what is different.
fn adopt(pins: &Pins, interfaces: &[Attachment], mode: Option<Mode>) -> Result<Box<Adopted>> {
    let datapath = Datapath::open(pins, Access::Write)?;
    ensure!(datapath.programs() == objects::programs(), "programs of another build");
    ensure!(datapath.counts.entries() == load::counts()?, "counters for another number of CPUs");
    let description = datapath.description()?;
    let names = interfaces.iter().map(|interface| &interface.name);
    ensure!(names.eq(&description.interfaces), "other interfaces ({})", description.interfaces.join(", "));
    let mut modes = Vec::new();
    for (interface, entry) in interfaces.iter().zip(datapath.interfaces()) {
        ensure!(entry.index == interface.entry.index, "interface {} is another one now", interface.name);
        modes.push(runs_on(pins, interface, mode)?);
    }
    let events = load::events(&pins.tables())?;
    Ok(Box::new(Adopted { datapath, description, modes, events }))
}

/// How the pinned program runs on an interface; an error unless it does.
fn runs_on(pins: &Pins, interface: &Attachment, mode: Option<Mode>) -> Result<Mode> {
    let name = &interface.name;
    let Some(xdp) = interface.xdp else { bail!("interface {name} has no program") };
    let info = link::info(&pins.link(name))?;
    let program = program_id(&pins.programs().join(pins::program_name(name)))?;
    ensure!(info.interface == interface.entry.index, "interface {name} has another link");
    ensure!(info.program == program && xdp.program == program, "interface {name} has another program");
    ensure!(mode.is_none_or(|mode| mode == xdp.mode), "interface {name} runs in another mode");
    Ok(xdp.mode)
}

/// A start that was killed between taking over and putting its pins in their place: what runs is pinned beside. That is made up
/// for, so that nobody takes the tables that packets no longer meet for those that they do.
fn finish_promotion(pins: &Pins, interfaces: &[Attachment]) -> Result<()> {
    let runs_next = |interface: &Attachment| {
        let next = program_id(&pins.next_programs().join(pins::program_name(&interface.name)));
        let runs = link::info(&pins.link(&interface.name));
        matches!((next, runs), (Ok(next), Ok(runs)) if next == runs.program)
    };
    if pins.next_programs().exists() && !interfaces.is_empty() && interfaces.iter().all(runs_next) {
        tracing::warn!("a start was interrupted after it had taken over: its tables are those in use");
        pins.promote()?;
    }
    Ok(())
}

fn program_id(pin: &std::path::Path) -> Result<u32> {
    Ok(Xdp::from_pin(pin, aya_obj::programs::XdpAttachType::Interface)?.info()?.id())
}

impl Pins {
    /// The kernel's number of the program that belongs on an interface, if one is pinned.
    pub fn program_of(&self, interface: &str) -> Option<u32> {
        program_id(&self.programs().join(pins::program_name(interface))).ok()
    }

    /// Whether the pinned link holds that program on an interface.
    pub fn hold(&self, interface: &str, index: u32) -> bool {
        let info = link::info(&self.link(interface)).ok();
        // That of a link whose interface is gone is 0.
        info.is_some_and(|info| {
            index != 0 && info.interface == index && Some(info.program) == self.program_of(interface)
        })
    }

    /// Whether VIPs were announced by what is pinned; none if that cannot be known.
    pub fn announced(&self) -> Option<bool> {
        let head = Datapath::head(self).ok()?.get(0);
        let known = head.active.version >= lb_common::abi::COUNTS_SINCE;
        known.then(|| head.interfaces.iter().any(|entry| entry.index != 0 && entry.announce != 0))
    }

    /// Counters of tables that are about to be replaced, with their names; none where they mean something else.
    pub fn counted(&self) -> Option<super::carry::Counted> {
        let version = Datapath::head(self).ok()?.get(0).active.version;
        let known = (lb_common::abi::COUNTS_SINCE..=ABI_VERSION).contains(&version);
        known.then(|| super::carry::Counted::open(|name| open_map(&self.tables(), name)).ok())?
    }
}
