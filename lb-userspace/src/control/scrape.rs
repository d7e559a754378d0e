//! `GET /metrics` over TCP. Whoever scrapes is as little trusted as anybody at the control socket, and gets less: one request,
//! a few connections for all, a page that is made at most once a second.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, Response, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{AbortHandle, spawn_blocking},
    time::sleep,
};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::serve::{MAX_HEAD_BYTES, Phase, Seats, overdue};
use crate::agent::ports::{Open, Port};

/// Makes the page; blocks.
pub type Scraper = Arc<dyn Fn() -> Result<String> + Send + Sync>;

/// Connections at a time: each may leave a page unread.
pub const MAX_CONNECTIONS: usize = 16;
/// A page is made at most so often; who comes sooner gets the last one.
const FRESH: Duration = Duration::from_secs(1);
/// What the text format is called.
const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves the sockets that are open, for ever.
pub async fn serve(mut open: Open, scraper: Scraper) {
    let pages = Pages { scraper, last: Arc::default() };
    let api = Router::new()
        .route("/metrics", get(metrics))
        .route("/", get(|| async { "weir: /metrics\n" }))
        .with_state(pages);
    let seats = Arc::new(Mutex::new(Seats::new("metrics", MAX_CONNECTIONS)));
    let mut served: Vec<(Port, AbortHandle)> = Vec::new();
    loop {
        let wanted = open.borrow_and_update().open.clone();
        served.retain(|(port, task)| {
            let stays = wanted.iter().any(|wanted| wanted.is(port));
            if !stays {
                task.abort();
            }
            stays
        });
        for port in wanted {
            if !served.iter().any(|(served, _)| served.is(&port)) {
                let task = tokio::spawn(accept(port.clone(), api.clone(), seats.clone())).abort_handle();
                served.push((port, task));
            }
        }
        if open.changed().await.is_err() {
            // The agent is about to end; until then what is open stays so.
            std::future::pending::<()>().await;
        }
    }
}

async fn accept(port: Port, api: Router, seats: Arc<Mutex<Seats>>) {
    let listener = port.listener.try_clone().and_then(tokio::net::TcpListener::from_std);
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return warn!("metrics {}: nobody can be answered: {error}", port.address),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let api = api.clone();
                let mut seats = seats.lock().unwrap_or_else(PoisonError::into_inner);
                seats.take(|phase| connection(stream, api, phase));
            }
            Err(error) => {
                warn!("metrics {}: cannot take a connection: {error}", port.address);
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, api: Router, phase: watch::Sender<Phase>) {
    let limits = phase.subscribe();
    let service = service_fn(|request: Request<Incoming>| {
        let (api, phase) = (api.clone(), phase.clone());
        async move {
            phase.send_replace(Phase::Answer);
            let response: Response<Body> = api.oneshot(request.map(Body::new)).await?;
            phase.send_replace(Phase::Unread);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).half_close(true).max_buf_size(MAX_HEAD_BYTES);
    tokio::select! {
        served = http.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = served {
                debug!("metrics: {error}");
            }
        }
        phase = overdue(limits) => debug!("metrics: a client is too slow ({phase:?})"),
    }
}

/// Where pages come from.
#[derive(Clone)]
struct Pages {
    scraper: Scraper,
    /// Held while one is made: who comes meanwhile waits for that one.
    last: Arc<tokio::sync::Mutex<Option<(Instant, Bytes)>>>,
}

async fn metrics(State(pages): State<Pages>) -> Response<Body> {
    match pages.page().await {
        Ok(page) => ([(header::CONTENT_TYPE, KIND)], Body::from(page)).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response(),
    }
}

impl Pages {
    async fn page(&self) -> Result<Bytes> {
        let mut last = self.last.lock().await;
        if let Some((made, page)) = &*last
            && made.elapsed() < FRESH
        {
            return Ok(page.clone());
        }
        let (scraper, begin) = (self.scraper.clone(), Instant::now());
        let page = Bytes::from(spawn_blocking(move || scraper()).await??);
        debug!("metrics: {} bytes after {} us", page.len(), begin.elapsed().as_micros());
        *last = Some((begin, page.clone()));
        Ok(page)
    }
}
