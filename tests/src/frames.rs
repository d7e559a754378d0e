//! Frames, built by etherparse and by hand: nothing here comes from the code under test.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber,
    Ipv4Header, Ipv6Header, TcpHeader, UdpHeader, icmpv4,
};

/// A MAC.
pub type Mac = [u8; 6];

/// The balancer's first interface.
pub const OURS: Mac = [0x02, 0xba, 0, 0, 0, 0x01];
/// The balancer's second interface.
pub const SECOND: Mac = [0x02, 0xba, 0, 0, 0, 0x02];
/// A MAC that the configuration adds to the interfaces' own.
pub const VIRTUAL: Mac = [0x00, 0x00, 0x5e, 0x00, 0x01, 0x0a];
/// The router that clients' packets come from.
pub const ROUTER: Mac = [0x02, 0x0e, 0, 0, 0, 0x01];
/// Somebody else on the link.
pub const STRANGER: Mac = [0x02, 0x5a, 0, 0, 0, 0x63];
/// Everybody.
pub const BROADCAST: Mac = [0xff; 6];

/// Where the network header of an untagged frame begins.
pub const L3: usize = 14;
/// Where the transport header of an untagged IPv4 packet without options begins.
pub const L4: usize = L3 + 20;
/// Where what follows the fixed header of an untagged IPv6 packet begins.
pub const L4_V6: usize = L3 + 40;

/// The client, unless a row says otherwise.
pub const CLIENT: &str = "198.51.100.7:40000";
/// The same, IPv6.
pub const CLIENT_V6: &str = "[2001:db8:c::7]:40000";

/// A router between the client and the balancer.
pub const ON_THE_WAY: &str = "203.0.113.9";
/// The same, IPv6.
pub const ON_THE_WAY_V6: &str = "2001:db8:f::9";

/// A tag of 802.1Q: its own EtherType, then priority and VLAN.
pub type Tag = (u16, u16);
/// VLAN 100.
pub const VLAN: Tag = (0x8100, 0x6064);
/// The outer of two tags.
pub const SERVICE_VLAN: Tag = (0x88a8, 0x00c8);
/// A priority and no VLAN.
pub const PRIORITY: Tag = (0x8100, 0xa000);

/// A packet from a client to a VIP, to be changed until it is what a row wants.
#[derive(Clone, Debug)]
pub struct Packet {
    destination: Mac,
    sender: Mac,
    tags: Vec<Tag>,
    network: Network,
    transport: Transport,
    data: Vec<u8>,
    /// Identification of its fragments.
    id: u32,
    /// The least length of the frame; zeros fill it.
    least: usize,
    /// Bytes that are replaced at last, by their offset in the frame.
    pokes: Vec<(usize, Vec<u8>)>,
    /// As the configuration writes it.
    vip: String,
}

#[derive(Clone, Debug)]
enum Network {
    V4(Ipv4Header),
    /// The fixed header, and extension headers by their kinds; the byte that says what follows is filled in.
    V6(Ipv6Header, Vec<(u8, Vec<u8>)>),
}

#[derive(Clone, Debug)]
enum Transport {
    Tcp(Box<TcpHeader>),
    Udp {
        source: u16,
        destination: u16,
    },
    /// Kind and code, and the 4 bytes behind the checksum.
    Icmp([u8; 2], [u8; 4]),
    /// All of it is in the data.
    Other,
}

/// A segment of an established connection to a VIP, without data.
pub fn tcp(vip: &str) -> Packet {
    let (source, destination) = ends(vip);
    let mut header = TcpHeader::new(source.port(), destination.port(), 0x1000_0001, 501);
    header.ack = true;
    header.acknowledgment_number = 0x2000_0002;
    packet(vip, Transport::Tcp(Box::new(header)), 6)
}

/// A SYN with the options that a client's stack sends.
pub fn syn(vip: &str) -> Packet {
    const OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    bare_syn(vip).tcp(|tcp| tcp.set_options_raw(&OPTIONS).unwrap())
}

/// A SYN without options.
pub fn bare_syn(vip: &str) -> Packet {
    tcp(vip).tcp(|tcp| {
        (tcp.syn, tcp.ack, tcp.acknowledgment_number) = (true, false, 0);
        tcp.window_size = 64_240;
    })
}

/// A datagram of 16 bytes to a VIP.
pub fn udp(vip: &str) -> Packet {
    let (source, destination) = ends(vip);
    let transport = Transport::Udp { source: source.port(), destination: destination.port() };
    packet(vip, transport, 17).data(&[0x5a; 16])
}

