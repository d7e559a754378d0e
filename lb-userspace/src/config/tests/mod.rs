//! What a user can write, and what comes of it.

mod faults;
mod limits;
mod meaning;
mod places;
mod properties;
mod syn;
mod tell;
mod values;

use super::*;

/// A valid file, to which a case adds what it is about.
const SERVICE: &str = "[service.web]\nvip = \"192.0.2.10:80\"\nbackends = \"10.0.0.11\"\n";
const KEY: &str = "hash_key = \"6f1d0c5be29a4783b1f4d2905e3ac718\"\n";

fn valid(text: &str) -> Config {
    parse("weir.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

/// A service called `web` with these VIPs and backends, as TOML values.
fn service_with(vip: &str, backends: &str) -> Service {
    let text = format!("interface = \"eth0\"\n[service.web]\nvip = {vip}\nbackends = {backends}\n");
    Arc::unwrap_or_clone(valid(&text).services.remove("web").expect("the service is there"))
}

fn fault(text: &str) -> ConfigError {
    parse("weir.toml", text).expect_err("a fault is found")
}

fn rendered(text: &str) -> String {
    fault(text).to_string()
}

/// So that a table can start its texts on a line of their own.
fn without_first_newline(text: &str) -> &str {
    text.strip_prefix('\n').unwrap_or(text)
}
