//! Loading the programs beside what runs, then attaching them: by a link update where a link is pinned, else by a new link.

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::MapError,
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use lb_common::abi::Interface;

use super::{Access, Datapath, Pins, objects::BALANCER_OBJECT, requirements::{FRAGS_KERNEL, Kernel}};
use crate::plan::Tables;

/// How the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack, on any driver, much slower.
    Generic,
}

/// An interface to attach to: its name and what goes into its entry.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The interface's name.
    pub name: String,
    /// Its entry in INTERFACES.
    pub entry: Interface,
}

/// Datapath events, as aya-log delivers them.
pub type Events = aya_log::EbpfLogger<&'static dyn log::Log>;

/// A datapath that has just been started.
pub struct Started {
    /// Its tables.
    pub datapath: Datapath,
    /// The mode on each interface, in the order given.
    pub modes: Vec<Mode>,
    /// What its programs log.
    pub events: Option<Events>,
    /// Instructions that the verifier processed, if the kernel tells.
    pub verified_instructions: Option<u32>,
}

/// Loads the programs with `tables` and attaches them to `interfaces`. What ran before goes on until the new programs
/// take over, interface by interface; an error leaves it running.
///
/// `prepare` is called on the filled tables before the first packet meets them.
pub fn start(
    pins: &Pins,
    kernel: Kernel,
    tables: &Tables,
    interfaces: &[Attachment],
    mode: Option<Mode>,
    prepare: impl FnOnce(&Datapath),
) -> Result<Started> {
    pins.clear_next()?;
    let result = load_and_attach(pins, kernel, tables, interfaces, mode, prepare);
    if result.is_err() {
        // The error at hand matters more than one about leftovers, which the next start removes.
        let _ = pins.clear_next();
    }
    result
}

fn load_and_attach(
    pins: &Pins,
    kernel: Kernel,
    tables: &Tables,
    interfaces: &[Attachment],
    mode: Option<Mode>,
    prepare: impl FnOnce(&Datapath),
) -> Result<Started> {
    for directory in [pins.next_tables(), pins.next_programs()] {
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut objects = Vec::new();
    for number in 0..interfaces.len() {
        objects.push(load_object(pins, tables, number as u32)?);
    }
    let datapath = Datapath::from_directory(pins, &pins.next_tables(), Access::Write)?;
    for (number, interface) in interfaces.iter().enumerate() {
        datapath.set_interface(number as u32, interface.entry);
    }
    datapath.show(0, tables)?;
    prepare(&datapath);

    let name = if kernel >= FRAGS_KERNEL { "weir_frags" } else { "weir" };
    let mut verified_instructions = None;
    for (object, interface) in objects.iter_mut().zip(interfaces) {
        let program = load_program(object, name)?;
        verified_instructions = program.info()?.verified_instruction_count();
        program.pin(pins.next_programs().join(&interface.name))?;
    }
    if let Some(first) = objects.first_mut() {
        load_program(first, "weir_explain")?.pin(pins.next_programs().join("explain"))?;
    }

    let modes = attach_all(pins, &mut objects, name, interfaces, mode)?;
    pins.promote()?;
    for gone in pins.linked().into_iter().filter(|linked| interfaces.iter().all(|i| i.name != *linked)) {
        std::fs::remove_file(pins.link(&gone)).with_context(|| format!("cannot detach from {gone}"))?;
    }
    let logger: &'static dyn log::Log = log::logger();
    let events = objects.first_mut().map(|object| Events::init_with_logger(object, logger)).transpose()?;
    Ok(Started { datapath, modes, events, verified_instructions })
}

/// The maps that all programs of an instance share, which therefore are pinned.
const SHARED: [&str; 11] = [
    "ACTIVE", "SETTINGS", "SERVICES", "RINGS", "BACKENDS", "INTERFACES", "DESCRIPTION", "VERDICTS", "VIP_COUNTS",
    "BACKEND_COUNTS", "AYA_LOGS",
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

fn load_program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program: &mut Xdp = object.program_mut(name).ok_or_else(|| anyhow!("no program {name} in the object"))?.try_into()?;
    program.load().map_err(|error| describe_load(anyhow::Error::from(error).context(format!("program {name}"))))?;
    Ok(program)
}

/// Puts the reason for a load's failure into one sentence.
fn describe_load(error: anyhow::Error) -> anyhow::Error {
    if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref::<ProgramError>() {
        let log = verifier_log.to_string();
        let last = log.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with("processed ")).unwrap_or("no log");
        return match io_error.raw_os_error() {
            Some(libc::EPERM) => anyhow!("the kernel does not let this process load programs: run as root ({io_error})"),
            _ => anyhow!("the kernel's verifier refused the program ({io_error}): {}", last.trim()),
        };
    }
    if let Some(MapError::CreateError { name, io_error, .. }) = error.downcast_ref::<MapError>() {
        return anyhow!("the kernel did not make map {name}: {io_error}");
    }
    error
}

/// Attaches to all or to none: what was updated before a failure is set back.
fn attach_all(
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

struct Attached {
    mode: Mode,
    /// A new link, to be pinned; none if a pinned one was updated.
    link: Option<FdLink>,
}

fn attach(pins: &Pins, program: &mut Xdp, interface: &Attachment, mode: Option<Mode>) -> Result<Attached> {
    let name = &interface.name;
    if let Some(link) = pinned_link(pins, interface)? {
        let running = crate::links::xdp_mode(interface.entry.index)?.unwrap_or(Mode::Native);
        if mode.is_none_or(|wanted| wanted == running) {
            let id = program.attach_to_link(link).with_context(|| format!("interface {name:?}: cannot replace the program"))?;
            // Dropping the link is no harm: it is pinned.
            drop(program.take_link(id)?);
            return Ok(Attached { mode: running, link: None });
        }
        drop(link);
        std::fs::remove_file(pins.link(name)).with_context(|| format!("interface {name:?}: cannot detach"))?;
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
                let link = FdLink::try_from(link)
                    .map_err(|_| anyhow!("interface {name:?}: this kernel has no links for XDP programs (5.9 and newer have)"))?;
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
    if crate::links::xdp_mode(interface.entry.index)?.is_none() {
        // The interface was deleted and made again: the link leads nowhere.
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        return Ok(None);
    }
    Ok(Some(link))
}

/// Puts the program that ran before back behind its link.
fn set_back(pins: &Pins, interface: &Attachment) -> Result<()> {
    let path = pins.programs().join(&interface.name);
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
    let id = crate::links::xdp_program(interface.entry.index).ok().flatten();
    let name = id.and_then(|id| {
        aya::programs::loaded_programs().flatten().find(|program| program.id() == id)?.name_as_str().map(str::to_owned)
    });
    Some(match (id, name) {
        (Some(id), Some(name)) => format!("program {name:?} (id {id})"),
        (Some(id), None) => format!("program id {id}"),
        _ => "another program".into(),
    })
}
