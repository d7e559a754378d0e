//! rtnetlink and generic netlink: one request and its answers, and the stream of notifications. What a message means is
//! decided elsewhere.

use std::{convert::Infallible, io, marker::PhantomData};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::{RouteNetlinkMessage, route::RouteProtocol};
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_GENERIC, NETLINK_ROUTE},
};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use tokio::io::unix::AsyncFd;

/// Who has added rules, routes and neighbours of ours, as `ip rule`, `ip route` and `ip neigh` show it.
pub const PROTOCOL: RouteProtocol = RouteProtocol::Other(119);

/// The largest datagram that the kernel makes is half of this.
const DATAGRAM: usize = 64 * 1024;
/// A dump that changed while it was read is read again, so often at most.
const DUMP_ATTEMPTS: u32 = 8;
/// Room for notifications that nobody has read yet: some 5,000 of them.
const NOTIFICATION_BUFFER: usize = 4 << 20;
/// Datagrams taken at once, so that a flood of them does not keep the rest of the agent waiting.
const DATAGRAMS_AT_ONCE: usize = 256;

/// Asks the kernel.
///
/// Blocking on purpose: netlink does its work inside the send call, so that the answer lies ready when that
/// returns, and a runtime would have nothing to wait for.
pub struct Requests<M = RouteNetlinkMessage> {
    socket: Socket,
    sequence: u32,
    messages: PhantomData<M>,
}

impl Requests {
    /// Opens a socket for rtnetlink, in the network namespace of this thread.
    pub fn open() -> io::Result<Self> {
        Self::connect(NETLINK_ROUTE)
    }
}

impl Requests<GenericMessage> {
    /// Opens a socket for generic netlink, in the network namespace of this thread.
    pub fn open_generic() -> io::Result<Self> {
        Self::connect(NETLINK_GENERIC)
    }
}

impl<M: NetlinkSerializable + NetlinkDeserializable + Clone> Requests<M> {
    fn connect(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Requests { socket, sequence: 0, messages: PhantomData })
    }

    /// Everything of one kind.
    pub fn dump(&mut self, message: M) -> io::Result<Vec<M>> {
        let mut attempt = 1;
        loop {
            let (answers, interrupted) = self.exchange(message.clone(), NLM_F_DUMP)?;
            if !interrupted || attempt == DUMP_ATTEMPTS {
                return Ok(answers);
            }
            attempt += 1;
        }
    }

    /// One thing.
    pub fn get(&mut self, message: M) -> io::Result<M> {
        let (mut answers, _) = self.exchange(message, 0)?;
        answers.pop().ok_or_else(|| io::Error::other("the kernel's answer could not be read"))
    }

    /// A change, done when this returns.
    pub fn change(&mut self, message: M, flags: u16) -> io::Result<()> {
        self.exchange(message, flags | NLM_F_ACK).map(|_| ())
    }

    /// Sends one request and reads to the end of its answers; also says whether they changed meanwhile.
    fn exchange(&mut self, message: M, flags: u16) -> io::Result<(Vec<M>, bool)> {
        self.send(message, flags)?;
        let (mut answers, mut interrupted) = (Vec::new(), false);
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            self.socket.recv(&mut datagram, 0)?;
            for (header, bytes) in messages(&datagram) {
                if header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match read(bytes) {
                    Some(NetlinkPayload::Done(done)) if done.code != 0 => {
                        return Err(io::Error::from_raw_os_error(done.code.abs()));
                    }
                    Some(NetlinkPayload::Error(error)) if error.code.is_some() => return Err(error.to_io()),
                    Some(NetlinkPayload::Done(_) | NetlinkPayload::Error(_)) => return Ok((answers, interrupted)),
                    Some(NetlinkPayload::InnerMessage(answer)) => answers.push(answer),
                    _ => {}
                }
                if header.flags & NLM_F_MULTIPART == 0 && flags & NLM_F_ACK == 0 {
                    return Ok((answers, interrupted));
                }
            }
        }
    }

    fn send(&mut self, message: M, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ())
    }
}

/// A message of generic netlink: to or from a family, whose number the kernel gives out when it is asked for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenericMessage {
    /// The family.
    pub family: u16,
    /// What it is to do, or did.
    pub command: u8,
    /// Version of the family's messages.
    pub version: u8,
    /// The attributes, as they go over the wire.
    pub attributes: Vec<u8>,
}

/// Command, version, and two bytes that are 0.
const GENERIC_HEADER: usize = 4;

