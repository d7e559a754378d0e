//! Loading the programs beside what runs, then attaching them: by a link update where a link is pinned, else by a new link.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions, VerifierLogLevel,
    maps::{MapData, MapError, ProgramArray},
    programs::{ProgramError, Xdp},
    util::nr_cpus,
};
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_map_type};
use lb_common::abi::{Explanation, Interface, Live};

use super::{
    Access, Datapath, Pins,
    attach::{attach_all, detach_others},
    objects::{self, BALANCER_OBJECT},
    pins,
    requirements::{FRAGS_KERNEL, Kernel},
    run_explain, syn,
};
use crate::{links::Mode, plan::Tables};

/// An interface to attach to: its name and what goes into its entry.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The interface's name.
    pub name: String,
    /// Its entry in the interfaces' table.
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
    /// Instructions that the verifier processed for the larger of the balancer's two programs, if the kernel tells.
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
    create_live(&pins.next_tables())?;
    let sizes = Sizes::of(tables)?;
    let numbers = 0..interfaces.len() as u32;
    let mut objects = numbers
        .zip(&interfaces)
        .map(|(number, interface)| load_object(pins, &sizes, number, &interface.name))
        .collect::<Result<Vec<_>>>()?;
    let datapath = Datapath::from_directory(pins, &pins.next_tables(), Access::Write)?;
    for (number, interface) in (0..).zip(&interfaces) {
        datapath.set_interface(number, interface.entry);
    }
    datapath.set_programs(objects::programs());
    let beside = datapath.write(tables, &[])?;
    datapath.show(beside);

    let program = if kernel >= FRAGS_KERNEL { "weir_frags" } else { "weir" };
    let mut verified_instructions = None;
    for (object, interface) in objects.iter_mut().zip(&interfaces) {
        let any = load_program(object, &format!("{}{}", ANY, program.trim_start_matches("weir")))?;
        let any_instructions = any.info()?.verified_instruction_count();
        let any = any.fd()?.try_clone()?;
        let mut paths = ProgramArray::try_from(object.take_map("PATHS").context("no map PATHS in the object")?)?;
        paths.set(0, &any, 0)?;
        let sample = load_program(object, &format!("{}{}", SAMPLE, program.trim_start_matches("weir")))?;
        paths.set(1, &sample.fd()?.try_clone()?, 0)?;
        let loaded = load_program(object, program)?;
        verified_instructions = loaded.info()?.verified_instruction_count().max(any_instructions);
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

    /// The balancer's program of the first interface, to run on frames before anything is attached.
    pub fn program(&self) -> Result<&Xdp> {
        self.named(self.program)
    }

    /// Runs that program once on a frame. Returns the kernel's action (`XDP_*`) and the frame as it left.
    pub fn run(&self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; frame.len() + 256];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.program()?.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    /// What [`Datapath::explain`] would say once this has taken over.
    pub fn explain(&self, frame: &[u8]) -> Result<(Explanation, Vec<u8>)> {
        run_explain(self.named("weir_explain")?, frame)
    }

    fn named(&self, name: &str) -> Result<&Xdp> {
        let first = self.objects.first().context("a configuration names an interface")?;
        Ok(first.program(name).context("the program was loaded above")?.try_into()?)
    }
}

/// The beginning of the names of programs for packets that are not plain.
const ANY: &str = "weir_any";
/// The beginning of the names of programs that sample.
const SAMPLE: &str = "weir_sample";

/// The maps that all programs of an instance share, which therefore are pinned.
const SHARED: [&str; 13] = [
    "RINGS",
    "SECONDS",
    "DESCRIPTION",
    "COUNTS",
    "FRAGMENTS",
    "ANSWERS",
    "SYN_STATES",
    "SYN_SEEN",
    "ALLOWED",
    "EVENTS",
    "CAPTURE",
    "SAMPLER",
    "AYA_LOGS",
];

/// LIVE, where it is pinned.
const LIVE: &str = "LIVE";
/// The section that its variable has to itself in the object; aya calls the map of it so.
const LIVE_SECTION: &str = ".bss.live";