/// An ICMP or ICMPv6 message to a VIP's address: kind and code, the 4 bytes behind the checksum, and the rest.
pub fn icmp(vip: &str, kind: [u8; 2], word: [u8; 4], rest: &[u8]) -> Packet {
    let protocol = if ends(vip).1.is_ipv4() { 1 } else { 58 };
    packet(vip, Transport::Icmp(kind, word), protocol).data(rest)
}

/// An echo request to a VIP's address: its number and data.
pub fn echo(vip: &str, number: [u8; 4], data: &[u8]) -> Packet {
    let kind = if ends(vip).1.is_ipv4() { 8 } else { 128 };
    icmp(vip, [kind, 0], number, data)
}

/// An ICMP error from a router about what a VIP sent: kind and code, the 4 bytes behind the checksum, and what is quoted.
pub fn error(vip: &str, kind: [u8; 2], word: [u8; 4], quoted: &[u8]) -> Packet {
    let router = if ends(vip).1.is_ipv4() { ON_THE_WAY } else { ON_THE_WAY_V6 };
    icmp(vip, kind, word, quoted).source(router)
}

/// A packet of any protocol to a VIP's address.
pub fn other(vip: &str, protocol: u8, payload: &[u8]) -> Packet {
    packet(vip, Transport::Other, protocol).data(payload)
}

fn packet(vip: &str, transport: Transport, protocol: u8) -> Packet {
    let network = match ends(vip) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => Network::V4(
            Ipv4Header::new(0, 57, IpNumber(protocol), source.ip().octets(), destination.ip().octets()).unwrap(),
        ),
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => Network::V6(
            Ipv6Header {
                next_header: IpNumber(protocol),
                hop_limit: 57,
                source: source.ip().octets(),
                destination: destination.ip().octets(),
                ..Ipv6Header::default()
            },
            Vec::new(),
        ),
        ends => panic!("{ends:?}: two families"),
    };
    Packet {
        destination: OURS,
        sender: ROUTER,
        tags: Vec::new(),
        network,
        transport,
        data: Vec::new(),
        id: 0x4711,
        least: 0,
        pokes: Vec::new(),
        vip: vip.to_owned(),
    }
}

/// The client and what it connects to: a VIP as the configuration writes it.
fn ends(vip: &str) -> (SocketAddr, SocketAddr) {
    let destination: SocketAddr = vip.trim_end_matches("/udp").parse().unwrap_or_else(|_| panic!("{vip}: no VIP"));
    let client = if destination.is_ipv4() { CLIENT } else { CLIENT_V6 };
    (client.parse().unwrap(), destination)
}

impl Packet {
    /// Another client.
    pub fn from(mut self, client: &str) -> Self {
        let client: SocketAddr = client.parse().unwrap_or_else(|_| panic!("{client}: no client"));
        match &mut self.transport {
            Transport::Tcp(tcp) => tcp.source_port = client.port(),
            Transport::Udp { source, .. } => *source = client.port(),
            Transport::Icmp(..) | Transport::Other => {}
        }
        self.source(&client.ip().to_string())
    }

    /// Another source address.
    pub fn source(mut self, address: &str) -> Self {
        match (&mut self.network, address.parse().unwrap()) {
            (Network::V4(ip), IpAddr::V4(address)) => ip.source = address.octets(),
            (Network::V6(ip, _), IpAddr::V6(address)) => ip.source = address.octets(),
            _ => panic!("{address}: the other family"),
        }
        self
    }

    /// To another MAC.
    pub fn to_mac(mut self, mac: Mac) -> Self {
        self.destination = mac;
        self
    }

    /// With tags, the outer first.
    pub fn tags(mut self, tags: &[Tag]) -> Self {
        self.tags = tags.to_vec();
        self
    }

    /// With a payload.
    pub fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    /// Filled up with zeros behind the packet, as short frames are on a wire.
    pub fn padded(mut self, frame_length: usize) -> Self {
        self.least = frame_length;
        self
    }

    /// With bytes of the frame replaced when all else is done: for headers that lie.
    pub fn poked(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.pokes.push((offset, bytes.to_vec()));
        self
    }

    /// Changes the IPv4 header; lengths and checksums are filled in later.
    pub fn ip4(mut self, change: impl FnOnce(&mut Ipv4Header)) -> Self {
        match &mut self.network {
            Network::V4(ip) => change(ip),
            Network::V6(..) => panic!("an IPv6 packet"),
        }
        self
    }

