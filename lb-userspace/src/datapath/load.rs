//! Loading the programs beside what runs, then attaching them: by a link update where a link is pinned, else by a new link.

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions, VerifierLogLevel,
    maps::MapError,
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use lb_common::abi::Interface;

use super::{
    Access, Datapath, Pins, link,
    objects::BALANCER_OBJECT,
    pins,
    requirements::{FRAGS_KERNEL, Kernel},
};
use crate::{links::Mode, plan::Tables};

/// An interface to attach to: its name and what goes into its entry.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The interface's name.
    pub name: String,
    /// Its entry in INTERFACES.
    pub entry: Interface,
    /// What is attached to it now.
    pub xdp: Option<crate::links::Xdp>,
}

/// Datapath events, as aya-log delivers them.
pub type Events = aya_log::EbpfLogger<&'static dyn log::Log>;

/// Programs and filled tables that no packet meets yet. Dropped, they vanish; attached, they take over.
pub struct Loaded {
    pins: Pins,
    datapath: Datapath,
    objects: Vec<Ebpf>,
    interfaces: Vec<Attachment>,
    program: &'static str,
    /// Instructions that the verifier processed for the balancer, if the kernel tells.
    pub verified_instructions: Option<u32>,
}

/// A datapath that has just been started.
pub struct Started {
    /// Its tables.
    pub datapath: Datapath,
    /// The mode on each interface, in the order given.
    pub modes: Vec<Mode>,
    /// What its programs log.
    pub events: Events,
}

/// Loads the programs, one copy for each interface, with `tables`. What runs already goes on untouched.
pub fn load(pins: &Pins, kernel: Kernel, tables: &Tables, interfaces: Vec<Attachment>) -> Result<Loaded> {
    ensure!(
        !pins.tables().join("SERVED").exists(),
        "{}: what `weir backend run` loaded is here: choose another place with --pins",
        pins.root().display()
    );
    pins.clear_next()?;
    let loaded = load_next(pins, kernel, tables, interfaces);
    if loaded.is_err() {
        // The error at hand matters more than one about leftovers, which the next start removes.
        let _ = pins.clear_next();
    }
    loaded
}

fn load_next(pins: &Pins, kernel: Kernel, tables: &Tables, interfaces: Vec<Attachment>) -> Result<Loaded> {
    for directory in [pins.next_tables(), pins.next_programs()] {
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let numbers = 0..interfaces.len() as u32;
    let mut objects = numbers.map(|number| load_object(pins, tables, number)).collect::<Result<Vec<_>>>()?;
    let datapath = Datapath::from_directory(pins, &pins.next_tables(), Access::Write)?;
    for (number, interface) in (0..).zip(&interfaces) {
        datapath.set_interface(number, interface.entry);
    }
    datapath.show(0, tables)?;

    let program = if kernel >= FRAGS_KERNEL { "weir_frags" } else { "weir" };
    let mut verified_instructions = None;
    for (object, interface) in objects.iter_mut().zip(&interfaces) {
        let loaded = load_program(object, program)?;
        verified_instructions = loaded.info()?.verified_instruction_count();
        loaded.pin(pins.next_programs().join(pins::program_name(&interface.name)))?;
    }
    if let Some(first) = objects.first_mut() {
        load_program(first, "weir_explain")?.pin(pins.next_programs().join(pins::EXPLAIN))?;
    }
    Ok(Loaded { pins: pins.clone(), datapath, objects, interfaces, program, verified_instructions })
}

impl Loaded {
    /// The tables, to complete them before the first packet meets them.
    pub fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    /// Takes over, interface by interface, from what ran before; an error leaves that running.
    pub fn attach(mut self, mode: Option<Mode>) -> Result<Started> {
        let modes = match attach_all(&self.pins, &mut self.objects, self.program, &self.interfaces, mode) {
            Ok(modes) => modes,
            Err(error) => {
                let _ = self.pins.clear_next();
                return Err(error);
            }
        };
        self.pins.promote()?;
        detach_others(&self.pins, &self.interfaces)?;
        let first = self.objects.first_mut().context("a configuration names an interface")?;
        let logger: &'static dyn log::Log = log::logger();
        Ok(Started { events: Events::init_with_logger(first, logger)?, datapath: self.datapath, modes })
    }

    /// Runs the balancer's program once on a frame, as the first interface's. Returns the kernel's action (`XDP_*`) and
    /// the frame as it left.
    pub fn run(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let first = self.objects.first_mut().context("a configuration names an interface")?;
        let program: &Xdp = first.program(self.program).context("the program was loaded above")?.try_into()?;
        let mut out = vec![0; frame.len() + 256];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = program.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }
}

/// The maps that all programs of an instance share, which therefore are pinned.
const SHARED: [&str; 11] = [
    "ACTIVE",
    "SETTINGS",
    "SERVICES",
    "RINGS",
    "BACKENDS",
    "INTERFACES",
    "DESCRIPTION",
    "VERDICTS",
    "VIP_COUNTS",
    "BACKEND_COUNTS",
    "AYA_LOGS",
];

fn load_object(pins: &Pins, tables: &Tables, interface: u32) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for name in SHARED {
        loader.map_pin_path(name, pins.next_tables().join(name));
    }
    loader
        .verifier_log_level(VerifierLogLevel::STATS)
        .map_max_entries("RINGS", tables.arena_pairs())
        .map_max_entries("DESCRIPTION", 2 * tables.description_pages()?)
        .override_global("INTERFACE", &interface, true);
    loader.load(BALANCER_OBJECT).map_err(|error| describe_load(error.into()))
}

