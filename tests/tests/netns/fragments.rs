//! Fragments of datagrams in any order, and floods of them.

use std::{
    collections::BTreeSet,
    env, fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    thread,
    time::{Duration, Instant},
};

use lb_userspace::{
    datapath::{Access, Datapath, Pins},
    lab::{Echo, Host, Sender},
};
use tests::frames::{self, L4_V6, Packet};

use crate::net::*;

/// What a datagram carries: more than two frames take.
const BYTES: usize = 4_000;

/// Every order of three.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// A client's socket, and a way to send what it would not.
struct Client {
    socket: UdpSocket,
    sender: Sender,
    balancer: [u8; 6],
    /// Of the datagram sent last; none has another's.
    identification: u16,
}

impl Client {
    /// On an address of the client's, talking to a VIP.
    fn new(net: &Net, address: IpAddr, vip: SocketAddr) -> Client {
        let connect = || {
            let socket = UdpSocket::bind((address, 0))?;
            socket.connect(vip)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        Client {
            socket: net.client.within(connect).unwrap(),
            sender: Sender::open(&net.client, "eth0").unwrap(),
            balancer: net.balancer.mac("eth0").unwrap(),
            identification: 0,
        }
    }

    /// The fragments of a datagram, in their order.
    fn fragments(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.identification += 1;
        let [from, vip] = [self.socket.local_addr(), self.socket.peer_addr()].map(|end| end.unwrap().to_string());
        let whole = frames::udp(&vip).from(&from).to_mac(self.balancer).data(datagram);
        // As much as a frame of 1,500 bytes takes, in units of 8.
        let (bytes, length) = (8 + datagram.len(), if vip.starts_with('[') { 1_448 } else { 1_480 });
        let ends = (0..bytes).step_by(length).map(|from| whole.fragment(from, bytes.min(from + length)));
        ends.map(|fragment| identified(fragment, self.identification).frame()).collect()
    }

    /// Sends a datagram's fragments in an order.
    fn send(&mut self, datagram: &[u8], order: [usize; 3]) {
        let fragments = self.fragments(datagram);
        assert_eq!(fragments.len(), order.len());
        order.iter().for_each(|index| self.sender.send(&fragments[*index]).unwrap());
    }

    /// The next answer: who sent it, and the datagram that it answers.
    fn answer(&self) -> (String, Vec<u8>) {
        let mut answer = vec![0; 65_535];
        let length = self.socket.recv(&mut answer).unwrap();
        let space = answer.iter().position(|byte| *byte == b' ').unwrap();
        (String::from_utf8_lossy(&answer[..space]).into_owned(), answer[space + 1..length].to_vec())
    }
}

fn identified(fragment: Packet, identification: u16) -> Packet {
    if fragment.vip().starts_with('[') {
        fragment.poked(L4_V6 + 4, &u32::from(identification).to_be_bytes())
    } else {
        fragment.ip4(|ip| ip.identification = identification)
    }
}

/// A datagram like no other.
fn datagram(number: usize) -> Vec<u8> {
    (0..BYTES).map(|i| (i * 7 + number) as u8).collect()
}

/// Servers on these ports of the VIPs, in all backends.
fn echoes(net: &Net, ports: &[u16]) -> Vec<Echo> {
    let vips = ["10.1.0.100", "fd01::100"].map(|vip| vip.parse::<IpAddr>().unwrap());
    let places = net.backends.iter().flat_map(|backend| vips.map(|vip| (backend, vip)));
    let start = |(backend, vip): (&Host, IpAddr)| {
        ports.iter().map(|port| Echo::start(backend, vip, *port, backend.name()).unwrap()).collect::<Vec<_>>()
    };
    places.flat_map(start).collect()
}

#[test]
fn fragments_in_any_order_meet_at_one_backend() {
    let services = r#"
        [service.dns]
        vip = ["10.1.0.100:53/udp", "[fd01::100]:53/udp"]
        backends = ["10.1.0.11-13"]
    "#;
    let config = config(services);
    let mut net = Net::new("orders", 3);
    net.set_up(&["dns"], &config);
    let _echoes = echoes(&net, &[53]);
    net.run(&config, &[]);
    for (vip, prefix, length) in [("10.1.0.100:53", "10.1.0.20", 24), ("[fd01::100]:53", "fd01::20", 64)] {
        let mut names = BTreeSet::new();
        // Their addresses decide where datagrams go: six clients will not all meet at one backend.
        for number in 0..6 {
            let address = format!("{prefix}{number}");
            net.client
                .ip(&format!("addr add {address}/{length} dev eth0 {}", if length == 64 { "nodad" } else { "" }))
                .unwrap();
            let mut client = Client::new(&net, address.parse().unwrap(), vip.parse().unwrap());
            let mut here = BTreeSet::new();
            for (index, order) in ORDERS.into_iter().enumerate() {
                client.send(&datagram(index), order);
                let (name, answered) = client.answer();
                assert!(answered == datagram(index), "{vip}, {order:?}: another datagram");
                here.insert(name);
            }
            assert_eq!(here.len(), 1, "{address}: {here:?}");
            names.append(&mut here);
        }
        assert!(names.len() > 1, "{vip}: {names:?}");
    }
    assert_eq!(net.verdict("fragment"), 0);
}

/// Two services on each address, so that only ports tell them apart.
const TWO_SERVICES: &str = r#"
    [service.dns]
    vip = ["10.1.0.100:53/udp", "[fd01::100]:53/udp"]
    backends = ["10.1.0.11"]
    [service.log]
    vip = ["10.1.0.100:54/udp", "[fd01::100]:54/udp"]
    backends = ["10.1.0.12"]
"#;

#[test]
fn among_services_the_first_fragment_shows_the_way() {
    let config = config(TWO_SERVICES);
    let mut net = Net::new("firsts", 2);
    net.set_up(&["dns", "log"], &config);
    let _echoes = echoes(&net, &[53, 54]);
    net.run(&config, &[]);
    for (address, vip) in [("10.1.0.9", "10.1.0.100"), ("fd01::9", "[fd01::100]")] {
        for (port, backend) in [(53, "backend1"), (54, "backend2")] {
            let vip = format!("{vip}:{port}");
            let mut client = Client::new(&net, address.parse().unwrap(), vip.parse().unwrap());
            client.identification = port * 100;
            for (index, order) in ORDERS.into_iter().enumerate() {
                let (dropped, early) = (net.verdict("fragment"), order.iter().position(|part| *part == 0).unwrap());
                client.send(&datagram(index), order);
                // Datagrams do not overtake each other: if the one before were whole, it would be answered first.
                client.send(&datagram(100 + index), ORDERS[0]);
                let whole = if early == 0 { vec![index, 100 + index] } else { vec![100 + index] };
                for number in whole {
                    let (name, answered) = client.answer();
                    assert!(answered == datagram(number), "{vip}, {order:?}: another datagram");
                    assert_eq!(name, backend, "{vip}, {order:?}");
                }
                assert_eq!(net.verdict("fragment") - dropped, early as u64, "{vip}, {order:?}");
            }
        }
    }
}

#[test]
fn a_flood_of_fragments_grows_no_memory() {
    /// Three times what the table holds, each of two fragments; of every second one the first comes late.
    const DATAGRAMS: u32 = 200_000;
    /// Frames sent at a time: a veth's ring holds 256.
    const ROUND: usize = 128;
    let datagrams = env::var("WEIR_FLOOD").map_or(DATAGRAMS, |datagrams| datagrams.parse().unwrap());
    let config = config(TWO_SERVICES);
    // Without backends: what finds its service is dropped behind that, and costs no more time here.
    let mut net = Net::new("fragments", 0);
    net.run(&config, &[]);
    let sender = Sender::open(&net.client, "eth0").unwrap();
    let balancer = net.balancer.mac("eth0").unwrap();
    let whole = frames::udp("10.1.0.100:53").from("10.1.0.9:4711").to_mac(balancer).data(&[7; 32]);
    let (first, later) = (whole.fragment(0, 24).frame(), whole.fragment(24, 32).frame());
    let datapath = Datapath::open(&Pins::new(net.balancer.pins()), Access::Read).unwrap();
    let seen = || datapath.verdicts().unwrap().iter().flat_map(|(_, cpus)| cpus).sum::<u64>();

    let before = (memory(&net, net.agent.as_ref().unwrap().pid()), seen());
    let begin = Instant::now();
    let (mut sent, mut lost) = (0, 0);
    for number in 0..datagrams {
        let pair = [&first, &later].map(|frame| of_datagram(frame, number));
        let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        order.iter().for_each(|index| sender.send(&pair[*index]).unwrap());
        sent += 2;
        if sent % ROUND as u64 == 0 {
            let end = Instant::now() + Duration::from_millis(200);
            while seen() - before.1 + lost < sent && Instant::now() < end {
                thread::yield_now();
            }
            lost = sent.saturating_sub(seen() - before.1);
        }
    }
    let took = begin.elapsed();
    let after = memory(&net, net.agent.as_ref().unwrap().pid());
    let (lost_track, placed) = (net.verdict("fragment"), net.verdict("no_neighbour"));
    eprintln!(
        "{sent} fragments of {datagrams} datagrams in {} ms: {placed} found their service, {lost_track} came before their \
         first, {lost} were lost before the program; tables {} and {} bytes, agent {} and {} KiB",
        took.as_millis(),
        before.0.0,
        after.0,
        before.0.1,
        after.1
    );
    assert!(lost < sent / 100, "{lost} lost");
    // All but every fourth, but for those that were lost or whose first was.
    let expected = u64::from(datagrams) / 2;
    assert!(
        lost_track.abs_diff(expected) <= lost && placed.abs_diff(3 * expected) <= lost,
        "{placed} and {lost_track}"
    );
    assert_eq!(after.0, before.0.0, "bytes of the tables");
    assert!(after.1 <= before.0.1 + 1_024, "KiB of the agent: {} and {}", before.0.1, after.1);
}

/// A frame with another source and identification, for one of so many datagrams.
fn of_datagram(frame: &[u8], number: u32) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[18..20].copy_from_slice(&(number as u16).to_be_bytes());
    // 198.18.0.0/15 is for measurements.
    let source = 0xc612_0000 | number >> 16;
    frame[26..30].copy_from_slice(&source.to_be_bytes());
    frame[24..26].copy_from_slice(&[0, 0]);
    // The bridge drops a packet whose checksum is wrong.
    let sum: u32 = frame[14..34].as_chunks().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded + (folded >> 16)) as u16);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// Bytes of all tables of the balancer, and KiB that its agent has in memory.
fn memory(net: &Net, agent: u32) -> (u64, u64) {
    let tables = fs::read_dir(Pins::new(net.balancer.pins()).tables()).unwrap().map(|entry| {
        let map = aya::maps::MapInfo::from_pin(entry.unwrap().path()).unwrap().fd().unwrap();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd())).unwrap();
        number(&info, "memlock:")
    });
    let status = fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    (tables.sum(), number(&status, "VmRSS:"))
}

/// The number behind a name.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
