//! TCP and UDP headers, and what kind of SYN a segment is.

use super::{
    Frame, Options, SynKind, TCP,
    network::{Network, be16},
};

/// A transport header whose ports can be read.
pub struct Segment<'a> {
    pub source: u16,
    pub destination: u16,
    /// Its lengths contradict the packet's.
    pub lies: bool,
    /// The same, if the packet is the first fragment of several, so that a datagram may be longer than it.
    pub lies_in_a_fragment: bool,
    pub tcp: Option<Tcp<'a>>,
}

/// What is judged of TCP.
pub struct Tcp<'a> {
    flags: u8,
    window: u16,
    /// Where the options begin in the frame, and they themselves, if the header is sane.
    pub options_at: usize,
    pub options: &'a [u8],
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Reads the header, if it is there.
pub fn read<'a>(frame: &Frame<'a>, network: &Network) -> Option<Segment<'a>> {
    let room = network.end().checked_sub(network.l4)?;
    let least = if network.protocol == TCP { 20 } else { 8 };
    if room < least {
        return None;
    }
    let header = frame.at(network.l4, least)?;
    let (source, destination) = (be16(header, 0), be16(header, 2));
    if network.protocol != TCP {
        let length = usize::from(be16(header, 4));
        return Some(Segment {
            source,
            destination,
            lies: length < 8 || length > room,
            lies_in_a_fragment: length < 8,
            tcp: None,
        });
    }
    let header_length = usize::from(header[12] >> 4) * 4;
    let lies = header_length < 20 || header_length > room;
    let options_at = network.l4 + 20;
    let options = if lies { None } else { frame.at(options_at, header_length - 20) };
    let tcp = Tcp { flags: header[13], window: be16(header, 14), options_at, options: options.unwrap_or_default() };
    Some(Segment { source, destination, lies, lies_in_a_fragment: lies, tcp: Some(tcp) })
}

impl Tcp<'_> {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// SYN with FIN or RST, or none of the four that tell what a segment is for.
    pub fn flags_are_bad(&self) -> bool {
        let none = !(self.has(FIN) || self.has(SYN) || self.has(RST) || self.has(ACK));
        none || self.has(SYN) && (self.has(FIN) || self.has(RST))
    }

    /// Whether it opens a connection.
    pub fn is_syn(&self) -> bool {
        self.has(SYN) && !self.has(FIN) && !self.has(RST) && !self.has(ACK)
    }

    /// The window that it offers.
    pub fn window(&self) -> u16 {
        self.window
    }

    /// Padding is NOPs, up to the end or an END.
    pub fn syn_kind(&self) -> SynKind {
        let first_real = self.options.iter().find(|kind| **kind != 1);
        let options = match (self.options.is_empty(), first_real) {
            (true, _) => Options::Bare,
            (false, None | Some(0)) => Options::Padding,
            (false, Some(_)) => Options::Real,
        };
        SynKind { zero: self.window == 0, options }
    }
}
