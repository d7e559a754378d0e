//! A request over HTTP/1.1, and what its answer must be.

use std::{error::Error as _, io, pin::pin};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Reason, ReasonKind,
    deadline::{Deadline, fault},
    dial::Way,
};
use crate::config::Http;

/// As much of an answer's head is read at most, bytes.
const HEAD: usize = 16 * 1024;
/// A text is looked for in as much of the body, bytes.
const BODY: usize = 64 * 1024;
const AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

/// Asks over a connection.
pub async fn ask<S>(stream: S, http: &Http, way: &Way, deadline: Deadline) -> Result<(), Reason>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let step = if http.tls.is_some() { "https" } else { "http" };
    let request =
        request(http, way).map_err(|error| Reason::new(ReasonKind::Local, format!("{step}: this host: {error}")))?;
    deadline.during(step, exchange(stream, http, step, request)).await
}

fn request(http: &Http, way: &Way) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let host = http.host.clone().unwrap_or_else(|| way.to.to_string());
    Request::builder()
        .method(http.method.as_str())
        .uri(&http.path)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::new())
}

async fn exchange<S>(stream: S, http: &Http, step: &str, request: Request<Empty<Bytes>>) -> Result<(), Reason>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let why = |error: hyper::Error| why(step, &error);
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await.map_err(why)?;
    let asking = async move {
        let response = sender.send_request(request).await.map_err(why)?;
        judge(http, step, response).await
    };
    // Whoever asks waits for what the connection reads; that may end first, with all of it read.
    let mut asking = pin!(asking);
    tokio::select! {
        biased;
        judged = &mut asking => judged,
        _ = connection => asking.await,
    }
}

async fn judge(http: &Http, step: &str, response: Response<Incoming>) -> Result<(), Reason> {
    let status = response.status().as_u16();
    if !http.status.contains(status) {
        let words = format!("{step}: status {status}, wanted {}", http.status);
        return Err(Reason::new(ReasonKind::Status, words));
    }
    match &http.body {
        Some(wanted) => find(wanted.as_bytes(), step, response.into_body()).await,
        None => Ok(()),
    }
}

/// Reads a body until it has held a text, and no further.
async fn find(wanted: &[u8], step: &str, mut body: Incoming) -> Result<(), Reason> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| why(step, &error))?.into_data() else { continue };
        // What may begin in one piece and end in the next.
        let from = read.len().saturating_sub(wanted.len().saturating_sub(1));
        read.extend_from_slice(&data[..data.len().min(BODY - read.len())]);
        if contains(&read[from..], wanted) {
            return Ok(());
        }
        if read.len() == BODY {
            break;
        }
    }
    let words = format!("{step}: body without {:?} in {} bytes", String::from_utf8_lossy(wanted), read.len());
    Err(Reason::new(ReasonKind::Mismatch, words))
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|window| window == wanted)
}

/// Why there is no answer.
fn why(step: &str, error: &hyper::Error) -> Reason {
    if let Some(error) = error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        return fault(step, error);
    }
    let words = if error.is_parse_too_large() {
        "the head of the answer is too long"
    } else if error.is_parse() {
        "the answer is not HTTP"
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "closed by the other side"
    } else {
        return Reason::new(ReasonKind::Protocol, format!("{step}: {error}"));
    };
    Reason::new(ReasonKind::Protocol, format!("{step}: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_anywhere() {
        assert!(contains(b"all is well", b"well") && contains(b"x", b"") && contains(b"ok", b"ok"));
        assert!(!contains(b"all is wel", b"well") && !contains(b"", b"ok"));
    }
}
