//! A raw socket on one interface: whole frames out, and ARP and neighbour discovery in.

use std::io::{self, Read};
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};

/// More than any frame that claims an address.
const FRAME: usize = 256;

/// Room for answers that nobody has read yet.
const ANSWER_BUFFER: usize = 4 << 20;

/// How long a full queue may refuse a frame, and how often that is tried: it empties within microseconds, and fills again.
const ROOM_WITHIN: Duration = Duration::from_secs(1);
/// See [`ROOM_WITHIN`].
const ROOM_AGAIN: Duration = Duration::from_millis(1);

/// The socket.
pub struct Wire(AsyncFd<Socket>);

impl Wire {
    /// Opens a socket that sends only.
    pub fn to_send(interface: u32) -> io::Result<Wire> {
        Wire::open(interface, 0)
    }

    /// Opens a socket that also hears ARP, neighbour solicitations and advertisements.
    pub fn to_send_and_hear(interface: u32) -> io::Result<Wire> {
        let wire = Wire::open(interface, libc::ETH_P_ALL as u16)?;
        hear_all_groups(wire.0.get_ref(), interface)?;
        Ok(wire)
    }

    /// Sends one frame. Where forwarded packets leave the interface's queue no room, it waits for some.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        let end = Instant::now() + ROOM_WITHIN;
        loop {
            match self.0.writable().await?.try_io(|socket| socket.get_ref().send(frame)) {
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) && Instant::now() < end => {
                    sleep(ROOM_AGAIN).await;
                }
                Ok(sent) => return sent.map(|_| ()),
                Err(_) => {}
            }
        }
    }

    /// Waits for a frame. Dropped while it waits, it has taken none.
    pub async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; FRAME];
        loop {
            if let Ok(length) = self.0.readable().await?.try_io(|socket| socket.get_ref().read(&mut frame)) {
                frame.truncate(length?);
                return Ok(frame);
            }
        }
    }

    /// The filter is in place before the socket is bound, so that no other frame slips in.
    fn open(interface: u32, protocol: u16) -> io::Result<Wire> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        if protocol != 0 {
            // Without the right to exceed the limit, the default buffer has to do.
            setsockopt(&socket, RcvBufForce, &ANSWER_BUFFER).ok();
            socket.attach_filter(&filter())?;
        }
        socket.bind(&address(interface, protocol)?)?;
        // SAFETY: the socket owns its descriptor, and nothing here takes, replaces or closes it before the two are
        // dropped together.
        Ok(Wire(unsafe { AsyncFd::register(socket) }?))
    }
}

/// ARP, neighbour solicitations and advertisements; none in a VLAN, which is another network with perhaps the same
/// addresses.
fn filter() -> [SockFilter; 13] {
    let load = |size: u32, offset: u32| SockFilter::new((libc::BPF_LD | size | libc::BPF_ABS) as u16, 0, 0, offset);
    let equal = |value: u32, then: u8, otherwise: u8| {
        SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, then, otherwise, value)
    };
    let and = |mask: u32| SockFilter::new((libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, 0, 0, mask);
    let take = |bytes: u32| SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, bytes);
    [
        load(libc::BPF_H, (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32),
        and(0xfff),
        equal(0, 0, 9),
        load(libc::BPF_H, 12), // EtherType
        equal(libc::ETH_P_ARP as u32, 6, 0),
        equal(libc::ETH_P_IPV6 as u32, 0, 6),
        load(libc::BPF_B, 20), // next header
        equal(libc::IPPROTO_ICMPV6 as u32, 0, 4),
        load(libc::BPF_B, 54), // ICMPv6 type
        equal(135, 1, 0),
        equal(136, 0, 1),
        take(FRAME as u32),
        take(0),
    ]
}

/// The address of one interface, for a raw socket.
pub fn address(interface: u32, protocol: u16) -> io::Result<SockAddr> {
    let index = i32::try_from(interface).map_err(io::Error::other)?;
    // SAFETY: the storage given is zeroed, larger than a sockaddr_ll and aligned for every address; its front is filled
    // in as one, and that size stored as the length.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as u16;
            (*link).sll_protocol = protocol.to_be();
            (*link).sll_ifindex = index;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}

/// Makes the interface take every multicast frame while the socket is open: others send their probe for an address to
/// a group that this host is not in.
fn hear_all_groups(socket: &Socket, interface: u32) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: interface as i32,
        mr_type: libc::PACKET_MR_ALLMULTI as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // SAFETY: pointer and length are those of a local that outlives the call and is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const membership).cast(),
            size_of::<libc::packet_mreq>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