    /// Changes the IPv6 header; lengths are filled in later.
    pub fn ip6(mut self, change: impl FnOnce(&mut Ipv6Header)) -> Self {
        match &mut self.network {
            Network::V6(ip, _) => change(ip),
            Network::V4(_) => panic!("an IPv4 packet"),
        }
        self
    }

    /// Puts extension headers, by their kinds, between the IPv6 header and what it carries.
    pub fn extensions(mut self, headers: &[(u8, Vec<u8>)]) -> Self {
        match &mut self.network {
            Network::V6(_, extensions) => *extensions = headers.to_vec(),
            Network::V4(_) => panic!("an IPv4 packet"),
        }
        self
    }

    /// Changes the TCP header; the checksum is filled in later.
    pub fn tcp(mut self, change: impl FnOnce(&mut TcpHeader)) -> Self {
        match &mut self.transport {
            Transport::Tcp(tcp) => change(tcp),
            _ => panic!("no TCP"),
        }
        self
    }

    /// What its fragments call it.
    pub fn id(mut self, id: u32) -> Self {
        self.id = id;
        self
    }

    /// Of a datagram that is `whole` on the way, the fragment from byte `from` to byte `to` of the IP payload.
    pub fn fragment(&self, from: usize, to: usize) -> Self {
        let whole = self.payload();
        assert!(from.is_multiple_of(8) && to <= whole.len());
        let more = to < whole.len();
        let mut fragment = self.clone();
        match &mut fragment.network {
            Network::V4(ip) => {
                ip.identification = self.id as u16;
                ip.more_fragments = more;
                ip.fragment_offset = IpFragOffset::try_new((from / 8) as u16).unwrap();
            }
            Network::V6(_, extensions) => {
                extensions.push((44, fragment_header(from as u16, more, self.id)));
            }
        }
        fragment.transport = Transport::Other;
        fragment.data(&whole[from..to])
    }

    /// The same the other way: what the VIP sends to this client.
    pub fn reversed(mut self) -> Self {
        match &mut self.network {
            Network::V4(ip) => (ip.source, ip.destination) = (ip.destination, ip.source),
            Network::V6(ip, _) => (ip.source, ip.destination) = (ip.destination, ip.source),
        }
        match &mut self.transport {
            Transport::Tcp(tcp) => {
                (tcp.source_port, tcp.destination_port) = (tcp.destination_port, tcp.source_port);
            }
            Transport::Udp { source, destination } => (*source, *destination) = (*destination, *source),
            Transport::Icmp(..) | Transport::Other => {}
        }
        self
    }

    /// The IP packet alone.
    pub fn packet(&self) -> Vec<u8> {
        self.frame()[L3 + 4 * self.tags.len()..].to_vec()
    }

    /// What answers an echo request: everything in it, back to whoever sent it.
    pub fn echo_reply(mut self) -> Self {
        match &mut self.network {
            Network::V4(ip) => {
                (ip.source, ip.destination, ip.time_to_live) = (ip.destination, ip.source, 64);
            }
            Network::V6(ip, _) => (ip.source, ip.destination, ip.hop_limit) = (ip.destination, ip.source, 64),
        }
        let kind = if matches!(self.network, Network::V4(_)) { 0 } else { 129 };
        match &mut self.transport {
            Transport::Icmp(request, _) => request[0] = kind,
            _ => panic!("no echo request"),
        }
        (self.destination, self.sender) = (self.sender, OURS);
        self
    }

