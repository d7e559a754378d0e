//! Packets with a backend's mark reach that backend, whichever the ring would choose.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, TcpStream},
    time::Duration,
};

use lb_common::steer::mark;
use lb_userspace::{
    datapath::{Access, Datapath, Pins, steering},
    links,
    steering::{Family, set_up},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::*;

/// Every way of forwarding, VIPs and backends of both families.
const SERVICES: &str = r#"
    [service.l2-v4]
    vip = "10.1.0.100:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    [service.l2-v6]
    vip = "[fd01::100]:80"
    backends = ["fd01::11", "fd01::12"]
    [service.v4-in-v4]
    vip = "10.1.0.102:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    forward = "ipip"
    [service.v6-in-v4]
    vip = "[fd01::102]:80"
    backends = ["10.1.0.11", "10.1.0.12"]
    forward = "ipip"
    [service.v4-in-v6]
    vip = "10.1.0.101:80"
    backends = ["fd01::11", "fd01::12"]
    forward = "ipip"
    [service.v6-in-v6]
    vip = "[fd01::101]:80"
    backends = ["fd01::11", "fd01::12"]
    forward = "ipip"
"#;

#[test]
fn every_way_of_forwarding() {
    let config = config(SERVICES);
    let mut net = Net::new("steering", 2);
    net.set_up(&["l2-v4", "l2-v6", "v4-in-v4", "v6-in-v4", "v4-in-v6", "v6-in-v6"], &config);
    net.serve(80);
    net.run(&config, &[]);
    let pins = Pins::new(net.balancer.pins());
    net.balancer
        .within(|| {
            steering::attach(&pins, "eth0")?;
            let link = links::find("eth0")?;
            set_up(&link, Family::V4)?;
            set_up(&link, Family::V6)
        })
        .unwrap();
    let description = Datapath::open(&pins, Access::Read).unwrap().description().unwrap();
    for service in &description.services {
        let vip: std::net::SocketAddr = service.vips[0].vip.parse().unwrap();
        for (number, backend) in (1..).zip(service.backends.iter()) {
            let answer = net.balancer.within(|| Ok(ask_marked(vip.ip(), mark(backend.id))));
            let answer = answer.unwrap().unwrap_or_else(|error| panic!("{}: {error}", service.name));
            assert_eq!(answer.lines().last(), Some(format!("backend{number}").as_str()), "{}", service.name);
        }
    }
}

/// What an HTTP server answers on a marked connection.
fn ask_marked(vip: IpAddr, mark: u32) -> io::Result<String> {
    let socket = Socket::new(Domain::for_address((vip, 80).into()), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_mark(mark)?;
    socket.connect_timeout(&std::net::SocketAddr::new(vip, 80).into(), Duration::from_secs(3))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
