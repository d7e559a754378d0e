//! The control socket: HTTP with JSON over a Unix socket, by which operators ask a running agent. It may be asked by anybody
//! who can open it, so nothing here trusts a client: not its size, not its pace, not who it says it is.

pub mod client;
mod peer;
mod replies;
mod routes;
mod scrape;
mod serve;
pub mod socket;
mod streams;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use anyhow::{Context, Result};
use tokio::sync::{Semaphore, oneshot};

use self::socket::Socket;
pub use self::{
    replies::{Form, agent_report, event_text},
    scrape::{MAX_CONNECTIONS as MAX_SCRAPERS, Scraper},
};
use crate::{
    agent::{command::Handle, ports::Open},
    capture::{Session, Wanted},
    readings::{Page, Reading},
    report,
};

/// The largest body that is read.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Bytes of answers that wait for slow clients to read them; others wait for these.
const MAX_UNREAD_BYTES: usize = 64 << 20;
/// Readings that are made at a time: each may take tens of megabytes.
const MAX_READINGS: usize = 2;

/// Reads the tables; blocks.
pub type Reader = Arc<dyn Fn(Reading) -> Result<Page> + Send + Sync>;

/// Begins a capture; blocks.
pub type Capturer = Arc<dyn Fn(Wanted) -> Result<Session> + Send + Sync>;

/// What is read for clients.
pub struct Readers {
    /// Samples of packets.
    pub capture: Capturer,
    /// The tables.
    pub tables: Reader,
    /// What the agent knows of itself.
    pub report: report::Shared,
    /// Metrics, at these sockets.
    pub metrics: (Open, Scraper),
}

/// What answers come from.
#[derive(Clone)]
struct Sources {
    agent: Handle,
    reader: Reader,
    capture: Capturer,
    report: report::Shared,
    /// The agent's configuration; from its directory others than root may name files.
    config: Arc<Path>,
    readings: Arc<Semaphore>,
    unread: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Whoever captures has enough.
    enough: Arc<AtomicBool>,
}

/// The control socket and metrics, served by a thread of their own until this is dropped: what clients do costs the agent's loop nothing.
pub struct Control {
    socket: Socket,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Control {
    /// Opens the socket and serves it. `config` is the absolute path of the agent's configuration: others than root may only
    /// name files beside it.
    pub fn start(path: &Path, agent: Handle, readers: Readers, config: &Path) -> Result<Control> {
        let (socket, listener) = Socket::open(path)?;
        let readings = Arc::new(Semaphore::new(MAX_READINGS));
        let unread = Arc::new(Semaphore::new(MAX_UNREAD_BYTES));
        let streams = Arc::new(Semaphore::new(streams::MAX_STREAMS));
        let enough = Arc::default();
        let Readers { capture, tables: reader, report, metrics: (open, scraper) } = readers;
        let sources =
            Sources { agent, reader, capture, report, config: config.into(), readings, unread, streams, enough };
        let group = socket.group();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_READINGS + 3)
            .build()
            .context("cannot start the runtime of the control socket")?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve::serve(listener, sources, group) => {}
                    () = scrape::serve(open, scraper) => {}
                    // Asked to, or its other end is gone.
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("control".to_owned()).spawn(serve);
        let thread = thread.context("cannot start the thread of the control socket")?;
        Ok(Control { socket, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.socket.path()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A thread that panicked has nothing left to end.
        self.thread.take().map(thread::JoinHandle::join);
    }
}
