//! What an agent is asked for while it runs, by whom, and what it answers.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{
    overrides::{Note, Verb},
    plan::diff::Changes,
};

/// How many may wait for an agent that is busy; more wait before they are in.
const WAITING: usize = 64;

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Read the configuration and put it into effect.
    Apply {
        /// Another file than the one that runs; it stays the agent's file until another one is applied, or the agent ends.
        file: Option<PathBuf>,
        /// Go back after this time unless [`Command::Confirm`] comes before.
        confirm: Option<Duration>,
    },
    /// Keep what was applied to be confirmed.
    Confirm,
    /// An operator's verb for one backend of one service.
    Change {
        /// The service's name.
        service: String,
        /// The backend's address.
        backend: IpAddr,
        /// What to do with it.
        verb: Verb,
    },
    /// Take back what verbs did: to one backend, to one service, or all.
    Revert {
        /// Only this service.
        service: Option<String>,
        /// Only this backend of it.
        backend: Option<IpAddr>,
    },
    /// Say what a configuration would change, overrides included; the agent's own file if none is named.
    Plan {
        /// The configuration.
        file: Option<PathBuf>,
    },
    /// Announce the VIPs, or stop.
    Announce(bool),
    /// Stop all dropping of SYNs, or let it go on.
    Syn {
        /// Stop.
        off: bool,
    },
    /// What was asked of late, oldest first.
    Events,
}

/// As it is typed, for the log.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Command::Apply { file, confirm } => {
                let file = file.iter().map(|file| format!(" {}", file.display()));
                let confirm = confirm.iter().map(|confirm| format!(" --confirm {}s", confirm.as_secs()));
                format!("apply{}", file.chain(confirm).collect::<String>())
            }
            Command::Confirm => "confirm".to_owned(),
            Command::Change { service, backend, verb } => match verb {
                Verb::Add { weight: None } => format!("add {service} {backend}"),
                Verb::Add { weight: Some(weight) } => format!("add {service} {backend} {weight}"),
                Verb::Remove => format!("rm {service} {backend}"),
                Verb::Weight(weight) => format!("weight {service} {backend} {weight}"),
                Verb::Drain { over, .. } if over.is_zero() => format!("drain {service} {backend}"),
                Verb::Drain { over, .. } => format!("drain {service} {backend} --over {}s", over.as_secs()),
                Verb::Maint => format!("maint {service} {backend}"),
                Verb::Ready => format!("ready {service} {backend}"),
            },
            Command::Revert { service, backend } => {
                let service = service.iter().map(|service| format!(" {service}"));
                let backend = backend.iter().map(|backend| format!(" {backend}"));
                format!("revert{}", service.chain(backend).collect::<String>())
            }
            Command::Plan { file: None } => "plan".to_owned(),
            Command::Plan { file: Some(file) } => format!("plan {}", file.display()),
            Command::Announce(on) => format!("announce {}", if *on { "on" } else { "off" }),
            Command::Syn { off } => format!("syn {}", if *off { "off" } else { "on" }),
            Command::Events => "events".to_owned(),
        };
        f.write_str(&words)
    }
}

impl Command {
    /// What kind of event it makes.
    pub fn kind(&self) -> Kind {
        match self {
            Command::Apply { .. } | Command::Confirm | Command::Plan { .. } | Command::Events => Kind::Reload,
            Command::Change { .. } | Command::Revert { .. } => Kind::Override,
            Command::Announce(_) => Kind::Announce,
            Command::Syn { .. } => Kind::Filter,
        }
    }
}

/// What an agent says to a command that it obeyed.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To [`Command::Apply`], [`Command::Change`] and [`Command::Revert`]: it is live.
    Applied(Applied),
    /// To [`Command::Plan`].
    Planned {
        /// What would change.
        changes: Changes,
        /// Overrides without effect.
        notes: Vec<Note>,
    },
    /// To [`Command::Confirm`].
    Confirmed {
        /// The configuration that stays.
        file: PathBuf,
    },
    /// To [`Command::Announce`].
    Announced {
        /// Whether VIPs are announced now.
        announce: bool,
    },
    /// To [`Command::Syn`].
    Syn {
        /// Whether dropping is stopped now.
        syn_off: bool,
    },
    /// To [`Command::Events`].
    Events {
        /// Oldest first.
        events: Vec<Event>,
    },
}

