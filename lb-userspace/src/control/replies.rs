//! What clients are answered, in both forms: text as the command line prints it, JSON as its `-o json` does.

use std::{
    io,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Error, Result};
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    agent::command::{Answer, Applied, Event},
    clock::utc,
    config::ConfigError,
    plan::diff::Changes,
    readings::{NoSuchService, Page},
    report::Report,
    show,
};

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What HTTP says of it.
    pub status: StatusCode,
    /// What the command line ends with.
    pub exit: u8,
    page: Page,
    /// What comes instead of a page, piece by piece.
    stream: Option<Stream>,
    /// What it took; given back with it.
    _held: Option<Arc<OwnedSemaphorePermit>>,
}

/// Pieces of an answer that has no end, for whoever takes them first.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What HTTP calls it.
    pub kind: &'static str,
    pieces: Arc<Mutex<Option<mpsc::Receiver<Piece>>>>,
}

/// What comes next; an error breaks the answer off.
pub type Piece = io::Result<Bytes>;

impl Stream {
    /// What comes out of a channel.
    pub fn new(kind: &'static str, pieces: mpsc::Receiver<Piece>) -> Stream {
        Stream { kind, pieces: Arc::new(Mutex::new(Some(pieces))) }
    }

    /// The pieces, once.
    pub fn take(&self) -> Option<mpsc::Receiver<Piece>> {
        self.pieces.lock().ok()?.take()
    }
}

/// The forms of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Reply {
    /// What was read.
    pub fn page(page: Page) -> Reply {
        Reply { status: StatusCode::OK, exit: 0, page, stream: None, _held: None }
    }

    /// Nothing was done.
    pub fn error(status: StatusCode, text: impl Into<String>) -> Reply {
        let text = text.into();
        Reply { status, exit: 1, ..Reply::page(Page { json: json!({ "error": text }), text }) }
    }

    /// A configuration has faults.
    pub fn invalid(error: &ConfigError) -> Reply {
        let json = json!({ "error": "invalid configuration", "diagnostics": error.to_json() });
        let page = Page { text: error.render(false), json };
        Reply { status: StatusCode::UNPROCESSABLE_ENTITY, exit: 3, ..Reply::page(page) }
    }

    /// A reading failed.
    pub fn unreadable(error: &Error) -> Reply {
        let status = if error.is::<NoSuchService>() { StatusCode::NOT_FOUND } else { StatusCode::SERVICE_UNAVAILABLE };
        Reply::error(status, format!("{error:#}"))
    }

    /// What the agent says to a command that it obeyed.
    pub fn answer(answer: &Answer) -> Reply {
        match answer {
            Answer::Applied(applied) => Reply::page(self::applied(applied)),
            Answer::Planned { changes, notes } => {
                let lines = [show::changes::text(changes)].into_iter().chain(notes.iter().map(ToString::to_string));
                let text = lines.collect::<Vec<_>>().join("\n");
                let json = json!({ "changes": !changes.is_empty(), "plan": changes, "notes": notes });
                Reply { exit: if changes.is_empty() { 0 } else { 4 }, ..Reply::page(Page { text, json }) }
            }
            Answer::Confirmed { file } => {
                let text = format!("confirmed: {} stays", file.display());
                Reply::page(Page { text, json: json!({ "confirmed": file }) })
            }
            Answer::Announced { announce } => {
                let text = show::announce_text(*announce);
                Reply::page(Page { text, json: json!({ "announce": announce }) })
            }
            Answer::Syn { syn_off } => {
                Reply::page(Page { text: show::syn_text(*syn_off), json: json!({ "syn_off": syn_off }) })
            }
            Answer::Events { events } => {
                let text = events.iter().map(event_text).collect::<Vec<_>>().join("\n");
                Reply::page(Page { text, json: json!({ "events": events }) })
            }
        }
    }

    /// What comes piece by piece.
    pub fn streaming(stream: Stream, permit: OwnedSemaphorePermit) -> Reply {
        let page = Page { text: String::new(), json: Value::Null };
        Reply { stream: Some(stream), ..Reply::page(page) }.holding(Some(permit))
    }

    /// The pieces, if it is one of those.
    pub fn stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    /// Keeps something until nothing is left of this.
    pub fn holding(self, permit: Option<OwnedSemaphorePermit>) -> Reply {
        Reply { _held: permit.map(Arc::new), ..self }
    }

    /// What people are told.
    pub fn text(&self) -> &str {
        &self.page.text
    }

    /// What programs are told, without the version.
    pub fn json(&self) -> &Value {
        &self.page.json
    }

    /// Adds a sentence.
    pub fn remark(mut self, remark: String) -> Reply {
        if let Some(Value::Array(remarks)) = self.page.json.get_mut("remarks") {
            remarks.push(json!(remark));
        }
        self.page.text = format!("{}\n{remark}", self.page.text);
        self
    }

    /// The body, which ends with a line's end.
    pub fn body(&self, form: Form) -> String {
        match form {
            Form::Text if self.page.text.is_empty() => String::new(),
            Form::Text => format!("{}\n", self.page.text),
            Form::Json => format!("{}\n", show::json_text(&self.page.json)),
        }
    }
}

