//! Connections: who gets one, for how long, and when somebody else gets it instead. One request each.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Request, Response, header},
};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Gid,
};
use tokio::{
    net::UnixStream,
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tracing::{debug, error, warn};

use super::{
    MAX_UNREAD_BYTES, Sources,
    peer::Peer,
    replies::{Form, Piece, Reply},
    routes,
};

/// Connections at a time. For one more, the oldest that has not asked yet is closed.
pub const MAX_CONNECTIONS: usize = 128;
/// The largest head of a request.
pub const MAX_HEAD_BYTES: usize = 16 << 10;
/// The header of answers that says what the command line ends with.
pub const EXIT: &str = "weir-exit";

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// The client has not asked yet.
    Head,
    /// It sends what belongs to the question.
    Body,
    /// It waits.
    Answer,
    /// It reads.
    Unread,
    /// It reads what has no end.
    Stream,
}

impl Phase {
    /// How long it may take; then the connection is closed.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Phase::Head => 5,
            // More than what is answered by an error.
            Phase::Body => routes::BODY_WITHIN.as_secs() + 5,
            Phase::Answer => routes::ANSWER_WITHIN.as_secs() + 15,
            Phase::Unread => 10,
            // Who sends the pieces ends with whoever does not read them.
            Phase::Stream => u64::from(u32::MAX),
        })
    }
}

/// The client of a request.
#[derive(Clone, Debug)]
pub struct Client {
    /// Who.
    pub peer: Peer,
    /// How far it has come.
    pub phase: watch::Sender<Phase>,
}

