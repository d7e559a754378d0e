//! Detaching a pinned link at once. Removing its pin would do, but only some time later, when the kernel frees it: until then
//! nothing else could attach there.

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
    // SAFETY: the kernel reads `size_of::<A>()` bytes of attributes, and the path that some of them point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_ref(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
