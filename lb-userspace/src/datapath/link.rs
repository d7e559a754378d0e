//! What aya does not do with a pinned link: say where it is, and detach it at once. Removing its pin would detach it too, but only
//! some time later, when the kernel frees it: until then nothing else could attach there.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use anyhow::{Context, Result};
use aya_obj::generated::bpf_cmd;

/// Detaches the program behind a pinned link and removes the pin.
pub fn detach(pin: &Path) -> Result<()> {
    let fault = || format!("cannot detach {}", pin.display());
    let link = open(pin).with_context(fault)?;
    release(&link).with_context(fault)?;
    fs::remove_file(pin).with_context(|| format!("cannot remove {}", pin.display()))
}

/// Detaches the program behind a pinned link and leaves the pin.
pub fn force_away(pin: &Path) -> Result<()> {
    let fault = || format!("cannot detach {}", pin.display());
    release(&open(pin).with_context(fault)?).with_context(fault)
}

/// Where a pinned link leads.
pub struct Info {
    /// The kernel's index of its interface; 0 if that is gone. The index is one of the link's own network namespace, which
    /// need not be this one.
    pub interface: u32,
    /// The kernel's number of its program.
    pub program: u32,
}

/// Asks for where a pinned link leads.
pub fn info(pin: &Path) -> Result<Info> {
    let fault = || format!("cannot ask for {}", pin.display());
    let link = open(pin).with_context(fault)?;
    let mut info = LinkInfo::default();
    let attributes =
        ObjectInfo { fd: link.as_raw_fd() as u32, length: size_of::<LinkInfo>() as u32, info: (&raw mut info) as u64 };
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &attributes).with_context(fault)?;
    Ok(Info { interface: info.interface, program: info.program })
}

/// The first fields of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct ObjectInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The first fields of `struct bpf_link_info`, of a link of XDP.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    interface: u32,
    reserved: u32,
}

/// The first fields of `union bpf_attr` for `BPF_OBJ_GET`.
#[repr(C)]
struct ObjectGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The first field of `union bpf_attr` for `BPF_LINK_DETACH`.
#[repr(C)]
struct LinkDetach {
    link: u32,
}

fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let fd = bpf(bpf_cmd::BPF_OBJ_GET, &ObjectGet { path: path.as_ptr() as u64, fd: 0, flags: 0 })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn release(link: &OwnedFd) -> io::Result<()> {
    bpf(bpf_cmd::BPF_LINK_DETACH, &LinkDetach { link: link.as_raw_fd() as u32 }).map(|_| ())
}

fn bpf<A>(command: bpf_cmd, attributes: &A) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<A>()` bytes of attributes; what some of them point to, a path or a struct of the
    // length said beside it, outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_ref(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
