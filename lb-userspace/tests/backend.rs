//! The backend's side on the real kernel: the second program on frames of a table, and a backend that is set up with
//! what `weir backend setup` prints, in a network namespace beside a sender that plays balancer and clients.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests use the rest")]
mod namespaces;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use etherparse::{IpNumber, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use lb_common::verdict::{Action, Stripping};
use lb_userspace::announce::probe;
use lb_userspace::datapath::backend::{self, Addresses};
use lb_userspace::datapath::{Pins, requirements::Kernel};
use lb_userspace::links;
use namespaces::Namespace;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

#[path = "../../lb-common/src/decapsulate/cases.rs"]
mod cases;

/// Longer than anything here takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const BACKEND: [u8; 6] = [2, 0, 0, 0, 0, 2];
const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);

/// Tunnels of both families to one backend, and a service of the same backend without.
const CONFIGURATION: &str = r#"
interface = "eth0"
[service.four]
vip      = ["192.0.2.53:53/udp", "192.0.2.53:80", "[2001:db8::53]:53/udp"]
backends = ["10.0.0.2"]
forward  = "ipip"
[service.six]
vip      = ["192.0.2.54:53/udp", "[2001:db8::54]:*/udp"]
backends = ["fd00::2"]
forward  = "ipip"
[service.plain]
vip      = ["192.0.2.55:53/udp", "[2001:db8::55]:53/udp"]
backends = ["10.0.0.2"]
"#;

#[test]
fn the_kernel_strips_as_the_host_does() {
    let place = Place::new("cases");
    place.pins.prepare().unwrap();
    let addresses = Addresses {
        vips: [cases::VIP4.into(), cases::VIP6.into()].into(),
        ends: [cases::END4.into(), cases::END6.into()].into(),
    };
    let lo = links::find("lo").unwrap();
    // The oldest kernel gets the program for frames in one buffer.
    for kernel in [Kernel::running().unwrap(), Kernel(5, 10)] {
        let mut loaded = backend::load(&place.pins, kernel, &lo, &addresses).unwrap();
        assert_eq!(loaded.decapsulator().addresses().unwrap(), addresses);
        let mut expected: Vec<_> = Stripping::ALL.iter().map(|stripping| (*stripping, 0)).collect();
        for case in cases::cases() {
            // Shorter frames the kernel does not run; no driver delivers them either.
            if case.frame.len() < 14 {
                continue;
            }
            let action = if case.gets.action() == Action::Drop { XDP_DROP } else { XDP_PASS };
            let (returned, out) = loaded.run(&case.frame).unwrap();
            assert_eq!((returned, out), (action, case.out), "{}", case.name);
            expected[case.gets as usize].1 += 1;
        }
        assert!(expected.iter().all(|(_, count)| *count != 0));
        assert_eq!(loaded.decapsulator().counts().unwrap(), expected);
    }
}

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

#[test]
fn a_backend_set_up_as_printed_receives_tunnels() {
    let lab = Lab::new("tunnels");
    let before = lab.check();
    assert_eq!(before.status.code(), Some(1));
    let said = String::from_utf8(before.stdout).unwrap();
    let missing = "missing  VIP 192.0.2.53 is on lo (it is not): ip address replace 192.0.2.53/32 dev lo";
    assert!(said.lines().any(|line| line == missing), "{said}");
    assert!(said.lines().any(|line| line.starts_with("missing  outer headers are taken off on eth0")), "{said}");

    // The second time is as good as the first.
    for _ in 0..2 {
        lab.set_up();
        let after = lab.check();
        let said = String::from_utf8(after.stdout).unwrap();
        assert!(after.status.success() && said.lines().all(|line| line.starts_with("ok ")), "{said}");
    }
    lab.track_connections();

    let (four, six) = ((ip("10.0.0.1"), ip("10.0.0.2")), (ip("fd00::1"), ip("fd00::2")));
    for (name, outer, vip) in [
        ("4in4", four, "192.0.2.53"),
        ("6in4", four, "2001:db8::53"),
        ("4in6", six, "192.0.2.54"),
        ("6in6", six, "2001:db8::54"),
    ] {
        let server = lab.server(vip, 53);
        lab.send(&ethernet(&tunnel(outer, &datagram(ip(vip), 53, name))));
        let (said, client) = receive(&server);
        assert_eq!((said.as_str(), client), (name, client_of(ip(vip))), "{name}");
    }
    let outcomes = lab.outcomes();
    assert_eq!((outcomes("stripped"), outcomes("malformed"), outcomes("not_a_vip")), (4, 0, 0));

    // Answered from the VIP, straight to the client: a SYN-ACK whose segments leave room for the longest outer header.
    let _web = lab.backend.within(|| TcpListener::bind("192.0.2.53:80").unwrap());
    let wire = lab.wire();
    lab.send(&ethernet(&tunnel(four, &syn(ip("192.0.2.53"), 80))));
    assert_eq!(segment_size_of_answer(&wire), 1500 - 40 - 40);

    assert_eq!(lab.tracked(), 0, "connections to VIPs");
    let server = lab.server("10.0.0.2", 53);
    lab.send(&ethernet(&datagram(ip("10.0.0.2"), 53, "no VIP")));
    assert_eq!(receive(&server).0, "no VIP");
    assert_eq!(lab.tracked(), 1, "the others are");
}

