//! Attaching to all interfaces or to none: in the place of what an earlier start left pinned where there is something, and back
//! to that if it fails.

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::{
    Ebpf,
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};

use super::{Attachment, Pins, link, pins};
use crate::links::Mode;

/// Attaches each object's program to its interface and pins the links. On a failure every interface runs what it ran before.
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
                    if let Err(error) = undo(pins, interface, attached) {
                        tracing::error!("interface {}: cannot go back to what ran before: {error:#}", interface.name);
                    }
                }
                return Err(error);
            }
        }
    }
    let mut modes = Vec::new();
    for (interface, attached) in done {
        if let Some(link) = attached.link {
            pin(pins, interface, link)?;
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

/// What attaching did on an interface.
struct Attached {
    mode: Mode,
    /// The mode of the program that ran before.
    before: Option<Mode>,
    /// A new link, to be pinned; none if a pinned one was updated.
    link: Option<FdLink>,
}

fn attach(pins: &Pins, program: &mut Xdp, interface: &Attachment, mode: Option<Mode>) -> Result<Attached> {
    let Some(link) = pinned_link(pins, interface)? else {
        let (mode, link) = attach_new(pins, program, interface, mode)?;
        return Ok(Attached { mode, before: None, link: Some(link) });
    };
    let running = interface.xdp.map_or(Mode::Native, |xdp| xdp.mode);
    if mode.is_none_or(|wanted| wanted == running) {
        update(program, link).with_context(|| format!("interface {:?}: cannot replace the program", interface.name))?;
        return Ok(Attached { mode: running, before: Some(running), link: None });
    }
    // A link keeps its mode, and an interface takes one program: the old must go first.
    drop(link);
    link::detach(&pins.link(&interface.name))?;
    match attach_new(pins, program, interface, mode) {
        Ok((mode, link)) => Ok(Attached { mode, before: Some(running), link: Some(link) }),
        Err(error) => {
            if let Err(error) = reattach(pins, interface, running) {
                tracing::error!("interface {}: cannot go back to what ran before: {error:#}", interface.name);
            }
            Err(error)
        }
    }
}

/// Attaches the pinned program again to an interface that it was on: one that was made anew, or that somebody took it from.
pub fn attach_again(pins: &Pins, interface: &Attachment, mode: Option<Mode>) -> Result<Mode> {
    let path = pins.link(&interface.name);
    if path.exists() {
        link::detach(&path)?;
    }
    let (mode, link) = attach_new(pins, &mut old_program(pins, interface)?, interface, mode)?;
    pin(pins, interface, link)?;
    Ok(mode)
}

/// Puts back what ran before, if anything did.
fn undo(pins: &Pins, interface: &Attachment, attached: Attached) -> Result<()> {
    let Attached { before, link, .. } = attached;
    match (before, link) {
        // Closing the only descriptor of a link that is not pinned detaches it.
        (None, link) => drop(link),
        (Some(_), None) => {
            let link = pinned_link(pins, interface)?.context("its link is gone")?;
            update(&mut old_program(pins, interface)?, link)?;
        }
        (Some(mode), Some(link)) => {
            drop(link);
            reattach(pins, interface, mode)?;
        }
    }
    Ok(())
}

/// The program that the last start that succeeded left pinned.
fn old_program(pins: &Pins, interface: &Attachment) -> Result<Xdp> {
    let path = pins.programs().join(pins::program_name(&interface.name));
    Ok(Xdp::from_pin(&path, aya_obj::programs::XdpAttachType::Interface)?)
}

fn reattach(pins: &Pins, interface: &Attachment, mode: Mode) -> Result<()> {
    let (_, link) = attach_new(pins, &mut old_program(pins, interface)?, interface, Some(mode))?;
    pin(pins, interface, link)
}

fn pin(pins: &Pins, interface: &Attachment, link: FdLink) -> Result<()> {
    let path = pins.link(&interface.name);
    link.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
    Ok(())
}

/// Replaces the program behind a link.
fn update(program: &mut Xdp, link: XdpLink) -> Result<()> {
    let id = program.attach_to_link(link)?;
    // Dropping the link is no harm: it is pinned.
    drop(program.take_link(id)?);
    Ok(())
}

/// Attaches by a new link: in the mode asked for, or natively and, where that does not work, generically.
fn attach_new(pins: &Pins, program: &mut Xdp, interface: &Attachment, mode: Option<Mode>) -> Result<(Mode, FdLink)> {
    let name = &interface.name;
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
                if let Some(error) = last {
                    tracing::warn!("interface {name}: no native mode: {:#}", anyhow::Error::from(error));
                }
                return Ok((*mode, link));
            }
            Err(error) => {
                if let Some(holder) = occupied(pins, &error, interface) {
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

/// The link that an earlier start pinned, if its interface is still there.
fn pinned_link(pins: &Pins, interface: &Attachment) -> Result<Option<XdpLink>> {
    let path = pins.link(&interface.name);
    if !path.exists() {
        return Ok(None);
    }
    let index = link::info(&path)?.interface;
    if index == 0 {
        // The interface was deleted, and perhaps made again: the link leads nowhere.
        link::detach(&path)?;
        return Ok(None);
    }
    ensure!(
        index == interface.entry.index && interface.xdp.is_some(),
        "{}: leads to another interface (index {index}), renamed or in another network namespace: weir detach there, or \
         give this instance pins of its own with --pins",
        path.display()
    );
    let pinned = PinnedLink::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(Some(link))
}

/// Who holds the hook, if that is why attaching failed.
fn occupied(pins: &Pins, error: &ProgramError, interface: &Attachment) -> Option<String> {
    let ProgramError::SyscallError(error) = error else { return None };
    if !matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) {
        return None;
    }
    let id = interface.xdp.map(|xdp| xdp.program);
    let name = id.and_then(|id| {
        aya::programs::loaded_programs().flatten().find(|program| program.id() == id)?.name_as_str().map(str::to_owned)
    });
    let instance = id.and_then(|id| instance(pins, &interface.name, id)).unwrap_or_default();
    Some(match (id, name) {
        (Some(id), Some(name)) => format!("program {name:?} (id {id}){instance}"),
        (Some(id), None) => format!("program id {id}"),
        _ => "another program".into(),
    })
}

/// The weir whose program that is, if its pins lie beside ours or in the usual place.
fn instance(pins: &Pins, interface: &str, program: u32) -> Option<String> {
    let beside = pins.root().parent().and_then(|parent| std::fs::read_dir(parent).ok());
    let roots = beside.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all = roots.chain([pins::DEFAULT.into()]).map(Pins::new);
    let holder = all.find(|other| other.program_of(interface) == Some(program))?;
    let agent = holder.holder().map_or("no agent".to_owned(), |pid| format!("pid {pid}"));
    Some(format!(" of the weir at {} ({agent})", holder.root().display()))
}
