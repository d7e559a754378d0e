//! The program that sends checks to their backends: on the way out of one interface, as a tc filter, which outlives the agent as
//! links of XDP do. What is pinned in `steering` tells where it is.

use std::{fs, io, path::PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use aya::{
    EbpfLoader,
    programs::{
        ProgramError, SchedClassifier, TcAttachType,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
    },
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcMessage},
};

use super::{Pins, load::describe_load, objects::STEERING_OBJECT, pins};
use crate::{links, netlink::Requests};

/// The filter's place among those on the same way out: early, since one that accepts a packet ends its way.
const PRIORITY: u16 = 7;
/// The filter's number there, by which it is found again.
const HANDLE: TcHandle = TcHandle::new(0, 0x7765);
/// clsact, whose number and parent are always these.
const CLSACT: netlink_packet_route::tc::TcHandle = netlink_packet_route::tc::TcHandle { major: 0xffff, minor: 0 };
const CLSACT_PARENT: netlink_packet_route::tc::TcHandle =
    netlink_packet_route::tc::TcHandle { major: 0xffff, minor: 0xfff1 };
/// Its two ways.
const INGRESS: u16 = 0xfff2;
const EGRESS: u16 = 0xfff3;

/// Attaches the program for the tables in use to one interface, in the place of an earlier one, and takes it from all others.
pub fn attach(pins: &Pins, interface: &str) -> Result<()> {
    let live = pins.tables().join("LIVE");
    ensure!(live.exists(), "{}: nothing is loaded here", pins.root().display());
    let mut loader = EbpfLoader::new();
    loader.map_pin_path("LIVE", live);
    let mut object = loader.load(STEERING_OBJECT).map_err(|error| describe_load(error.into()))?;
    let program: &mut SchedClassifier =
        object.program_mut("weir_steer").context("no program weir_steer in the object")?.try_into()?;
    program.load().map_err(|error| describe_load(anyhow::Error::from(error).context("program weir_steer")))?;
    fs::create_dir_all(pins.steering()).with_context(|| format!("cannot make {}", pins.steering().display()))?;
    let fault = || format!("interface {interface}: the kernel did not attach the program that steers checks");
    if add_clsact(interface).with_context(fault)? {
        pin_anew(program, clsact_pin(pins, interface))?;
    }
    // The pin comes first: what may be attached is known to whoever has to take it away.
    pin_anew(program, program_pin(pins, interface))?;
    replace(program, interface).with_context(fault)?;
    for other in steered(pins).into_iter().filter(|other| other != interface) {
        detach_from(pins, &other)?;
    }
    Ok(())
}

/// Takes program and routes away, if this instance has any.
pub fn end(pins: &Pins) -> Result<()> {
    if !pins.steering().exists() {
        return Ok(());
    }
    // The pins last: as long as they are there, it is seen that something is to be done.
    crate::steering::tear_down()?;
    for interface in steered(pins) {
        detach_from(pins, &interface)?;
    }
    match fs::remove_dir(pins.steering()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", pins.steering().display()))
        }
        _ => Ok(()),
    }
}

/// The interfaces that may have the program.
pub fn steered(pins: &Pins) -> Vec<String> {
    let entries = fs::read_dir(pins.steering()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| pins::program_interface(&entry.file_name().to_string_lossy()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn program_pin(pins: &Pins, interface: &str) -> PathBuf {
    pins.steering().join(pins::program_name(interface))
}

/// Says that the queueing discipline there is weir's.
fn clsact_pin(pins: &Pins, interface: &str) -> PathBuf {
    pins.steering().join(pins::clsact_name(interface))
}

fn pin_anew(program: &mut SchedClassifier, path: PathBuf) -> Result<()> {
    remove(&path)?;
    program.pin(&path).with_context(|| format!("cannot pin {}", path.display()))
}

fn remove(path: &std::path::Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whether clsact is new there.
fn add_clsact(interface: &str) -> Result<bool> {
    match qdisc_add_clsact(interface) {
        Ok(()) => Ok(true),
        Err(error) if os_error(&error) == Some(libc::EEXIST) => {
            // The older `ingress` has its place, and would take a filter for the way out as one for the way in.
            ensure!(
                has_clsact(interface)?,
                "a qdisc is where clsact would be (tc qdisc del dev {interface} ingress, or check = {{ via = \"backend\" }})"
            );
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn has_clsact(interface: &str) -> Result<bool> {
    let index = links::find(interface)?.index as i32;
    let clsact = TcAttribute::Kind("clsact".to_owned());
    let answers = Requests::open()?.dump(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(index)))?;
    Ok(answers.into_iter().any(|answer| match answer {
        RouteNetlinkMessage::NewQueueDiscipline(found) => {
            found.header.index == index && found.attributes.contains(&clsact)
        }
        _ => false,
    }))
}

/// Puts the program in the place of an earlier one by one change, or where none is.
fn replace(program: &mut SchedClassifier, interface: &str) -> Result<()> {
    let earlier = SchedClassifierLink::attached(interface, TcAttachType::Egress, PRIORITY, HANDLE, None)?;
    let id = match program.attach_to_link(earlier) {
        Err(ProgramError::TcError(error)) if os_error(&error) == Some(libc::ENOENT) => {
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            program.attach_with_options(interface, TcAttachType::Egress, TcAttachOptions::Netlink(options))?
        }
        attached => attached?,
    };
    // Dropped, it would detach.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

fn os_error(error: &TcError) -> Option<i32> {
    match error {
        TcError::NetlinkError(error) => error.raw_os_error(),
        TcError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}

/// Removes filter and pins of one interface, and clsact if it is weir's and nobody else has a filter there.
fn detach_from(pins: &Pins, interface: &str) -> Result<()> {
    let made = clsact_pin(pins, interface);
    // An interface that is gone has taken both along.
    if links::list()?.iter().any(|link| link.name == interface) {
        let fault = || format!("interface {interface}: cannot take away the program that steers checks");
        let link = SchedClassifierLink::attached(interface, TcAttachType::Egress, PRIORITY, HANDLE, None)?;
        aya::programs::links::Link::detach(link).or_else(absent).with_context(fault)?;
        if made.exists() {
            remove_clsact(interface).with_context(fault)?;
        }
    }
    remove(&made)?;
    remove(&program_pin(pins, interface))
}

fn absent(error: ProgramError) -> Result<()> {
    let number = match &error {
        ProgramError::TcError(error) => os_error(error),
        ProgramError::NetlinkError(error) => error.raw_os_error(),
        _ => None,
    };
    // EINVAL: there is no clsact.
    if matches!(number, Some(libc::ENOENT | libc::EINVAL)) { Ok(()) } else { Err(anyhow!(error)) }
}

fn remove_clsact(interface: &str) -> Result<()> {
    let index = links::find(interface)?.index;
    let mut requests = Requests::open()?;
    for way in [INGRESS, EGRESS] {
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent.major = CLSACT.major;
        message.header.parent.minor = way;
        if !requests.dump(RouteNetlinkMessage::GetTrafficFilter(message))?.is_empty() {
            return Ok(());
        }
    }
    let mut message = TcMessage::with_index(index as i32);
    message.header.handle = CLSACT;
    message.header.parent = CLSACT_PARENT;
    message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    requests.change(RouteNetlinkMessage::DelQueueDiscipline(message), 0)?;
    Ok(())
}
