//! What was typed for the agent, as it is asked. Pure.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{
    capture::Wanted,
    cli::{Command, Filter, Switch, Target},
    control::client::{Question, part},
};

/// The question for a verb that needs the agent, or may take it where pins cannot be read; none for the others.
pub fn question(command: &Command) -> Option<Question> {
    Some(match command {
        Command::Apply { file, confirm } => Question::post(
            "/v1/apply",
            json!({ "file": file.as_deref().map(absolute), "confirm_s": confirm.map(|time| time.as_secs()) }),
        ),
        Command::Confirm => Question::post("/v1/confirm", json!({})),
        Command::Add { target, weight } => of_backend(target, "add", json!({ "weight": weight })),
        Command::Rm { target } => of_backend(target, "rm", json!({})),
        Command::Weight { target, weight } => of_backend(target, "weight", json!({ "weight": weight })),
        Command::Drain { target, over, steps } => {
            of_backend(target, "drain", json!({ "over_s": over.unwrap_or_default().as_secs(), "steps": steps }))
        }
        Command::Maint { target } => of_backend(target, "maint", json!({})),
        Command::Ready { target } => of_backend(target, "ready", json!({})),
        Command::Revert { service, backend } => {
            Question::post("/v1/revert", json!({ "service": service, "backend": backend }))
        }
        Command::Events { follow } => Question::get(if *follow { "/v1/events?follow=true" } else { "/v1/events" }),
        Command::Plan { file, .. } => Question::post("/v1/plan", json!({ "file": absolute(file) })),
        Command::Announce { state } => Question::post("/v1/announce", json!({ "announce": *state == Switch::On })),
        Command::Syn { state } => Question::post("/v1/syn", json!({ "off": *state == Filter::Off })),
        Command::Status => Question::get("/v1/status"),
        Command::Ls { service, stats, rate } => {
            let service = service.iter().map(|service| format!("/{}", part(service))).collect::<String>();
            Question::get(format!("/v1/services{service}?stats={stats}&rate={rate}"))
        }
        Command::Stats { per_cpu, .. } => Question::get(format!("/v1/stats?per_cpu={per_cpu}")),
        Command::Explain { source, vip } => Question::get(format!(
            "/v1/explain?source={}&vip={}&udp={}",
            part(&source.to_string()),
            part(&vip.address.to_string()),
            vip.udp
        )),
        Command::Capture { verdict, service, count, .. } => {
            Question::post("/v1/capture", json!(wanted(verdict, service, count)))
        }
        _ => return None,
    })
}

/// What a capture wants.
pub fn wanted(verdicts: &[String], service: &Option<String>, count: &Option<u64>) -> Wanted {
    Wanted { verdicts: verdicts.to_vec(), service: service.clone(), count: *count }
}

/// The agent has a directory of its own.
fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

fn of_backend(target: &Target, verb: &str, body: Value) -> Question {
    let Target { service, backend } = target;
    Question::post(format!("/v1/services/{}/backends/{}/{verb}", part(service), part(&backend.to_string())), body)
}