#[test]
fn a_backend_without_tunnels_has_its_vips_and_is_silent() {
    let lab = Lab { services: &["plain"], ..Lab::new("plain") };
    let vips = [ip("192.0.2.55"), ip("2001:db8::55")];
    let answered = || {
        lab.sender.run(async || {
            let conflicts = probe(&links::find("eth0").unwrap(), &vips).await.unwrap();
            conflicts.into_iter().map(|conflict| conflict.vip).collect::<Vec<_>>()
        })
    };
    lab.backend.ip("addr add 192.0.2.55/32 dev lo");
    assert_eq!(answered(), [vips[0]], "what happens otherwise");
    lab.set_up();
    assert!(lab.check().status.success());
    assert_eq!(answered(), [] as [IpAddr; 0]);
    for vip in vips {
        let server = lab.server(&vip.to_string(), 53);
        lab.send(&ethernet(&datagram(vip, 53, "no tunnel")));
        assert_eq!(receive(&server), ("no tunnel".to_owned(), client_of(vip)));
    }
}

/// Kernels without tunnel devices run this test too: an `ip` of its own makes TUN devices in their place, so that all
/// of the script but the kinds it asks for is put to the test.
#[test]
fn the_script_for_tunnel_devices_brings_them_up() {
    let lab = Lab { kernel: true, ..Lab::new("devices") };
    let missing = lab.missing();
    for device in ["weir-ipip", "weir-sit", "weir-ip6tnl"] {
        let need = format!("tunnel device {device} is up with its addresses");
        assert!(missing.iter().any(|finding| finding["need"] == need.as_str()), "{missing:?}");
    }
    for _ in 0..2 {
        lab.set_up();
        assert_eq!(lab.missing(), [] as [Value; 0]);
    }
    let asked = std::fs::read_to_string(lab.place.asked()).unwrap();
    let expected = "\
type ipip local 10.0.0.2 remote any
type sit local 10.0.0.2 remote any
type ip6tnl mode any local fd00::2 remote any
";
    assert_eq!(asked, expected, "once each");

    lab.backend.ip("addr del 10.0.0.2/24 dev eth0");
    lab.backend.ip("-6 addr del fd00::2/64 dev eth0");
    let script = lab.succeed(&mut lab.setup(&[]));
    let output = lab.on_backend("sh").args(["-c", &script]).output().unwrap();
    assert_failed(&output, "not an address of this host: 10.0.0.2, fd00::2");
}

#[test]
fn what_check_prints_mends_what_is_broken() {
    let lab = Lab::new("mend");
    lab.set_up();
    for (broken, need) in [
        ("ip address del 192.0.2.53/32 dev lo", "VIP 192.0.2.53 is on lo"),
        ("ip address del 2001:db8::54/128 dev lo", "VIP 2001:db8::54 is on lo"),
        ("ip address add 192.0.2.54/24 dev eth0", "VIP 192.0.2.54 is on no link with neighbours"),
        ("ip address add 2001:db8::53/64 dev eth0", "VIP 2001:db8::53 is on no link with neighbours"),
        ("sysctl -qw net.ipv4.conf.eth0.rp_filter=1", "reverse path filter on eth0 is not strict"),
        ("sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.eth0.arp_ignore=0", "no ARP answers for VIPs"),
        ("sysctl -qw net.ipv4.conf.all.arp_announce=1 net.ipv4.conf.eth0.arp_announce=1", "no ARP questions"),
        ("ip link set dev eth0 mtu 1400", "interface eth0 takes packets of 1500 bytes"),
        ("nft delete table inet weir_backend", "connections to VIPs are not tracked"),
        ("nft delete element inet weir_backend services4 '{ 192.0.2.53 . udp . 53 }'", "connections to VIPs"),
        ("nft delete element inet weir_backend all_ports6 '{ 2001:db8::54 . udp }'", "connections to VIPs"),
        ("nft flush chain inet weir_backend output", "connections to VIPs are not tracked"),
        ("nft flush chain inet weir_backend mss", "connections to VIPs are not tracked"),
        ("weir --pins $WEIR_PINS backend stop", "outer headers are taken off on eth0"),
        ("weir backend run --interface eth0 --vip 192.0.2.53 --once", "outer headers are taken off on eth0"),
    ] {
        lab.shell(broken);
        let missing = lab.missing();
        let [finding] = &missing[..] else { panic!("{broken}: {missing:?}") };
        assert!(finding["need"].as_str().unwrap().starts_with(need), "{broken}: {finding}");
        lab.shell(finding["mend"].as_str().unwrap());
        assert_eq!(lab.missing(), [] as [Value; 0], "{broken}");
    }
}