/// Kept whole in the response until it is known which form is wanted.
impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

fn applied(applied: &Applied) -> Page {
    let Applied { changes, notes, remarks, cleared, took_us, confirm_within_s } = applied;
    let mut lines = Vec::new();
    lines.extend(cleared.map(|cleared| format!("overrides cleared: {cleared}")));
    lines.push(changes_text(changes));
    lines.extend(notes.iter().map(ToString::to_string));
    lines.extend(remarks.iter().cloned());
    if !changes.is_empty() {
        lines.push(format!("live after {:.1} ms", *took_us as f64 / 1_000.0));
    }
    lines
        .extend(confirm_within_s.map(|seconds| format!("goes back in {seconds} s unless `weir confirm` comes before")));
    let mut json = json!({
        "changes": !changes.is_empty(), "applied": changes, "notes": notes, "remarks": remarks, "took_us": took_us,
    });
    for (key, value) in [("cleared", cleared.map(|n| n as u64)), ("confirm_within_s", *confirm_within_s)] {
        if let Some(value) = value {
            json[key] = json!(value);
        }
    }
    Page { text: lines.join("\n"), json }
}

fn changes_text(changes: &Changes) -> String {
    if changes.is_empty() { "nothing changed".to_owned() } else { show::changes::text(changes) }
}

/// The report of an answer in JSON.
pub fn agent_report(body: &str) -> Result<Report> {
    #[derive(Deserialize)]
    struct Body {
        agent: Report,
    }
    let body: Body = serde_json::from_str(body).context("the agent's report is none that this weir knows")?;
    Ok(body.agent)
}

/// One line, whatever the result was.
pub fn event_text(event: &Event) -> String {
    let Event { time_ms, uid, verb, ok, result, .. } = event;
    let by = uid.map_or("by itself".to_owned(), |uid| format!("uid {uid}"));
    let how = if *ok { "done" } else { "refused" };
    let result: Vec<_> = result.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let result = if result.is_empty() { String::new() } else { format!(": {}", result.join("; ")) };
    format!("{}  {by}  {verb}  {how}{result}", utc(*time_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::command::Kind;

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            time_ms: 0,
            kind: Kind::Reload,
            uid: Some(7),
            verb: "apply".into(),
            ok: false,
            result: "a:\n\n  b\n".into(),
        };
        assert_eq!(event_text(&event), "1970-01-01T00:00:00.000Z  uid 7  apply  refused: a:; b");
        let event = Event { uid: None, ok: true, result: String::new(), ..event };
        assert_eq!(event_text(&event), "1970-01-01T00:00:00.000Z  by itself  apply  done");
    }
}