/// Loads one program of an object.
pub(super) fn load_program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program: &mut Xdp =
        object.program_mut(name).ok_or_else(|| anyhow!("no program {name} in the object"))?.try_into()?;
    program.load().map_err(|error| describe_load(anyhow::Error::from(error).context(format!("program {name}"))))?;
    Ok(program)
}

/// Puts the reason for a load's failure into one sentence.
pub(super) fn describe_load(error: anyhow::Error) -> anyhow::Error {
    if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref::<ProgramError>() {
        let log = verifier_log.to_string();
        let last =
            log.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with("processed ")).unwrap_or("no log");
        return match io_error.raw_os_error() {
            Some(libc::EPERM) => {
                anyhow!("the kernel does not let this process load programs: run as root ({io_error})")
            }
            _ => anyhow!("the kernel's verifier refused the program ({io_error}): {}", last.trim()),
        };
    }
    if let Some(MapError::CreateError { name, io_error, .. }) = error.downcast_ref::<MapError>() {
        return anyhow!("the kernel did not make map {name}: {io_error}");
    }
    error
}

/// Attaches to all or to none: what was updated before a failure is set back.
pub(super) fn attach_all(
    pins: &Pins,
    objects: &mut [Ebpf],
    program: &str,
    interfaces: &[Attachment],
    mode: Option<Mode>,
) -> Result<Vec<Mode>> {
    let mut done: Vec<(&Attachment, Attached)> = Vec::new();
    for (object, interface) in objects.iter_mut().zip(interfaces) {
        let program: &mut Xdp = object.program_mut(program).context("the program was loaded above")?.try_into()?;
        match attach(pins, program, interface, mode) {
            Ok(attached) => done.push((interface, attached)),
            Err(error) => {
                for (interface, attached) in done {
                    if let Attached { link: None, .. } = attached
                        && let Err(error) = set_back(pins, interface)
                    {
                        tracing::error!("{}: {error:#}", interface.name);
                    }
                }
                return Err(error);
            }
        }
    }
    let mut modes = Vec::new();
    for (interface, attached) in done {
        if let Some(link) = attached.link {
            let path = pins.link(&interface.name);
            link.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
        }
        modes.push(attached.mode);
    }
    Ok(modes)
}