#[test]
fn in_the_foreground_addresses_are_followed_until_stopped() {
    let lab = Lab::new("foreground");
    lab.backend.ip("addr add 192.0.2.53/32 dev lo");
    let mut running = Running::start(lab.weir(&["backend", "run", "--interface", "eth0", "--vip", "192.0.2.53"]));
    running.until("attached in native mode");
    let second = lab.weir(&["backend", "run", "--interface", "eth0", "--vip", "192.0.2.53"]).output().unwrap();
    assert_failed(&second, &format!("in use by pid {}", running.0.id()));
    assert_failed(&lab.weir(&["backend", "stop"]).output().unwrap(), "in use by pid");

    let server = lab.server("192.0.2.53", 53);
    lab.backend.ip("addr add 10.0.0.99/24 dev eth0");
    running.until("10.0.0.99: tunnels to it end here now");
    lab.send(&ethernet(&tunnel((ip("10.0.0.1"), ip("10.0.0.99")), &datagram(ip("192.0.2.53"), 53, "late"))));
    assert_eq!(receive(&server).0, "late");

    let said = running.stop();
    assert!(said.lines().any(|line| line.starts_with("stripped      pass          1 ")), "{said}");
    assert_eq!(lab.xdp(), None);
    assert!(!lab.place.pins.root().exists());
    assert_failed(&lab.weir(&["backend", "stats"]).output().unwrap(), "nothing is loaded here (weir backend run");
    assert_failed(&lab.weir(&["backend", "stop"]).output().unwrap(), "nothing is loaded here");
}

#[test]
fn an_interface_that_goes_away_ends_it() {
    let lab = Lab::new("gone");
    let mut running = Running::start(lab.weir(&["backend", "run", "--interface", "eth0", "--vip", "192.0.2.53"]));
    running.until("attached in native mode");
    lab.sender.ip("link del eth0");
    running.until(r#"weir: interface "eth0": it is gone"#);
    assert_eq!(running.0.wait().unwrap().code(), Some(1));
    assert!(!lab.place.pins.root().exists());
}

#[test]
fn generic_mode_strips_too_and_check_says_so() {
    let lab = Lab { services: &["four"], ..Lab::new("generic") };
    lab.set_up();
    lab.succeed(&mut lab.weir(&["backend", "stop"]));
    let vips = ["--vip", "192.0.2.53", "--vip", "2001:db8::53"];
    lab.succeed(lab.weir(&["backend", "run", "--interface", "eth0", "--once", "--mode", "generic"]).args(vips));
    let checked = lab.check();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success() && said.contains("in generic mode, which is much slower than native"), "{said}");
    let server = lab.server("2001:db8::53", 53);
    lab.send(&ethernet(&tunnel((ip("10.0.0.1"), ip("10.0.0.2")), &datagram(ip("2001:db8::53"), 53, "generic"))));
    assert_eq!(receive(&server).0, "generic");
}

#[test]
fn jumbo_frames_are_stripped() {
    let lab = Lab { services: &["six"], ..Lab::new("jumbo") };
    lab.sender.ip("link set eth0 mtu 9000");
    lab.backend.ip("link set eth0 mtu 9000");
    lab.set_up();
    let server = lab.server("192.0.2.54", 53);
    let text = "x".repeat(8000);
    lab.send(&ethernet(&tunnel((ip("fd00::1"), ip("fd00::2")), &datagram(ip("192.0.2.54"), 53, &text))));
    assert!(receive(&server).0 == text);
}

