//! The packets of the bench, padded to one length so that all cost the generator the same.

use etherparse::PacketBuilder;
use lb_common::{
    abi::{BENCH_FRAME, BenchTraffic},
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
}

impl Kind {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Udp => "udp",
            Kind::FloodSyn => "flood_syn",
            Kind::NotVip => "not_vip",
        }
    }

    /// What Weir does with it.
    pub fn action(self) -> Action {
        match self {
            Kind::Tcp | Kind::Udp => Action::Transmit,
            Kind::FloodSyn => Action::Drop,
            Kind::NotVip => Action::Pass,
        }
    }
}

/// Traffic of a kind; `vips` is a power of two.
pub fn traffic(family: Family, kind: Kind, flows: u32, vips: u32) -> BenchTraffic {
    let network = if kind == Kind::NotVip { 77 } else { 1 };
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], OUR_MAC);
    let ip = match family {
        Family::Ipv4 => ethernet.ipv4([10, 0, 0, 0], [172, 16, network, 0], 64),
        Family::Ipv6 => {
            let mut vip = [0; 16];
            vip[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
            vip[12..].copy_from_slice(&[172, 16, network, 0]);
            let mut source = vip;
            source[4] = 1;
            source[12..].copy_from_slice(&[10, 0, 0, 0]);
            ethernet.ipv6(source, vip, 64)
        }
    };
    let mut frame = Vec::new();
    let written = match kind {
        Kind::Tcp | Kind::NotVip => ip.tcp(4711, 80, 1, 1000).ack(1).write(&mut frame, &[]),
        Kind::FloodSyn => ip.tcp(4711, 80, 1, 0).syn().write(&mut frame, &[]),
        Kind::Udp => ip.udp(4711, 53).write(&mut frame, &[0; 12]),
    };
    written.expect("a vector takes what is written");
    frame.resize(BENCH_FRAME, 0);
    let mut words = [0; BENCH_FRAME / 8];
    for (word, bytes) in words.iter_mut().zip(frame.chunks(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("a multiple of eight"));
    }
    let (source_offset, destination_offset) = match family {
        Family::Ipv4 => (14 + 12, 14 + 16),
        Family::Ipv6 => (14 + 8 + 12, 14 + 24 + 12),
    };
    BenchTraffic {
        generated: 0,
        frame: words,
        flows,
        visited: 0,
        vip_mask: vips - 1,
        source_offset,
        source: u32::from_be_bytes([10, 0, 0, 0]),
        destination_offset,
        destination: u32::from_be_bytes([172, 16, network, 0]),
        reserved: 0,
    }
}
