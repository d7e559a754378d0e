//! An echo request and its reply (RFC 792, RFC 4443).

use std::{
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::atomic::{AtomicU32, Ordering},
};

use lb_common::checksum::Sum;
use socket2::{Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Reason,
    deadline::{Deadline, fault},
    dial::Way,
};

const STEP: &str = "ping";
const ECHO_REPLY4: u8 = 0;
const ECHO_REQUEST4: u8 = 8;
const ECHO_REQUEST6: u8 = 128;
const ECHO_REPLY6: u8 = 129;

/// Type, code, checksum, identifier and number, and 8 bytes that begin with the same.
type Echo = [u8; 16];

/// Tells one request from all others: raw sockets hear every reply from their address.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Sends one, and waits for its reply.
pub async fn probe(way: &Way, deadline: Deadline) -> Result<(), Reason> {
    let pinging = async { exchange(way).await.map_err(|error| fault(STEP, &error)) };
    deadline.during(STEP, pinging).await
}

async fn exchange(way: &Way) -> io::Result<()> {
    let v4 = way.to.is_ipv4();
    let socket = way.socket(Type::RAW, if v4 { Protocol::ICMPV4 } else { Protocol::ICMPV6 })?;
    let reply = if v4 { ECHO_REPLY4 } else { ECHO_REPLY6 };
    take_only(&socket, v4, reply)?;
    socket.connect(&SocketAddr::new(way.to.ip(), 0).into())?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id() << 16);
    let request = echo(if v4 { ECHO_REQUEST4 } else { ECHO_REQUEST6 }, number);
    let wanted = &request[4..];
    // SAFETY: the socket owns its descriptor, and nothing takes or closes it before the two are dropped together.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
    socket.get_ref().send(&request)?;
    loop {
        let mut buffer = [MaybeUninit::uninit(); 256];
        let mut ready = socket.readable().await?;
        let Ok(received) = ready.try_io(|socket| socket.get_ref().recv(&mut buffer)) else { continue };
        // SAFETY: the kernel has written as many bytes as it says.
        let packet = unsafe { buffer[..received?].assume_init_ref() };
        // IPv4's header comes along, IPv6's does not.
        let header = if v4 { usize::from(packet.first().copied().unwrap_or(0) & 0xf) * 4 } else { 0 };
        let message = packet.get(header..).unwrap_or_default();
        if message.first() == Some(&reply) && message.get(4..) == Some(wanted) {
            return Ok(());
        }
    }
}

fn echo(kind: u8, number: u32) -> Echo {
    let mut echo = [0; 16];
    echo[0] = kind;
    echo[4..8].copy_from_slice(&number.to_be_bytes());
    echo[8..12].copy_from_slice(&number.to_be_bytes());
    echo[12..].copy_from_slice(b"weir");
    // The kernel writes ICMPv6's over it.
    let words = echo.as_chunks::<2>().0.iter().fold(Sum::default(), |sum, word| sum.word(u16::from_ne_bytes(*word)));
    echo[2..4].copy_from_slice(&words.finish().raw().to_ne_bytes());
    echo
}

/// Lets no other message of ICMP wake this socket.
fn take_only(socket: &Socket, v4: bool, reply: u8) -> io::Result<()> {
    // `ICMP_FILTER` of linux/icmp.h and `ICMPV6_FILTER` of linux/icmpv6.h: a bit for each type that is not taken.
    const ICMP_FILTER: libc::c_int = 1;
    const ICMPV6_FILTER: libc::c_int = 1;
    let mut filter = [u32::MAX; 8];
    filter[usize::from(reply / 32)] &= !(1 << (reply % 32));
    let (level, name, words) =
        if v4 { (libc::SOL_RAW, ICMP_FILTER, 1) } else { (libc::IPPROTO_ICMPV6, ICMPV6_FILTER, filter.len()) };
    let length = (words * size_of::<u32>()) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `filter`, which is at least as long.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, filter.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one() {
        let request = echo(ECHO_REQUEST4, 0x0102_0304);
        assert_eq!((request[0], request[1]), (8, 0));
        assert_eq!(request[4..], [1, 2, 3, 4, 1, 2, 3, 4, b'w', b'e', b'i', b'r']);
        let sum = request.as_chunks::<2>().0.iter().fold(Sum::default(), |sum, w| sum.word(u16::from_ne_bytes(*w)));
        assert_eq!(sum.finish().raw(), 0, "a message with its checksum sums up to nothing");
    }
}
