//! A datagram: no ICMP error comes back, or one with a text does.

use std::io;

use tokio::net::UdpSocket;

use super::{
    Reason, ReasonKind,
    deadline::{Deadline, fault, shown},
    dial::Way,
};
use crate::config::Udp;

/// The largest datagram that is looked at, bytes.
const DATAGRAM: usize = 4096;

/// Sends, and waits for what comes.
pub async fn probe(way: &Way, udp: &Udp, deadline: Deadline) -> Result<(), Reason> {
    let fault = |error: &io::Error| fault("udp", error);
    let socket = way.datagrams().map_err(|error| fault(&error))?;
    socket.send(udp.send.as_bytes()).await.map_err(|error| fault(&error))?;
    let mut other = None;
    match deadline.until(answer(&socket, udp.expect.as_bytes(), &mut other)).await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(fault(&error)),
        // Silence is what most servers make of what they do not understand.
        None if udp.expect.is_empty() => Ok(()),
        None => Err(other.map_or(deadline.over("udp"), |came: Vec<u8>| {
            let words = format!("udp: {}, wanted {}", shown(&came), shown(udp.expect.as_bytes()));
            Reason::new(ReasonKind::Mismatch, words)
        })),
    }
}

/// Waits for a datagram with a text, and remembers another.
async fn answer(socket: &UdpSocket, wanted: &[u8], other: &mut Option<Vec<u8>>) -> io::Result<()> {
    let mut datagram = [0; DATAGRAM];
    loop {
        let length = socket.recv(&mut datagram).await?;
        let came = &datagram[..length];
        if wanted.is_empty() || came.windows(wanted.len()).any(|window| window == wanted) {
            return Ok(());
        }
        *other = Some(came.to_vec());
    }
}
