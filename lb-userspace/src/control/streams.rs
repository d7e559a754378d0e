//! Answers that have no end: captures, and events as they come. A bounded number of clients, none of them waited for.

use std::{
    io::{self, Write},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use hyper::body::Bytes;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, mpsc::error::TrySendError},
    task::spawn_blocking,
    time::timeout,
};
use tracing::warn;

use super::{
    Sources,
    replies::{Form, Piece, Reply, Stream, event_text},
    routes::Answer,
    serve::Client,
};
use crate::{
    agent::command::{self, Command, Event},
    capture::{Session, Wanted},
};

/// Clients that may have one at a time.
pub const MAX_STREAMS: usize = 16;
/// Pieces that wait for a client.
const WAITING: usize = 64;
/// How long a client may read nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the agent is asked for events.
const LOOK: Duration = Duration::from_millis(250);

impl Sources {
    /// Samples of packets, as pcapng.
    pub async fn capture(&self, wanted: Wanted) -> Answer {
        let permit = self.seat()?;
        let capture = self.capture.clone();
        let refused = |error: anyhow::Error| Reply::error(StatusCode::CONFLICT, format!("{error:#}"));
        let opened = spawn_blocking(move || capture(wanted)).await;
        let session = opened.map_err(|error| refused(error.into()))?.map_err(refused)?;
        let (sender, pieces) = mpsc::channel(WAITING);
        let enough = self.enough.clone();
        enough.store(false, Ordering::Relaxed);
        let run = move || {
            let client = sender.clone();
            let mut out = Pieces { sender, piece: Vec::new() };
            let stop = || client.is_closed() || enough.load(Ordering::Relaxed);
            if let Err(error) = Session::run(session, &mut out, &stop) {
                warn!("capture for a client of the control socket: {error:#}");
                // So that it does not look complete. Nobody waits for a client that takes nothing.
                let _ = client.try_send(Err(io::Error::other(error)));
            }
        };
        let spawned = thread::Builder::new().name("capture".to_owned()).spawn(run);
        spawned.map_err(|error| refused(error.into()))?;
        Ok(Reply::streaming(Stream::new("application/x-pcapng", pieces), permit))
    }

    /// Lets the capture that is running come to its end, with what it has lost.
    pub fn end_capture(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    /// Events from the first that is remembered, then each as it comes, one a line.
    pub async fn follow(&self, client: &Client, form: Form) -> Answer {
        let permit = self.seat()?;
        let (sender, pieces) = mpsc::channel(WAITING);
        let (sources, by) = (self.clone(), client.peer.caller);
        tokio::spawn(async move {
            let mut last = None;
            while !sender.is_closed() {
                let Ok(command::Answer::Events { events }) = sources.agent.ask(by, Command::Events).await else {
                    return;
                };
                // Those behind the last one; all if it is gone.
                let new = events.iter().rposition(|event| Some(event) == last.as_ref()).map_or(0, |at| at + 1);
                for event in &events[new..] {
                    let line = Bytes::from(line(event, form));
                    if !matches!(timeout(PATIENCE, sender.send(Ok(line))).await, Ok(Ok(()))) {
                        return;
                    }
                }
                last = events.last().cloned();
                tokio::time::sleep(LOOK).await;
            }
        });
        let kind = if form == Form::Json { "application/x-ndjson" } else { "text/plain; charset=utf-8" };
        Ok(Reply::streaming(Stream::new(kind, pieces), permit))
    }

    fn seat(&self) -> Result<OwnedSemaphorePermit, Reply> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{MAX_STREAMS} clients follow events or capture already: end one of them first");
            Reply::error(StatusCode::SERVICE_UNAVAILABLE, text)
        })
    }
}

fn line(event: &Event, form: Form) -> String {
    match form {
        Form::Text => format!("{}\n", event_text(event)),
        Form::Json => format!("{}\n", json!(event)),
    }
}

/// The writing end of a stream: what is flushed becomes a piece.
struct Pieces {
    sender: mpsc::Sender<Piece>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let end = Instant::now() + PATIENCE;
        let mut piece = Bytes::from(std::mem::take(&mut self.piece));
        loop {
            match self.sender.try_send(Ok(piece)) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(Ok(back))) if Instant::now() < end => piece = back,
                Err(TrySendError::Full(_)) => return Err(io::ErrorKind::TimedOut.into()),
                Err(TrySendError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