/// Detaches from interfaces that no longer are among those wanted.
pub(super) fn detach_others(pins: &Pins, wanted: &[Attachment]) -> Result<()> {
    let gone = |linked: &String| wanted.iter().all(|interface| interface.name != *linked);
    for linked in pins.linked().into_iter().filter(gone) {
        link::detach(&pins.link(&linked))?;
    }
    Ok(())
}

struct Attached {
    mode: Mode,
    /// A new link, to be pinned; none if a pinned one was updated.
    link: Option<FdLink>,
}

fn attach(pins: &Pins, program: &mut Xdp, interface: &Attachment, mode: Option<Mode>) -> Result<Attached> {
    let name = &interface.name;
    if let Some(link) = pinned_link(pins, interface)? {
        let running = interface.xdp.map(|xdp| xdp.mode).unwrap_or(Mode::Native);
        if mode.is_none_or(|wanted| wanted == running) {
            let id = program
                .attach_to_link(link)
                .with_context(|| format!("interface {name:?}: cannot replace the program"))?;
            // Dropping the link is no harm: it is pinned.
            drop(program.take_link(id)?);
            return Ok(Attached { mode: running, link: None });
        }
        drop(link);
        link::detach(&pins.link(name))?;
    }
    let modes = match mode {
        Some(Mode::Native) => &[Mode::Native][..],
        Some(Mode::Generic) => &[Mode::Generic],
        None => &[Mode::Native, Mode::Generic],
    };
    let mut last = None;
    for mode in modes {
        let flags = if *mode == Mode::Native { XdpMode::Driver } else { XdpMode::Skb };
        match program.attach_to_if_index(interface.entry.index, flags) {
            Ok(id) => {
                let link = program.take_link(id)?;
                let link = FdLink::try_from(link).map_err(|_| {
                    anyhow!("interface {name:?}: this kernel has no links for XDP programs (5.9 and newer have)")
                })?;
                return Ok(Attached { mode: *mode, link: Some(link) });
            }
            Err(error) => {
                if let Some(holder) = occupied(&error, interface) {
                    bail!(
                        "interface {name:?}: its XDP hook is taken by {holder}: detach that first (ip link set dev {name} xdp off, \
                         or weir detach if it is another instance of weir)"
                    );
                }
                last = Some(error);
            }
        }
    }
    let error = last.map(anyhow::Error::from).unwrap_or_else(|| anyhow!("no mode to try"));
    Err(error.context(format!("interface {name:?}: the kernel did not attach the program (try --mode generic)")))
}

/// The link that an earlier start pinned, if its interface is still the same.
fn pinned_link(pins: &Pins, interface: &Attachment) -> Result<Option<XdpLink>> {
    let path = pins.link(&interface.name);
    if !path.exists() {
        return Ok(None);
    }
    let pinned = PinnedLink::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    if interface.xdp.is_none() {
        // The interface was deleted and made again: the link leads nowhere.
        link::detach(&path)?;
        return Ok(None);
    }
    Ok(Some(link))
}

/// Puts the program that ran before back behind its link.
fn set_back(pins: &Pins, interface: &Attachment) -> Result<()> {
    let path = pins.programs().join(pins::program_name(&interface.name));
    let mut program = Xdp::from_pin(&path, aya_obj::programs::XdpAttachType::Interface)?;
    let link = pinned_link(pins, interface)?.context("its link is gone")?;
    let id = program.attach_to_link(link)?;
    drop(program.take_link(id)?);
    Ok(())
}

/// Who holds the hook, if that is why attaching failed.
fn occupied(error: &ProgramError, interface: &Attachment) -> Option<String> {
    let ProgramError::SyscallError(error) = error else { return None };
    if !matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) {
        return None;
    }
    let id = interface.xdp.map(|xdp| xdp.program);
    let name = id.and_then(|id| {
        aya::programs::loaded_programs().flatten().find(|program| program.id() == id)?.name_as_str().map(str::to_owned)
    });
    Some(match (id, name) {
        (Some(id), Some(name)) => format!("program {name:?} (id {id})"),
        (Some(id), None) => format!("program id {id}"),
        _ => "another program".into(),
    })
}