    /// What tells its sender that no more than `mtu` bytes fit: the first 256 bytes, sent back in an ICMP error.
    pub fn too_big(&self, mtu: u16) -> Vec<u8> {
        let packet = &self.frame()[L3 + 4 * self.tags.len()..];
        let quoted = &packet[..256];
        match &self.network {
            Network::V4(ip) => {
                let error = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
                let icmp = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(error), quoted);
                let mut back = Ipv4Header::new(8 + 256, 64, IpNumber::ICMP, ip.destination, ip.source).unwrap();
                (back.identification, back.dont_fragment) = (0, true);
                back.header_checksum = back.calc_header_checksum();
                let answer = [&back.to_bytes()[..], &icmp.to_bytes(), quoted].concat();
                ethernet(self.sender, OURS, &self.tags, 0x0800, &answer)
            }
            Network::V6(ip, _) => {
                let error = Icmpv6Type::PacketTooBig { mtu: mtu.into() };
                let icmp = Icmpv6Header::with_checksum(error, ip.destination, ip.source, quoted).unwrap();
                let back = Ipv6Header {
                    payload_length: 8 + 256,
                    next_header: IpNumber::IPV6_ICMP,
                    hop_limit: 64,
                    source: ip.destination,
                    destination: ip.source,
                    ..Ipv6Header::default()
                };
                let answer = [&back.to_bytes()[..], &icmp.to_bytes(), quoted].concat();
                ethernet(self.sender, OURS, &self.tags, 0x86dd, &answer)
            }
        }
    }

    /// What a host that has no such port sends back: a reset with this sequence number, or one that acknowledges this.
    pub fn reset(&self, sequence: Option<u32>, acknowledges: Option<u32>) -> Vec<u8> {
        let Transport::Tcp(tcp) = &self.transport else { panic!("no TCP") };
        let mut reset = TcpHeader::new(tcp.destination_port, tcp.source_port, sequence.unwrap_or(0), 0);
        (reset.rst, reset.ack) = (true, acknowledges.is_some());
        reset.acknowledgment_number = acknowledges.unwrap_or(0);
        match &self.network {
            Network::V4(ip) => {
                let mut back = Ipv4Header::new(20, 64, IpNumber::TCP, ip.destination, ip.source).unwrap();
                (back.identification, back.dont_fragment) = (0, true);
                back.header_checksum = back.calc_header_checksum();
                reset.checksum = reset.calc_checksum_ipv4(&back, &[]).unwrap();
                let answer = [&back.to_bytes()[..], &reset.to_bytes()].concat();
                ethernet(self.sender, OURS, &self.tags, 0x0800, &answer)
            }
            Network::V6(ip, _) => {
                let back = Ipv6Header {
                    payload_length: 20,
                    next_header: IpNumber::TCP,
                    hop_limit: 64,
                    source: ip.destination,
                    destination: ip.source,
                    ..Ipv6Header::default()
                };
                reset.checksum = reset.calc_checksum_ipv6(&back, &[]).unwrap();
                let answer = [&back.to_bytes()[..], &reset.to_bytes()].concat();
                ethernet(self.sender, OURS, &self.tags, 0x86dd, &answer)
            }
        }
    }

    /// Whether it is a segment of TCP.
    pub fn is_tcp(&self) -> bool {
        matches!(self.transport, Transport::Tcp(_))
    }

    /// As the configuration writes it.
    pub fn vip(&self) -> &str {
        &self.vip
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = [self.destination, self.sender].concat();
        for (kind, control) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        let payload = self.payload();
        match &self.network {
            Network::V4(ip) => {
                let mut ip = ip.clone();
                ip.set_payload_len(payload.len()).unwrap();
                ip.header_checksum = ip.calc_header_checksum();
                frame.extend(0x0800u16.to_be_bytes());
                frame.extend(ip.to_bytes());
            }
            Network::V6(ip, extensions) => {
                let chain = chain(extensions, ip.next_header.0);
                let mut ip = ip.clone();
                ip.set_payload_length(chain.len() + payload.len()).unwrap();
                ip.next_header = IpNumber(extensions.first().map_or(ip.next_header.0, |(kind, _)| *kind));
                frame.extend(0x86ddu16.to_be_bytes());
                frame.extend(ip.to_bytes());
                frame.extend(chain);
            }
        }
        frame.extend(payload);
        frame.resize(frame.len().max(self.least), 0);
        self.pokes.iter().fold(frame, |frame, (offset, bytes)| poke(frame, *offset, bytes))
    }

    /// The transport header, its checksum right, and the data.
    fn payload(&self) -> Vec<u8> {
        match &self.transport {
            Transport::Tcp(tcp) => {
                let mut tcp = (**tcp).clone();
                tcp.checksum = match &self.network {
                    Network::V4(ip) => tcp.calc_checksum_ipv4_raw(ip.source, ip.destination, &self.data),
                    Network::V6(ip, _) => tcp.calc_checksum_ipv6_raw(ip.source, ip.destination, &self.data),
                }
                .unwrap();
                [&tcp.to_bytes()[..], &self.data].concat()
            }
            Transport::Udp { source, destination } => {
                let (source, destination) = (*source, *destination);
                let header = match &self.network {
                    Network::V4(ip) => UdpHeader::with_ipv4_checksum(source, destination, ip, &self.data),
                    Network::V6(ip, _) => UdpHeader::with_ipv6_checksum(source, destination, ip, &self.data),
                }
                .unwrap();
                [&header.to_bytes()[..], &self.data].concat()
            }
            Transport::Icmp([kind, code], word) => {
                let (type_u8, code_u8, bytes5to8) = (*kind, *code, *word);
                let header = match &self.network {
                    Network::V4(_) => {
                        let message = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
                        Icmpv4Header::with_checksum(message, &self.data).to_bytes().to_vec()
                    }
                    Network::V6(ip, _) => {
                        let message = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
                        let header = Icmpv6Header::with_checksum(message, ip.source, ip.destination, &self.data);
                        header.unwrap().to_bytes().to_vec()
                    }
                };
                [&header[..], &self.data].concat()
            }
            Transport::Other => self.data.clone(),
        }
    }
}

