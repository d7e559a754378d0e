//! Checks of every kind against the servers of Debian's packages: up, down, and alive but wrong.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use lb_userspace::{
    config::{self, Check, Forward, Protocol, Vip},
    health::probe::{Outcome, Target, probe},
    lab::{Host, Running, wait_until},
};

use crate::net::*;

/// A balancer that asks, and a backend with a server.
struct Pair {
    balancer: Host,
    backend: Host,
    servers: Vec<Running>,
    _net: Net,
}

const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);

impl Pair {
    fn new(name: &str) -> Self {
        let net = Net::new(name, 1);
        Pair { balancer: net.balancer.clone(), backend: net.backends[0].clone(), servers: Vec::new(), _net: net }
    }

    /// Writes a file of the backend's.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.backend.directory().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    /// Starts a server on the backend and waits until a check calls it up.
    fn serve(&mut self, label: &str, program: &str, arguments: &[&str], check: &str, port: u16) {
        let server = self.backend.spawn(label, self.backend.command(program).args(arguments)).unwrap();
        self.servers.push(server);
        let said = || self.servers.last().unwrap().said();
        wait_until(label, PATIENCE, || is_up(&self.ask(check, port)))
            .unwrap_or_else(|error| panic!("{error}: {:?}: {}", self.ask(check, port), said()));
    }

    /// What comes of a check, as a configuration has it.
    fn ask(&self, check: &str, port: u16) -> Outcome {
        ask(&self.balancer, &read(check, "backend"), target(BACKEND.into(), BACKEND.into(), Some(port)))
    }

    fn assert_up(&self, check: &str, port: u16) {
        let outcome = self.ask(check, port);
        assert!(is_up(&outcome), "{check}: {outcome:?}");
    }

    fn assert_down(&self, check: &str, port: u16, reason: &str) {
        assert_eq!(words(self.ask(check, port)), reason, "{check}");
    }
}

/// A check as it stands in a configuration.
fn read(check: &str, via: &str) -> Check {
    let check = check.replace('}', &format!(", via = \"{via}\", timeout = \"1500ms\" }}"));
    let services = format!(
        "[service.web]\nvip = [\"10.1.0.100:80\", \"10.1.0.100:80/udp\"]\nbackends = \"10.1.0.11\"\ncheck = {check}\n"
    );
    let config = config::parse("weir.toml", &crate::net::config(&services));
    config.unwrap_or_else(|error| panic!("{error}")).services["web"].health.checks[0].clone()
}

fn target(vip: IpAddr, backend: IpAddr, port: Option<u16>) -> Target {
    Target {
        service: "web".into(),
        vip: Vip { address: vip, port, protocol: Protocol::Tcp },
        backend,
        forward: Forward::L2,
        mark: None,
        source: None,
    }
}

/// What comes of a check from a host.
fn ask(host: &Host, check: &Check, target: Target) -> Outcome {
    host.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(probe(check, &target)))
    })
    .unwrap()
}

fn is_up(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Down(_))
}

/// Why it is down.
fn words(outcome: Outcome) -> String {
    match outcome {
        Outcome::Down(reason) => reason.text,
        up => panic!("{up:?}"),
    }
}

