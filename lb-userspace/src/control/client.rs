//! The other end: how the command line asks an agent.

use std::{
    fmt::Write as _,
    io::{ErrorKind, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, time::timeout};

use super::{replies::Form, serve::EXIT, socket::GROUP};

/// What the agent is asked.
#[derive(Clone, PartialEq, Debug)]
pub struct Question {
    /// Where, with the query.
    path: String,
    /// What belongs to it; a question without only reads.
    body: Option<Value>,
}

/// What it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Whether it is what was asked for, rather than why not.
    pub ok: bool,
    /// What the command line ends with.
    pub exit: u8,
    /// The text or the object.
    pub body: String,
}

impl Question {
    /// Reads.
    pub fn get(path: impl Into<String>) -> Self {
        Question { path: path.into(), body: None }
    }

    /// Asks for something.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Question { path: path.into(), body: Some(body) }
    }
}

/// A part of a path, whatever is in it.
pub fn part(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            // Writing into a string cannot fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

/// Asks, and waits for as long as the agent takes.
pub async fn ask(socket: &Path, question: &Question, form: Form) -> Result<Said> {
    let place = socket.display();
    let (mut sender, connection) = http1::handshake(TokioIo::new(connect(socket).await?)).await?;
    let said = async { said(sender.send_request(question.request(form)?).await?).await };
    tokio::pin!(said);
    let said = tokio::select! {
        said = &mut said => said,
        // It ends with the answer, which is then complete.
        _ = connection => said.await,
    };
    said.with_context(|| format!("{place}: the agent did not answer"))
}

/// Asks for what has no end, and writes it as it comes, until it ends or shall stop; then, if that is asked for by a last question, what is
/// still to come. What is said instead, if the agent refuses.
pub async fn stream(
    socket: &Path,
    question: &Question,
    form: Form,
    out: &mut dyn Write,
    (stop, last): (&dyn Fn() -> bool, Option<&Question>),
) -> Result<Option<Said>> {
    /// How long nothing may come before it is looked whether to stop.
    const LOOK: Duration = Duration::from_millis(200);
    /// How long the end may take.
    const END_WITHIN: Duration = Duration::from_secs(10);
    let place = socket.display();
    let (mut sender, connection) = http1::handshake(TokioIo::new(connect(socket).await?)).await?;
    tokio::spawn(connection);
    let did_not = || format!("{place}: the agent did not answer");
    let response = sender.send_request(question.request(form)?).await.with_context(did_not)?;
    if !response.status().is_success() {
        return said(response).await.map(Some).with_context(did_not);
    }
    let mut body = response.into_body();
    let mut end = None;
    loop {
        if end.is_none() && stop() {
            let Some(last) = last else { break };
            end = Some(Instant::now() + END_WITHIN);
            let said = ask(socket, last, form).await?;
            ensure!(said.ok, "{place}: {}", said.body);
        }
        match timeout(LOOK, body.frame()).await {
            Err(_) if end.is_some_and(|end| Instant::now() >= end) => {
                bail!("{place}: the agent did not come to an end")
            }
            Err(_) => {}
            Ok(None) => break,
            Ok(Some(frame)) => {
                let frame = frame.with_context(|| format!("{place}: the agent broke off (its log says why)"))?;
                if let Some(bytes) = frame.data_ref() {
                    out.write_all(bytes)?;
                    out.flush()?;
                }
            }
        }
    }
    Ok(None)
}

async fn connect(socket: &Path) -> Result<UnixStream> {
    let place = socket.display();
    UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            anyhow!("{place}: no agent answers there (weir run starts one; --socket names another place)")
        }
        ErrorKind::PermissionDenied => {
            anyhow!("{place}: permission denied: root and members of group {GROUP} may ask the agent (sudo weir ...)")
        }
        _ => anyhow!("{place}: cannot reach the agent: {error}"),
    })
}

async fn said(response: Response<Incoming>) -> Result<Said> {
    let (head, body) = response.into_parts();
    let exit = head.headers.get(EXIT).and_then(|exit| exit.to_str().ok()?.parse().ok());
    let Some(exit) = exit else { bail!("something other than weir answers there ({})", head.status) };
    let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    Ok(Said { ok: head.status.is_success(), exit, body: body.trim_end_matches('\n').to_owned() })
}

impl Question {
    fn request(&self, form: Form) -> Result<Request<Full<Bytes>>> {
        let accept = match form {
            Form::Text => "text/plain",
            Form::Json => "application/json",
        };
        let body = self.body.as_ref().map(Value::to_string);
        let request = Request::builder().method(if body.is_some() { "POST" } else { "GET" }).uri(&self.path);
        let request = request.header(header::HOST, "weir").header(header::ACCEPT, accept);
        Ok(request.body(Full::from(body.unwrap_or_default()))?)
    }
}
