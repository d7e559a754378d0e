//! The program that passes everything, on as many interfaces as wanted.

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Xdp, XdpMode},
};

use crate::datapath::{
    TRAFFIC_OBJECT,
    requirements::{FRAGS_KERNEL, Kernel},
};

/// The program and its attachments; dropped, it is nowhere any more.
#[derive(Default)]
pub struct Passing(Option<Ebpf>);

impl Passing {
    /// Attaches it natively to an interface of this thread's namespace.
    pub fn attach(&mut self, index: u32) -> Result<()> {
        let name = if Kernel::running()? >= FRAGS_KERNEL { "pass_frags" } else { "pass" };
        let object = match &mut self.0 {
            Some(object) => object,
            empty => {
                let object = empty.insert(EbpfLoader::new().load(TRAFFIC_OBJECT)?);
                program(object, name)?.load()?;
                object
            }
        };
        program(object, name)?.attach_to_if_index(index, XdpMode::Driver)?;
        Ok(())
    }
}

/// A program of an object.
pub fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let found = object.program_mut(name).with_context(|| format!("no program {name} in the object"))?;
    Ok(found.try_into()?)
}
