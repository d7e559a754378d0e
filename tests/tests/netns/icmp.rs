//! What the kernels of clients and backends make of ICMP to VIPs.

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsRawFd, FromRawFd},
    time::Duration,
};

use lb_userspace::lab::{Host, wait_for, wait_until};

use crate::net::*;

const SERVICES: &str = r#"
    [service.v4-in-v4]
    vip = ["10.1.0.100:53/udp", "[fd01::100]:53/udp"]
    backends = ["10.1.0.11", "10.1.0.12"]
    forward = "ipip"
    [service.v6-in-v6]
    vip = ["10.1.0.101:53/udp", "[fd01::101]:53/udp"]
    backends = ["fd01::11", "fd01::12"]
    forward = "ipip"
    [service.drained]
    vip = "10.1.0.102:80"
    backends = ["10.1.0.11*0"]
"#;

/// A network whose balancer has found its backends.
fn forwarding(name: &str) -> Net {
    let mut net = Net::new(name, 2);
    net.run(&config(SERVICES), &[]);
    net
}

/// Sends an echo request by a socket that takes none but right answers, and waits for one.
fn ping(client: &Host, address: &str, data: &[u8]) -> anyhow::Result<Vec<u8>> {
    // Who may open such sockets: root's group.
    client.set("net/ipv4/ping_group_range", "0 0")?;
    client.within(|| {
        let v6 = address.contains(':');
        let (family, protocol, kind) =
            if v6 { (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128) } else { (libc::AF_INET, libc::IPPROTO_ICMP, 8) };
        // SAFETY: a plain call; the descriptor is checked and then owned by the socket alone.
        let socket = unsafe {
            let descriptor = libc::socket(family, libc::SOCK_DGRAM, protocol);
            anyhow::ensure!(descriptor >= 0, io::Error::last_os_error());
            UdpSocket::from_raw_fd(descriptor)
        };
        let address = if v6 { format!("[{address}]:0") } else { format!("{address}:0") };
        socket.connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send(&[&[kind, 0, 0, 0, 0, 0, 0, 7], data].concat())?;
        let mut answer = vec![0; 2000];
        let length = socket.recv(&mut answer)?;
        Ok(answer[8..length].to_vec())
    })
}

#[test]
fn vips_answer_pings() {
    let net = forwarding("ping");
    for vip in ["10.1.0.100", "fd01::100", "10.1.0.101", "fd01::101"] {
        for data in [&b""[..], &[0; 56], &[0xff; 1001]] {
            assert_eq!(ping(&net.client, vip, data).unwrap(), data, "{vip}");
        }
    }
    assert_eq!(net.verdict("echo_answered"), 12);
    assert!(ping(&net.client, "10.1.0.102", b"is anybody there").is_err(), "nobody lives at a drained service");
}

/// What the client's kernel thinks fits on the way to whom it is connected to.
fn path_mtu(socket: &UdpSocket, v6: bool) -> i32 {
    let (level, name) = if v6 { (libc::IPPROTO_IPV6, libc::IPV6_MTU) } else { (libc::IPPROTO_IP, libc::IP_MTU) };
    let (mut mtu, mut size) = (0i32, size_of::<i32>() as u32);
    // SAFETY: the option is an int, and so is what it is written to, whose size is given.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut mtu).cast(), &raw mut size) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    mtu
}

/// Datagrams are not cut on their way.
fn forbid_fragments(socket: &UdpSocket, v6: bool) {
    let (level, name, value) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
    };
    // SAFETY: the option is an int, and so is what is read, whose size is given.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[test]
fn clients_learn_what_fits() {
    let net = forwarding("too-big");
    for (vip, fits) in [("10.1.0.100", 1480), ("[fd01::100]", 1480), ("10.1.0.101", 1460), ("[fd01::101]", 1460)] {
        let v6 = vip.starts_with('[');
        let learn = || {
            let socket = UdpSocket::bind(if v6 { "[::]:0" } else { "0.0.0.0:0" })?;
            socket.connect(format!("{vip}:53"))?;
            forbid_fragments(&socket, v6);
            assert_eq!(path_mtu(&socket, v6), 1500);
            socket.send(&vec![7; if v6 { 1452 } else { 1472 }])?;
            wait_until("the client's kernel knows", PATIENCE, || path_mtu(&socket, v6) == fits)?;
            // The error is told to the next call, once.
            let told = socket.send(b"x").or_else(|_| socket.send(b"x"));
            told.map(drop).map_err(anyhow::Error::from)?;
            let most = fits as usize - if v6 { 48 } else { 28 };
            socket.send(&vec![7; most])?;
            let longer = socket.send(&vec![7; most + 1]).unwrap_err();
            assert_eq!(longer.raw_os_error(), Some(libc::EMSGSIZE), "{vip}: {longer}");
            Ok(())
        };
        net.client.within(learn).unwrap_or_else(|error| panic!("{vip}: {error:#}"));
    }
    assert_eq!(net.verdict("too_big_answered"), 4);
    wait_for("what fits arrives", PATIENCE, || (net.verdict("forwarded") == 8).then_some(())).unwrap();
    assert_eq!(net.verdict("too_big"), 0);
}