/// What went live.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Applied {
    /// What is different now.
    pub changes: Changes,
    /// Overrides without effect.
    pub notes: Vec<Note>,
    /// What else there is to say, one sentence each.
    pub remarks: Vec<String>,
    /// Overrides that were cleared (`revert`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleared: Option<usize>,
    /// From the command to the packets, microseconds.
    pub took_us: u64,
    /// It goes back after this time unless it is confirmed, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_within_s: Option<u64>,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Caller {
    /// The user, by number.
    pub uid: u32,
    /// The group, by number.
    pub gid: u32,
}

/// What events are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A configuration that was read.
    #[default]
    Reload,
    /// What an operator said of single backends, and the steps of a drain.
    Override,
    /// Whether VIPs are announced.
    Announce,
    /// An attached interface.
    Interface,
    /// Which backends work, and addresses that are withdrawn or announced again for it.
    Health,
    /// The SYN filter, where it acts by itself.
    Filter,
}

impl Kind {
    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Reload => "reload",
            Kind::Override => "override",
            Kind::Announce => "announce",
            Kind::Interface => "interface",
            Kind::Health => "health",
            Kind::Filter => "filter",
        }
    }
}

/// Something that was asked for, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, by the wall clock: milliseconds since 1970.
    pub time_ms: u64,
    /// What it is about.
    #[serde(default)]
    pub kind: Kind,
    /// By whom; none if it was a signal or the time that had come.
    pub uid: Option<u32>,
    /// What, as it is typed.
    pub verb: String,
    /// It was done.
    pub ok: bool,
    /// What came of it, or why nothing did.
    pub result: String,
}

/// A command on its way to the agent.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub by: Caller,
    /// For what.
    pub command: Command,
    /// Where the answer goes; an error is one line that names thing, reason and way out.
    pub answer: oneshot::Sender<Result<Answer, String>>,
}

/// Where an agent is asked.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Request>);

/// Where an agent finds what it is asked.
pub type Requests = mpsc::Receiver<Request>;

/// The two ends.
pub fn channel() -> (Handle, Requests) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Handle(sender), receiver)
}

impl Handle {
    /// Asks, and waits for the answer. Dropped meanwhile, the command is obeyed all the same.
    pub async fn ask(&self, by: Caller, command: Command) -> Result<Answer, String> {
        let gone = || "the agent is stopping: nothing was changed by this command".to_owned();
        let (answer, answered) = oneshot::channel();
        self.0.send(Request { by, command, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_comes_back_to_whoever_asked() {
        let (handle, mut requests) = channel();
        let by = Caller { uid: 1000, gid: 100 };
        let agent = async {
            let request = requests.recv().await.unwrap();
            assert_eq!((request.by, &request.command), (by, &Command::Announce(true)));
            request.answer.send(Ok(Answer::Announced { announce: true })).unwrap();
        };
        let (answer, ()) = tokio::join!(handle.ask(by, Command::Announce(true)), agent);
        assert_eq!(answer, Ok(Answer::Announced { announce: true }));
        drop(requests);
        assert!(handle.ask(by, Command::Confirm).await.unwrap_err().contains("stopping"));
    }

    #[test]
    fn commands_are_logged_as_they_are_typed() {
        let backend = "192.0.2.1".parse().unwrap();
        let change = |verb| Command::Change { service: "web".into(), backend, verb };
        let rows = [
            (Command::Apply { file: None, confirm: None }, "apply"),
            (
                Command::Apply { file: Some("/a".into()), confirm: Some(Duration::from_secs(60)) },
                "apply /a --confirm 60s",
            ),
            (change(Verb::Remove), "rm web 192.0.2.1"),
            (change(Verb::Drain { over: Duration::from_secs(300), steps: None }), "drain web 192.0.2.1 --over 300s"),
            (Command::Revert { service: Some("web".into()), backend: None }, "revert web"),
        ];
        for (command, typed) in rows {
            assert_eq!(command.to_string(), typed);
        }
    }
}
