//! What a running agent does when it is asked, by whoever holds its channel.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use lb_userspace::{
    agent::{
        self, Options,
        command::{Answer, Applied, Caller, Command, Handle, channel},
    },
    datapath::Pins,
    lab::{Host, wait_for},
    overrides::Verb,
};
use tokio::sync::Notify;

use crate::{
    net::*,
    stream::{Wire, stream},
};

// A stream looks like a flood, and none of it shall be dropped.
const WEB: &str = r#"
    [service.web]
    syn = "count"
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
"#;
const URL: &str = "http://10.1.0.100";
const OPERATOR: Caller = Caller { uid: 1000, gid: 100 };

/// An agent inside this process; it ends as if it were killed.
struct Inside {
    handle: Handle,
    end: Arc<Notify>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Inside {
    fn start(net: &Net, config: &str) -> Inside {
        let (handle, requests) = channel();
        let end = Arc::new(Notify::new());
        let (host, ended, options) =
            (net.balancer.clone(), Arc::clone(&end), options(&net.balancer, net.write(config)));
        let (error, errors) = mpsc::channel();
        let run = move || {
            let pins = Pins::new(host.pins());
            let result = host.within(|| {
                runtime().block_on(async {
                    tokio::select! {
                        result = agent::run(&pins, &options, agent::Ends::new(requests)?.0, || Ok(())) => result,
                        () = ended.notified() => Ok(()),
                    }
                })
            });
            result.err().map(|fault| error.send(format!("{fault:#}")));
        };
        let inside = Inside { handle, end, thread: Some(thread::spawn(run)) };
        // Answers only once it has begun its work.
        if let Err(stopped) = inside.ask(Command::Events) {
            panic!("{stopped}: {:?}", errors.recv_timeout(PATIENCE));
        }
        inside
    }

    fn ask(&self, command: Command) -> Result<Answer, String> {
        runtime().block_on(self.handle.ask(OPERATOR, command))
    }

    fn apply(&self, command: Command) -> Applied {
        match self.ask(command) {
            Ok(Answer::Applied(applied)) => applied,
            other => panic!("{other:?}"),
        }
    }

    fn change(&self, backend: u8, verb: Verb) -> Result<Answer, String> {
        self.ask(Command::Change { service: "web".into(), backend: [10, 1, 0, backend].into(), verb })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.end.notify_one();
        self.thread.take().map(thread::JoinHandle::join);
    }
}

fn options(host: &Host, config: PathBuf) -> Options {
    Options { config, state: host.directory(), mode: None, detach_on_exit: false, force: false }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn network(name: &str, backends: u8) -> Net {
    let mut net = Net::new(name, backends);
    net.set_up(&["web"], &config(&WEB.replace("\"10.1.0.12\"", "\"10.1.0.12\", \"10.1.0.13\"")));
    net.serve(80);
    net
}

#[test]
fn verbs_act_at_once_survive_and_are_reverted() {
    let net = network("verbs", 3);
    let inside = Inside::start(&net, &config(WEB));
    let wire = Wire::of(&net);
    let delivered = stream(&wire, || {
        inside.change(13, Verb::Add { weight: Some(2) }).unwrap();
        inside.change(11, Verb::Maint).unwrap();
        inside.change(12, Verb::Weight(3)).unwrap();
    });
    assert_eq!(delivered.lost(), 0);
    assert_eq!(distinct(&net.ask(URL, 60)), ["backend2", "backend3"]);

    let refused = inside.change(14, Verb::Maint).unwrap_err();
    assert!(refused.contains("backend 10.1.0.14 is not in service \"web\""), "{refused}");
    let Answer::Events { events } = inside.ask(Command::Events).unwrap() else { panic!() };
    let typed: Vec<_> = events.iter().map(|event| (event.verb.as_str(), event.ok, event.uid)).collect();
    let by = Some(OPERATOR.uid);
    let expected = [
        ("add web 10.1.0.13 2", true, by),
        ("maint web 10.1.0.11", true, by),
        ("weight web 10.1.0.12 3", true, by),
        ("maint web 10.1.0.14", false, by),
    ];
    assert_eq!(typed, expected);

    // A restart, and a reload, keep what was said.
    drop(inside);
    let inside = Inside::start(&net, &config(WEB));
    let applied = inside.apply(Command::Apply { file: None, confirm: None });
    assert!(applied.changes.is_empty(), "{applied:?}");
    assert_eq!(distinct(&net.ask(URL, 60)), ["backend2", "backend3"]);

    let applied = inside.apply(Command::Revert { service: None, backend: None });
    assert_eq!(applied.cleared, Some(3));
    assert_eq!(distinct(&net.ask(URL, 60)), ["backend1", "backend2"]);
}

#[test]
fn a_drain_goes_by_steps_to_its_end() {
    let net = network("drain", 3);
    let inside = Inside::start(&net, &config(WEB));
    let over = Duration::from_secs(3);
    let wire = Wire::of(&net);
    let owned = || net.json(&["ls"])["services"][0]["backends"][0]["owned"].as_u64().unwrap();
    let (before, mut seen) = (owned(), Vec::new());
    let delivered = stream(&wire, || {
        inside.change(11, Verb::Drain { over, steps: Some(3) }).unwrap();
        wait_for("the end of the drain", PATIENCE, || {
            seen.push(owned());
            (seen.last() == Some(&0)).then_some(())
        })
        .unwrap();
    });
    assert_eq!(delivered.lost(), 0);
    assert!(seen.is_sorted_by(|a, b| a >= b) && seen.iter().any(|owned| *owned > 0 && *owned < before), "{seen:?}");
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend2"]);
    inside.change(11, Verb::Ready).unwrap();
    assert_eq!(owned(), before);
}

#[test]
fn what_is_not_confirmed_is_undone() {
    let net = network("confirm", 3);
    let inside = Inside::start(&net, &config(WEB));
    let other = config(&WEB.replace("10.1.0.12", "10.1.0.13"));
    let backends = |net: &Net| distinct(&net.ask(URL, 40)).join(" ");
    let confirm = |seconds| Command::Apply { file: None, confirm: Some(Duration::from_secs(seconds)) };

    net.write(&other);
    assert_eq!(inside.apply(confirm(60)).confirm_within_s, Some(60));
    assert_eq!(backends(&net), "backend1 backend3");
    inside.ask(Command::Confirm).unwrap();
    assert!(inside.ask(Command::Confirm).unwrap_err().contains("nothing waits"));

    net.write(&config(WEB));
    inside.apply(confirm(1));
    // The way back ends connections of slots that move.
    let undone = || {
        let answers = try_to_ask(&net.client, URL, 40).ok()?;
        (distinct(&answers) == ["backend1", "backend3"]).then_some(())
    };
    wait_for("the way back", PATIENCE, undone).unwrap();

    // The agent dies meanwhile.
    inside.apply(confirm(2));
    assert_eq!(backends(&net), "backend1 backend2");
    drop(inside);
    let inside = Inside::start(&net, &config(WEB));
    wait_for("the way back", PATIENCE, undone).unwrap();
    // And once more, until the time has passed.
    drop(inside);
    let inside = Inside::start(&net, &config(WEB));
    assert_eq!(backends(&net), "backend1 backend3");
    // An apply that is meant settles it.
    inside.apply(Command::Apply { file: None, confirm: None });
    drop(inside);
    let _inside = Inside::start(&net, &config(WEB));
    assert_eq!(backends(&net), "backend1 backend2");
}

#[test]
fn a_plan_changes_nothing_and_another_file_can_be_applied() {
    let net = network("plan-file", 3);
    let inside = Inside::start(&net, &config(WEB));
    let file = net.balancer.directory().join("other.toml");
    std::fs::write(&file, config(&WEB.replace("10.1.0.12", "10.1.0.13"))).unwrap();
    let before = net.json(&["ls"]);
    let Answer::Planned { changes, .. } = inside.ask(Command::Plan { file: Some(file.clone()) }).unwrap() else {
        panic!()
    };
    assert_eq!(net.json(&["ls"]), before);
    let applied = inside.apply(Command::Apply { file: Some(file), confirm: None });
    assert_eq!(applied.changes, changes, "what was announced is what came");
    assert_eq!(distinct(&net.ask(URL, 40)), ["backend1", "backend3"]);
    let missing = Command::Apply { file: Some("/nowhere.toml".into()), confirm: None };
    assert!(inside.ask(missing).unwrap_err().contains("/nowhere.toml"));
    inside.ask(Command::Announce(false)).unwrap();
    assert_eq!(resolves(&net.client, "10.1.0.100"), None);
}
