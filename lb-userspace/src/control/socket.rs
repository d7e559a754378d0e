//! The socket as a file: its name, whose it is, who may open it.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::socket::{getsockopt, sockopt},
    unistd::{Gid, Group, chown},
};
use tracing::{info, warn};

use crate::datapath::DEFAULT_PINS;

/// Where sockets are unless told otherwise.
pub const DIRECTORY: &str = "/run/weir";
/// Who may open them beside root.
pub const GROUP: &str = "weir";

const MODE: u32 = 0o660;
const DIRECTORY_MODE: u32 = 0o755;
/// The kernel's room for a name, with the zero behind it.
const LONGEST_NAME: usize = 107;

/// Where the agent of these pins is asked: `/run/weir/weir.sock` for those of `/sys/fs/bpf/weir`, and so on. Two instances have
/// two sockets without being told.
pub fn default_path(pins: &Path) -> PathBuf {
    let base = Path::new(DEFAULT_PINS).parent().unwrap_or(Path::new("/"));
    let name = pins.strip_prefix(base).or_else(|_| pins.strip_prefix("/")).unwrap_or(pins);
    let name = name.to_string_lossy().trim_matches('/').replace('/', "-");
    Path::new(DIRECTORY).join(format!("{name}.sock"))
}

/// An open socket; its file goes with it.
pub struct Socket {
    path: PathBuf,
    /// Which file it is: another agent's may have taken its place.
    inode: (u64, u64),
    group: Option<Gid>,
}

impl Socket {
    /// Opens it in the place of what a dead agent left; a live one's is not touched.
    pub fn open(path: &Path) -> Result<(Socket, UnixListener)> {
        let bytes = path.as_os_str().len();
        let next = beside(path);
        if next.as_os_str().len() > LONGEST_NAME {
            bail!(
                "{}: a socket's name has at most 102 bytes, this one {bytes}: name another by --socket",
                path.display()
            );
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make(directory)
            .with_context(|| format!("cannot make {} (--socket names another place)", directory.display()))?;
        // Of two agents that start at once, one looks after the other.
        let _lock = lock(directory)?;
        refuse_others(path)?;
        let group = group();
        let opened = open(path, &next, group);
        let (listener, inode) = opened.with_context(|| format!("cannot open the control socket {}", path.display()))?;
        match group {
            Some(_) => info!("control socket {}: for root and group {GROUP}", path.display()),
            None => info!(
                "control socket {}: for root alone, there is no group {GROUP} (groupadd --system {GROUP})",
                path.display()
            ),
        }
        Ok((Socket { path: path.to_owned(), inode, group }, listener))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose members may change something.
    pub fn group(&self) -> Option<Gid> {
        self.group
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| inode(&found) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            warn!("control socket {}: cannot remove it: {error}", self.path.display());
        }
    }
}

fn open(path: &Path, next: &Path, group: Option<Gid>) -> io::Result<(UnixListener, (u64, u64))> {
    remove(next)?;
    let listener = UnixListener::bind(next)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(next, fs::Permissions::from_mode(MODE))?;
    if let Some(group) = group {
        give(next, group)?;
    }
    // By its name nobody sees it before all this is so.
    let inode = inode(&fs::symlink_metadata(next)?);
    fs::rename(next, path)?;
    Ok((listener, inode))
}

/// Asks only where it is needed: the unit's sandbox forbids it, and there the group is right from the beginning.
fn give(path: &Path, group: Gid) -> io::Result<()> {
    if fs::symlink_metadata(path)?.gid() != group.as_raw()
        && let Err(errno) = chown(path, None, Some(group))
    {
        warn!("control socket: cannot give it to group {GROUP}, so it stays with whoever can open it now: {errno}");
    }
    Ok(())
}

fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    // Whatever the umask is: the socket has a mode of its own.
    fs::set_permissions(directory, fs::Permissions::from_mode(DIRECTORY_MODE))
}

fn lock(directory: &Path) -> Result<Flock<fs::File>> {
    let opened = fs::File::open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
    Flock::lock(opened, FlockArg::LockExclusive)
        .map_err(|(_, errno)| anyhow!("cannot lock {}: {errno}", directory.display()))
}

/// An error if something that is not a dead agent's socket has the name.
fn refuse_others(path: &Path) -> Result<()> {
    let place = path.display();
    match UnixStream::connect(path) {
        Ok(stream) => {
            let pid = getsockopt(&stream, sockopt::PeerCredentials).map(|peer| format!("pid {}", peer.pid()));
            let pid = pid.unwrap_or_else(|_| "another process".to_owned());
            bail!(
                "control socket {place}: {pid} answers there: stop that agent first, or name another socket by --socket"
            )
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Nobody listens: a file of another kind, or what a dead agent left.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            use std::os::unix::fs::FileTypeExt;
            let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
            if is_socket {
                Ok(())
            } else {
                bail!("control socket {place}: a file that is no socket is there: remove it")
            }
        }
        Err(error) => Err(anyhow!("control socket {place}: cannot tell whether an agent answers there: {error}")),
    }
}

fn group() -> Option<Gid> {
    Group::from_name(GROUP).unwrap_or_default().map(|group| group.gid)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn inode(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}