#[test]
fn web_servers() {
    let mut pair = Pair::new("checks-web");
    let place = pair.backend.directory();
    let (key, certificate) = (place.join("key.pem"), place.join("certificate.pem"));
    let (key, certificate) = (key.display().to_string(), certificate.display().to_string());
    let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=www.example.net \
                -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:www.example.net";
    let make: Vec<_> = make.split_whitespace().chain(["-keyout", &key, "-out", &certificate]).collect();
    pair.backend.output("openssl", &make).unwrap();
    let place = place.display();
    let nginx = pair.file(
        "nginx.conf",
        &format!(
            r#"daemon off; master_process off; pid "{place}/nginx.pid"; error_log "{place}/error.log"; events {{ }}
            http {{
                access_log off; client_body_temp_path "{place}/a"; proxy_temp_path "{place}/b"; fastcgi_temp_path "{place}/c";
                uwsgi_temp_path "{place}/d"; scgi_temp_path "{place}/e";
                server {{
                    listen 80;
                    listen 443 ssl;
                    ssl_certificate "{certificate}"; ssl_certificate_key "{key}";
                    location /health {{ return 200 "all is well"; }}
                    location /busy {{ return 503; }}
                    location /moved {{ return 301 http://www.example.org/; }}
                }}
            }}"#
        ),
    );
    let nginx = nginx.display().to_string();
    pair.serve("nginx", "nginx", &["-c", &nginx, "-e", "stderr"], "{ http = \"/health\" }", 80);
    pair.assert_up("{ tcp = true }", 80);
    pair.assert_up("{ http = \"/health\", body = \"is well\", method = \"GET\" }", 80);
    pair.assert_up("{ http = \"/moved\" }", 80);
    pair.assert_down("{ http = \"/busy\" }", 80, "http: status 503, wanted 200-399");
    pair.assert_down("{ http = \"/moved\", status = \"200\" }", 80, "http: status 301, wanted 200");
    pair.assert_down("{ http = \"/health\", body = \"is bad\" }", 80, "http: body without \"is bad\" in 11 bytes");

    let verified = |name: &str| format!("{{ https = \"/health\", host = \"{name}\", ca = \"{certificate}\" }}");
    pair.assert_up(&verified("www.example.net"), 443);
    pair.assert_up("{ https = \"/health\", verify = false }", 443);
    pair.assert_up(&format!("{{ tls = true, host = \"www.example.net\", ca = \"{certificate}\" }}"), 443);
    pair.assert_up("{ tls = true, verify = false }", 443);
    pair.assert_down(&verified("www.example.org"), 443, "tls: certificate for another name");
    pair.assert_down("{ https = \"/busy\", verify = false }", 443, "https: status 503, wanted 200-399");
    pair.assert_down("{ tls = true, verify = false }", 80, "tls: the answer is not TLS");
    pair.assert_down("{ http = \"/health\" }", 443, "http: status 400, wanted 200-399");

    pair.servers.clear();
    pair.assert_down("{ tcp = true }", 80, "connect: refused");
    pair.assert_down("{ http = \"/health\" }", 80, "connect: refused");
    pair.backend.ip("link set eth0 down").unwrap();
    let gone = words(pair.ask("{ tcp = true }", 80));
    assert!(["connect: no answer within 1500 ms", "connect: host unreachable"].contains(&gone.as_str()), "{gone}");
}

#[test]
fn name_servers() {
    let mut pair = Pair::new("checks-dns");
    let options = "--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file --bind-interfaces \
                   --listen-address=10.1.0.11 --host-record=www.example.net,192.0.2.1 --local=/example.org/ --local=/example.net/ \
                   --mx-host=example.net,mail.example.net,10";
    let options: Vec<_> = options.split_whitespace().collect();
    pair.serve("dnsmasq", "dnsmasq", &options, "{ dns = \"www.example.net\", over = \"udp\" }", 53);
    for over in ["udp", "tcp"] {
        let dns = |rest: &str| format!("{{ dns = {rest}, over = \"{over}\" }}");
        pair.assert_up(&dns("\"www.example.net\", answer = \"192.0.2.1\""), 53);
        pair.assert_up(&dns("\"example.net\", record = \"MX\", answer = \"10 mail.example.net\""), 53);
        pair.assert_up(&dns("\"www.example.org\", rcode = \"NXDOMAIN\""), 53);
        pair.assert_down(&dns("\"www.example.org\""), 53, "dns: NXDOMAIN, wanted NOERROR");
        pair.assert_down(&dns("\"www.example.com\""), 53, "dns: REFUSED, wanted NOERROR");
        let reason = "dns: 192.0.2.1, wanted 192.0.2.2";
        pair.assert_down(&dns("\"www.example.net\", answer = \"192.0.2.2\""), 53, reason);
        let reason = "dns: no AAAA record, wanted 2001:db8::1";
        pair.assert_down(&dns("\"www.example.net\", record = \"AAAA\", answer = \"2001:db8::1\""), 53, reason);
    }
    pair.assert_up("{ udp = true, send = \"x\" }", 53);
    pair.servers.clear();
    pair.assert_down("{ dns = \"www.example.net\", over = \"udp\" }", 53, "dns: refused");
    pair.assert_down("{ dns = \"www.example.net\", over = \"tcp\" }", 53, "connect: refused");
    pair.assert_down("{ udp = true, send = \"x\" }", 53, "udp: refused");
}

#[test]
fn servers_that_speak_in_lines() {
    let mut pair = Pair::new("checks-lines");
    let empty = pair.backend.directory().join("empty");
    fs::create_dir_all(&empty).unwrap();
    let vsftpd = pair.file(
        "vsftpd.conf",
        &format!(
            "listen=YES\nbackground=NO\nanonymous_enable=YES\nmax_clients=1\nsecure_chroot_dir={}\nseccomp_sandbox=NO\n",
            empty.display()
        ),
    );
    pair.serve("ftp", "vsftpd", &[&vsftpd.display().to_string()], "{ ftp = true }", 21);
    pair.serve("smtp", "aiosmtpd", &["--nosetuid", "--listen", "10.1.0.11:25"], "{ smtp = true }", 25);
    let redis = "--bind 10.1.0.11 --protected-mode no --save --dir /";
    let redis: Vec<_> =
        redis.split_whitespace().flat_map(|word| [word].into_iter().chain((word == "--save").then_some(""))).collect();
    pair.serve("redis", "redis-server", &redis, "{ redis = true }", 6379);
    pair.assert_up("{ send = \"ECHO well\\r\\n\", expect = \"$4\" }", 6379);

    // Alive, and not what is wanted.
    let spoken = words(pair.ask("{ smtp = true }", 21));
    assert!(spoken.starts_with("smtp: \"530 Please login"), "{spoken}");
    assert_eq!(
        words(pair.ask("{ redis = true }", 25)),
        "redis: \"500 Error: command \\\"PING\\\" not recognized\", wanted \"+PONG\""
    );
    let held = pair.balancer.within(|| Ok(std::net::TcpStream::connect((BACKEND, 21))?)).unwrap();
    wait_until(
        "the one client of the FTP server is there",
        PATIENCE,
        || matches!(pair.ask("{ ftp = true }", 21), Outcome::Down(reason) if reason.text.starts_with("ftp: \"421 ")),
    )
    .unwrap();
    drop(held);
    let password = ["CONFIG", "SET", "requirepass", "secret"];
    pair.backend.output("redis-cli", &[&["-h", "10.1.0.11"], &password[..]].concat()).unwrap();
    assert_eq!(
        words(pair.ask("{ redis = true }", 6379)),
        "redis: \"-NOAUTH Authentication required.\", wanted \"+PONG\""
    );

    pair.servers.clear();
    for (check, port) in [("{ ftp = true }", 21), ("{ smtp = true }", 25), ("{ redis = true }", 6379)] {
        wait_until("its port closes", PATIENCE, || {
            words_or_none(pair.ask(check, port)) == Some("connect: refused".into())
        })
        .unwrap();
    }
}

fn words_or_none(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Down(reason) => Some(reason.text),
        _ => None,
    }
}

#[test]
fn pings() {
    let pair = Pair::new("checks-ping");
    let ping = read("{ ping = true }", "backend");
    for (address, family) in [("10.1.0.11", "ipv4/icmp_echo_ignore_all"), ("fd01::11", "ipv6/icmp/echo_ignore_all")] {
        let target = || target(address.parse().unwrap(), address.parse().unwrap(), None);
        assert!(is_up(&ask(&pair.balancer, &ping, target())), "{address}");
        pair.backend.set(&format!("net/{family}"), 1).unwrap();
        assert_eq!(words(ask(&pair.balancer, &ping, target())), "ping: no answer within 1500 ms", "{address}");
    }
}
