//! Those who are notified: what they get, and that nobody suffers where they take nothing.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::mpsc,
    thread,
};

use lb_userspace::lab::{Host, wait_for, wait_until};
use serde_json::Value;

use crate::{metrics::scrape, net::*};

const WEB: &str = r#"
    [service.web]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
"#;
const URL: &str = "http://10.1.0.100";

#[test]
fn webhook_alertmanager_and_command_are_told() {
    let mut net = Net::new("notify", 2);
    let hook = listen(&net.client, "10.1.0.9:8080");
    let alertmanager = Alertmanager::start(&net.balancer);
    let (told, script) = script(&net.balancer, "cat >> TOLD");
    let notify = format!(
        "[notify]\nwebhook = \"http://10.1.0.9:8080/hook?key=secret\"\nalertmanager = \"http://{ALERTMANAGER}\"\n\
         command = [\"{}\"]\n",
        script.display()
    );
    let config = config(&format!("{notify}{WEB}"));
    net.set_up(&["web"], &config);
    net.serve(80);
    net.run(&config, &[]);
    net.write(&config.replace("10.1.0.12", "10.1.0.256"));
    assert_eq!(net.weir(&["apply"]).status.code(), Some(3));

    let (head, message) = hook.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST /hook?key=secret HTTP/1.1\r\n") && head.contains("host: 10.1.0.9:8080"), "{head}");
    assert_eq!(
        (&message["version"], &message["changes"][0]["kind"]),
        (&1.into(), &"configuration".into()),
        "{message}"
    );
    assert_eq!((&message["changes"][0]["ok"], &message["left_out"]), (&false.into(), &0.into()));
    assert!(message["text"].as_str().unwrap().contains("10.1.0.256"), "{message}");
    let alerts = wait_for("the alert", PATIENCE, || Some(alertmanager.active()).filter(|alerts| !alerts.is_empty()));
    assert_eq!(alerts.unwrap(), ["WeirReloadFailed"]);

    net.write(&config);
    assert!(net.weir(&["apply"]).status.success());
    let (_, message) = hook.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&message["changes"][0]["ok"], &message["changes"][0]["times"]), (&true.into(), &1.into()), "{message}");
    wait_until("the alert's end", PATIENCE, || alertmanager.active().is_empty()).unwrap();
    wait_until("two messages for the program", PATIENCE, || {
        fs::read_to_string(&told).is_ok_and(|told| told.lines().count() == 2)
    })
    .unwrap();
    let lines = fs::read_to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Value>(lines.lines().next().unwrap()).unwrap()["changes"][0]["ok"], false);

    wait_until("all are counted", PATIENCE, || {
        let status = net.json(&["status"]);
        let receivers = status["receivers"].as_array().unwrap();
        receivers.len() == 3 && receivers.iter().all(|receiver| receiver["sent"] == 2 && receiver["error"].is_null())
    })
    .unwrap();
    let text = String::from_utf8(net.weir(&["status"]).stdout).unwrap();
    assert!(text.contains("webhook http://10.1.0.9:8080: 2 sent, the last taken"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    wait_until("metrics say so", PATIENCE, || {
        let page = scrape(&net.balancer, "127.0.0.1:9580");
        page.contains("weir_notifications_total{receiver=\"webhook http://10.1.0.9:8080\",result=\"sent\"} 2\n")
    })
    .unwrap();
}

/// By TLS, where the host trusts the receiver; and not where it does not.
#[test]
fn a_webhook_by_https_is_told() {
    let mut net = Net::new("notify-https", 2);
    let place = net.client.directory();
    let file = |name: &str| place.join(name).display().to_string();
    let (key, certificate, settings) = (file("key.pem"), file("certificate.pem"), file("nginx.conf"));
    let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=hook \
                -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:10.1.0.9";
    let make: Vec<_> = make.split_whitespace().chain(["-keyout", &key, "-out", &certificate]).collect();
    net.client.output("openssl", &make).unwrap();
    let place = place.display();
    let text = format!(
        r#"daemon off; master_process off; pid "{place}/nginx.pid"; error_log "{place}/error.log"; events {{ }}
        http {{
            access_log off; client_body_temp_path "{place}/a"; proxy_temp_path "{place}/b"; fastcgi_temp_path "{place}/c";
            uwsgi_temp_path "{place}/d"; scgi_temp_path "{place}/e";
            server {{
                listen 8443 ssl;
                ssl_certificate "{certificate}"; ssl_certificate_key "{key}";
                location / {{ proxy_pass http://127.0.0.1:8080; }}
            }}
        }}"#
    );
    fs::write(&settings, text).unwrap();
    let hook = listen(&net.client, "127.0.0.1:8080");
    let _nginx =
        net.client.spawn("nginx", net.client.command("nginx").args(["-c", &settings, "-e", "stderr"])).unwrap();
    let config = config(&format!("[notify]\nwebhook = \"https://10.1.0.9:8443/hook\"\n{WEB}"));
    let configuration = net.write(&config);
    for trusted in [false, true] {
        let mut command = net.balancer.command(weir());
        command.arg("--pins").arg(net.balancer.pins()).arg("run").arg("--config").arg(&configuration);
        command.arg("--state").arg(net.balancer.directory());
        if trusted {
            command.env("SSL_CERT_FILE", &certificate);
        }
        let mut agent = net.balancer.spawn("weir", &mut command).unwrap();
        agent.wait_to_say("services: ", PATIENCE).unwrap();
        net.agent = Some(agent);
        net.write("garbage");
        assert_eq!(net.weir(&["apply"]).status.code(), Some(3));
        if trusted {
            let told = hook.recv_timeout(PATIENCE);
            let (head, message) = told.unwrap_or_else(|_| panic!("{}", net.json(&["status"])["receivers"]));
            assert!(head.starts_with("POST /hook "), "{head}");
            assert_eq!(message["changes"][0]["kind"], "configuration", "{message}");
        } else {
            wait_until("a stranger is not told", PATIENCE, || {
                net.json(&["status"])["receivers"][0]["error"].as_str().is_some_and(|error| error.contains("tls"))
            })
            .unwrap();
            assert!(hook.try_recv().is_err());
        }
        net.write(&config);
        net.agent().stop(PATIENCE).unwrap();
    }
}

#[test]
fn an_interface_that_is_lost_is_told_of() {
    let mut net = Net::new("notify-lost", 2);
    let (told, script) = script(&net.balancer, "cat >> TOLD");
    net.run(&config(&format!("[notify]\ncommand = [\"{}\"]\n{WEB}", script.display())), &[]);
    for (state, ok) in [("down", false), ("up", true)] {
        net.balancer.ip(&format!("link set eth0 {state}")).unwrap();
        let change = wait_for(state, PATIENCE, || {
            let lines = fs::read_to_string(&told).unwrap_or_default();
            let last: Value = serde_json::from_str(lines.lines().last()?).ok()?;
            Some(last["changes"][0].clone()).filter(|change| change["ok"] == ok)
        });
        let change = change.unwrap();
        assert_eq!((&change["kind"], &change["interface"]), (&"interface".into(), &"eth0".into()), "{change}");
    }
    let events = net.json(&["events"]);
    let kinds: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| (&event["kind"], &event["ok"])).collect();
    assert_eq!(kinds, [(&"interface".into(), &false.into()), (&"interface".into(), &true.into())], "{events}");
}

#[test]
fn backends_that_fail_together_are_one_message() {
    const BACKENDS: usize = 40;
    let mut net = Net::new("notify-many", 1);
    // One host stands for all.
    net.balancer.ip("addr add 10.1.4.254/24 dev eth0").unwrap();
    for number in 1..=BACKENDS {
        net.backends[0].ip(&format!("addr add 10.1.4.{number}/24 dev eth0")).unwrap();
    }
    let hook = listen(&net.client, "10.1.0.9:8080");
    let services = "[notify]\nwebhook = \"http://10.1.0.9:8080\"\n\
                    [service.web]\nvip = \"10.1.0.100:80\"\nbackends = \"10.1.4.1-40\"\ncheck = \"tcp\"\n";
    net.set_up(&["web"], &config(services));
    net.serve(80);
    net.run(&config(services), &[]);
    for ok in [false, true] {
        if ok {
            net.serve(80)
        } else {
            net.servers.clear()
        }
        let (_, message) = hook.recv_timeout(PATIENCE).unwrap();
        let changes = message["changes"].as_array().unwrap();
        let of_backends = changes.iter().filter(|change| change["kind"] == "backend" && change["ok"] == ok).count();
        assert_eq!(of_backends, BACKENDS, "{message}");
        let reason = if ok { "again" } else { "refused" };
        assert!(changes.iter().any(|change| change["text"].as_str().unwrap().contains(reason)), "{message}");
    }
    assert_eq!(net.json(&["status"])["receivers"][0]["sent"], 2);
    let page = scrape(&net.balancer, "127.0.0.1:9580");
    let up = |line: &&str| line.starts_with("weir_backend_up{") && line.ends_with(" 1");
    assert_eq!(page.lines().filter(up).count(), BACKENDS, "{page}");
    assert!(page.contains("weir_check_last_error{service=\"web\",backend=\"10.1.4.1\",check=\"tcp\""), "{page}");
}

#[test]
fn a_flood_is_told_of() {
    let mut net = Net::new("notify-flood", 2);
    let hook = listen(&net.client, "10.1.0.9:8080");
    let notify = "[notify]\nwebhook = \"http://10.1.0.9:8080\"\n[syn]\nthreshold = \"50/s\"\n";
    net.run(&config(&format!("{notify}{WEB}")), &[]);
    let mut flood = net.client.command("hping3");
    flood.args(["-S", "-w", "0", "-p", "80", "-i", "u2000", "--rand-source", "10.1.0.100"]);
    let _flood = net.client.spawn("hping3", &mut flood).unwrap();
    let (_, message) = hook.recv_timeout(PATIENCE).unwrap();
    let change = &message["changes"][0];
    assert_eq!((&change["kind"], &change["service"]), (&"flood".into(), &"web".into()), "{message}");
    assert_eq!(change["ok"], false, "{message}");
}

#[test]
fn receivers_that_take_nothing_hurt_nobody() {
    let mut net = Net::new("notify-dead", 2);
    // Takes connections and never answers.
    let _deaf = net.client.within(|| Ok(TcpListener::bind("10.1.0.9:8081")?)).unwrap();
    let hook = listen(&net.client, "10.1.0.9:8080");
    let (told, script) = script(&net.balancer, "sleep 1000 & echo $! > TOLD; sleep 1000");
    let notify = format!(
        "[notify]\ncommand = [\"{}\"]\n\
         webhook = [\"http://10.1.0.9:1\", \"http://10.1.0.9:8081\", \"http://10.1.0.9:8080\", \"https://10.1.0.9:8080\"]\n",
        script.display()
    );
    let config = config(&format!("{notify}{WEB}"));
    net.set_up(&["web"], &config);
    net.serve(80);
    net.run(&config, &[]);
    net.write("garbage");
    assert_eq!(net.weir(&["apply"]).status.code(), Some(3));
    hook.recv_timeout(PATIENCE).unwrap();
    let child = wait_for("the program runs", PATIENCE, || fs::read_to_string(&told).ok()?.trim().parse::<u32>().ok());
    let child = child.unwrap();
    net.ask(URL, 20);
    net.write(&config);
    assert!(net.weir(&["apply"]).status.success());
    hook.recv_timeout(PATIENCE).unwrap();
    let errors = || {
        let status = net.json(&["status"]);
        let receivers = status["receivers"].as_array().unwrap().clone();
        receivers.iter().map(|receiver| receiver["error"].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    let all = wait_for("their faults are shown", PATIENCE, || {
        Some(errors()).filter(|errors| errors.iter().filter(|error| !error.is_empty()).count() == 4)
    });
    let [refused, taken, deaf, tls, program] = &all.unwrap()[..] else { panic!("five receivers") };
    assert!(refused.contains("refused"), "{refused}");
    assert_eq!(taken, "");
    assert!(deaf.contains("not done within 10 s"), "{deaf}");
    assert!(tls.contains("tls"), "{tls}");
    assert!(program.contains("not done within 10 s"), "{program}");
    // One that has ended has no words any more, whether somebody has waited for it or not.
    let words = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
    assert!(words.is_empty(), "{child}: what the program has started outlives it");
    let text = String::from_utf8(net.weir(&["status"]).stdout).unwrap();
    assert!(text.contains("notify: webhook http://10.1.0.9:1: connect"), "{text}");
}

const ALERTMANAGER: &str = "127.0.0.1:9093";

/// A real one.
struct Alertmanager {
    host: Host,
    _running: lb_userspace::lab::Running,
}

impl Alertmanager {
    fn start(host: &Host) -> Self {
        let file = host.directory().join("alertmanager.yml");
        fs::write(&file, "route: { receiver: nobody, group_wait: 1s }\nreceivers: [ { name: nobody } ]\n").unwrap();
        let mut command = host.command("prometheus-alertmanager");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.path={}", host.directory().join("alertmanager").display()));
        command.args([&format!("--web.listen-address={ALERTMANAGER}"), "--cluster.listen-address="]);
        let running = host.spawn("alertmanager", &mut command).unwrap();
        let alertmanager = Alertmanager { host: host.clone(), _running: running };
        wait_until("Alertmanager answers", PATIENCE, || alertmanager.ask().is_ok()).unwrap();
        alertmanager
    }

    fn ask(&self) -> anyhow::Result<String> {
        self.host.output("curl", &["-s", "-S", "-f", &format!("http://{ALERTMANAGER}/api/v2/alerts")])
    }

    /// The names of the alerts that fire.
    fn active(&self) -> Vec<String> {
        let alerts: Vec<Value> = serde_json::from_str(&self.ask().unwrap()).unwrap();
        alerts.iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

/// Takes requests on a host, one a connection, and answers 200; their heads and bodies come out here.
pub fn listen(host: &Host, address: &str) -> mpsc::Receiver<(String, Value)> {
    let listener = host.within(|| Ok(TcpListener::bind(address)?)).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let length = head.to_ascii_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let Some(length) = length else { continue };
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            // The test may be over.
            let _ = sender.send((head, serde_json::from_slice(&body).unwrap()));
        }
    });
    receiver
}

/// A program on a host, and the file that it may write to, which it calls TOLD.
fn script(host: &Host, text: &str) -> (PathBuf, PathBuf) {
    let (told, script) = (host.directory().join("told"), host.directory().join("tell"));
    fs::write(&script, format!("#!/bin/sh\n{}\n", text.replace("TOLD", told.to_str().unwrap()))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    (told, script)
}
