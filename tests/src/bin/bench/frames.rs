//! The packets of the bench, padded to one length so that all cost the generator the same.

use etherparse::{
    Ethernet2Header, Icmpv4Type, Icmpv6Type, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header,
    Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, PacketBuilder, PacketBuilderStep, err::packet::BuildWriteError,
    icmpv4::DestUnreachableHeader,
};
use lb_common::{
    abi::{BENCH_FRAME, BENCH_WORDS, BenchAddress, BenchTraffic, bench_place},
    verdict::Action,
};

/// The MAC that the bench's interface is said to have.
pub const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// IP version of the packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }
}

/// What kind of packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Tcp,
    Udp,
    FloodSyn,
    NotVip,
    IcmpError,
    Fragment,
    /// With a TCP header; in no row of its own.
    FirstFragment,
}

impl Kind {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Udp => "udp",
            Kind::FloodSyn => "flood_syn",
            Kind::NotVip => "not_vip",
            Kind::IcmpError => "icmp_error",
            Kind::Fragment => "fragment",
            Kind::FirstFragment => "first_fragment",
        }
    }

    /// What Weir does with it.
    pub fn action(self) -> Action {
        match self {
            Kind::Tcp | Kind::Udp | Kind::IcmpError | Kind::Fragment | Kind::FirstFragment => Action::Transmit,
            Kind::FloodSyn => Action::Drop,
            Kind::NotVip => Action::Pass,
        }
    }
}

/// Traffic of a kind; `vips` is a power of two. What differs from flow to flow is the client's address, in an ICMP error that
/// of the packet it quotes.
pub fn traffic(family: Family, kind: Kind, flows: u32, vips: u32) -> BenchTraffic {
    let vip = [172, 16, if kind == Kind::NotVip { 77 } else { 1 }, 0];
    let client = [10, 0, 0, 0];
    let mut frame = match family {
        Family::Ipv4 => frame4(kind, client, vip),
        Family::Ipv6 => frame6(kind, address6(CLIENTS, client), address6(VIPS, vip)),
    };
    frame.resize(BENCH_FRAME, 0);
    let (source, destination) = match (family, kind) {
        (Family::Ipv4, Kind::IcmpError) => (14 + 20 + 8 + 16, 14 + 16),
        (Family::Ipv6, Kind::IcmpError) => (14 + 40 + 8 + 24 + 12, 14 + 24 + 12),
        (Family::Ipv4, _) => (14 + 12, 14 + 16),
        (Family::Ipv6, _) => (14 + 8 + 12, 14 + 24 + 12),
    };
    let (source, destination) = (address(&mut frame, source), address(&mut frame, destination));
    let words = std::array::from_fn(|word| {
        let bytes = frame[bench_place(word)..].first_chunk().expect("the frame ends with the last word");
        u64::from_ne_bytes(*bytes)
    });
    BenchTraffic { generated: 0, frame: words, flows, visited: 0, source, destination, vip_mask: vips - 1, reserved: 0 }
}

/// Takes four bytes out of a frame.
fn address(frame: &mut [u8], offset: usize) -> BenchAddress {
    let word = (0..BENCH_WORDS).rfind(|word| bench_place(*word) <= offset).expect("the first begins at 0");
    let bytes = frame[offset..].first_chunk_mut().expect("addresses lie in the frame");
    let first = u32::from_be_bytes(std::mem::take(bytes));
    BenchAddress { word: word as u32, shift: 8 * (offset - bench_place(word)) as u32, first }
}

fn frame4(kind: Kind, client: [u8; 4], vip: [u8; 4]) -> Vec<u8> {
    let ip = ethernet().ipv4(client, vip, 64);
    match kind {
        Kind::Tcp | Kind::NotVip => written(|to| ip.tcp(4711, 80, 1, 1000).ack(1).write(to, &[])),
        Kind::FloodSyn => written(|to| ip.tcp(4711, 80, 1, 0).syn().write(to, &[])),
        Kind::Udp => written(|to| ip.udp(4711, 53).write(to, &[0; 12])),
        Kind::FirstFragment => {
            let mut frame = frame4(Kind::Tcp, client, vip);
            frame[14 + 6] = 0x20; // more fragments; nobody asks for the checksum
            frame
        }
        Kind::IcmpError => {
            let quoted = written(|to| PacketBuilder::ipv4(vip, client, 60).tcp(80, 4711, 1, 1000).write(to, &[]));
            let error = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
            let error = ethernet().ipv4(ROUTER, vip, 64).icmpv4(Icmpv4Type::DestinationUnreachable(error));
            written(|to| error.write(to, &quoted))
        }
        Kind::Fragment => {
            let mut header = Ipv4Header::new(16, 64, IpNumber::UDP, client, vip).expect("16 bytes fit");
            header.dont_fragment = false;
            header.fragment_offset = IpFragOffset::try_new(185).expect("13 bits");
            let extensions = Ipv4Extensions::default();
            written(|to| ethernet().ip(IpHeaders::Ipv4(header, extensions)).write(to, IpNumber::UDP, &[0; 16]))
        }
    }
}

fn frame6(kind: Kind, client: [u8; 16], vip: [u8; 16]) -> Vec<u8> {
    let ip = ethernet().ipv6(client, vip, 64);
    match kind {
        Kind::Tcp | Kind::NotVip => written(|to| ip.tcp(4711, 80, 1, 1000).ack(1).write(to, &[])),
        Kind::FloodSyn => written(|to| ip.tcp(4711, 80, 1, 0).syn().write(to, &[])),
        Kind::Udp => written(|to| ip.udp(4711, 53).write(to, &[0; 12])),
        Kind::FirstFragment => unreachable!("fragments beside whole packets are IPv4's"),
        Kind::IcmpError => {
            let quoted = written(|to| PacketBuilder::ipv6(vip, client, 60).tcp(80, 4711, 1, 1000).write(to, &[]));
            let router = address6(CLIENTS, ROUTER);
            let error = ethernet().ipv6(router, vip, 64).icmpv6(Icmpv6Type::PacketTooBig { mtu: 1400 });
            written(|to| error.write(to, &quoted))
        }
        Kind::Fragment => {
            let header = Ipv6Header { hop_limit: 64, source: client, destination: vip, ..Ipv6Header::default() };
            let offset = IpFragOffset::try_new(181).expect("13 bits");
            let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, offset, false, 4711);
            let extensions = Ipv6Extensions { fragment: Some(fragment), ..Ipv6Extensions::default() };
            written(|to| ethernet().ip(IpHeaders::Ipv6(header, extensions)).write(to, IpNumber::UDP, &[0; 16]))
        }
    }
}

const ROUTER: [u8; 4] = [192, 0, 2, 254];
/// What the addresses of clients and VIPs begin with.
const CLIENTS: [u8; 6] = [0x20, 1, 0xd, 0xb8, 1, 0];
const VIPS: [u8; 6] = [0x20, 1, 0xd, 0xb8, 0, 0];

fn address6(network: [u8; 6], last: [u8; 4]) -> [u8; 16] {
    let mut address = [0; 16];
    address[..6].copy_from_slice(&network);
    address[12..].copy_from_slice(&last);
    address
}

fn ethernet() -> PacketBuilderStep<Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], OUR_MAC)
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), BuildWriteError>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("a vector takes what is written");
    bytes
}
