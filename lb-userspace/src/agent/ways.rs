//! What is known of the way to a backend, turned into entries of the tables.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::{
    abi::{self, Encapsulation},
    steer,
};
use tracing::{debug, warn};

use crate::{
    datapath::Datapath,
    health::Checker,
    links::{Link, mac_text},
    next_hops::NextHop,
    plan::Allocation,
};

/// The numbers that interfaces and backends have in the tables.
pub struct Ways {
    /// Which attached interface an index of the kernel's stands for; a VLAN on one stands for that one, because the
    /// program keeps the tags that packets came with.
    interfaces: BTreeMap<u32, u32>,
    /// Numbers in the backends' table by address, and whether packets are to reach it by their MAC alone.
    ids: BTreeMap<IpAddr, Vec<(u16, bool)>>,
    /// Checks go the same ways.
    checker: Checker,
}

/// What the backends' table says of a way: next hop, interface's number, MTU.
type Way = (abi::NextHop, u32, u16);

const NO_WAY: Way = (abi::NextHop(0), 0, u16::MAX);

impl Ways {
    /// For tables that use these numbers.
    pub fn new(links: &[Link], attached: &[Link], allocation: &Allocation, checker: &Checker) -> Self {
        let mut ids: BTreeMap<IpAddr, Vec<(u16, bool)>> = BTreeMap::new();
        for ((address, encapsulation), id) in allocation.backends() {
            ids.entry(address).or_default().push((id, encapsulation == Encapsulation::L2));
        }
        Ways { interfaces: numbers(links, attached), ids, checker: checker.clone() }
    }

    /// Interfaces are others now, by the kernel's numbers.
    pub fn renumber(&mut self, links: &[Link], attached: &[Link]) {
        self.interfaces = numbers(links, attached);
    }

    /// Writes what is known now of the ways to some backends.
    pub fn apply(&self, datapath: &Datapath, changes: &[(IpAddr, NextHop)]) {
        let ways = changes.iter().flat_map(|(backend, next_hop)| {
            let ids = self.ids.get(backend).into_iter().flatten();
            ids.map(move |(id, l2)| (*id, self.way(*backend, next_hop, *l2)))
        });
        let ways = ways.collect::<Vec<_>>();
        datapath.set_next_hops(&ways);
        ways.iter().for_each(|(id, (entry, ..))| self.checker.knows_way(steer::mark(*id), *entry != NO_WAY.0));
    }

    fn way(&self, backend: IpAddr, next_hop: &NextHop, l2: bool) -> Way {
        match next_hop {
            NextHop::Local => (abi::NextHop(abi::NextHop::LOCAL), 0, u16::MAX),
            NextHop::Unreachable { reason } => {
                warn!("backend {backend}: {reason}");
                NO_WAY
            }
            NextHop::Resolving { via, .. } => {
                debug!("backend {backend}: asking for the MAC of {via}");
                NO_WAY
            }
            // The gateway would route a packet for the VIP back here, and so on until its TTL is used up.
            NextHop::Known { via, .. } if l2 && *via != backend => {
                warn!("backend {backend}: behind gateway {via}, where forward = \"l2\" does not reach: use \"ipip\"");
                NO_WAY
            }
            NextHop::Known { interface, via, mac, mtu, .. } => match self.interfaces.get(interface) {
                Some(number) => {
                    debug!("backend {backend}: next hop {via} at {}", mac_text(*mac));
                    (abi::NextHop::resolved(*mac), *number, *mtu)
                }
                None => {
                    warn!(
                        "backend {backend}: its next hop {via} is not on an attached interface: add that to `interface`"
                    );
                    NO_WAY
                }
            },
        }
    }
}

/// Which attached interface an index of the kernel's stands for.
fn numbers(links: &[Link], attached: &[Link]) -> BTreeMap<u32, u32> {
    let mut numbers: BTreeMap<u32, u32> = attached.iter().map(|link| link.index).zip(0..).collect();
    for link in links {
        if let Some(number) = link.vlan.and_then(|vlan| numbers.get(&vlan.parent).copied()) {
            numbers.insert(link.index, number);
        }
    }
    numbers
}
