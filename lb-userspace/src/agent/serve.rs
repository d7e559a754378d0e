//! What an agent does about commands.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::{
    Agent, Wanted,
    command::{Answer, Applied, Command, Event, Kind, Request},
    one_line,
    pending::Pending,
    said,
};
use crate::{
    notify::{Notice, Subject},
    overrides::{self, Verb},
    report::Reload,
};

/// How many events are remembered.
const EVENTS: usize = 1_000;

impl Agent {
    /// Does what is asked for, and answers.
    pub(super) async fn serve(&mut self, request: Request) {
        let Request { by, command, answer } = request;
        let (kind, verb, asks) =
            (command.kind(), command.to_string(), matches!(command, Command::Plan { .. } | Command::Events));
        let result = self.obey(command).await;
        if !asks {
            self.note(kind, Some(by.uid), &verb, "nothing was changed: ", result.as_ref().map(in_words));
        }
        // Whoever asked may have gone away.
        let _ = answer.send(result.map_err(|error| one_line(&error)));
    }

    /// Writes into the log and remembers what came of something; `fault` is what begins an error.
    pub(super) fn note(
        &mut self,
        kind: Kind,
        uid: Option<u32>,
        verb: &str,
        fault: &str,
        result: Result<String, &anyhow::Error>,
    ) {
        let by = uid.map(|uid| format!(" (uid {uid})")).unwrap_or_default();
        let ok = result.is_ok();
        let result = result.unwrap_or_else(|error| format!("{fault}{}", one_line(error)));
        if ok {
            info!("{verb}{by}: {result}, {}", self.running.extent);
        } else {
            error!("{verb}{by}: {result}");
        }
        self.report.update(|report| {
            let outcomes = report.events.entry(kind.label().to_owned()).or_default();
            *(if ok { &mut outcomes.done } else { &mut outcomes.failed }) += 1;
        });
        while self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event { time_ms: overrides::now_ms(), kind, uid, verb: verb.to_owned(), ok, result });
    }

    async fn obey(&mut self, command: Command) -> Result<Answer> {
        match command {
            Command::Apply { file, confirm } => self.apply_file(file, confirm).await.map(Answer::Applied),
            Command::Confirm => self.confirm(),
            Command::Change { service, backend, verb } => {
                self.change(&service, backend, verb).await.map(Answer::Applied)
            }
            Command::Revert { service, backend } => self.revert(service.as_deref(), backend).await.map(Answer::Applied),
            Command::Plan { file } => self.plan_file(file).await,
            Command::Announce(on) => self.announce(on),
            Command::Syn { off } => {
                self.datapath.set_syn_off(off);
                self.syn.off = off;
                Ok(Answer::Syn { syn_off: off })
            }
            Command::Events => Ok(Answer::Events { events: self.events.iter().cloned().collect() }),
        }
    }

    /// Reads a file and puts it into effect; to be confirmed within some time, if one is named.
    pub(super) async fn apply_file(&mut self, file: Option<PathBuf>, confirm: Option<Duration>) -> Result<Applied> {
        let wanted = self.wanted.read_again(file).inspect_err(|error| self.read_anew(Some(error)))?;
        let directory = self.options.state.clone();
        let pending = confirm.map(|confirm| {
            let until_ms = overrides::now_ms().saturating_add(confirm.as_millis().try_into().unwrap_or(u64::MAX));
            match &self.pending {
                // What was not confirmed is nothing to go back to.
                Some(earlier) => earlier.clone().again_at(until_ms),
                None => Pending::new(until_ms, self.wanted.file.clone(), self.wanted.texts.clone()),
            }
        });
        if let Some(pending) = &pending {
            pending.save(&directory)?;
        }
        let applied = self.apply(wanted).await;
        self.read_anew(applied.as_ref().err());
        match (&applied, &self.pending) {
            (Ok(_), _) => {
                if pending.is_none() {
                    Pending::forget(&directory)?;
                }
                self.pending = pending;
            }
            (Err(_), Some(earlier)) => earlier.save(&directory)?,
            (Err(_), None) if confirm.is_some() => Pending::forget(&directory)?,
            (Err(_), None) => {}
        }
        Ok(Applied { confirm_within_s: confirm.map(|confirm| confirm.as_secs()), ..applied? })
    }

    /// Takes note of what became of a configuration that was read.
    fn read_anew(&self, error: Option<&anyhow::Error>) {
        let subject = Subject::Configuration;
        let notice = match error.map(one_line) {
            Some(error) => {
                self.report.update(|report| report.reload.error = Some(error.clone()));
                Notice::bad(subject, format!("what was read last is not in effect: {error}"))
            }
            None => {
                self.report.update(|report| report.reload = Reload { done_ms: overrides::now_ms(), error: None });
                Notice::good(subject, "what was read last is in effect")
            }
        };
        self.notifier.tell(vec![notice]);
    }

    fn confirm(&mut self) -> Result<Answer> {
        ensure!(self.pending.is_some(), "nothing waits to be confirmed: what runs stays");
        Pending::forget(&self.options.state)?;
        self.pending = None;
        Ok(Answer::Confirmed { file: self.wanted.file.clone() })
    }

    async fn change(&mut self, service: &str, backend: IpAddr, verb: Verb) -> Result<Applied> {
        let mut wanted = self.wanted.clone();
        let remark = wanted.overrides.change(&wanted.config, service, backend, verb, overrides::now_ms())?;
        let mut applied = self.apply_and_save(wanted).await?;
        applied.remarks.extend(remark);
        Ok(applied)
    }

    async fn revert(&mut self, service: Option<&str>, backend: Option<IpAddr>) -> Result<Applied> {
        let mut wanted = self.wanted.clone();
        let cleared = wanted.overrides.revert(service, backend)?;
        Ok(Applied { cleared: Some(cleared), ..self.apply_and_save(wanted).await? })
    }

    /// Live first, then kept: the disk takes longer than the tables.
    async fn apply_and_save(&mut self, wanted: Wanted) -> Result<Applied> {
        let overrides = wanted.overrides.clone();
        let applied = self.apply(wanted).await?;
        let path = self.options.state.join(overrides::file::NAME);
        let saving = spawn_blocking(move || overrides::file::save(&path, &overrides));
        let saved = saving.await.context("saving the overrides failed")?;
        saved.context("it is live, but a restart will not know it")?;
        Ok(applied)
    }

    async fn plan_file(&mut self, file: Option<PathBuf>) -> Result<Answer> {
        let wanted = self.wanted.read_again(file)?;
        let (config, _, notes) = wanted.in_effect(&self.checker, overrides::now_ms());
        let tables = self.plan(&Arc::new(config)).await?;
        Ok(Answer::Planned { changes: self.would_change(&tables), notes })
    }

    fn announce(&mut self, on: bool) -> Result<Answer> {
        if on && !self.may_announce() {
            bail!("announce = \"none\" in the running configuration: set \"arp\" or \"manual\" there first");
        }
        self.datapath.set_announce(on);
        if on {
            self.tell_anew();
        } else {
            self.stop_telling();
        }
        Ok(Answer::Announced { announce: on })
    }
}

fn in_words(answer: &Answer) -> String {
    match answer {
        Answer::Applied(applied) => said(applied),
        Answer::Confirmed { file } => format!("{} stays", file.display()),
        Answer::Announced { announce } => format!("VIPs are {}announced", if *announce { "" } else { "no longer " }),
        Answer::Syn { syn_off } => crate::show::syn_text(*syn_off),
        Answer::Planned { .. } | Answer::Events { .. } => String::new(),
    }
}
