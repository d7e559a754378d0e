//! The control socket against an agent that obeys everything and writes it down: what it is asked, who may ask, what a client
//! can do that is stuck, slow or hostile, and every example of docs/api.md.

#![allow(clippy::unwrap_used)]

mod manual;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use lb_userspace::{
    agent::{
        command::{self, Answer, Applied, Caller, Command as Asked, Event, Kind},
        ports::Ports,
    },
    control::{Control, MAX_BODY_BYTES, Reader, Readers, socket::default_path},
    overrides::Verb,
    plan::diff::{Changes, SettingChange},
    readings::{NoSuchService, Page, Reading},
    report::Shared,
};
use nix::unistd::{Group, getegid, geteuid};
use serde_json::{Value, json};

/// Longer than anything here takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
const WEB: &str = "/v1/services/web/backends/10.0.0.11";

/// A served socket in a directory of its own.
struct Stub {
    control: Option<Control>,
    directory: PathBuf,
    asked: Arc<Mutex<Vec<(Caller, Asked)>>>,
}

/// Without metrics.
fn readers(tables: Reader) -> Readers {
    let (_, open) = Ports::new();
    Readers {
        capture: Arc::new(|_| anyhow::bail!("nothing to capture here")),
        tables,
        report: Shared::default(),
        metrics: (open, Arc::new(|| Ok(String::new()))),
    }
}

/// What a client is told.
struct Told {
    status: u16,
    exit: String,
    body: String,
}

impl Stub {
    fn new() -> Stub {
        Self::reading(Arc::new(|reading| Ok(page(&reading))))
    }

