//! The files in monitoring/, with the real Prometheus and its linter: rules that fire when they should, and a dashboard whose every
//! query finds something while an agent is under traffic.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lb_userspace::lab::{Host, Running, wait_for, wait_until};
use serde_json::Value;

use crate::net::*;

const PROMETHEUS: &str = "127.0.0.1:9090";

#[test]
fn rules_are_valid_and_fire_when_they_should() {
    for verb in ["check", "test"] {
        let file = monitoring(if verb == "check" { "weir.rules.yml" } else { "weir.rules.test.yml" });
        let output = Command::new("promtool").args([verb, "rules"]).arg(file).output().unwrap();
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), said(&output));
    }
}

/// Nothing in the dashboard is excused: what would be empty in quiet times, this makes happen.
#[test]
fn every_query_finds_something() {
    let services = r#"
        [notify]
        command = ["/bin/true"]
        [service.web]
        vip = ["10.1.0.100:80", "[fd01::100]:80"]
        backends = ["10.1.0.11", "10.1.0.12"]
        syn = "drop"
        check = "tcp"
    "#;
    let config = config(services);
    let mut net = Net::forwarding("prometheus", 2, &config);
    let prometheus = Prometheus::start(&net.balancer);
    // A check that fails, an event, and a notification.
    net.servers.pop();
    net.write("garbage");
    assert_eq!(net.weir(&["apply"]).status.code(), Some(3));
    net.write(&config);
    assert!(net.weir(&["apply"]).status.success());
    let mut flood = net.client.command("hping3");
    flood.args(["-S", "-w", "0", "-p", "80", "-i", "u10000", "--rand-source", "10.1.0.100"]);
    let _flood = net.client.spawn("hping3", &mut flood).unwrap();

    let mut open: Vec<_> = queries();
    let rules: Value = serde_json::from_str(&prometheus.get("rules", &[]).unwrap()).unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 10);
    for rule in rules {
        // One about something that is not there can never fire.
        open.extend(
            names(rule["query"].as_str().unwrap()).into_iter().map(|name| (format!("rule {}", rule["name"]), name)),
        );
    }
    assert!(open.len() > 30, "{open:?}");
    let done = wait_until("every query finds something", PATIENCE, || {
        // Those for the other backend may fail as long as it is not known to be down.
        let _ = try_to_ask(&net.client, "http://10.1.0.100", 10);
        open.retain(|(_, query)| !prometheus.finds(query));
        open.is_empty()
    });
    assert!(done.is_ok(), "nothing is found by {open:#?}");
    let rules: Value = serde_json::from_str(&prometheus.get("rules", &[]).unwrap()).unwrap();
    for rule in rules["data"]["groups"][0]["rules"].as_array().unwrap() {
        assert!(rule["health"] != "err", "{rule}");
    }
}

/// The queries of the dashboard with what they are for, as Grafana would send them.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(monitoring("grafana.json")).unwrap()).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let series = query.strip_prefix("label_values(").unwrap().rsplit_once(", ").unwrap().0;
        queries.push((format!("variable {}", variable["name"]), series.to_owned()));
    }
    for (_, query) in &mut queries {
        for (variable, value) in
            [("$__rate_interval", "5s"), ("$instance", ".*"), ("$service", "web|.*"), ("$job", "weir")]
        {
            *query = query.replace(variable, value);
        }
        assert!(!query.contains('$'), "{query}");
    }
    queries
}

/// The metrics that a query names.
fn names(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("weir_")).map(str::to_owned).collect()
}

/// A real one, which scrapes the agent on its host every second.
struct Prometheus {
    host: Host,
    _running: Running,
}

impl Prometheus {
    fn start(host: &Host) -> Self {
        let file = host.directory().join("prometheus.yml");
        let rules = monitoring("weir.rules.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [ \"{}\" ]\nscrape_configs:\n\
             - job_name: weir\n  static_configs: [ {{ targets: [ \"127.0.0.1:9580\" ] }} ]\n",
            rules.display()
        );
        fs::write(&file, text).unwrap();
        let mut command = host.command("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", host.directory().join("prometheus").display()));
        command.arg(format!("--web.listen-address={PROMETHEUS}"));
        let running = host.spawn("prometheus", &mut command).unwrap();
        let prometheus = Prometheus { host: host.clone(), _running: running };
        wait_for("Prometheus answers", PATIENCE, || prometheus.get("rules", &[]).ok()).unwrap();
        prometheus
    }

    fn get(&self, what: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let url = format!("http://{PROMETHEUS}/api/v1/{what}");
        self.host.output("curl", &[&["-s", "-S", "-f", "-G", &url], arguments].concat())
    }

    /// Whether a query has a result, and all of it are numbers.
    fn finds(&self, query: &str) -> bool {
        let answer = self.get("query", &["--data-urlencode", &format!("query={query}")]);
        let answer: Value = serde_json::from_str(&answer.unwrap_or_else(|error| panic!("{query}: {error:#}"))).unwrap();
        let found = answer["data"]["result"].as_array().unwrap();
        !found.is_empty() && found.iter().all(|sample| sample["value"][1] != "NaN")
    }
}

fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitoring").join(name).canonicalize().unwrap()
}
