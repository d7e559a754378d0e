//! How long the programs are and how much work they are for the verifier.

use anyhow::{Context, Result};
use aya::{EbpfLoader, programs::Xdp};
use lb_userspace::datapath::{BACKEND_OBJECT, BALANCER_OBJECT};

/// A program's size.
pub struct Size {
    pub program: &'static str,
    /// Instructions that the verifier went through, if the kernel (5.16) tells.
    pub verified: Option<u32>,
    /// Bytes of BPF as the verifier left it.
    pub translated: Option<u32>,
    /// Bytes of machine code, 0 without JIT.
    pub jited: u32,
}

const PROGRAMS: [(&str, &[u8]); 4] = [
    ("weir", BALANCER_OBJECT),
    ("weir_frags", BALANCER_OBJECT),
    ("weir_explain", BALANCER_OBJECT),
    ("weir_backend", BACKEND_OBJECT),
];

/// Loads every program whose label is wanted and asks the kernel.
pub fn measure(wanted: impl Fn(&str) -> bool) -> Result<Vec<Size>> {
    let programs = PROGRAMS.into_iter().filter(|(program, _)| wanted(&format!("size {program}")));
    programs.map(|(program, object)| size(program, object)).collect()
}

fn size(name: &'static str, object: &[u8]) -> Result<Size> {
    // Its own tables, as the object declares them: what they hold does not change the program.
    let mut object = EbpfLoader::new().load(object).with_context(|| format!("{name}: cannot be loaded"))?;
    let program: &mut Xdp = object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    program.load().with_context(|| format!("{name}: cannot be loaded"))?;
    let info = program.info()?;
    Ok(Size {
        program: name,
        verified: info.verified_instruction_count(),
        translated: info.size_translated(),
        jited: info.size_jitted(),
    })
}
