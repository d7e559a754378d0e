//! Who is at the other end of a connection, as the kernel says it.

use std::{io, mem::size_of, os::fd::AsRawFd};

use nix::unistd::Gid;
use tokio::net::UnixStream;

use crate::agent::command::Caller;

/// Groups that are asked for: a user may be in 65,536, which no user is.
const MAX_GROUPS: usize = 1024;

/// A client.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Who.
    pub caller: Caller,
    /// Root, a member of the group, or the agent's own user.
    pub may_change: bool,
}

impl Peer {
    /// Asks the kernel.
    pub fn of(stream: &UnixStream, group: Option<Gid>) -> io::Result<Peer> {
        let credentials = stream.peer_cred()?;
        let caller = Caller { uid: credentials.uid(), gid: credentials.gid() };
        let is_member = |group: Gid| caller.gid == group.as_raw() || groups(stream).contains(&group.as_raw());
        let own = nix::unistd::geteuid().as_raw();
        let may_change = caller.uid == 0 || caller.uid == own || group.is_some_and(is_member);
        Ok(Peer { caller, may_change })
    }
}

/// The other groups of whoever connected; none if the kernel does not say.
fn groups(stream: &UnixStream) -> Vec<libc::gid_t> {
    let mut groups: Vec<libc::gid_t> = vec![0; MAX_GROUPS];
    let mut length = (MAX_GROUPS * size_of::<libc::gid_t>()) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes, which the vector has.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    groups.truncate(if result == 0 { length as usize / size_of::<libc::gid_t>() } else { 0 });
    groups
}
