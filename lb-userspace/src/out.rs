//! Where a verb writes what has no end: a file or standard output, until a signal comes.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Whether SIGINT or SIGTERM has come.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether SIGINT or SIGTERM has come since an [`Out`] was opened.
pub fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// A file or standard output. A signal ends also a write that waits.
pub struct Out {
    file: Box<dyn Write>,
    place: String,
}

impl Out {
    /// Makes the file, or takes standard output for `-`.
    pub fn open(path: &Path) -> Result<Out> {
        let (file, place): (Box<dyn Write>, _) = if path == Path::new("-") {
            let out = io::stdout();
            ensure!(
                !out.is_terminal(),
                "standard output is a terminal: give a file (-w FILE) or a reader (-w - | tshark -r -)"
            );
            (Box::new(out), "standard output".to_owned())
        } else {
            let place = path.display().to_string();
            let file = fs::File::create(path).with_context(|| format!("{place}: cannot be written"))?;
            (Box::new(io::BufWriter::new(file)), place)
        };
        stop_on_signals()?;
        Ok(Out { file, place })
    }

    /// Standard output, for lines that people read too.
    pub fn terminal() -> Result<Out> {
        stop_on_signals()?;
        Ok(Out { file: Box::new(io::stdout()), place: "standard output".to_owned() })
    }

    /// Says of an error in writing what could not be written, and why.
    pub fn unwritable(&self, error: anyhow::Error) -> anyhow::Error {
        let place = &self.place;
        match error.downcast_ref::<io::Error>() {
            Some(_) if is_gone(&error) => anyhow!("{place}: its reader has gone away: nothing more is written"),
            Some(_) => error.context(format!("{place}: cannot be written")),
            None => error,
        }
    }
}

/// Whether an error says that whoever reads has gone away.
pub fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && stopped() => {
                Err(io::Error::other("a signal came while it waited for its reader"))
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn stop_on_signals() -> Result<()> {
    extern "C" fn stop(_: libc::c_int) {
        STOPPED.store(true, Ordering::Relaxed);
    }
    // Without SA_RESTART: what waits shall end.
    let action = SigAction::new(SigHandler::Handler(stop), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores into an atomic.
        unsafe { sigaction(signal, &action) }.context("cannot catch signals")?;
    }
    Ok(())
}