#[test]
fn another_run_replaces_the_program_behind_its_link() {
    let lab = Lab::new("again");
    let run = |vip: &str| {
        lab.succeed(&mut lab.weir(&["backend", "run", "--interface", "eth0", "--once", "--vip", vip]));
        (lab.xdp().unwrap(), std::fs::metadata(lab.place.pins.link("eth0")).unwrap().ino())
    };
    let vips = || backend::Decapsulator::open(&lab.place.pins).unwrap().addresses().unwrap().vips;
    let (first, link) = run("192.0.2.53");
    assert_eq!(vips(), BTreeSet::from([ip("192.0.2.53")]));
    let (second, same_link) = run("2001:db8::53");
    assert_eq!(vips(), BTreeSet::from([ip("2001:db8::53")]));
    assert_ne!(first, second, "another program");
    assert_eq!(link, same_link, "behind the same link");

    // A start that fails leaves what runs.
    let failed =
        lab.weir(&["backend", "run", "--interface", "eth9", "--once", "--vip", "192.0.2.53"]).output().unwrap();
    assert_failed(&failed, r#"interface "eth9": no such interface (have: eth0, lo)"#);
    assert_eq!(lab.xdp(), Some(second));
    assert_eq!(vips(), BTreeSet::from([ip("2001:db8::53")]));
    let stopped = lab.succeed(&mut lab.weir(&["backend", "stop"]));
    assert_eq!(stopped, "eth0: detached\n");
    assert_eq!(lab.xdp(), None);
}

#[test]
fn mistakes_are_answered_with_the_way_out() {
    let lab = Lab::new("mistakes");
    let run = ["backend", "run", "--interface", "eth0", "--once", "--vip", "192.0.2.53"];
    lab.succeed(&mut lab.weir(&run));
    let taken = lab.weir(&run).env("WEIR_PINS", lab.place.pins.root().join("other")).output().unwrap();
    assert_failed(&taken, r#"interface "eth0": its XDP hook is taken by program "weir_backend"#);

    let refused = lab.weir(&["run", "--config"]).arg(&lab.place.config).output().unwrap();
    assert_failed(&refused, "what `weir backend run` loaded is here: choose another place with --pins");

    lab.succeed(&mut lab.weir(&["backend", "stop"]));
    lab.backend.ip("link set eth0 down");
    assert_failed(&lab.weir(&run).output().unwrap(), r#"interface "eth0": is down: ip link set dev eth0 up"#);
    assert!(!lab.place.pins.tables().exists());
    let lo = lab.weir(&["backend", "run", "--interface", "lo", "--once", "--vip", "192.0.2.53"]).output().unwrap();
    assert_failed(&lo, r#"interface "lo": not Ethernet"#);
    let multicast = lab.weir(&["backend", "run", "--interface", "eth0", "--vip", "224.0.0.1"]).output().unwrap();
    assert_eq!(multicast.status.code(), Some(2));
}

/// Each program keeps off the pins of the other: one host may be balancer and backend.
#[test]
fn a_balancer_s_pins_are_left_alone() {
    let lab = Lab::new("both");
    let mut balancer = Command::new("nsenter");
    balancer.arg(format!("--net=/run/netns/{}", lab.sender.name)).arg(env!("CARGO_BIN_EXE_weir"));
    balancer.args(["run", "--config"]).arg(&lab.place.config).env("WEIR_PINS", lab.place.pins.root());
    let mut balancer = Running::start(balancer);
    balancer.until("attached in native mode");
    // It goes on forwarding, so that its tables stay.
    balancer.stop();
    for verb in [&["run", "--interface", "eth0", "--once", "--vip", "192.0.2.53"][..], &["stats"], &["stop"]] {
        let refused = lab.weir(&[&["backend"], verb].concat()).output().unwrap();
        assert_failed(&refused, "a balancer's tables are here: choose another place with --pins");
    }
    assert_eq!(lab.place.pins.linked(), ["eth0"]);
}

/// Pins and a file of a test's own; dropped, they are gone.
struct Place {
    pins: Pins,
    config: PathBuf,
}

impl Place {
    fn new(tag: &str) -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-{}-{}-{tag}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let config = std::env::temp_dir().join(format!("{name}.toml"));
        std::fs::write(&config, CONFIGURATION).unwrap();
        Place { pins: Pins::new(Path::new("/sys/fs/bpf").join(name)), config }
    }

    /// A directory with an `ip` that makes TUN devices for tunnel devices and notes what was asked for.
    fn devices(&self) -> PathBuf {
        let directory = self.config.with_extension("bin");
        if directory.exists() {
            return directory;
        }
        let script = format!(
            "#!/bin/sh\nPATH=${{PATH#*:}}\ncase \"$*\" in\n\"link add weir-\"*)\n\tdevice=$3; shift 3; echo \"$@\" >>{}\n\
             \texec ip tuntap add dev \"$device\" mode tun ;;\nesac\nexec ip \"$@\"\n",
            self.asked().display()
        );
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("ip"), script).unwrap();
        std::fs::set_permissions(directory.join("ip"), std::fs::Permissions::from_mode(0o755)).unwrap();
        directory
    }

    fn asked(&self) -> PathBuf {
        self.config.with_extension("asked")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_file(&self.config).ok();
        std::fs::remove_file(self.asked()).ok();
        std::fs::remove_dir_all(self.config.with_extension("bin")).ok();
        self.pins.remove().unwrap();
    }
}

/// A sender and a backend, eth0 to eth0: 10.0.0.1 and fd00::1 here, .2 and ::2 there, every client behind the sender.
struct Lab {
    sender: Namespace,
    backend: Namespace,
    place: Place,
    services: &'static [&'static str],
    /// Tunnels are taken apart by the kernel's devices.
    kernel: bool,
}

impl Lab {
    fn new(tag: &str) -> Lab {
        let place = Place::new(tag);
        let (sender, backend) = (Namespace::new("sender"), Namespace::new("backend"));
        sender.ip(&format!("link add eth0 type veth peer name eth0 netns {}", backend.name));
        for (namespace, n) in [(&sender, 1), (&backend, 2)] {
            namespace.ip(&format!("link set eth0 address 02:00:00:00:00:0{n}"));
            namespace.ip(&format!("addr add 10.0.0.{n}/24 dev eth0"));
            namespace.ip(&format!("addr add fd00::{n}/64 dev eth0 nodad"));
            namespace.ip("link set eth0 up");
        }
        backend.ip("route add default via 10.0.0.1");
        backend.ip("-6 route add default via fd00::1");
        Lab { sender, backend, place, services: &["four", "six", "plain"], kernel: false }
    }

    /// `weir` on the backend, with pins of this test.
    fn weir(&self, arguments: &[&str]) -> Command {
        let mut command = self.on_backend(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments);
        command
    }

    fn on_backend(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let weir = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap();
        let mut path = format!("{}:{}", weir.display(), std::env::var("PATH").unwrap());
        if self.kernel {
            path = format!("{}:{path}", self.place.devices().display());
        }
        command.arg(format!("--net=/run/netns/{}", self.backend.name)).arg(program);
        command.env("PATH", path).env("WEIR_PINS", self.place.pins.root());
        command
    }

    fn setup(&self, more: &[&str]) -> Command {
        let mut command = self.weir(&["backend", "setup"]);
        command.args(self.services).arg("--config").arg(&self.place.config).args(more);
        command.args(["--decapsulation", if self.kernel { "kernel" } else { "weir" }]);
        command
    }

    /// Does exactly what is printed.
    fn set_up(&self) {
        let script = self.succeed(&mut self.setup(&[]));
        let mut shell = self.on_backend("sh");
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    fn check(&self) -> Output {
        self.setup(&["--check"]).output().unwrap()
    }

    /// What `--check` misses.
    fn missing(&self) -> Vec<Value> {
        let output = self.setup(&["--check", "-o", "json"]).output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((said["version"].as_u64(), said["ok"].as_bool()), (Some(1), Some(output.status.success())));
        said["needs"].as_array().unwrap().iter().filter(|finding| finding["ok"] == false).cloned().collect()
    }

    fn shell(&self, script: &str) -> String {
        self.succeed(self.on_backend("sh").args(["-euc", script]))
    }

    fn succeed(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The number of the program on the backend's eth0.
    fn xdp(&self) -> Option<u32> {
        self.backend.within(|| links::find("eth0").unwrap().xdp.map(|xdp| xdp.program))
    }

    fn outcomes(&self) -> impl Fn(&str) -> u64 {
        let said = self.succeed(&mut self.weir(&["backend", "stats", "-o", "json"]));
        let said: Value = serde_json::from_str(&said).unwrap();
        move |name| {
            let outcomes = said["outcomes"].as_array().unwrap();
            outcomes.iter().find(|outcome| outcome["outcome"] == name).unwrap()["packets"].as_u64().unwrap()
        }
    }

    /// Makes the backend's kernel track connections: a rule asks for their state.
    fn track_connections(&self) {
        self.shell(
            "nft 'table inet tracking { chain in { type filter hook input priority 0; ct state new counter; }; }'",
        );
    }

    /// How many it tracks.
    fn tracked(&self) -> u32 {
        let count = || std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
        self.backend.within(count).trim().parse().unwrap()
    }

    /// A server on the backend.
    fn server(&self, address: &str, port: u16) -> UdpSocket {
        let socket = self.backend.within(|| UdpSocket::bind((ip(address), port)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(self.wire().send(frame).unwrap(), frame.len());
    }

    /// The sender's end of the wire.
    fn wire(&self) -> Socket {
        self.sender.within(|| {
            let all = libc::ETH_P_ALL as u16;
            let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
            socket.bind(&link_address(links::find("eth0").unwrap().index, all)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
    }
}

fn link_address(interface: u32, protocol: u16) -> SockAddr {
    // SAFETY: the storage is zeroed, larger than a sockaddr_ll and aligned for every address; its front is filled in as
    // one, and that size stored as the length.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as u16;
            (*link).sll_protocol = protocol.to_be();
            (*link).sll_ifindex = interface as i32;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }
    .unwrap();
    address
}

/// A `weir` in the foreground; dropped, it is killed.
struct Running(Child, Box<dyn Iterator<Item = String>>);

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        Running(child, Box::new(lines))
    }

    /// Waits until it has said something.
    fn until(&mut self, said: &str) {
        let mut before = Vec::new();
        let found = self.1.by_ref().any(|line| {
            before.push(line.clone());
            line.contains(said)
        });
        assert!(found, "it ended without saying {said:?}: {before:?}");
    }

    /// Ends it as a service manager does. Returns what it printed.
    fn stop(mut self) -> String {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.0.wait().unwrap().success());
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is gone already unless the test failed.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn assert_failed(output: &Output, sentence: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.contains(sentence)), "{said}");
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client_of(vip: IpAddr) -> IpAddr {
    if vip.is_ipv4() { CLIENT4.into() } else { CLIENT6.into() }
}

fn receive(server: &UdpSocket) -> (String, IpAddr) {
    let mut buffer = [0; 9000];
    let (length, client) = server.recv_from(&mut buffer).unwrap();
    (String::from_utf8(buffer[..length].to_vec()).unwrap(), client.ip())
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&BACKEND[..], &SENDER, &ethertype, packet].concat()
}

/// The outer header in front, as a balancer puts it there.
fn tunnel((source, destination): (IpAddr, IpAddr), inner: &[u8]) -> Vec<u8> {
    let inside = if inner[0] >> 4 == 4 { IpNumber::IPV4 } else { IpNumber::IPV6 };
    let mut packet = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), 64).write(&mut packet, inside, inner)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.octets(), destination.octets(), 64).write(&mut packet, inside, inner)
        }
        _ => panic!("{source} to {destination}"),
    }
    .unwrap();
    packet
}