impl NetlinkSerializable for GenericMessage {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        GENERIC_HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(GENERIC_HEADER);
        header.copy_from_slice(&[self.command, self.version, 0, 0]);
        attributes.copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for GenericMessage {
    type Error = Infallible;

    /// One that is cut short has command 0, which no answer has, and no attributes.
    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        let (head, attributes) = payload.split_at_checked(GENERIC_HEADER).unwrap_or_default();
        let [command, version] = *head.first_chunk().unwrap_or(&[0, 0]);
        Ok(GenericMessage { family: header.message_type, command, version, attributes: attributes.to_vec() })
    }
}

/// What a subscriber gets.
pub enum Notification {
    /// Something changed.
    Message(RouteNetlinkMessage),
    /// Something changed of which the message crate knows nothing (nexthop objects, for one).
    Unknown,
    /// Notifications were lost: what they said must be asked for.
    Overrun,
}

/// A subscription to groups of notifications, on a socket of its own: the kernel marks a notification with the
/// sequence number of whoever caused it, which may look like one of ours.
pub struct Notifications(AsyncFd<Socket>);

impl Notifications {
    /// Subscribes; `groups` are `RTNLGRP_*`.
    pub fn subscribe(groups: &[u32]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // Without the right to exceed the limit, the default buffer has to do; an overrun only costs a resync.
        if setsockopt(&socket, RcvBufForce, &NOTIFICATION_BUFFER).is_err() {
            tracing::debug!("the buffer for the kernel's notifications stays at its default size");
        }
        for group in groups {
            socket.add_membership(*group)?;
        }
        // SAFETY: the socket owns its descriptor, and nothing here takes, replaces or closes it before the two are
        // dropped together.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Notifications(socket))
    }

    /// Waits for notifications and takes those that lie ready. Dropped while it waits, it has taken none.
    pub async fn next(&mut self) -> io::Result<Vec<Notification>> {
        let mut notifications = Vec::new();
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            let mut ready = self.0.readable().await?;
            for _ in 0..DATAGRAMS_AT_ONCE {
                datagram.clear();
                match ready.try_io(|socket| socket.get_ref().recv(&mut datagram, 0)) {
                    Ok(Ok(_)) => notifications.extend(messages(&datagram).map(|(_, bytes)| notification(bytes))),
                    Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                        notifications.push(Notification::Overrun);
                    }
                    Ok(Err(error)) => return Err(error),
                    Err(_would_block) => break,
                }
            }
            if !notifications.is_empty() {
                return Ok(notifications);
            }
        }
    }
}

fn notification(bytes: &[u8]) -> Notification {
    match NetlinkMessage::deserialize(bytes).map(|message| message.payload) {
        Ok(NetlinkPayload::InnerMessage(message)) => Notification::Message(message),
        _ => Notification::Unknown,
    }
}

fn read<M: NetlinkDeserializable>(bytes: &[u8]) -> Option<NetlinkPayload<M>> {
    match NetlinkMessage::deserialize(bytes) {
        Ok(message) => Some(message.payload),
        Err(error) => {
            tracing::warn!("the kernel said something about the network that could not be read: {error}");
            None
        }
    }
}

/// The messages in a datagram, each with its header.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (NetlinkHeader, &[u8])> {
    std::iter::from_fn(move || {
        let buffer = NetlinkBuffer::new_checked(datagram).ok()?;
        let mut header = NetlinkHeader::default();
        header.flags = buffer.flags();
        header.sequence_number = buffer.sequence_number();
        let length = buffer.length() as usize;
        let (message, _) = datagram.split_at(length);
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
        Some((header, message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(length: u32, sequence: u32, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }

    #[test]
    fn messages_are_split_at_multiples_of_four() {
        let datagram = [raw(17, 1, 20), raw(16, 2, 16)].concat();
        let found: Vec<_> = messages(&datagram).map(|(header, bytes)| (header.sequence_number, bytes.len())).collect();
        assert_eq!(found, [(1, 17), (2, 16)]);
    }

    #[test]
    fn a_message_longer_than_its_datagram_ends_the_splitting() {
        let datagram = [raw(16, 1, 16), raw(64, 2, 16)].concat();
        assert_eq!(messages(&datagram).count(), 1);
        assert_eq!(messages(&raw(3, 1, 16)).count(), 0);
        assert_eq!(messages(&[]).count(), 0);
    }
}
