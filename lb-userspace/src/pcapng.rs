//! Writes pcapng, as far as captures need it: Ethernet frames of several interfaces, each with a comment, and how many were lost.
//! The format: draft-ietf-opsawg-pcapng. All numbers are in the byte order of this host, which the first block tells.

use std::io::{Result, Write};

/// Types of blocks.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
/// Types of options; each belongs to a type of block.
const COMMENT: u16 = 1;
const USER_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const VERDICT: u16 = 7;
const DROPPED: u16 = 5;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// Time in units of 10^-9 s.
const NANOSECONDS: u8 = 9;
/// In `FLAGS`: the packet came in.
const INBOUND: u32 = 1;
/// In `VERDICT`: what follows is what an XDP program returned.
const XDP: u8 = 2;

/// A packet, or its beginning.
pub struct Packet<'a> {
    /// The number of the interface.
    pub interface: u32,
    /// Since 1970.
    pub time_ns: u64,
    /// Bytes that it had.
    pub length: u32,
    /// Those that are here.
    pub bytes: &'a [u8],
    /// `XDP_*`.
    pub action: u64,
    /// What a reader is told.
    pub comment: &'a str,
}

/// Begins a file: who wrote it, and the interfaces, whose packets hold at most `snap` bytes.
pub fn begin(out: &mut dyn Write, application: &str, interfaces: &[String], snap: u32) -> Result<()> {
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_ne_bytes());
    body.extend([1_u16.to_ne_bytes(), 0_u16.to_ne_bytes()].concat());
    // The section's length is not known.
    body.extend(u64::MAX.to_ne_bytes());
    option(&mut body, USER_APPLICATION, application.as_bytes());
    end_of_options(&mut body);
    block(out, SECTION, &body)?;
    for name in interfaces {
        let mut body = [ETHERNET.to_ne_bytes(), [0; 2]].concat();
        body.extend(snap.to_ne_bytes());
        option(&mut body, INTERFACE_NAME, name.as_bytes());
        option(&mut body, TIME_RESOLUTION, &[NANOSECONDS]);
        end_of_options(&mut body);
        block(out, INTERFACE, &body)?;
    }
    Ok(())
}

/// A packet.
pub fn packet(out: &mut dyn Write, packet: &Packet) -> Result<()> {
    let Packet { interface, time_ns, length, bytes, action, comment } = packet;
    let mut body = Vec::with_capacity(bytes.len() + comment.len() + 64);
    let words = [*interface, (time_ns >> 32) as u32, *time_ns as u32, bytes.len() as u32, *length];
    words.iter().for_each(|word| body.extend(word.to_ne_bytes()));
    body.extend(*bytes);
    pad(&mut body);
    option(&mut body, COMMENT, comment.as_bytes());
    option(&mut body, FLAGS, &INBOUND.to_ne_bytes());
    option(&mut body, VERDICT, &[&[XDP][..], &action.to_ne_bytes()].concat());
    end_of_options(&mut body);
    block(out, PACKET, &body)
}

/// How many packets an interface's readers did not get, at the end.
pub fn statistics(out: &mut dyn Write, interface: u32, time_ns: u64, lost: u64, comment: &str) -> Result<()> {
    let mut body = Vec::new();
    let words = [interface, (time_ns >> 32) as u32, time_ns as u32];
    words.iter().for_each(|word| body.extend(word.to_ne_bytes()));
    option(&mut body, COMMENT, comment.as_bytes());
    option(&mut body, DROPPED, &lost.to_ne_bytes());
    end_of_options(&mut body);
    block(out, STATISTICS, &body)
}

/// Type, length, body, length again.
fn block(out: &mut dyn Write, kind: u32, body: &[u8]) -> Result<()> {
    let length = (body.len() as u32 + 12).to_ne_bytes();
    // At once, so that a reader at the other end of a pipe finds whole blocks.
    out.write_all(&[&kind.to_ne_bytes(), &length[..], body, &length].concat())
}

fn option(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let value = &value[..value.len().min(u16::MAX.into())];
    body.extend(kind.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// To a multiple of 4 bytes, as everything is.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_say_how_long_they_are_at_both_ends() {
        let mut out = Vec::new();
        begin(&mut out, "weir", &["eth0".to_owned()], 256).unwrap();
        let packet = Packet { interface: 0, time_ns: 1 << 33, length: 60, bytes: &[1; 5], action: 1, comment: "why" };
        super::packet(&mut out, &packet).unwrap();
        statistics(&mut out, 0, 0, 7, "lost").unwrap();
        let word = |at: usize| u32::from_ne_bytes(out[at..at + 4].try_into().unwrap());
        let (mut at, mut kinds) = (0, Vec::new());
        while at < out.len() {
            let length = word(at + 4) as usize;
            assert_eq!((length % 4, word(at + length - 4) as usize), (0, length));
            kinds.push(word(at));
            at += length;
        }
        assert_eq!((kinds, at), (vec![SECTION, INTERFACE, PACKET, STATISTICS], out.len()));
    }
}
