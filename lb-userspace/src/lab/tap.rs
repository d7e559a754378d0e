//! Counting packets on an interface from outside of all that handles them: a socket that sees each, a filter in the
//! kernel, and the kernel's count of what passed it. And sending frames past the same stack.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, SockFilter, Socket, Type};

use super::Host;
use crate::announce::wire::address;

/// Which way packets go, seen from the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Received.
    In,
    /// Sent.
    Out,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Packets from an address.
    From(IpAddr),
    /// IPv4 packets from a network, given by its address and its mask.
    FromNetwork(Ipv4Addr, u32),
    /// Packets to an address.
    To(IpAddr),
    /// Packets to an address, in a VLAN.
    Tagged(u16, IpAddr),
}

/// Counts from when it was opened.
pub struct Tap {
    socket: Socket,
    packets: u64,
}

impl Tap {
    /// Opens one on a host's interface.
    pub fn open(host: &Host, interface: &str, way: Way, what: Seen) -> Result<Tap> {
        host.within(|| {
            let index = crate::links::find(interface)?.index;
            let socket = open(index, &filter(way, what)).with_context(|| format!("cannot listen on {interface}"))?;
            Ok(Tap { socket, packets: 0 })
        })
    }

    /// How many it has seen.
    pub fn packets(&mut self) -> Result<u64> {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: pointer and length are those of locals that outlive the call; any value it writes is valid.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error()).context("cannot read a socket's statistics");
        }
        // The kernel begins anew with each reading. What did not fit the socket's buffer is counted too.
        self.packets += u64::from(statistics.tp_packets);
        Ok(self.packets)
    }
}

/// Sends frames as they are.
pub struct Sender(Socket);

impl Sender {
    /// Opens one on a host's interface.
    pub fn open(host: &Host, interface: &str) -> Result<Sender> {
        host.within(|| {
            let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
            socket.bind(&address(crate::links::find(interface)?.index, 0)?)?;
            Ok(Sender(socket))
        })
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = self.0.send(frame).context("cannot send a frame")?;
        ensure!(sent == frame.len(), "{sent} bytes of a frame's {} were sent", frame.len());
        Ok(())
    }
}

/// The filter is in place before the socket is bound, so that nothing else is counted.
fn open(index: u32, filter: &[SockFilter]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.attach_filter(filter)?;
    socket.bind(&address(index, libc::ETH_P_ALL as u16)?)?;
    Ok(socket)
}

/// A chain of tests, each of which goes on with the next or ends with "no".
fn filter(way: Way, what: Seen) -> Vec<SockFilter> {
    let tests = [direction(way)].into_iter().chain(tests(what)).collect::<Vec<_>>();
    let instruction = |code: u32, otherwise: u8, value: u32| SockFilter::new(code as u16, 0, otherwise, value);
    let mut filter = Vec::new();
    for (index, test) in tests.iter().enumerate() {
        let instructions_to_no = (tests.len() - index - 1) * 3 + 1;
        filter.push(instruction(libc::BPF_LD | test.size | libc::BPF_ABS, 0, test.offset));
        filter.push(instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, test.mask));
        filter.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, instructions_to_no as u8, test.value));
    }
    filter.extend([1, 0].map(|bytes| instruction(libc::BPF_RET | libc::BPF_K, 0, bytes)));
    filter
}

/// What some bits of a frame must be.
struct Test {
    size: u32,
    offset: u32,
    mask: u32,
    value: u32,
}

impl Test {
    fn half(offset: u32, value: u32) -> Test {
        Test { size: libc::BPF_H, offset, mask: u32::MAX, value }
    }

    fn word(offset: u32, value: u32) -> Test {
        Test { size: libc::BPF_W, offset, mask: u32::MAX, value }
    }
}

/// Offsets of source and destination in an IPv4 frame.
const IPV4: (u32, u32) = (26, 30);
/// In an IPv6 frame.
const IPV6: (u32, u32) = (22, 38);

fn direction(way: Way) -> Test {
    let offset = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    // Of the other types, which all mean "received", only that they are smaller matters.
    const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;
    Test { size: libc::BPF_B, offset, mask: OUTGOING, value: if way == Way::Out { OUTGOING } else { 0 } }
}

fn tests(what: Seen) -> Vec<Test> {
    match what {
        Seen::From(IpAddr::V4(address)) => address4(IPV4.0, address, u32::MAX),
        Seen::From(IpAddr::V6(address)) => address6(IPV6.0, address),
        Seen::FromNetwork(address, mask) => address4(IPV4.0, address, mask),
        Seen::To(IpAddr::V4(address)) => address4(IPV4.1, address, u32::MAX),
        Seen::To(IpAddr::V6(address)) => address6(IPV6.1, address),
        Seen::Tagged(vlan, address) => {
            // The kernel takes the tag out of the frame and keeps it beside.
            let tag = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32;
            let tag = Test { mask: 0xfff, ..Test::half(tag, u32::from(vlan)) };
            [tag].into_iter().chain(tests(Seen::To(address))).collect()
        }
    }
}

fn address4(offset: u32, address: Ipv4Addr, mask: u32) -> Vec<Test> {
    let is_ipv4 = Test::half(12, libc::ETH_P_IP as u32);
    vec![is_ipv4, Test { mask, ..Test::word(offset, u32::from(address) & mask) }]
}

fn address6(offset: u32, address: Ipv6Addr) -> Vec<Test> {
    let octets = address.octets();
    let words = octets.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
    let words = words.zip((offset..).step_by(4)).map(|(word, offset)| Test::word(offset, word));
    [Test::half(12, libc::ETH_P_IPV6 as u32)].into_iter().chain(words).collect()
}