    fn reading(reader: Reader) -> Stub {
        let directory = directory();
        let (handle, mut requests) = command::channel();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        thread::spawn(move || {
            while let Some(request) = requests.blocking_recv() {
                let answer = obey(&request.command);
                noted.lock().unwrap().push((request.by, request.command));
                // Whoever asked may be gone.
                let _ = request.answer.send(answer);
            }
        });
        let control =
            Control::start(&directory.join("weir.sock"), handle, readers(reader), &directory.join("weir.toml"))
                .unwrap();
        Stub { control: Some(control), directory, asked }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("weir.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn get(&self, path: &str) -> Told {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: weir\r\n\r\n"))
    }

    fn get_text(&self, path: &str) -> Told {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: weir\r\nAccept: text/plain\r\n\r\n"))
    }

    fn post(&self, path: &str, body: &str) -> Told {
        let length = body.len();
        self.send(&format!("POST {path} HTTP/1.1\r\nHost: weir\r\nContent-Length: {length}\r\n\r\n{body}"))
    }

    fn send(&self, request: &str) -> Told {
        let mut stream = self.connect();
        // What is refused is not always taken whole.
        let _ = stream.write_all(request.as_bytes());
        told(stream)
    }

    /// The one thing that the agent was asked since the last time.
    fn asked(&self) -> Asked {
        let mut asked = self.asked.lock().unwrap();
        assert_eq!(asked.len(), 1, "{asked:?}");
        let (by, command) = asked.remove(0);
        assert_eq!(by, Caller { uid: geteuid().as_raw(), gid: getegid().as_raw() });
        command
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        drop(self.control.take());
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    let directory = std::env::temp_dir().join(format!("weir-{}-control{number}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn told(mut stream: UnixStream) -> Told {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect(&text);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let exit = head.lines().find_map(|line| line.strip_prefix("weir-exit: ")).unwrap_or_default().to_owned();
    Told { status, exit, body: body.to_owned() }
}

impl Told {
    fn json(&self) -> Value {
        let json: Value = serde_json::from_str(&self.body).expect(&self.body);
        assert_eq!(json["version"], 1, "{json}");
        json
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().expect(&self.body).to_owned()
    }
}

fn page(reading: &Reading) -> Page {
    let text = format!("{reading:?}");
    let backend = json!({ "address": "10.0.0.11", "weight": 1, "id": 1, "owned": 64 });
    let service = json!({
        "name": "web", "forward": "l2", "hash": "ports", "syn": "count", "slots": 256, "ring": 0,
        "vips": [{ "vip": "192.0.2.10:80", "id": 1 }], "backends": [backend],
        "next_hops": [{ "backend": "10.0.0.11", "state": "resolved", "mac": "02:00:00:00:00:0b", "interface": "eth0" }],
    });
    let json = match reading {
        Reading::Services { .. } => json!({ "services": [service] }),
        Reading::Status => json!({
            "weir": "0.1.0", "pins": "/sys/fs/bpf/weir", "agent": 4711, "configuration": "a", "tables": "b",
            "services": 1, "vips": 1, "backends": 1, "packets": 0, "dropped": 0, "interfaces": [], "metrics": [],
            "samples_lost": { "over_budget": 0, "ring_full": 0 }, "receivers": [], "warnings": [],
        }),
        Reading::Stats { .. } => json!({ "packets": 0, "verdicts": [], "services": [] }),
        Reading::Explain { .. } => json!({
            "verdict": "forwarded", "action": "transmit", "why": "", "service": "web", "backend": "10.0.0.11",
        }),
    };
    Page { text, json }
}

fn changes() -> Changes {
    let setting = SettingChange { key: "announce", from: "arp".into(), to: "none".into() };
    Changes { settings: vec![setting], services: Vec::new() }
}

fn obey(command: &Asked) -> Result<Answer, String> {
    Ok(match command {
        Asked::Apply { confirm, .. } => Answer::Applied(Applied {
            changes: changes(),
            confirm_within_s: confirm.map(|confirm| confirm.as_secs()),
            ..Applied::default()
        }),
        Asked::Change { service, .. } if service == "nowhere" => {
            return Err("service \"nowhere\": no such service (have: web)".into());
        }
        Asked::Change { .. } => Answer::Applied(Applied { took_us: 1_500, changes: changes(), ..Applied::default() }),
        Asked::Revert { .. } => Answer::Applied(Applied { cleared: Some(2), ..Applied::default() }),
        Asked::Plan { file: None } => Answer::Planned { changes: Changes::default(), notes: Vec::new() },
        Asked::Plan { file: Some(file) } if file.exists() => return Err("as the agent says it".into()),
        Asked::Plan { .. } => Answer::Planned { changes: changes(), notes: Vec::new() },
        Asked::Confirm => Answer::Confirmed { file: "/etc/weir/weir.toml".into() },
        Asked::Syn { off } => Answer::Syn { syn_off: *off },
        Asked::Announce(announce) => Answer::Announced { announce: *announce },
        Asked::Events => Answer::Events {
            events: vec![Event {
                time_ms: 1,
                kind: Kind::Reload,
                uid: Some(0),
                verb: "confirm".into(),
                ok: true,
                result: "stays".into(),
            }],
        },
    })
}

#[test]
fn every_question_reaches_the_agent_as_it_was_meant() {
    let stub = Stub::new();
    let change = |verb| Asked::Change { service: "web".into(), backend: "10.0.0.11".parse().unwrap(), verb };
    let of_web = |verb: &str| format!("{WEB}/{verb}");
    let minute = Duration::from_secs(60);
    for (path, body, expected) in [
        ("/v1/apply".to_owned(), "", Asked::Apply { file: None, confirm: None }),
        (
            "/v1/apply".to_owned(),
            r#"{"file":"/nowhere/a.toml","confirm_s":60}"#,
            Asked::Apply { file: Some("/nowhere/a.toml".into()), confirm: Some(minute) },
        ),
        ("/v1/confirm".to_owned(), "", Asked::Confirm),
        ("/v1/plan".to_owned(), "{}", Asked::Plan { file: None }),
        ("/v1/syn".to_owned(), r#"{"off":true}"#, Asked::Syn { off: true }),
        ("/v1/announce".to_owned(), r#"{"announce":false}"#, Asked::Announce(false)),
        ("/v1/revert".to_owned(), "", Asked::Revert { service: None, backend: None }),
        (
            "/v1/revert".to_owned(),
            r#"{"service":"web","backend":"10.0.0.11"}"#,
            Asked::Revert { service: Some("web".into()), backend: Some("10.0.0.11".parse().unwrap()) },
        ),
        (of_web("add"), "", change(Verb::Add { weight: None })),
        (of_web("add"), r#"{"weight":3}"#, change(Verb::Add { weight: Some(3) })),
        (of_web("rm"), "", change(Verb::Remove)),
        (of_web("weight"), r#"{"weight":0}"#, change(Verb::Weight(0))),
        (of_web("drain"), "", change(Verb::Drain { over: Duration::ZERO, steps: None })),
        (of_web("drain"), r#"{"over_s":60,"steps":6}"#, change(Verb::Drain { over: minute, steps: Some(6) })),
        (of_web("maint"), "", change(Verb::Maint)),
        (of_web("ready"), "", change(Verb::Ready)),
    ] {
        let told = stub.post(&path, body);
        assert_eq!((told.status, stub.asked()), (200, expected), "{path} {body}: {}", told.body);
        told.json();
    }
    let events = stub.get("/v1/events").json();
    assert_eq!((stub.asked(), &events["events"][0]["verb"]), (Asked::Events, &json!("confirm")));
}

#[test]
fn readings_come_in_both_forms() {
    let stub = Stub::new();
    for (path, reading) in [
        ("/v1/status", "Status"),
        ("/v1/services", "Services { only: None, columns: Plain }"),
        ("/v1/services/web?stats=true", "Services { only: Some(\"web\"), columns: Stats }"),
        ("/v1/services/a%2Fb?rate=true", "Services { only: Some(\"a/b\"), columns: Rate }"),
        ("/v1/stats?per_cpu=true", "Stats { per_cpu: true }"),
        (
            "/v1/explain?source=%5B2001:db8::1%5D:4711&vip=192.0.2.10:80&udp=true",
            "Explain { source: [2001:db8::1]:4711, vip: 192.0.2.10:80, udp: true }",
        ),
    ] {
        let told = stub.get_text(path);
        assert_eq!((told.status, told.exit.as_str(), told.body), (200, "0", format!("{reading}\n")), "{path}");
        assert!(stub.get(path).json().as_object().unwrap().len() > 1, "{path}");
    }
    assert!(stub.asked.lock().unwrap().is_empty(), "reading asks the agent nothing");
}

#[test]
fn what_is_wrong_is_named_and_never_reaches_the_agent() {
    let stub = Stub::new();
    let huge = format!("{{\"file\":\"/{}\"}}", "a".repeat(MAX_BODY_BYTES));
    for (told, status, reason) in [
        (stub.get("/v2/status"), 404, "\"/v2/status\": no such place"),
        (stub.get("/v1/apply"), 405, "GET \"/v1/apply\": GET reads"),
        (stub.post("/v1/status", ""), 405, "POST \"/v1/status\""),
        (stub.get("/v1/stats?cpu=1"), 400, "unknown field `cpu`"),
        (stub.get("/v1/explain?source=1&vip=2"), 400, "query: "),
        (stub.post("/v1/apply", "file"), 400, "body: expected"),
        (stub.post("/v1/apply", r#"{"fiel":"/a"}"#), 400, "unknown field `fiel`"),
        (stub.post("/v1/apply", r#"{"file":"a"}"#), 400, "not an absolute path"),
        (stub.post("/v1/apply", r#"{"confirm_s":-1}"#), 400, "body: invalid value"),
        (stub.post("/v1/revert", r#"{"backend":"10.0.0.11"}"#), 400, "of which service?"),
        (stub.post("/v1/announce", ""), 400, "missing field `announce`"),
        (stub.post("/v1/services/web/backends/eleven/rm", ""), 400, "backend \"eleven\": not an IP address"),
        (stub.post(&format!("{WEB}/remove"), ""), 404, "have: add, rm, weight, drain, maint, ready"),
        (stub.post(&format!("{WEB}/rm"), r#"{"weight":1}"#), 400, "unknown field `weight`"),
        (stub.post(&format!("{WEB}/weight"), ""), 400, "missing field `weight`"),
        (stub.post(&format!("{WEB}/weight"), r#"{"weight":70000}"#), 400, "body: "),
        (stub.post("/v1/apply", &huge), 413, "larger than 1048576 bytes"),
    ] {
        assert_eq!((told.status, told.exit.as_str()), (status, "1"), "{}", told.body);
        assert!(told.error().contains(reason), "{}", told.body);
    }
    assert!(stub.asked.lock().unwrap().is_empty());
}

#[test]
fn the_agent_refuses_in_its_own_words() {
    let stub = Stub::new();
    let told = stub.post("/v1/services/nowhere/backends/10.0.0.11/rm", "");
    assert_eq!((told.status, told.exit.as_str()), (409, "1"));
    assert_eq!(told.error(), "service \"nowhere\": no such service (have: web)");
}

#[test]
fn a_file_with_faults_is_answered_by_its_faults() {
    let stub = Stub::new();
    let file = stub.directory.join("weir.toml");
    fs::write(&file, "interfaec = \"eth0\"\n").unwrap();
    let told = stub.post("/v1/plan", &json!({ "file": file }).to_string());
    assert_eq!((told.status, told.exit.as_str(), told.error().as_str()), (422, "3", "invalid configuration"));
    assert!(told.json()["diagnostics"].to_string().contains("interfaec"), "{}", told.body);
}

#[test]
fn a_plan_with_changes_ends_the_command_line_with_4() {
    let stub = Stub::new();
    assert_eq!(stub.post("/v1/plan", "").exit, "0");
    let told = stub.post("/v1/plan", r#"{"file":"/nowhere/a.toml"}"#);
    assert_eq!((told.status, told.exit.as_str(), &told.json()["changes"]), (200, "4", &json!(true)));
}

#[test]
fn a_drain_over_some_time_says_what_it_will_have_cost() {
    let stub = Stub::new();
    let told = stub.post(&format!("{WEB}/drain"), r#"{"over_s":300}"#);
    let remarks = told.json()["remarks"].to_string();
    assert!(remarks.contains("within 300 s") && remarks.contains("25.0 % of this service's"), "{remarks}");
}

#[test]
fn the_file_is_for_root_and_the_group() {
    let stub = Stub::new();
    let found = fs::symlink_metadata(stub.path()).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    let group = Group::from_name("weir").unwrap().map_or(getegid(), |group| group.gid);
    assert_eq!((found.uid(), found.gid()), (geteuid().as_raw(), group.as_raw()));
    let path = stub.path();
    let directory = stub.directory.clone();
    let mut stub = stub;
    drop(stub.control.take());
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "{} goes with its agent", path.display());
}

#[test]
fn what_a_dead_agent_left_is_replaced_and_what_lives_is_not() {
    let directory = directory();
    let path = directory.join("weir.sock");
    let start = || Control::start(&path, command::channel().0, readers(Arc::new(|reading| Ok(page(&reading)))), &path);
    // Nobody listens once it is closed; the file stays.
    drop(UnixListener::bind(&path).unwrap());
    let control = start().unwrap();
    let error = start().err().unwrap().to_string();
    let own = format!("pid {} answers there", std::process::id());
    assert!(error.contains(&own) && error.contains("--socket"), "{error}");
    UnixStream::connect(&path).expect("the first is served as before");
    fs::remove_file(&path).unwrap();
    let second = start().expect("the name is free");
    drop(control);
    UnixStream::connect(&path).expect("the first took nothing with it that is the second's");
    drop(second);
    fs::write(&path, "").unwrap();
    let error = start().err().unwrap().to_string();
    assert!(error.contains("no socket"), "{error}");
    assert!(path.exists());
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn instances_have_sockets_of_their_own() {
    for (pins, socket) in [
        ("/sys/fs/bpf/weir", "/run/weir/weir.sock"),
        ("/sys/fs/bpf/weir-b", "/run/weir/weir-b.sock"),
        ("/sys/fs/bpf/a/b", "/run/weir/a-b.sock"),
        ("/mnt/bpf/weir/", "/run/weir/mnt-bpf-weir.sock"),
    ] {
        assert_eq!(default_path(Path::new(pins)), Path::new(socket), "{pins}");
    }
}

#[test]
fn others_may_read_and_not_change() {
    if !geteuid().is_root() {
        return eprintln!("not tried: needs root, to be somebody else");
    }
    let stub = Stub::new();
    fs::set_permissions(stub.path(), fs::Permissions::from_mode(0o666)).unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "--silent", "--show-error"]);
        output(command.arg("--unix-socket").arg(stub.path()).args(arguments))
    };
    assert_eq!(nobody(&["http://weir/v1/services"])["services"][0]["name"], "web");
    for path in ["/v1/apply", "/v1/plan", &format!("{WEB}/rm")] {
        let refused = nobody(&["--data", "{}", &format!("http://weir{path}")]);
        let error = refused["error"].as_str().unwrap();
        assert!(error.starts_with("uid 65534 may only read (GET): root and members of group weir"), "{error}");
    }
    assert!(stub.asked.lock().unwrap().is_empty());
}

#[test]
fn garbage_is_refused() {
    let stub = Stub::new();
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let mut noise: Vec<u8> = (0..100_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    noise.extend(b"\r\n\r\n");
    let sent: [&[u8]; 7] = [
        b"\r\n\r\n\r\n",
        b"\0\0\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/apply HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        long.as_bytes(),
        many.as_bytes(),
        &noise,
    ];
    for garbage in sent {
        let mut stream = stub.connect();
        // It may be refused before it was taken whole.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
        assert_eq!(stub.get("/v1/status").status, 200, "another is answered");
    }
    assert!(stub.asked.lock().unwrap().is_empty());
}

#[test]
fn a_thousand_idle_connections_keep_nobody_from_an_answer() {
    let stub = Stub::new();
    let mut idle: Vec<_> = (0..1_000).map(|_| stub.connect()).collect();
    for _ in 0..20 {
        assert_eq!(stub.get("/v1/status").status, 200);
        assert_eq!(stub.post("/v1/confirm", "").status, 200);
        idle.push(stub.connect());
    }
    // None is kept for ever.
    for mut stream in idle {
        match stream.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("an idle connection: {other:?}"),
        }
    }
}

#[test]
fn a_gigabyte_sent_slowly_is_neither_waited_for_nor_kept() {
    let stub = Stub::new();
    let begin = |length: &str| {
        let mut stream = stub.connect();
        let head = format!("POST /v1/apply HTTP/1.1\r\nHost: weir\r\n{length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    // One that says so is not even listened to.
    let announced = begin("Content-Length: 1073741824");
    assert_eq!(told(announced).status, 413);
    // Some that say nothing, and go on until they are cut off.
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = begin("Transfer-Encoding: chunked");
            thread::spawn(move || {
                let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
                let sent = (0..(1 << 30) / 0x1000).take_while(|_| {
                    thread::sleep(Duration::from_millis(1));
                    stream.write_all(chunk.as_bytes()).is_ok()
                });
                sent.count() * 0x1000
            })
        })
        .collect();
    // And some that stop in the middle of it.
    let mut stuck: Vec<_> = (0..200).map(|_| begin("Content-Length: 1000")).collect();
    for _ in 0..20 {
        assert_eq!(stub.get("/v1/status").status, 200);
        assert_eq!(stub.post("/v1/confirm", "").status, 200);
    }
    for sender in senders {
        let sent = sender.join().unwrap();
        assert!(sent < 4 * MAX_BODY_BYTES, "{sent} bytes were taken");
    }
    let last = stuck.pop().unwrap();
    assert_eq!(told(last).status, 408);
    let asked = stub.asked.lock().unwrap();
    assert!(asked.iter().all(|(_, command)| *command == Asked::Confirm), "{asked:?}");
}

#[test]
fn clients_that_do_not_read_their_answers_are_cut_off() {
    let large = || Page { text: "x".repeat(40 << 20), json: json!({}) };
    let stub = Stub::reading(Arc::new(move |reading| {
        Ok(if reading == (Reading::Stats { per_cpu: false }) { large() } else { page(&reading) })
    }));
    let deaf: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = stub.connect();
            stream.write_all(b"GET /v1/stats HTTP/1.1\r\nHost: weir\r\nAccept: text/plain\r\n\r\n").unwrap();
            stream
        })
        .collect();
    assert_eq!(stub.post("/v1/confirm", "").status, 200);
    assert_eq!(stub.get_text("/v1/stats").body.len(), (40 << 20) + 1, "who reads gets it, if after them");
    drop(deaf);
}

#[test]
fn a_reading_that_panics_is_one_answer_lost() {
    let stub = Stub::reading(Arc::new(|reading| match reading {
        Reading::Status => panic!("as a reading may"),
        reading => Ok(page(&reading)),
    }));
    for _ in 0..5 {
        assert_eq!(stub.get("/v1/status").status, 503);
        assert_eq!(stub.get("/v1/stats").status, 200);
    }
}

#[test]
fn who_went_away_is_obeyed_and_not_missed() {
    let stub = Stub::new();
    for _ in 0..100 {
        let mut stream = stub.connect();
        stream.write_all(b"POST /v1/confirm HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    }
    assert_eq!(stub.get("/v1/status").status, 200);
}

#[test]
fn the_examples_of_the_manual_hold() {
    // No service but web.
    let stub = Stub::reading(Arc::new(|reading| match &reading {
        Reading::Services { only: Some(only), .. } if only != "web" => Err(NoSuchService::new(only, &["web"]).into()),
        _ => Ok(page(&reading)),
    }));
    let examples = manual::examples(&stub.path());
    assert!(examples.len() > 10);
    for (command, expected) in examples {
        manual::assert_alike(&expected, &output(Command::new("sh").args(["-c", &command])), &command);
    }
}

fn output(command: &mut Command) -> Value {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stdout)))
}
