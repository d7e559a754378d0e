//! What can be asked: `GET` reads and is open to whoever can open the socket, `POST` asks the agent for something and is for root
//! and the group alone.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{self, FromRequest, Query, State},
    http::{HeaderMap, Method, Request, StatusCode, Uri},
    routing::{get, post},
};
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::timeout};
use tracing::warn;

use super::{
    MAX_BODY_BYTES, Sources,
    replies::Reply,
    serve::{Client, Phase, wanted},
    socket::GROUP,
};
use crate::{
    agent::command::Command,
    capture::Wanted,
    config,
    overrides::{self, Verb},
    readings::{Page, Reading},
    show::{self, Columns},
};

/// How long a client may take to send a body.
pub const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long the agent may take to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);

pub type Answer = Result<Reply, Reply>;

/// All of it.
pub fn router(sources: Sources) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/agent", get(agent))
        .route("/v1/services", get(services))
        .route("/v1/services/{service}", get(service))
        .route("/v1/stats", get(stats))
        .route("/v1/explain", get(explain))
        .route("/v1/events", get(events))
        .route("/v1/capture", post(capture))
        .route("/v1/capture/end", post(end_capture))
        .route("/v1/plan", post(plan))
        .route("/v1/apply", post(apply))
        .route("/v1/confirm", post(confirm))
        .route("/v1/revert", post(revert))
        .route("/v1/announce", post(announce))
        .route("/v1/syn", post(syn))
        .route("/v1/services/{service}/backends/{backend}/{verb}", post(change))
        .fallback(no_such_place)
        .method_not_allowed_fallback(no_such_method)
        .with_state(sources)
}

async fn no_such_place(uri: Uri) -> Reply {
    Reply::error(
        StatusCode::NOT_FOUND,
        format!("{:?}: no such place (docs/api.md lists them, such as /v1/status)", uri.path()),
    )
}

async fn no_such_method(method: Method, uri: Uri) -> Reply {
    let text = format!("{method} {:?}: GET reads, POST asks for something; this place takes the other", uri.path());
    Reply::error(StatusCode::METHOD_NOT_ALLOWED, text)
}

async fn status(State(sources): State<Sources>, client: Extension<Client>) -> Answer {
    sources.read(&client, Reading::Status).await
}