/// Makes LIVE, which the agent maps: for the variables of an object aya makes maps that cannot be.
fn create_live(directory: &Path) -> Result<()> {
    let array = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    let (key, value) = (size_of::<u32>() as u32, size_of::<Live>() as u32);
    let live = MapData::create(aya_obj::Map::new_from_params(array, key, value, 1, BPF_F_MMAPABLE), LIVE, None)
        .map_err(|error| describe_load(error.into()))?;
    let path = directory.join(LIVE);
    live.pin(&path).with_context(|| format!("cannot pin {}", path.display()))
}

/// How many elements maps get.
struct Sizes {
    rings: u32,
    description: u32,
    counts: u32,
}

impl Sizes {
    fn of(tables: &Tables) -> Result<Self> {
        Ok(Sizes { rings: tables.arena_elements(), description: 2 * tables.description_pages()?, counts: counts()? })
    }
}

/// Elements of COUNTS: one a CPU, and one for what tables before these had counted, which no CPU counts in.
pub(super) fn counts() -> Result<u32> {
    let cpus = nr_cpus().map_err(|(what, error)| anyhow!("cannot count the CPUs: {what}: {error}"))?;
    Ok(cpus as u32 + 1)
}

fn load_object(pins: &Pins, sizes: &Sizes, number: u32, interface: &str) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    let tick = syn::tick_ns()?;
    share(&mut loader, &pins.next_tables());
    // Loading fills it with zeros, so it is shared only by those that are loaded before it is written.
    loader.map_pin_path(LIVE_SECTION, pins.next_tables().join(LIVE));
    // The kernel empties an array of programs when nobody holds it any more.
    loader.map_pin_path("PATHS", pins.next_programs().join(pins::paths_name(interface)));
    loader
        .verifier_log_level(VerifierLogLevel::STATS)
        .map_max_entries("RINGS", sizes.rings)
        .map_max_entries("SECONDS", sizes.rings)
        .map_max_entries("COUNTS", sizes.counts)
        .map_max_entries("SYN_SEEN", sizes.counts)
        .map_max_entries("DESCRIPTION", sizes.description)
        .override_global("INTERFACE", &number, true)
        .override_global("TICK_NS", &tick, true);
    loader.load(BALANCER_OBJECT).map_err(|error| describe_load(error.into()))
}

fn share(loader: &mut EbpfLoader, directory: &Path) {
    for name in SHARED {
        loader.map_pin_path(name, directory.join(name));
    }
}

/// What the programs log that write into these tables.
pub(super) fn events(directory: &Path) -> Result<Events> {
    let mut loader = EbpfLoader::new();
    // All but LIVE, which loading would fill with zeros.
    share(&mut loader, directory);
    let mut object = loader.load(BALANCER_OBJECT).map_err(|error| describe_load(error.into()))?;
    let logger: &'static dyn log::Log = log::logger();
    Ok(Events::init_with_logger(&mut object, logger)?)
}

/// Loads one program of an object.
pub(super) fn load_program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program: &mut Xdp =
        object.program_mut(name).ok_or_else(|| anyhow!("no program {name} in the object"))?.try_into()?;
    program.load().map_err(|error| describe_load(anyhow::Error::from(error).context(format!("program {name}"))))?;
    Ok(program)
}

/// How lines behind the reason begin.
const STATISTICS: [&str; 3] = ["processed ", "stack depth ", "verification time "];

/// Puts the reason for a load's failure into one sentence.
pub(super) fn describe_load(error: anyhow::Error) -> anyhow::Error {
    if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref::<ProgramError>() {
        let log = verifier_log.to_string();

        let last = log
            .lines()
            .rfind(|line| !line.trim().is_empty() && !STATISTICS.iter().any(|begin| line.starts_with(begin)));
        let last = last.unwrap_or("no log");
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

#[cfg(test)]
mod tests {
    use super::*;

    /// aya takes a map that is pinned already as it is, of whatever size.
    #[test]
    fn the_object_and_the_agent_agree_about_live() {
        let object = aya_obj::Object::parse(BALANCER_OBJECT).expect("an object");
        assert_eq!(object.maps[LIVE_SECTION].value_size() as usize, size_of::<Live>());
    }
}