/// Accepts clients, for ever.
pub async fn serve(listener: UnixListener, sources: Sources, group: Option<Gid>) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!("nobody can be answered at the control socket: {error}"),
    };
    let api = routes::router(sources.clone());
    let mut seats = Seats::new("control socket", MAX_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => seats.take(|phase| connection(stream, api.clone(), sources.clone(), group, phase)),
            Err(error) => {
                warn!("control socket: cannot take a connection: {error}");
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// The connections there are, and how many there may be.
pub struct Seats {
    /// What is served, for the log.
    what: &'static str,
    most: usize,
    /// Oldest first.
    taken: VecDeque<(watch::Receiver<Phase>, AbortHandle)>,
}

impl Seats {
    /// None is taken.
    pub fn new(what: &'static str, most: usize) -> Seats {
        Seats { what, most, taken: VecDeque::new() }
    }

    /// Serves one more. Whoever only holds a connection makes room, then whoever is slow to ask; if all have asked, the
    /// new one is closed.
    pub fn take<F>(&mut self, serve: impl FnOnce(watch::Sender<Phase>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Seats { what, most, taken } = self;
        taken.retain(|(_, task)| !task.is_finished());
        if taken.len() >= *most {
            let phase = |(at, (phase, _)): (usize, &(watch::Receiver<Phase>, AbortHandle))| (*phase.borrow(), at);
            match taken.iter().enumerate().map(phase).min() {
                Some((Phase::Head | Phase::Body, at)) => {
                    debug!("{what}: {most} connections: the oldest that has not asked is closed");
                    taken.remove(at).into_iter().for_each(|(_, task)| task.abort());
                }
                _ => return warn!("{what}: {most} clients wait for answers: one more is refused"),
            }
        }
        let (sender, receiver) = watch::channel(Phase::Head);
        let task = tokio::spawn(serve(sender));
        taken.push_back((receiver, task.abort_handle()));
    }
}

async fn connection(
    stream: UnixStream,
    api: Router,
    sources: Sources,
    group: Option<Gid>,
    phase: watch::Sender<Phase>,
) {
    let peer = match Peer::of(&stream, group) {
        Ok(peer) => peer,
        Err(error) => return warn!("control socket: the kernel does not say who has connected: {error}"),
    };
    let (limits, streaming) = (phase.subscribe(), phase.subscribe());
    let watched = stream.as_fd().try_clone_to_owned().ok();
    let client = Client { peer, phase };
    let service =
        service_fn(|request: Request<Incoming>| answer(api.clone(), sources.clone(), client.clone(), request));
    let mut http = http1::Builder::new();
    http.keep_alive(false).half_close(true).max_buf_size(MAX_HEAD_BYTES);
    tokio::select! {
        served = http.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = served {
                debug!("control socket: uid {}: {error}", peer.caller.uid);
            }
        }
        () = gone(watched, streaming) => debug!("control socket: uid {}: has gone away", peer.caller.uid),
        phase = overdue(limits) => debug!("control socket: uid {}: too slow ({phase:?})", peer.caller.uid),
    }
}

/// Returns when a client of a stream has closed its socket: as long as nothing is to be sent, nobody else would notice.
async fn gone(socket: Option<OwnedFd>, phase: watch::Receiver<Phase>) {
    const LOOK: Duration = Duration::from_secs(1);
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        sleep(LOOK).await;
        // That both ends are closed is told without being asked for.
        let mut state = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        let told = poll(&mut state, PollTimeout::ZERO).is_ok_and(|told| told > 0);
        if told && *phase.borrow() == Phase::Stream {
            return;
        }
    }
}

/// Returns when a phase has taken too long.
pub async fn overdue(mut limits: watch::Receiver<Phase>) -> Phase {
    loop {
        let phase = *limits.borrow_and_update();
        if !matches!(timeout(phase.limit(), limits.changed()).await, Ok(Ok(()))) {
            return phase;
        }
    }
}

async fn answer(
    api: Router,
    sources: Sources,
    client: Client,
    mut request: Request<Incoming>,
) -> Result<Response<Pieces>, Infallible> {
    client.phase.send_replace(Phase::Body);
    let form = wanted(request.headers());
    request.extensions_mut().insert(client.clone());
    let response = api.oneshot(request.map(Body::new)).await?;
    let status = response.status();
    let reply = response.into_parts().0.extensions.remove::<Reply>();
    // What was refused before any of our code saw it.
    let reply = reply.unwrap_or_else(|| Reply::error(status, status.canonical_reason().unwrap_or("refused")));
    if let Some((stream, pieces)) = reply.stream().and_then(|stream| Some((stream.clone(), stream.take()?))) {
        client.phase.send_replace(Phase::Stream);
        let mut response = Response::new(streamed(pieces, reply));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(stream.kind));
        return Ok(response);
    }
    let body = reply.body(form).into_bytes();
    let weight = body.len().min(MAX_UNREAD_BYTES) as u32;
    // Never closed: an answer without would be one too many, no more.
    let permit = sources.unread.acquire_many_owned(weight).await.ok();
    client.phase.send_replace(Phase::Unread);
    let mut response = Response::new(
        Full::new(Bytes::from_owner(Unread { body, _permit: permit })).map_err(|never| match never {}).boxed_unsync(),
    );
    *response.status_mut() = reply.status;
    let kind = match form {
        Form::Json => "application/json",
        Form::Text => "text/plain; charset=utf-8",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(EXIT, HeaderValue::from(u16::from(reply.exit)));
    Ok(response)
}

/// The body of an answer.
type Pieces = UnsyncBoxBody<Bytes, io::Error>;

/// What comes out of a channel, and what is held until its end.
fn streamed(mut pieces: mpsc::Receiver<Piece>, held: Reply) -> Pieces {
    let pieces = stream::poll_fn(move |context| {
        let _ = &held;
        pieces.poll_recv(context)
    });
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// A body until it was read, and what it takes of what all may leave unread.
struct Unread {
    body: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// JSON unless text is asked for.
pub fn wanted(headers: &HeaderMap) -> Form {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.trim_start().starts_with("text/plain"));
    if headers.get_all(header::ACCEPT).iter().any(accepts) { Form::Text } else { Form::Json }
}
