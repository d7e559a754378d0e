//! Sockets of checks: where they lead, and that they leave nothing behind.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// Where a check goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// The address and the port that it asks.
    pub to: SocketAddr,
    /// The address that it asks from; the kernel's choice if there is none.
    pub from: Option<IpAddr>,
    /// What steers its packets.
    pub mark: Option<u32>,
}

impl Way {
    /// A connection. Dropped, it is gone at once, on both sides: of an orderly end the kernel would remember the port for a
    /// minute, and of checks by the thousand it has no ports left then.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let socket = self.socket(Type::STREAM, Protocol::TCP)?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_tcp_nodelay(true)?;
        TcpSocket::from_std_stream(OwnedFd::from(socket).into()).connect(self.to).await
    }

    /// A socket for datagrams from and to there alone.
    pub fn datagrams(&self) -> io::Result<UdpSocket> {
        let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
        socket.connect(&self.to.into())?;
        UdpSocket::from_std(OwnedFd::from(socket).into())
    }

    /// A socket that does not block, bound and marked, and not yet connected.
    pub fn socket(&self, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.to), kind.nonblocking().cloexec(), Some(protocol))?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        if let Some(from) = self.from {
            if kind == Type::STREAM {
                // Ports may be shared by connections to different places.
                setsockopt(&socket, IpBindAddressNoPort, &true)?;
            }
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        Ok(socket)
    }
}