/// From the client to a VIP.
fn datagram(vip: IpAddr, port: u16, text: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    match vip {
        IpAddr::V4(vip) => PacketBuilder::ipv4(CLIENT4.octets(), vip.octets(), 64),
        IpAddr::V6(vip) => PacketBuilder::ipv6(CLIENT6.octets(), vip.octets(), 64),
    }
    .udp(4096, port)
    .write(&mut packet, text.as_bytes())
    .unwrap();
    packet
}

fn syn(vip: IpAddr, port: u16) -> Vec<u8> {
    let IpAddr::V4(vip) = vip else { panic!("{vip}: not IPv4") };
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(CLIENT4.octets(), vip.octets(), 64).tcp(4096, port, 1, 65_535).syn();
    let builder = builder.options(&[TcpOptionElement::MaximumSegmentSize(1460)]).unwrap();
    builder.write(&mut packet, &[]).unwrap();
    packet
}

/// The segment size in the first SYN-ACK seen.
fn segment_size_of_answer(wire: &Socket) -> u16 {
    let mut buffer = [0; 2048];
    loop {
        let length = { wire }.read(&mut buffer).unwrap();
        let Ok(packet) = SlicedPacket::from_ethernet(&buffer[..length]) else { continue };
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { continue };
        if !(tcp.syn() && tcp.ack()) {
            continue;
        }
        return tcp
            .options_iterator()
            .find_map(|option| match option.unwrap() {
                TcpOptionElement::MaximumSegmentSize(bytes) => Some(bytes),
                _ => None,
            })
            .unwrap();
    }
}