async fn agent(State(sources): State<Sources>) -> Reply {
    let report = sources.report.whole();
    Reply::page(Page { text: show::agent::text(&report, overrides::now_ms()), json: json!({ "agent": report }) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServicesQuery {
    #[serde(default)]
    stats: bool,
    #[serde(default)]
    rate: bool,
}

impl ServicesQuery {
    fn reading(&self, only: Option<String>) -> Reading {
        let columns = match (self.stats, self.rate) {
            (_, true) => Columns::Rate,
            (true, _) => Columns::Stats,
            _ => Columns::Plain,
        };
        Reading::Services { only, columns }
    }
}

async fn services(State(sources): State<Sources>, client: Extension<Client>, query: QueryOf<ServicesQuery>) -> Answer {
    sources.read(&client, asked(query)?.reading(None)).await
}

async fn service(
    State(sources): State<Sources>,
    client: Extension<Client>,
    extract::Path(name): extract::Path<String>,
    query: QueryOf<ServicesQuery>,
) -> Answer {
    sources.read(&client, asked(query)?.reading(Some(name))).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatsQuery {
    #[serde(default)]
    per_cpu: bool,
}

async fn stats(State(sources): State<Sources>, client: Extension<Client>, query: QueryOf<StatsQuery>) -> Answer {
    let per_cpu = asked(query)?.per_cpu;
    sources.read(&client, Reading::Stats { per_cpu }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    source: SocketAddr,
    vip: SocketAddr,
    #[serde(default)]
    udp: bool,
}

async fn explain(State(sources): State<Sources>, client: Extension<Client>, query: QueryOf<ExplainQuery>) -> Answer {
    let ExplainQuery { source, vip, udp } = asked(query)?;
    sources.read(&client, Reading::Explain { source, vip, udp }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    follow: bool,
}

async fn events(
    State(sources): State<Sources>,
    client: Extension<Client>,
    headers: HeaderMap,
    query: QueryOf<EventsQuery>,
) -> Answer {
    if asked(query)?.follow {
        sources.follow(&client, wanted(&headers)).await
    } else {
        sources.ask(&client, Command::Events).await
    }
}

async fn capture(State(sources): State<Sources>, Asked(_, wanted): Asked<Wanted>) -> Answer {
    sources.capture(wanted).await
}

async fn end_capture(State(sources): State<Sources>, Asked(_, Nothing {}): Asked<Nothing>) -> Reply {
    sources.end_capture();
    Reply::page(Page { text: String::new(), json: json!({}) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanBody {
    file: Option<PathBuf>,
}

async fn plan(State(sources): State<Sources>, Asked(client, PlanBody { file }): Asked<PlanBody>) -> Answer {
    let file = sources.allowed(&client, file)?;
    sources.ask_about(&client, Command::Plan { file: file.clone() }, file).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyBody {
    file: Option<PathBuf>,
    confirm_s: Option<u64>,
}

async fn apply(
    State(sources): State<Sources>,
    Asked(client, ApplyBody { file, confirm_s }): Asked<ApplyBody>,
) -> Answer {
    let file = sources.allowed(&client, file)?;
    let confirm = confirm_s.map(Duration::from_secs);
    sources.ask_about(&client, Command::Apply { file: file.clone(), confirm }, file).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn confirm(State(sources): State<Sources>, Asked(client, Nothing {}): Asked<Nothing>) -> Answer {
    sources.ask(&client, Command::Confirm).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevertBody {
    service: Option<String>,
    backend: Option<IpAddr>,
}

async fn revert(State(sources): State<Sources>, Asked(client, body): Asked<RevertBody>) -> Answer {
    let RevertBody { service, backend } = body;
    if service.is_none() && backend.is_some() {
        return Err(bad("backend: of which service? (\"service\": NAME)".to_owned()));
    }
    sources.ask(&client, Command::Revert { service, backend }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SynBody {
    off: bool,
}

async fn syn(State(sources): State<Sources>, Asked(client, body): Asked<SynBody>) -> Answer {
    sources.ask(&client, Command::Syn { off: body.off }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnnounceBody {
    announce: bool,
}

async fn announce(State(sources): State<Sources>, Asked(client, body): Asked<AnnounceBody>) -> Answer {
    sources.ask(&client, Command::Announce(body.announce)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    weight: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightBody {
    weight: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainBody {
    #[serde(default)]
    over_s: u64,
    steps: Option<u32>,
}

async fn change(
    State(sources): State<Sources>,
    extract::Path((service, backend, verb)): extract::Path<(String, String, String)>,
    Asked(client, body): Asked<Value>,
) -> Answer {
    let backend: IpAddr = backend.parse().map_err(|_| bad(format!("backend {backend:?}: not an IP address")))?;
    let verb = read_verb(&verb, body)?;
    // Read before: what a drain begins with is what it will have cost in the end.
    let warning = match verb {
        Verb::Drain { over, .. } if !over.is_zero() => sources.drain_warning(&client, &service, backend, over).await,
        _ => None,
    };
    let reply = sources.ask(&client, Command::Change { service, backend, verb }).await?;
    Ok(warning.into_iter().fold(reply, Reply::remark))
}

fn read_verb(verb: &str, body: Value) -> Result<Verb, Reply> {
    Ok(match verb {
        "add" => Verb::Add { weight: of::<AddBody>(body)?.weight },
        "rm" => of::<Nothing>(body).map(|Nothing {}| Verb::Remove)?,
        "weight" => Verb::Weight(of::<WeightBody>(body)?.weight),
        "drain" => {
            let DrainBody { over_s, steps } = of(body)?;
            Verb::Drain { over: Duration::from_secs(over_s), steps }
        }
        "maint" => of::<Nothing>(body).map(|Nothing {}| Verb::Maint)?,
        "ready" => of::<Nothing>(body).map(|Nothing {}| Verb::Ready)?,
        other => {
            let text = format!("{other:?}: no such verb (have: add, rm, weight, drain, maint, ready)");
            return Err(Reply::error(StatusCode::NOT_FOUND, text));
        }
    })
}

fn of<T: DeserializeOwned>(body: Value) -> Result<T, Reply> {
    serde_json::from_value(body).map_err(|error| bad(format!("body: {error}")))
}

fn bad(text: String) -> Reply {
    Reply::error(StatusCode::BAD_REQUEST, text)
}

type QueryOf<T> = Result<Query<T>, extract::rejection::QueryRejection>;

fn asked<T>(query: QueryOf<T>) -> Result<T, Reply> {
    query.map(|Query(query)| query).map_err(|error| bad(format!("query: {}", error.body_text())))
}

/// The body of a request that asks for something, by somebody who may, read within bounds. None is as good as `{}`.
struct Asked<T>(Client, T);

impl<T: DeserializeOwned> FromRequest<Sources> for Asked<T> {
    type Rejection = Reply;

    async fn from_request(request: Request<Body>, _: &Sources) -> Result<Self, Reply> {
        let client = request.extensions().get::<Client>().cloned();
        let client = client.ok_or_else(|| Reply::error(StatusCode::FORBIDDEN, "nobody knows who asks"))?;
        if !client.peer.may_change {
            let uid = client.peer.caller.uid;
            warn!("control socket: uid {uid}: refused: {} {}", request.method(), request.uri().path().escape_debug());
            let text = format!("uid {uid} may only read (GET): root and members of group {GROUP} may ask for more");
            return Err(Reply::error(StatusCode::FORBIDDEN, text));
        }
        let body = read_body(request.into_body()).await?;
        let body = if body.trim_ascii().is_empty() { b"{}" } else { &body[..] };
        let body = serde_json::from_slice(body).map_err(|error| bad(format!("body: {error}")))?;
        Ok(Asked(client, body))
    }
}

async fn read_body(body: Body) -> Result<Vec<u8>, Reply> {
    let too_large = || {
        let text = format!("body: larger than {MAX_BODY_BYTES} bytes");
        Reply::error(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    // What says that it is too large is not read at all.
    if hyper::body::Body::size_hint(&body).lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    match timeout(BODY_WITHIN, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(bad(format!("body: {error}"))),
        Err(_) => {
            let text = format!("body: not complete within {} s", BODY_WITHIN.as_secs());
            Err(Reply::error(StatusCode::REQUEST_TIMEOUT, text))
        }
    }
}

impl Sources {
    async fn read(&self, client: &Client, reading: Reading) -> Answer {
        client.phase.send_replace(Phase::Answer);
        // Kept until the answer may be sent: what waits for that is as large as what is being made.
        let permit = self.readings.clone().acquire_owned().await.ok();
        let reader = self.reader.clone();
        let failed = |error: anyhow::Error| Reply::unreadable(&error);
        let read = spawn_blocking(move || reader(reading));
        let page = read.await.map_err(|error| failed(error.into()))?.map_err(failed)?;
        Ok(Reply::page(page).holding(permit))
    }

    async fn ask(&self, client: &Client, command: Command) -> Answer {
        client.phase.send_replace(Phase::Answer);
        match timeout(ANSWER_WITHIN, self.agent.ask(client.peer.caller, command)).await {
            Ok(Ok(answer)) => Ok(Reply::answer(&answer)),
            Ok(Err(refused)) => Err(Reply::error(StatusCode::CONFLICT, refused)),
            Err(_) => {
                let within = ANSWER_WITHIN.as_secs();
                let text = format!("the agent has not answered within {within} s; it may still obey (weir events)");
                Err(Reply::error(StatusCode::GATEWAY_TIMEOUT, text))
            }
        }
    }

    /// As [`Sources::ask`]; if the reason why not is a file's faults, these are the answer.
    async fn ask_about(&self, client: &Client, command: Command, file: Option<PathBuf>) -> Answer {
        let refused = match self.ask(client, command).await {
            Err(refused) if refused.status == StatusCode::CONFLICT => refused,
            answer => return answer,
        };
        // Without a name it is the agent's own, as far as is known here.
        let (file, is_named) = (file.as_deref().unwrap_or(&self.config).to_owned(), file.is_some());
        Err(match spawn_blocking(move || config::load(&file)).await {
            Ok(Err(faults)) if is_named || refused.text().contains(&faults.one_line()) => Reply::invalid(&faults),
            _ => refused,
        })
    }

    /// The file that is to be read for a client. The agent reads as root and quotes what it does not understand, so others
    /// than root may only name what lies beside the agent's own.
    fn allowed(&self, client: &Client, file: Option<PathBuf>) -> Result<Option<PathBuf>, Reply> {
        let Some(file) = file else { return Ok(None) };
        let name = file.display();
        if !file.is_absolute() {
            return Err(bad(format!(
                "file \"{name}\": not an absolute path, and the agent has a directory of its own"
            )));
        }
        if client.peer.caller.uid == 0 {
            return Ok(Some(file));
        }
        let place = |path: &Path| path.canonicalize().ok();
        let directory = self.config.parent().unwrap_or(Path::new("/"));
        let (found, allowed) = (place(&file), place(directory));
        match (found, allowed) {
            (Some(found), Some(allowed)) if found.parent() == Some(&allowed) => Ok(Some(found)),
            _ => {
                let text = format!("file \"{name}\": only root may name files that are not in {}", directory.display());
                Err(Reply::error(StatusCode::FORBIDDEN, text))
            }
        }
    }

    /// What a drain over some time will have cost.
    async fn drain_warning(&self, client: &Client, service: &str, backend: IpAddr, over: Duration) -> Option<String> {
        let reading = Reading::Services { only: Some(service.to_owned()), columns: Columns::Plain };
        let read = self.read(client, reading).await.ok()?;
        let service = read.json().get("services")?.get(0)?;
        let of_service = service["backends"].as_array()?;
        let owned = of_service.iter().find(|known| known["address"] == json!(backend))?["owned"].as_f64()?;
        let share = 100.0 * owned / service["slots"].as_f64()?;
        (owned > 0.0).then(|| {
            format!(
                "within {} s, step by step, established connections in all its slots end ({share:.1} % of this service's), until \
                 backends can hand packets on",
                over.as_secs()
            )
        })
    }
}
