//! Packets without an end for a VIP while something changes, and a count of who got them, taken outside of all that handles
//! them.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    thread,
};

use lb_userspace::lab::{Flood, Seen, Tap, Way};

use crate::net::*;

/// Sources are scattered over this network.
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const VARY: Ipv4Addr = Ipv4Addr::new(0, 63, 255, 255);
/// How many are sent before it is looked whether the change is over.
const CHUNK: u64 = 640;

/// What became of the packets.
#[derive(Debug)]
pub struct Delivered {
    /// How many were made.
    pub made: u64,
    /// How many each backend got, in their order.
    pub got: Vec<u64>,
}

impl Delivered {
    /// How many nobody got.
    pub fn lost(&self) -> u64 {
        self.made - self.got.iter().sum::<u64>()
    }

    /// Fails unless each packet came to one of these backends, counted from 1, and each of them got some.
    pub fn assert_all_at(&self, backends: &[usize]) {
        assert_eq!(self.lost(), 0, "{self:?}");
        assert!(self.made > 0, "no packet went through the change");
        for (number, got) in (1..).zip(&self.got) {
            assert_eq!(*got > 0, backends.contains(&number), "backend{number}: {self:?}");
        }
    }
}

/// Sends packets for 10.1.0.100:80 until `change` has ended.
pub fn stream(net: &Wire, change: impl FnOnce() + Send) -> Delivered {
    let to = (net.balancer.mac("eth0").unwrap(), SocketAddrV4::new([10, 1, 0, 100].into(), 80));
    let mut flood = Flood::new(&net.client, "eth0", to, SOURCE, VARY).unwrap();
    let from = Seen::FromNetwork(SOURCE, u32::from(!VARY));
    let tap = |host| Tap::open(net.switch.host(), &net.switch.port(host, "eth0"), Way::Out, from).unwrap();
    let mut taps: Vec<_> = net.backends.iter().map(tap).collect();
    let mut made = 0;
    thread::scope(|scope| {
        let changing = scope.spawn(change);
        while !changing.is_finished() {
            let arrived = || taps.iter_mut().map(Tap::packets).sum();
            made += flood.send(CHUNK, arrived).unwrap();
        }
        changing.join().unwrap();
    });
    let got = taps.iter_mut().map(|tap| tap.packets().unwrap()).collect();
    let delivered = Delivered { made, got };
    eprintln!("{delivered:?}, {} lost", delivered.lost());
    delivered
}

/// What packets go through: all of a network but the agent.
pub struct Wire {
    client: lb_userspace::lab::Host,
    balancer: lb_userspace::lab::Host,
    backends: Vec<lb_userspace::lab::Host>,
    switch: lb_userspace::lab::Switch,
}

impl Wire {
    /// That of a network; its client can make packets from now on.
    pub fn of(net: &Net) -> Wire {
        net.client.let_xdp_transmit(&net.switch, "eth0").unwrap();
        net.client.attach_pass("eth0").unwrap();
        let (client, balancer) = (net.client.clone(), net.balancer.clone());
        Wire { client, balancer, backends: net.backends.clone(), switch: net.switch.clone() }
    }
}
