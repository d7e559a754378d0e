//! One receiver: a message at a time, each tried a few times, within bounds.

use std::{process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use http_body_util::Full;
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};
use tracing::{info, warn};

use super::message::Message;
use crate::{
    config::{Receiver, Url},
    overrides::now_ms,
    report::{self, Shared},
};

/// How long one try may take, whoever takes it.
const WITHIN: Duration = Duration::from_secs(10);
/// Pauses between tries; one try more than there are of them.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];
/// Where Alertmanager takes alerts, below what is configured.
const ALERTS: &str = "/api/v2/alerts";

/// Sends what comes, until there is nobody left who could send something.
pub async fn work(receiver: Receiver, name: String, mut messages: mpsc::Receiver<Arc<Message>>, report: Shared) {
    while let Some(message) = messages.recv().await {
        let sent = try_all(&receiver, &message, |error| {
            count(&report, &name, |receiver| receiver.error = Some(format!("{error:#}")));
        });
        let result = sent.await;
        let was_bad = count(&report, &name, |receiver| {
            receiver.last_ms = Some(now_ms());
            let was_bad = receiver.error.take().is_some();
            match &result {
                Ok(()) => receiver.sent += 1,
                Err(error) => {
                    receiver.failed += 1;
                    receiver.error = Some(format!("{error:#}"));
                }
            }
            was_bad
        });
        match result {
            Ok(()) if was_bad == Some(true) => info!("notify: {name}: takes messages again"),
            Ok(()) => {}
            Err(error) => warn!("notify: {name}: a message was given up: {error:#}"),
        }
    }
}

/// Changes what is reported of a receiver, if it still is one.
pub fn count<T>(report: &Shared, name: &str, change: impl FnOnce(&mut report::Receiver) -> T) -> Option<T> {
    report.update(|report| report.receivers.iter_mut().find(|receiver| receiver.name == name).map(change))
}

async fn try_all(receiver: &Receiver, message: &Message, failed: impl Fn(&anyhow::Error)) -> Result<()> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let tried = timeout(WITHIN, try_once(receiver, message)).await;
        let tried = tried.unwrap_or_else(|_| Err(anyhow!("not done within {} s", WITHIN.as_secs())));
        let Err(error) = tried else { return Ok(()) };
        match pauses.next().filter(|_| !error.is::<Refused>()) {
            Some(pause) => {
                failed(&error);
                sleep(pause).await;
            }
            None => return Err(error),
        }
    }
}

/// It would be refused again.
#[derive(Debug, thiserror::Error)]
#[error("refused: {0}")]
struct Refused(StatusCode);

async fn try_once(receiver: &Receiver, message: &Message) -> Result<()> {
    match receiver {
        Receiver::Alertmanager(url) => {
            let path = format!("{}{ALERTS}", url.path.trim_end_matches('/'));
            post(url, &path, message.alerts().to_string()).await
        }
        Receiver::Webhook(url) => post(url, &url.path, message.plain().to_string()).await,
        Receiver::Command(words) => run(words, format!("{}\n", message.plain())).await,
    }
}

async fn post(url: &Url, path: &str, body: String) -> Result<()> {
    let stream = TcpStream::connect((&url.host[..], url.port)).await.context("connect")?;
    if !url.tls {
        return exchange(stream, url, path, body).await;
    }
    let name = ServerName::try_from(url.host.clone()).context("tls: not a name")?;
    let stream = TlsConnector::from(Arc::new(trust()?)).connect(name, stream).await.context("tls")?;
    exchange(stream, url, path, body).await
}

/// Whom this host trusts, as it is now: messages are few.
fn trust() -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    ensure!(!roots.is_empty(), "tls: this host trusts nobody (apt install ca-certificates)");
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    url: &Url,
    path: &str,
    body: String,
) -> Result<()> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("http")?;
    let request = Request::post(path)
        .header(header::HOST, url.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Full::<Bytes>::from(body))
        .context("http")?;
    let answered = async { sender.send_request(request).await };
    tokio::pin!(answered);
    let response = tokio::select! {
        response = &mut answered => response,
        // What was answered before it ended counts.
        _ = connection => answered.await,
    };
    let status = response.context("http")?.status();
    let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if status.is_client_error() && !may_pass {
        bail!(Refused(status));
    }
    ensure!(status.is_success(), "http: status {status}");
    Ok(())
}

/// Runs a program in a group of its own, which does not outlive the try, whatever it has started.
async fn run(words: &[String], input: String) -> Result<()> {
    let (program, arguments) = words.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().context("cannot be run")?;
    let _group = Group(child.id().map(|id| Pid::from_raw(id as i32)));
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // It need not read.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), status) = tokio::join!(feed, child.wait());
    let status = status.context("cannot be waited for")?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Processes that end when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // There may be nobody left.
        let _ = self.0.map(|group| killpg(group, Signal::SIGKILL));
    }
}
