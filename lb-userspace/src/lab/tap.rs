//! Counting packets on an interface from outside of all that handles them: a socket that sees each, a filter in the
//! kernel, and the kernel's count of what passed it.

use std::{io, net::IpAddr, os::fd::AsRawFd};

use anyhow::{Context, Result};
use socket2::{Domain, SockFilter, Socket, Type};

use super::Host;
use crate::announce::wire::address;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Packets from an address.
    From(IpAddr),
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
    /// Opens one on a host's interface, for both directions.
    pub fn open(host: &Host, interface: &str, what: Seen) -> Result<Tap> {
        host.within(|| {
            let index = crate::links::find(interface)?.index;
            let socket = open(index, &filter(what)).with_context(|| format!("cannot listen on {interface}"))?;
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

/// The filter is in place before the socket is bound, so that nothing else is counted.
fn open(index: u32, filter: &[SockFilter]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.attach_filter(filter)?;
    socket.bind(&address(index, libc::ETH_P_ALL as u16)?)?;
    Ok(socket)
}

/// A chain of tests, each of which goes on with the next or ends with "no".
fn filter(what: Seen) -> Vec<SockFilter> {
    let mut tests = Vec::new();
    let (address, [offset4, offset6]) = match what {
        Seen::From(address) => (address, [26, 22]),
        Seen::To(address) | Seen::Tagged(_, address) => (address, [30, 38]),
    };
    if let Seen::Tagged(vlan, _) = what {
        tests.push((libc::BPF_H, (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32, u32::from(vlan)));
    }
    match address {
        IpAddr::V4(address) => {
            tests.push((libc::BPF_H, 12, libc::ETH_P_IP as u32));
            tests.push((libc::BPF_W, offset4, address.into()));
        }
        IpAddr::V6(address) => {
            tests.push((libc::BPF_H, 12, libc::ETH_P_IPV6 as u32));
            let words = address.octets();
            for (word, offset) in words.as_chunks::<4>().0.iter().zip((offset6..).step_by(4)) {
                tests.push((libc::BPF_W, offset, u32::from_be_bytes(*word)));
            }
        }
    }
    let instruction = |code: u32, otherwise: u8, value: u32| SockFilter::new(code as u16, 0, otherwise, value);
    let mut filter = Vec::new();
    for (index, (size, offset, value)) in tests.iter().enumerate() {
        let instructions_to_no = (tests.len() - index - 1) * 2 + 1;
        filter.push(instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, *offset));
        filter.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, instructions_to_no as u8, *value));
    }
    filter.extend([1, 0].map(|bytes| instruction(libc::BPF_RET | libc::BPF_K, 0, bytes)));
    filter
}