/// Extension headers, each told what follows it.
fn chain(extensions: &[(u8, Vec<u8>)], last: u8) -> Vec<u8> {
    let following = extensions.iter().skip(1).map(|(kind, _)| *kind).chain([last]);
    let with_next = |((_, bytes), next): (&(u8, Vec<u8>), u8)| [&[next][..], &bytes[1..]].concat();
    extensions.iter().zip(following).flat_map(with_next).collect()
}

/// Hop-by-hop options (kind 0), destination options (60) or a mobility header (135) of `8 * units` bytes.
pub fn options(kind: u8, units: usize) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 8 * units];
    bytes[1] = (units - 1) as u8;
    // PadN, once for each 8 bytes but 2 in the first: any content does.
    bytes[2] = 1;
    (kind, bytes)
}

/// A routing header of 24 bytes.
pub fn routing(kind: u8) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 24];
    (bytes[1], bytes[2]) = (2, kind);
    (43, bytes)
}

/// An authentication header of 24 bytes, whose length counts in 4 bytes.
pub fn authentication() -> (u8, Vec<u8>) {
    let mut bytes = vec![0xaa; 24];
    bytes[1] = 4;
    (51, bytes)
}

/// A fragment header that makes no fragment.
pub fn atomic() -> (u8, Vec<u8>) {
    (44, fragment_header(0, false, 0x4711))
}

fn fragment_header(offset: u16, more: bool, id: u32) -> Vec<u8> {
    [&[0, 0], &(offset | more as u16).to_be_bytes()[..], &id.to_be_bytes()].concat()
}

/// The one's complement sum of 16-bit words; an odd byte is followed by a zero. Over everything that a checksum covers, the
/// checksum included, it is 0xffff if that is right.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|word| u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
    words.fold(0, |sum: u16, word| match sum.overflowing_add(word) {
        (sum, true) => sum + 1,
        (sum, false) => sum,
    })
}

/// The frame with bytes replaced.
pub fn poke(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The first bytes of a frame.
pub fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    assert!(length < frame.len());
    frame.truncate(length);
    frame
}

/// An Ethernet frame.
pub fn ethernet(destination: Mac, source: Mac, tags: &[Tag], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let tags = tags.iter().flat_map(|(kind, control)| [kind.to_be_bytes(), control.to_be_bytes()].concat());
    [&destination[..], &source]
        .concat()
        .into_iter()
        .chain(tags)
        .chain(ethertype.to_be_bytes())
        .chain(payload.to_vec())
        .collect()
}

/// An ARP packet.
pub fn arp(operation: ArpOperation, sender: (Mac, &str), target: (Mac, &str)) -> Vec<u8> {
    let octets = |address: &str| address.parse::<std::net::Ipv4Addr>().unwrap().octets();
    ArpEthIpv4Packet {
        operation,
        sender_mac: sender.0,
        sender_ipv4: octets(sender.1),
        target_mac: target.0,
        target_ipv4: octets(target.1),
    }
    .to_bytes()
    .to_vec()
}

/// An ICMPv6 packet behind its IPv6 header: kind, code, the 4 bytes behind the checksum, and the rest.
pub fn icmp6(source: &str, destination: &str, kind: [u8; 2], word: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let octets = |address: &str| address.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let (source, destination) = (octets(source), octets(destination));
    let message = Icmpv6Type::Unknown { type_u8: kind[0], code_u8: kind[1], bytes5to8: word };
    let header = Icmpv6Header::with_checksum(message, source, destination, rest).unwrap();
    let header = header.to_bytes();
    let ip = Ipv6Header {
        payload_length: (header.len() + rest.len()) as u16,
        next_header: IpNumber(58),
        hop_limit: 255,
        source,
        destination,
        ..Ipv6Header::default()
    };
    [&ip.to_bytes()[..], &header, rest].concat()
}
